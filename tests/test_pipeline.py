"""The line from recipe to classifier, from Python."""

from __future__ import annotations

import csv
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight import pipeline
from pennyweight.errors import BudgetError, PennyweightError, RecipeError
from pennyweight.recipe import loading as recipe
from pennyweight.train.observer import forward_log
from pennyweight.train.run_folder import RunFolder

from .forked_python import ForkedPython

SMALL = {"budget": "5k", "max_steps": 2, "precision": "fp32", "batch_size": 8}


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return SMALL | {"backbone": str(tiny_backbone("bert"))}


@pytest.fixture
def pairs(news: Path) -> list[tuple[str, str]]:
    with (news / "train.csv").open(encoding="utf-8") as handle:
        return [(row["text"], row["label"]) for row in csv.DictReader(handle)]


def test_every_form_of_data_trains_the_same(
    pairs: list[tuple[str, str]], news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    import pandas as pd
    from datasets import Dataset

    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    frame = pd.DataFrame({"text": texts, "label": labels})
    dataset = Dataset.from_pandas(frame)
    dataset.save_to_disk(tmp_path / "saved")
    forms = [pairs, (texts, labels), {"text": texts, "label": labels}, frame, dataset, news / "train.csv"]
    forms += [str(tmp_path / "saved"), [{"text": text, "label": label} for text, label in pairs]]
    found = [pw.train(form, **settings).logits(texts[:4]) for form in forms]
    for number, logits in enumerate(found):
        assert np.array_equal(logits, found[0]), number


def test_a_classifier_from_python_predicts_evaluates_and_saves(
    pairs: list[tuple[str, str]], settings: dict[str, Any], tmp_path: Path
) -> None:
    classifier = pw.train(pairs, test=pairs[:15], **settings)
    assert classifier.evaluate(pairs[:15]).accuracy == classifier.metrics["test"]["accuracy"]
    folder = classifier.save(tmp_path / "saved")
    assert pw.load(folder).predict(["The bank."]) == classifier.predict(["The bank."])
    again = pw.train(pairs, test=pairs[:15], recipe=folder / "recipe.yaml")
    assert np.array_equal(again.logits(["The bank."]), classifier.logits(["The bank."]))


@pytest.mark.parametrize("name", recipe.shipped())
def test_each_shipped_recipe_runs(name: str, tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path) -> None:
    """On a tiny backbone of the kind the recipe names, two steps, everything else as shipped."""
    kind = "roberta" if recipe.load(name).model.backbone == "roberta-base" else "minilm"
    size = {"validation_size": 12} if name == "notebook" else {}  # 640 rows would be more than there are
    classifier = pw.train(
        news / "train.csv", recipe=name, backbone=str(tiny_backbone(kind)), max_steps=2, out=tmp_path / "run",
        report="short", precision="fp32", **size,
    )  # fmt: skip
    wanted = recipe.load(name)
    saved = recipe.load(tmp_path / "run" / "recipe.yaml")
    assert saved.plan == wanted.plan
    assert (saved.train.scheduler, saved.train.learning_rate) == (wanted.train.scheduler, wanted.train.learning_rate)
    assert classifier.metrics["train"]["steps"] == 2
    assert classifier.metrics["trainable"] == pw.plan(saved, labels=3).count.trainable
    assert pw.load(tmp_path / "run").predict(["The bank."]) == classifier.predict(["The bank."])


def test_a_saved_classifier_loads_from_anywhere(
    pairs: list[tuple[str, str]], tiny_backbone: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone given by a relative path is remembered by an absolute one."""
    shutil.copytree(tiny_backbone("bert"), tmp_path / "backbone")
    monkeypatch.chdir(tmp_path)
    classifier = pw.train(pairs, backbone="backbone", out="run", report="short", **SMALL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pw.load(tmp_path / "run").predict(["The bank."]) == classifier.predict(["The bank."])
    assert recipe.load(tmp_path / "run" / "recipe.yaml").model.backbone == str(tmp_path / "backbone")


def test_over_budget_nothing_starts(pairs: list[tuple[str, str]], settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="over the budget; expected at most 5,000"):
        pw.train(pairs, **settings | {"r": 64}, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_in_python_is_told_as_on_the_command_line(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(RecipeError, match=r"unknown setting epoch: expected epochs \(nearest known name\)"):
        pw.train(pairs, epoch=3)
    with pytest.raises(RecipeError, match="no training data; expected a file, a folder"):
        pw.train()
    assert issubclass(RecipeError, PennyweightError)


def test_a_run_is_told_as_it_goes(pairs: list[tuple[str, str]], settings: dict[str, Any]) -> None:
    steps: list[tuple[int, int]] = []
    evaluations: list[dict[str, Any]] = []
    lines: list[str] = []

    class Watcher:
        def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
            steps.append((step, total))

        def evaluation(self, record: dict[str, Any]) -> None:
            evaluations.append(record)

    with forward_log(lines.append):
        pw.train(pairs, observer=Watcher(), **settings)
    assert steps == [(1, 2), (2, 2)]
    assert evaluations[-1]["step"] == 2
    assert lines[0] == "data: 54 training, 6 validation texts, 3 labels: Business, Sports, World"
    assert lines[1].startswith("plan: ")


def test_a_dataset_of_the_hub_trains_by_its_name(
    settings: dict[str, Any], pairs: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real path to the hub's client, which answers from here."""
    import datasets

    names = ["World", "Sports", "Business"]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    rows = {"text": [text for text, _ in pairs], "label": [names.index(label) for _, label in pairs]}
    asked: list[tuple[Any, ...]] = []

    def load_dataset(*args: Any, split: str, **rest: Any) -> datasets.Dataset:
        asked.append((args[0], split))
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    classifier = pw.train("fancyzhx/ag_news", test="fancyzhx/ag_news", validation="fancyzhx/ag_news", **settings)
    # Each part reads its own split: measuring on what was trained on would flatter.
    assert asked == [("fancyzhx/ag_news", part) for part in ("train", "validation", "test")]
    classifier.evaluate("fancyzhx/ag_news")
    classifier.evaluate("fancyzhx/ag_news", split="other")
    assert asked[3:] == [("fancyzhx/ag_news", "test"), ("fancyzhx/ag_news", "other")]
    assert classifier.labels == tuple(names)  # in the order the data set gives them
    assert classifier.artifact.recipe.data.train == "fancyzhx/ag_news"


def test_a_saved_dictionary_of_datasets_brings_its_splits(
    settings: dict[str, Any], pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    from datasets import Dataset, DatasetDict

    part = [{"text": text, "label": label} for text, label in pairs]
    splits = {"train": Dataset.from_list(part[:48]), "test": Dataset.from_list(part[48:])}
    DatasetDict(splits).save_to_disk(tmp_path / "news")
    classifier = pw.train(tmp_path / "news", test=tmp_path / "news", **settings)
    assert classifier.metrics["test"]["n"] == 12
    assert classifier.metrics["train"]["rows"] + classifier.metrics["validation"]["n"] == 48


def test_stages_give_frozen_results_and_one_artifact_at_the_end(
    pairs: list[tuple[str, str]], settings: dict[str, Any]
) -> None:
    wanted = recipe.load(**settings)
    loaded = pipeline.load_data(wanted, pairs, pairs[:15])
    planned = pipeline.plan_run(wanted, loaded, RunFolder())
    built = pipeline.build_model(wanted, loaded, planned)
    fitted = pipeline.fit_model(wanted, loaded, planned, built, RunFolder())
    evaluated = pipeline.evaluate_model(wanted, loaded, planned, built, fitted, report=False)
    saved = pipeline.save_model(wanted, loaded, planned, built, fitted, evaluated, RunFolder())
    for result in (loaded, planned, built, fitted, evaluated, saved, saved.classifier.artifact):
        with pytest.raises(FrozenInstanceError):
            setattr(result, fields(result)[0].name, None)
    whole = pw.train(pairs, test=pairs[:15], recipe=wanted)
    assert np.array_equal(saved.classifier.logits(["The bank."]), whole.logits(["The bank."]))
    assert saved.classifier.metrics.keys() == whole.metrics.keys()
    assert saved.classifier.metrics["test"] == whole.metrics["test"]


def test_training_leaves_global_state_as_it_was(pairs: list[tuple[str, str]], settings: dict[str, Any]) -> None:
    import torch
    from transformers.utils import logging

    def state() -> tuple[Any, ...]:
        random = torch.get_rng_state().tolist(), np.random.get_state(legacy=True)[1].tolist()
        return *random, logging.get_verbosity(), logging.is_progress_bar_enabled(), warnings.filters[:]

    before = state()
    pw.train(pairs, test=pairs[:15], **settings)
    assert state() == before


FORKING = """
import logging, os, signal, sys, torch
import pennyweight as pw
torch.set_num_threads(2)
torch.ones(1 << 20).add_(1).sum()  # OpenMP has threads from now on
child = os.fork()
if child == 0:
    signal.alarm(60)
    logging.basicConfig(format="%(levelname)s %(message)s")
    pw.train(
        sys.argv[1], backbone=sys.argv[2], budget="5k", max_steps=2, precision="fp32", batch_size=8, threads=2,
        audit="off", progress=False,
    ).predict(["The bank and the rate"])
    sys.stderr.flush()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_is_forked_after_its_parent_computed_trains(
    news: Path, tiny_backbone: Callable[..., Path]
) -> None:
    done = ForkedPython(FORKING, news / "train.csv", tiny_backbone("bert")).wait(timeout=120)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
    assert done.stderr.count("WARNING threads: training uses one CPU thread, because a forked process cannot use") == 1


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "fp64 by default": lambda: default_dtype(torch.float64),
    "another device by default": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("encoder", ["fast", "reference"])
def test_what_the_caller_has_set_in_torch_changes_nothing(
    state: str, encoder: str, pairs: list[tuple[str, str]], settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"encoder": encoder}
    texts = [text for text, _ in pairs[:4]]
    expected = pw.train(pairs, **settings).logits(texts)
    with STATES[state]():
        trained = pw.train(pairs, out=tmp_path / "run", **settings)
        for classifier in (trained, pw.load(tmp_path / "run")):
            assert np.array_equal(classifier.logits(texts), expected)
