"""Merged classifiers: what they compute, what is said of them, that every command takes them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.errors import PennyweightError
from pennyweight.runs.merging import _shares, merge

TEXTS = ["The bank cut its rate.", "The cup and the match", "A campaign in the province"]


@pytest.fixture(scope="module")
def train(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function `(name, **settings) -> run folder`; each name is trained once."""
    folder = tmp_path_factory.mktemp("merged")

    def make(name: str, data: Any = None, **more: Any) -> Path:
        settings = {
            "backbone": str(tiny_backbone("bert")), "budget": "5k", "epochs": 1, "learning_rate": 5e-3, "batch_size": 8,
            "precision": "fp32", "report": "tables", "audit": "off", "contrastive": "off",
        }  # fmt: skip
        if not (folder / name).exists():
            pw.train(news / "train.csv" if data is None else data, out=folder / name, **settings | more)
        return folder / name

    return make


@pytest.fixture(scope="module")
def seeds(train: Callable[..., Path]) -> list[Path]:
    return [train(f"seed-{seed}", seed=seed) for seed in range(3)]


def test_a_composed_classifier_computes_with_the_mean_of_the_updates(
    seeds: list[Path], news: Path, tmp_path: Path
) -> None:
    from pennyweight.model.inference.merge import merged_state

    found = merge(seeds, out=tmp_path / "all", method="compose", weights=[2, 1, 1], test=news / "test.csv")
    merged, runs = pw.load(tmp_path / "all").artifact, [pw.load(run).artifact for run in seeds]
    states = []
    for each in (merged, *runs):
        assert each.plan.adapter is not None
        plain = {name: torch.zeros(shape) for name, shape in shapes(each).items()}
        states.append(merged_state(each.backbone.config, plain, each.plan.adapter.as_saved, each.tensors.adapter))
    for name, update in states[0].items():
        wanted = 0.5 * states[1][name] + 0.25 * states[2][name] + 0.25 * states[3][name]
        torch.testing.assert_close(update, wanted, rtol=1e-4, atol=1e-6)
    for name, tensor in merged.tensors.head.items():
        wanted = torch.stack([run.tensors.head[name] for run in runs])
        torch.testing.assert_close(tensor, 0.5 * wanted[0] + 0.25 * wanted[1] + 0.25 * wanted[2])
    assert (found.kept, found.weights) == (1, (0.5, 0.25, 0.25))
    # The engine and PEFT's layers agree.
    np.testing.assert_allclose(
        found.classifier.text_model.logits(found.classifier.tokens(TEXTS)), found.classifier.logits(TEXTS), atol=1e-4
    )


def shapes(artifact: Any) -> dict[str, tuple[int, ...]]:
    from pennyweight.budget.architecture import encoder_parameters

    return dict(encoder_parameters(artifact.backbone.config))


def test_a_soup_is_of_one_runs_size_and_is_measured_beside_its_runs(
    seeds: list[Path], news: Path, tmp_path: Path
) -> None:
    found = merge(seeds, out=tmp_path / "soup", test=news / "test.csv")
    soup, first = pw.load(tmp_path / "soup"), pw.load(seeds[0])
    assert soup.metrics["stored"] == first.metrics["stored"]
    assert soup.artifact.plan.budget == first.artifact.plan.budget
    assert 0 < found.kept < 1
    assert soup.metrics["merged"] == {
        "method": "soup", "runs": ["seed-0", "seed-1", "seed-2"], "weights": [1 / 3] * 3, "kept": round(found.kept, 6),
    }  # fmt: skip
    assert found.before == pytest.approx([pw.load(run).evaluate(news / "test.csv").accuracy for run in seeds])
    assert found.after == pytest.approx(soup.evaluate(news / "test.csv").accuracy)
    assert soup.metrics["test"]["accuracy"] == found.after
    said = str(found)
    assert "on 15 test rows" in said
    assert f"{soup.metrics['stored']:,} numbers stored" in said
    assert "of the summed update" in said
    assert "merged is " in said
    assert "Merged (soup) from seed-0, seed-1, seed-2; not trained any further." in soup.artifact.card
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("method", ["soup", "compose"])
def test_runs_that_are_the_same_give_the_same(method: Any, seeds: list[Path], tmp_path: Path) -> None:
    found = merge([seeds[0], seeds[0]], out=tmp_path / "twice", method=method)
    np.testing.assert_allclose(found.classifier.logits(TEXTS), pw.load(seeds[0]).logits(TEXTS), atol=1e-4)
    assert found.kept == pytest.approx(1)
    assert found.classifier.temperature == pytest.approx(pw.load(seeds[0]).temperature)


def test_without_test_rows_the_runs_own_figures_are_shown(seeds: list[Path], tmp_path: Path) -> None:
    found = merge(seeds, out=tmp_path / "soup")
    assert (found.measured_on, found.after) == ("validation", None)
    assert found.before == pytest.approx([pw.load(run).metrics["validation"]["accuracy"] for run in seeds])
    assert "the merged classifier was not measured: give --test FILE" in str(found)
    assert "Not measured." in pw.load(tmp_path / "soup").artifact.card


def test_lora_xs_of_other_bases_and_runs_of_other_plans(
    train: Callable[..., Path], seeds: list[Path], tmp_path: Path
) -> None:
    small = [train(f"xs-{seed}", seed=seed, adapter="lora-xs", strategy="auto", budget="2k") for seed in range(2)]
    soup = merge(small, out=tmp_path / "soup").classifier
    assert soup.metrics["stored"] == pw.load(small[0]).metrics["stored"]
    assert soup.metrics["trainable"] == soup.metrics["stored"]  # plain LoRA, whatever was trained
    both = merge([small[0], seeds[0]], out=tmp_path / "both", method="compose").classifier
    head = sum(tensor.numel() for tensor in both.artifact.tensors.head.values())
    stored = [pw.load(run).metrics["stored"] for run in (small[0], seeds[0])]
    assert both.metrics["stored"] == sum(stored) - head
    assert len(both.predict(TEXTS)) == 3


def test_other_heads_and_any_number_of_labels(
    train: Callable[..., Path], multi_label_pairs: Callable[..., list[tuple[str, list[str]]]], tmp_path: Path
) -> None:
    pairs = multi_label_pairs(60)
    runs = [train(f"multi-{seed}", pairs, seed=seed, head="low_rank", head_rank=2) for seed in range(2)]
    found = merge(runs, out=tmp_path / "soup", test=pairs[:20])
    assert found.classifier.thresholds == pytest.approx(np.mean([pw.load(run).thresholds for run in runs], axis=0))
    assert found.after == pytest.approx(found.classifier.metrics["test"]["exact_match"])
    alone = merge(runs, out=tmp_path / "unmeasured")
    assert alone.classifier.thresholds == pytest.approx(found.classifier.thresholds)


def test_heads_alone(train: Callable[..., Path], tmp_path: Path) -> None:
    runs = [train(f"head-{seed}", seed=seed, strategy="head-only", lp_ft=False) for seed in range(2)]
    found = merge(runs, out=tmp_path / "soup").classifier
    np.testing.assert_allclose(
        found.logits(TEXTS), np.mean([pw.load(run).logits(TEXTS) for run in runs], axis=0), atol=1e-4
    )


def test_what_was_added_to_the_biases_is_known_of_the_merged_one(train: Callable[..., Path], tmp_path: Path) -> None:
    rows = [("The bank cut its rate.", "common")] * 30 + [("The cup and the match", "rare")] * 10
    runs = [
        train(name, rows, thresholds=wanted, adapter="lora", budget="10k")
        for name, wanted in (("0.5", "recall=0.5"), ("1", "recall=1"))
    ]
    values = [pw.load(run).metrics["bias_offsets"]["values"] for run in runs]
    merge(runs, out=tmp_path / "soup", weights=[3, 1])
    found = pw.load(tmp_path / "soup").metrics["merged"]["bias_offsets"]
    assert found == pytest.approx(np.average(values, axis=0, weights=[3, 1]))
    assert any(found)


def test_every_command_takes_it(seeds: list[Path], news: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    out = tmp_path / "soup"
    done = command("merge", *seeds, "--test", news / "test.csv", "--out", out, "--weights", "2,1,1")
    assert (done.code, done.out.splitlines()[0].split()) == (0, ["run", "weight", "accuracy", "%"])
    for words in ("", "2,,1", "2,x,1"):
        done = command("merge", *seeds, "--out", tmp_path / "other", "--weights", words)
        assert (done.code, done.error) == (
            2, f"--weights: not numbers; expected numbers such as 2,1,1; received {words}".rstrip()
        )  # fmt: skip
    shown = command("merge", *seeds, "--test", news / "test.csv", "--out", tmp_path / "other", "--json")
    assert json.loads(shown.out)["runs"] == ["seed-0", "seed-1", "seed-2"]
    for words in (
        ["evaluate", out, news / "test.csv"], ["predict", out, news / "test.csv", "--out", tmp_path / "p.csv"],
        ["explain", out, "The bank cut its rate."], ["export", out, tmp_path / "peft"],
        ["compare", out, tmp_path / "other"],
    ):  # fmt: skip
        done = command(*words)
        assert done.code == 0, done.err
    assert (tmp_path / "peft").is_dir()


def test_what_cannot_be_merged(
    train: Callable[..., Path], seeds: list[Path], tiny_backbone: Callable[..., Path], tmp_path: Path, news: Path
) -> None:
    def refused(*runs: Path, **more: Any) -> str:
        with pytest.raises(PennyweightError) as caught:
            merge(runs, **{"out": tmp_path / "out"} | more)
        assert caught.value.exit_code == 2
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    first = seeds[0]
    assert refused(first) == "merging takes at least two runs; received 1"
    assert refused(first, seeds[1], weights=[1]) == (
        "--weights: the weights do not match the runs; expected 2 numbers above 0; received 1"
    )
    assert refused(first, seeds[1], weights=[1e308, 1e-308]) == (
        "--weights: the weights are too far apart: the least of them is rounded to 0; received 1e+308, 1e-308"
    )
    assert "expected 2 numbers above 0; received 1, -1" in refused(first, seeds[1], weights=[1, -1])
    assert refused(first, seeds[1], method="mix").startswith("--method: unknown method; expected soup, compose")
    assert "not a saved classifier" in refused(first, news)
    assert "the folder of the merged classifier is not empty" in refused(first, seeds[1], out=first)
    assert refused(first, seeds[1], out=seeds[1] / "merged") == (
        f"{seeds[1] / 'merged'}: the folder of the merged classifier is inside the run {seeds[1]}; choose another --out"
    )
    assert not (seeds[1] / "merged").exists()
    (tmp_path / "labels.csv").write_text("text,label\nThe bank cut its rate.,Weather\n", "utf-8")
    assert "; merge without --test, then use `pennyweight evaluate`: " in refused(
        first, seeds[1], test=tmp_path / "labels.csv"
    )
    other = train("other-backbone", backbone=str(tiny_backbone("minilm")))
    assert refused(first, other).startswith("other-backbone cannot be merged with seed-0: backbones differ; expected ")
    pooled = train("mean", pooling="mean")
    assert refused(first, pooled) == "mean cannot be merged with seed-0: poolings differ; expected cls; received mean"
    short = train("short", max_length=16)
    assert refused(first, short).startswith(
        "short cannot be merged with seed-0: inputs differ; expected max_length 128"
    )
    renamed = train("renamed", label_map={"World": "Abroad"})
    assert refused(first, renamed).startswith(
        "renamed cannot be merged with seed-0: labels differ; expected Business, Sports, World; received Abroad, "
    )
    larger = train("larger", budget="none", strategy="manual", r=8)
    assert refused(first, larger).endswith("; merge them with --method compose")
    bare = train("bare", strategy="head-only")
    assert refused(first, bare, method="compose") == (
        "bare cannot be merged with seed-0: adapters differ; expected one; received none"
    )


def test_the_sum_of_the_weights_may_be_more_than_a_number_holds() -> None:
    assert _shares([1e308, 1e308], 2) == (0.5, 0.5)
