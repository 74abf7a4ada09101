"""Every family that `plan` accepts: trained, saved, loaded and exported, beside a plain transformers + PEFT loop.

The cases are all pairs of settings rather than all combinations: each strategy, precision, prefix, pooling and head
meets each family, and each other, at least once.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pennyweight as pw
from pennyweight.budget.cost import first_trained_layer
from pennyweight.budget.families import FAMILIES
from pennyweight.data.batching import plan_batches
from pennyweight.errors import ArtifactError, ResourceError
from pennyweight.export.merged import to_merged
from pennyweight.export.peft import to_peft
from pennyweight.model import device as runtime
from pennyweight.model.heads import Head
from pennyweight.model.trainable import trainable
from pennyweight.train.observer import forward_log
from pennyweight.train.state import FitResult, TrainingState

STRATEGIES: dict[str, dict[str, Any]] = {
    "auto": {"strategy": "auto"},
    "all-linear": {"strategy": "all-linear"},
    "attention": {"strategy": "attention"},
    "top": {"strategy": "top"},
    "head-only": {"strategy": "head-only"},
    "manual": {
        "strategy": "manual", "r": 2, "target_modules": ["all-linear"], "layers": "top:2", "bias": "lora_only",
    },
}  # fmt: skip
FACTORS: tuple[tuple[str, ...], ...] = (
    tuple(FAMILIES),
    tuple(STRATEGIES),
    ("fp32", "bf16"),
    ("memory", "off"),
    ("cls", "mean"),
    ("linear", "full", "low_rank"),
)
STEPS, BATCH, RATE = 3, 8, 1e-3
TEXTS = [
    "The bank cut its rate.",
    "The cup",
    "Voters in the province go to the polls on Sunday after a quiet campaign.",
]


def all_pairs(factors: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    """Rows in which any two values of different factors meet, found greedily: the row with the most new pairs next.

    Of equals a random one, the same every time, so that no value keeps company with the first of another factor.
    """

    def pairs(row: tuple[str, ...]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
        return set(combinations(enumerate(row), 2))  # type: ignore[arg-type]

    rows = list(product(*factors))
    random.Random(0).shuffle(rows)
    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return sorted(chosen)


CASES = all_pairs(FACTORS)


@dataclass
class Record:
    """What a run began with, and the loss of each of its steps in nats per text."""

    start: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        self.losses.append(loss)

    def evaluation(self, record: dict[str, Any]) -> None:
        pass


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], np.ndarray]:
    """A folder with train.csv and validation.csv, and the training texts of different lengths with their classes."""
    folder = tmp_path_factory.mktemp("topics")
    ends = ["", " in a row", " on the second day of the test match"]
    words = [("bank", "rate"), ("cup", "match"), ("polls", "campaign")]
    texts, classes = [], []
    for number in range(2 * BATCH):
        one, other = words[number % 3]
        texts.append(f"The {one} and the {other} of {number}{ends[number % 3 - number % 2]}")
        classes.append(number % 3)
    for name, chosen in (("train", texts), ("validation", [f"Officials said: {text}" for text in texts[:6]])):
        rows = [f"{text},{'ABC'[label]}" for text, label in zip(chosen, classes, strict=False)]
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    return folder, texts, np.array(classes)


def test_all_families_and_all_pairs_are_here() -> None:
    for (one, first), (other, second) in combinations(enumerate(FACTORS), 2):
        assert {(row[one], row[other]) for row in CASES} == set(product(first, second))


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers")
def test_it_trains_as_a_plain_loop_does_and_is_saved_loaded_and_exported(
    case: tuple[str, ...],
    tiny_backbone: Callable[..., Path],
    topics: tuple[Path, list[str], np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, strategy, precision, kept, pooling, head = case
    folder, texts, classes = topics
    settings: dict[str, Any] = {
        "validation": str(folder / "validation.csv"), "backbone": str(tiny_backbone(kind)), "budget": "6k",
        "precision": precision, "prefix_cache": kept, "pooling": pooling, "head": head, "head_rank": 2,
        "head_dropout": 0.0, "lora_dropout": 0.0, "epochs": 2, "max_steps": STEPS, "eval_steps": STEPS,
        "batch_size": BATCH, "learning_rate": RATE, "scheduler": "constant", "warmup_ratio": 0.0, "weight_decay": 0.01,
        "max_grad_norm": 1.0, "adam_epsilon": 1e-4, "max_length": 64, "lp_ft": False,
    } | STRATEGIES[strategy]  # fmt: skip
    if precision == "bf16" and not runtime.computes_bf16():
        with pytest.raises(ResourceError, match=r"^this CPU's kernels do not compute in bf16; use --precision fp32$"):
            pw.train(folder / "train.csv", **settings)
        return
    trained, record = train(folder / "train.csv", settings, monkeypatch)
    bundle = trained.artifact
    first = first_trained_layer(bundle.backbone.config, bundle.plan)
    prefix = trained.metrics["train"]["prefix"]
    assert (prefix["first_layer"] if prefix else None) == (first if kept == "memory" and first else None)

    trained.save(tmp_path / "saved")
    loaded = pw.load(tmp_path / "saved")
    logits = trained.logits(TEXTS)
    assert loaded.runtime.precision == precision
    assert np.array_equal(loaded.logits(TEXTS), logits)

    compare_with_plain_loop(trained, record, texts, classes, tmp_path / "saved")
    exact = pw.load(tmp_path / "saved", precision="fp32")
    # A number of a few units after four layers, each with a handful of roundings.
    assert np.abs(exact.logits(TEXTS) - logits).max() < tolerance(precision, 32) * np.abs(logits).max()
    # The engine has the adapter merged into the weights; the model keeps it beside them, as in training.
    as_trained = exact.text_model.logits(exact.tokens(TEXTS))
    assert np.abs(exact.logits(TEXTS) - as_trained).max() < tolerance("fp32", 256) * np.abs(as_trained).max()
    assert exact.predict(TEXTS) == [exact.labels[place] for place in as_trained.argmax(1)]
    check_exports(exact, kind, strategy, pooling, head, tmp_path)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_head_is_fitted_on_a_prefix_in_bf16_before_training(
    kind: str,
    tiny_backbone: Callable[..., Path],
    topics: tuple[Path, list[str], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, texts, classes = topics
    if not runtime.computes_bf16():
        return
    settings: dict[str, Any] = {
        "validation": str(folder / "validation.csv"), "backbone": str(tiny_backbone(kind)), "budget": "6k",
        "precision": "bf16", "strategy": "top", "pooling": "mean", "head": "linear", "lp_ft": True, "epochs": 2,
        "max_steps": 1, "batch_size": len(texts), "lora_dropout": 0.0, "head_dropout": 0.0, "warmup_ratio": 0.0,
    }  # fmt: skip
    said: list[str] = []
    with forward_log(said.append):
        trained, record = train(folder / "train.csv", settings, monkeypatch)
    assert trained.metrics["train"]["prefix"]["first_layer"] == 2
    (line,) = (line for line in said if line.startswith("head: fitted on frozen features"))
    # The first step is before any change: what the head was fitted to is what training computes.
    assert record.losses[0] == pytest.approx(float(line.rpartition(" ")[2]), abs=1e-3)
    assert record.losses[0] < np.log(len(set(classes.tolist())))


def tolerance(precision: str, steps: float) -> float:
    """`steps` times the epsilon of a number format."""
    return steps * torch.finfo(runtime.DTYPES[precision]).eps


def train(
    data: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[pw.Classifier, Record]:
    from pennyweight.train import loop

    record, fit = Record(), loop.fit

    def watched(state: TrainingState, **options: Any) -> FitResult:
        record.start = {name: parameter.detach().clone() for name, parameter in trainable(state.model).items()}
        return fit(state, **options)

    monkeypatch.setattr(loop, "fit", watched)
    return pw.train(data, observer=record, **settings, **options), record


class Plain(nn.Module):
    """Stock transformers and PEFT, the head on top: logits of texts."""

    def __init__(self, classifier: pw.Classifier, saved: Path) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        super().__init__()
        bundle = classifier.artifact
        config = AutoConfig.from_pretrained(bundle.backbone.folder)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
            setattr(config, name, 0.0)
        self.encoder = AutoModel.from_pretrained(bundle.backbone.folder, config=config).requires_grad_(False)
        if bundle.plan.adapter is not None:
            adapter = LoraConfig.from_pretrained(saved / "adapter")
            adapter.inference_mode = False
            self.encoder = get_peft_model(self.encoder, adapter)
        self.head: Head = copy.deepcopy(bundle.model.head)
        self.pooling = bundle.recipe.model.pooling
        self.tokenizer = AutoTokenizer.from_pretrained(bundle.backbone.folder)
        self.train()

    def forward(self, texts: list[str]) -> Tensor:
        batch = self.tokenizer(texts, padding=True, return_tensors="pt")
        known = {name: batch[name] for name in ("input_ids", "attention_mask")}
        hidden = self.encoder(**known).last_hidden_state  # (B, T, H)
        mask = batch["attention_mask"].unsqueeze(-1).float()
        pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        logits: Tensor = self.head(pooled)
        return logits

    def learning(self) -> dict[str, nn.Parameter]:
        """What is trained, under Pennyweight's names."""
        named = {
            name.removeprefix("encoder.").removeprefix("base_model.model."): parameter
            for name, parameter in self.encoder.named_parameters(prefix="encoder")
            if parameter.requires_grad
        }
        return {f"module.{name}": parameter for name, parameter in named.items()} | {
            f"head.{name}": parameter for name, parameter in self.head.named_parameters()
        }


def compare_with_plain_loop(
    classifier: pw.Classifier, record: Record, texts: list[str], classes: np.ndarray, saved: Path
) -> None:
    """The same batches from the same first values: the same losses, and the same weights after the last step."""
    recipe, precision = classifier.artifact.recipe, classifier.runtime.precision
    plain = Plain(classifier, saved)
    parameters = plain.learning()
    assert parameters.keys() == record.start.keys()
    with torch.no_grad():
        for name, value in record.start.items():
            parameters[name].copy_(value)
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": recipe.train.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, eps=recipe.train.adam_epsilon)
    lengths = np.array([len(plain.tokenizer(text)["input_ids"]) for text in texts])
    losses = []
    for step in range(STEPS):
        epoch, place = divmod(step, 2)
        rows = plan_batches(
            lengths, batch_size=BATCH, bucket=recipe.data.pad_to_multiple_of, seed=recipe.train.seed, epoch=epoch,
            group=recipe.train.group_by_length,
        )[place]  # fmt: skip
        loss = nn.functional.cross_entropy(plain([texts[row] for row in rows]), torch.from_numpy(classes[rows]))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), recipe.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert record.losses == pytest.approx(losses, rel=tolerance(precision, 16 if precision == "fp32" else 2))
    ours = trainable(classifier.artifact.model)
    moved = torch.cat([(ours[name] - value).detach().flatten() for name, value in record.start.items()])
    wanted = torch.cat([(parameters[name] - value).detach().flatten() for name, value in record.start.items()])
    # Adam divides each gradient by its own size: small ones, of which rounding is a large part, count fully.
    assert float((moved - wanted).norm() / wanted.norm()) < tolerance(precision, 256 if precision == "fp32" else 32)


def check_exports(classifier: pw.Classifier, kind: str, strategy: str, pooling: str, head: str, folder: Path) -> None:
    """What is exported, stock transformers and PEFT load with the same logits; what is not, is refused in one line."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    expressible = pooling == "cls" and (kind, head) != ("modernbert", "linear")
    labels = {"num_labels": 3}
    expected = classifier.logits(TEXTS)
    for name, export in (("peft", to_peft), ("merged", to_merged)):
        try:
            export(classifier.artifact, folder / name)
        except ArtifactError:
            assert not expressible or (name == "peft" and strategy == "head-only")
            assert not (folder / name).exists()
            continue
        source = classifier.artifact.backbone.folder if name == "peft" else folder / name
        model: Any = AutoModelForSequenceClassification.from_pretrained(source, **labels)
        if name == "peft":
            model = PeftModel.from_pretrained(model, folder / name)
        batch = AutoTokenizer.from_pretrained(folder / name)(TEXTS, padding=True, return_tensors="pt")
        with torch.no_grad():
            found = model.eval()(**batch).logits.numpy()
        # The linear head passes through a stock head's dense layer, whose numbers are larger than the logits.
        assert np.abs(found - expected).max() < tolerance("fp32", 1024) * np.abs(expected).max()
