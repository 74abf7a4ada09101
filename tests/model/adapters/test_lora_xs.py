"""LoRA-XS: a trained core between frozen bases, plain LoRA afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

import pennyweight as pw
from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.plan import Plan, plan
from pennyweight.budget.specs import AdapterSpec, HeadSpec, xs_alpha
from pennyweight.budget.targets import ranks, scales
from pennyweight.errors import RecipeError
from pennyweight.export.merged import to_merged
from pennyweight.export.peft import to_peft
from pennyweight.model.adapters import inject
from pennyweight.model.adapters.lora_xs import LoraXsAdapter, SecondMoment, singular_bases
from pennyweight.model.backbone import load_module, resolve
from pennyweight.model.trainable import trainable

TEXTS = ["The goal in the match", "The bank and the shares in the market", "A moon"]
QUICK: dict[str, Any] = {
    "precision": "fp32", "batch_size": 8, "epochs": 2, "learning_rate": 5e-3, "report": "short", "budget": "1k",
}  # fmt: skip


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {**QUICK, "backbone": str(tiny_backbone("bert"))}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pennyweight" / "gradient-bases"


def injected(folder: Path, **changes: Any) -> tuple[Any, Plan, dict[str, Any]]:
    backbone = resolve(str(folder))
    arguments = {"r": 3, "lora_alpha": 6.0, "target_modules": ("query", "output.dense"), "adapter": "lora-xs"}
    spec = AdapterSpec(**arguments | {"bases": "svd"} | changes)
    made = plan(backbone.config, labels=3, budget=None, strategy="manual", adapter=spec, head=HeadSpec())
    return LoraXsAdapter.inject(load_module(backbone), spec, backbone.config), made, backbone.config


def randomize(adapter: Any) -> None:
    for parameter in trainable(adapter.module).values():
        torch.nn.init.normal_(parameter, std=0.3)


def test_the_update_is_the_papers_formula_at_each_matrix_own_rank(tiny_backbone: Callable[..., Path]) -> None:
    pattern = {r"encoder\.layer\.1\..+": 5}
    adapter, _, config = injected(tiny_backbone("bert"), rank_pattern=pattern, alpha_pattern={k: 20.0 for k in pattern})
    randomize(adapter)
    found, factors = ranks(config, adapter.spec), scales(config, adapter.spec)
    assert set(found.values()) == {3, 5}
    for name, rank in found.items():
        layer = adapter.module.get_submodule(name)
        core = layer.lora_A["default"].core
        assert core.shape == (rank, rank)
        left, _, right = torch.linalg.svd(layer.base_layer.weight)
        u, v = layer.lora_B["default"].weight, layer.lora_A["default"].basis.T
        # Up to signs, which the core takes up.
        for basis, expected in ((u, left[:, :rank]), (v, right[:rank].T)):
            assert torch.allclose((basis.T @ expected).abs(), torch.eye(rank), atol=1e-3)
        x = torch.randn(4, layer.in_features)
        update = factors[name] * x @ v @ core.T @ u.T
        assert torch.allclose(layer(x), layer.base_layer(x) + update, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
def test_singular_bases_hold_the_best_approximation(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    for rank in (1, 4, 7):
        u, v = singular_bases(matrix, rank)
        assert (u.shape, v.shape) == ((shape[0], rank), (shape[1], rank))
        for basis in (u, v):
            assert torch.allclose(basis.T @ basis, torch.eye(rank), atol=1e-4)
        rest = torch.linalg.matrix_norm(matrix - u @ (u.T @ matrix @ v) @ v.T) ** 2
        assert rest == pytest.approx(float((torch.linalg.svdvals(matrix)[rank:] ** 2).sum()), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("size", [20, 150])  # below and above the number of random directions
def test_second_moments_have_the_leading_eigenvectors_of_the_sum(size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    strong = torch.linalg.qr(torch.randn(size, 4, generator=generator))[0]
    moment, total = SecondMoment(size, 4, seed=5), torch.zeros(size, size)
    for _ in range(10):
        matrix = strong @ torch.randn(4, 30, generator=generator) + 0.01 * torch.randn(size, 30, generator=generator)
        moment.add(matrix)
        total += matrix @ matrix.T
    found, expected = moment.leading(), torch.linalg.eigh(total).eigenvectors[:, -4:]
    assert torch.allclose(found.T @ found, torch.eye(4), atol=1e-5)
    assert torch.linalg.matrix_norm(found @ found.T - expected @ expected.T) < 1e-2
    again = SecondMoment(size, 4, seed=5)
    again.add(torch.zeros(size, 3))
    assert again.leading().isfinite().all()  # no direction is better than another


@pytest.mark.parametrize("name", ["roberta-base", "roberta-large", "modernbert-base"])
def test_counted_is_what_is_trained_and_stored(name: str) -> None:
    from transformers import AutoConfig, AutoModel

    config = load_config({"modernbert-base": "answerdotai/ModernBERT-base"}.get(name, name))
    fields = {key: value for key, value in config.items() if key != "model_type"}
    for rank in (1, 4, 15, 36, 128):
        with torch.device("meta"):
            module = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **fields))
        spec = AdapterSpec(r=rank, lora_alpha=xs_alpha(rank), target_modules=("all-linear",), adapter="lora-xs")
        made = plan(config, labels=4, budget=None, strategy="manual", adapter=spec, head=HeadSpec())
        head = 4 * config["hidden_size"] + 4
        adapter = inject(module, spec, config)
        cores = trainable(adapter.module)
        assert made.count.trainable == sum(each.numel() for each in cores.values()) + head
        assert len(cores) * rank**2 == made.count.trainable - head
        bases = [each for key, each in adapter.resume_state().items()]
        assert made.count.stored == sum(each.numel() for each in bases) + head
        assert made.count.total == made.count.backbone + made.count.trainable + made.count.stored


@pytest.mark.parametrize("bases", ["svd", "gradient"])
@pytest.mark.parametrize(("encoder", "precision"), [("fast", "fp32"), ("fast", "bf16"), ("reference", "fp32")])
def test_training_keeps_the_budget_and_is_saved_as_plain_lora(
    encoder: str, precision: str, bases: str, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"precision": precision, "bases": bases, "encoder": encoder}
    out = tmp_path / "run"
    trained = pw.train(news / "train.csv", test=news / "test.csv", out=out, **settings)
    made = trained.artifact.plan
    assert made.adapter is not None
    assert (made.adapter.adapter, made.adapter.bases) == ("lora-xs", bases)  # what `auto` takes at this budget
    metrics = trained.metrics
    assert metrics["trainable"] == made.count.trainable <= 1_000 < metrics["stored"] == made.count.stored
    names = {name.rsplit(".", 2)[1] for name in trained.artifact.tensors.adapter}
    assert names == {"lora_A", "lora_B"}
    again = pw.load(out, precision=precision)
    assert np.array_equal(again.predict_proba(TEXTS), trained.predict_proba(TEXTS))
    assert again.artifact.plan == made
    note = made.stored_note
    assert f"{made.count.trainable:,} numbers are trained and {made.count.stored:,} are stored" in note
    assert ("estimated from gradients" in note) == (bases == "gradient")
    assert note in (out / "README.md").read_text("utf-8")
    assert f"{made.count.stored:,} numbers are stored" in (out / "report.html").read_text("utf-8")
    if precision == "fp32":
        assert to_peft(again.artifact, tmp_path / "peft") < 1e-4
        assert to_merged(again.artifact, tmp_path / "merged") < 1e-4


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "electra", "distilbert", "mpnet", "modernbert", "deberta-v2", "minilm"]
)
def test_stock_peft_computes_the_trained_logits(
    kind: str, news: Path, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    """What was trained, before folding, is what plain PEFT computes from the exported folder."""
    head = "full" if kind == "modernbert" else "linear"  # a norm stands between its dense layer and its output
    settings = {**QUICK, "backbone": str(tiny_backbone(kind)), "head": head, "adapter": "lora-xs", "bases": "svd"}
    settings |= {"budget": "3k", "epochs": 1, "learning_rate": 1e-3}
    trained = pw.train(news / "train.csv", **settings)
    assert any(tensor.abs().max() > 0 for name, tensor in trained.artifact.tensors.adapter.items() if "lora_A" in name)
    tokens = trained.artifact.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():  # those of a tiny ModernBERT with random weights are in the hundreds
        largest = float(trained.artifact.model(tokens["attention_mask"], tokens["input_ids"]).abs().max())
    assert to_peft(trained.artifact, tmp_path / "peft") < 1e-4 * max(1.0, largest)


def test_the_exported_folder_is_loaded_by_peft_alone(
    news: Path, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_backbone("roberta")
    trained = pw.train(news / "train.csv", **{**QUICK, "backbone": str(folder)})
    to_peft(trained.artifact, tmp_path / "peft")
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    tokens = trained.artifact.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = torch.softmax(model(**tokens).logits, -1).numpy()
    assert np.allclose(found, trained.predict_proba(TEXTS), atol=1e-4)


def test_folding_changes_no_output_and_leaves_the_plan(tiny_backbone: Callable[..., Path]) -> None:
    adapter, made, _ = injected(tiny_backbone("bert"))
    randomize(adapter)
    ids = torch.randint(5, 30, (2, 9))
    adapter.module.eval()
    before = adapter.module(input_ids=ids).last_hidden_state
    left, folded = adapter.fold(made, 3)
    assert left is made
    assert torch.allclose(before, adapter.module(input_ids=ids).last_hidden_state, rtol=1e-4, atol=1e-5)
    head = 3 * 32 + 3
    assert sum(tensor.numel() for tensor in folded.state().values()) == made.count.stored - head
    folded.scale(0.0)
    assert all(not tensor.any() for name, tensor in folded.state().items() if "lora_B" in name)


class Stopped(Exception):
    """Stands for a kill."""


class Killer:
    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int, *rest: Any) -> None:
        if step == self.at:
            raise Stopped

    def evaluation(self, record: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("average", ["none", "ema"])
def test_a_resumed_run_has_the_bases_that_it_began_with(
    average: str, news: Path, settings: dict[str, Any], tmp_path: Path, own_cache: Path
) -> None:
    settings |= {"save_steps": 1, "average": average}
    whole = pw.train(news / "train.csv", out=tmp_path / "whole", **settings)
    with pytest.raises(Stopped):
        pw.train(news / "train.csv", out=tmp_path / "parts", observer=Killer(4), **settings)
    for file in own_cache.iterdir():
        file.unlink()
    parts = pw.train(news / "train.csv", out=tmp_path / "parts", resume=True, **settings)
    assert list(own_cache.iterdir()) == []
    assert parts.artifact.plan == whole.artifact.plan
    assert np.array_equal(parts.predict_proba(TEXTS), whole.predict_proba(TEXTS))


def test_without_gradients_training_does_not_begin(tiny_backbone: Callable[..., Path]) -> None:
    adapter, _, _ = injected(tiny_backbone("bert"), bases="gradient")
    assert len(adapter.gradients_wanted()) == 12
    expected = (
        "expected svd, which reads the weights alone, or labelled rows; received gradient; train with --bases svd"
    )
    with pytest.raises(RecipeError) as error:
        adapter.start([])
    assert str(error.value) == (
        f"plan -> bases: there are no labelled training rows to estimate bases from; {expected}"
    )
    with pytest.raises(RecipeError) as error:
        adapter.resume({}, 0)
    assert str(error.value) == (
        f"plan -> bases: gradient bases cannot be estimated without labelled training rows; {expected}"
    )
    nan = {name: torch.full_like(adapter.module.get_parameter(name), torch.nan) for name in adapter.gradients_wanted()}
    with pytest.raises(RecipeError, match="the gradients on the training rows are not finite numbers"):
        adapter.start([nan])


def test_a_rank_above_a_side_is_refused(tiny_backbone: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError) as error:
        injected(tiny_backbone("bert"), r=33)
    assert str(error.value) == (
        "adapter -> r: the LoRA-XS rank is larger than the shorter side of the matrix "
        "encoder.layer.0.attention.self.query; expected at most 32; received 33"
    )


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"bias": "all"}, "bias all"),
        ({"scaling": "alpha"}, "scaling alpha"),
        ({"adaptive_ranks": True}, "adaptive_ranks"),
    ],
)
def test_what_it_does_not_go_with(change: dict[str, Any], other: str) -> None:
    with pytest.raises(RecipeError) as error:
        pw.plan(adapter="lora-xs", **change)
    assert str(error.value) == (
        f"recipe default: 1 problem: plan -> adapter: expected plain settings with adapter, received {other}"
    )
    with pytest.raises(RecipeError, match=f"adapter and {other} contradict each other"):
        AdapterSpec(r=2, lora_alpha=4, target_modules=("query",), adapter="lora-xs", **change)


def test_it_has_an_alpha_of_its_own() -> None:
    made = pw.plan(adapter="lora-xs", r=9, strategy="manual", budget="none", labels=4)
    assert made.adapter is not None
    assert made.adapter.lora_alpha == xs_alpha(9) == 90.0
    with pytest.raises(RecipeError, match="whose alpha is 30 sqrt") as error:
        pw.plan(adapter="lora-xs", r=9, lora_alpha=32, strategy="manual", budget="none")
    assert "\n" not in str(error.value)
    with pytest.raises(RecipeError, match="plan -> adapter: expected a strategy that adapts layers"):
        pw.plan(adapter="lora-xs", strategy="head-only")
