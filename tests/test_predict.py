"""Answers: in order, in every form, from every kind of source."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight import answers
from pennyweight.converse import converse
from pennyweight.errors import ArtifactError, InputError

ROOT = Path(__file__).parent.parent
Command = Callable[..., Any]
TEXTS = ["The bank and the rate.", "", "The striker and the cup " * 40, "Voters in the valley."]


@pytest.fixture(scope="module")
def classifier(tiny_run: Path) -> pw.Classifier:
    return pw.load(tiny_run)


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """Texts of very different length, so that batches in order of length would show."""
    path = tmp_path / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows([["ID", "text"], *([f"n{number}", text] for number, text in enumerate(TEXTS))])
    return path


def expected(classifier: pw.Classifier) -> list[str]:
    return [classifier.predict([text])[0] for text in TEXTS]


def test_labels_probabilities_and_order(classifier: pw.Classifier) -> None:
    probabilities = classifier.predict_proba(TEXTS)
    assert probabilities.shape == (4, 3)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert classifier.labels == ("Business", "Sports", "World")
    assert classifier.predict(TEXTS) == [classifier.labels[place] for place in probabilities.argmax(axis=1)]
    assert classifier.predict(TEXTS) == expected(classifier)  # alone or in a batch
    assert classifier.predict([]) == []
    with pytest.raises(InputError, match=r"one text where a list of texts belongs; call predict\(\[\"...\"\]\)"):
        classifier.predict("one text")


def test_it_has_learnt_the_topics(classifier: pw.Classifier) -> None:
    """Chance is a third: an answer that did not depend on the text would stay there."""
    assert classifier.metrics["test"]["accuracy"] > 0.5


def test_save_and_load_give_the_same_logits(classifier: pw.Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "copy")
    assert np.array_equal(pw.load(tmp_path / "copy").logits(TEXTS), classifier.logits(TEXTS))
    with pytest.raises(ArtifactError, match="a classifier is already saved here; choose another folder"):
        classifier.save(tmp_path / "copy")


def test_a_backbone_that_moved_is_named_anew(
    tiny_run: Path, tiny_backbone: Callable[..., Path], tmp_path: Path, command: Command, news: Path
) -> None:
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(tiny_backbone("bert"), moved)
    assert pw.load(tiny_run, backbone=str(moved)).predict(TEXTS) == expected(pw.load(tiny_run))
    done = command("predict", tiny_run, news / "test.csv", "--backbone", tiny_backbone("roberta"))
    assert done.code == 2
    assert "the backbone is not the one this classifier was trained on" in done.error
    assert done.error.endswith("give the right folder with --backbone")


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_form_keeps_the_order(
    form: str, classifier: pw.Classifier, tiny_run: Path, unlabelled: Path, tmp_path: Path, command: Command
) -> None:
    import pandas as pd

    out = tmp_path / f"answers.{form}"
    done = command("predict", tiny_run, unlabelled, "--out", out)
    assert (done.code, done.out, done.err) == (0, "", f"4 texts labelled: {out}\n")
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}
    table = read[form](out) if form in read else pd.read_json(out, lines=True)
    assert list(table.columns) == ["id", "label", "probability", "p_Business", "p_Sports", "p_World"]
    assert table["id"].tolist() == ["n0", "n1", "n2", "n3"]
    assert table["label"].tolist() == expected(classifier)
    probabilities = classifier.predict_proba(TEXTS)
    assert np.allclose(table[["p_Business", "p_Sports", "p_World"]].to_numpy(), probabilities, atol=1e-5)
    assert np.allclose(table["probability"], probabilities.max(axis=1), atol=1e-5)


def test_a_submission_is_ids_and_class_numbers(
    classifier: pw.Classifier, tiny_run: Path, unlabelled: Path, tmp_path: Path, command: Command
) -> None:
    numbers = [classifier.labels.index(label) for label in expected(classifier)]
    done = command("predict", tiny_run, unlabelled, "--submission")
    assert done.out.splitlines() == ["ID,Label", *(f"n{row},{number}" for row, number in enumerate(numbers))]
    # Without ids of its own, a file's rows are counted from 0.
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), "utf-8")
    done = command("predict", tiny_run, tmp_path / "bare.jsonl", "--submission", "--out", tmp_path / "out.csv")
    assert done.code == 0
    assert (tmp_path / "out.csv").read_text("utf-8").splitlines() == [
        "ID,Label", *(f"{row},{number}" for row, number in enumerate(numbers)),
    ]  # fmt: skip


def test_the_contests_pickled_file(classifier: pw.Classifier, tiny_run: Path, tmp_path: Path, command: Command) -> None:
    from datasets import Dataset

    with (tmp_path / "test_unlabelled.pkl").open("wb") as handle:
        pickle.dump(Dataset.from_dict({"text": TEXTS}), handle)
    done = command("predict", tiny_run, tmp_path / "test_unlabelled.pkl", "--submission")
    assert done.code == 0, done.err
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["ID", "0", "1", "2", "3"]
    assert len(done.out.splitlines()) == 5


def test_a_hostile_pickle_is_refused_and_not_run(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    (tmp_path / "test_unlabelled.pkl").write_bytes(pickle.dumps(Hostile()))
    done = command("predict", tiny_run, tmp_path / "test_unlabelled.pkl", "--submission")
    assert done.code == 2
    assert done.error
    assert not (tmp_path / "owned").exists()


def test_stdin_as_json_lines_and_as_plain_text(classifier: pw.Classifier, tiny_run: Path, command: Command) -> None:
    lines = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(TEXTS))
    found = [json.loads(line) for line in command("predict", tiny_run, "-", stdin=lines).out.splitlines()]
    assert [row["id"] for row in found] == [0, 1, 2, 3]
    assert [row["label"] for row in found] == expected(classifier)
    plain = command("predict", tiny_run, "-", "--format", "csv", stdin="\n".join(TEXTS) + "\n").out.splitlines()
    assert plain[0] == "label,probability,p_Business,p_Sports,p_World"
    assert [row.split(",")[0] for row in plain[1:]] == expected(classifier)
    other = command(
        "predict", tiny_run, "-", "--text-columns", "a,b", stdin='{"a": "The bank", "b": "and the rate."}\n'
    )
    assert json.loads(other.out)["label"] == classifier.predict(["The bank and the rate."])[0]


def test_stdin_is_answered_before_it_is_closed(tiny_run: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pennyweight", "predict", str(tiny_run), "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for number, text in enumerate(TEXTS[:2]):
        process.stdin.write(json.dumps({"id": number, "text": text}) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer["id"] == number
        assert answer["label"] in ("Business", "Sports", "World")
    rest, err = process.communicate(timeout=120)
    assert (rest, err, process.returncode) == ("", "", 0)


def test_what_waits_is_answered_in_batches(classifier: pw.Classifier) -> None:
    sizes: list[int] = []

    class Counting:
        labels, multi = classifier.labels, False

        def predict_proba(self, texts: list[str]) -> np.ndarray:
            sizes.append(len(texts))
            return classifier.predict_proba(texts)

    given = (({"id": number}, f"text {number}") for number in range(300))
    found = list(converse(Counting(), given, most=32))  # type: ignore[arg-type]
    assert [row["id"] for row in found] == list(range(300))
    assert max(sizes) <= 32
    assert len(sizes) < 300


def test_a_failing_source_fails_after_what_came_before(classifier: pw.Classifier) -> None:
    def lines() -> Iterator[tuple[dict[str, Any], str]]:
        yield {"id": 0}, "The bank."
        raise InputError("broken")

    found = converse(classifier, lines())
    assert next(found)["id"] == 0
    with pytest.raises(InputError, match="broken"):
        next(found)


def test_spreadsheets_get_no_formulas(tmp_path: Path) -> None:
    rows = [{"id": "=1+1", "label": "@x"}, {"id": "plain", "label": "-2"}]
    answers.write(rows, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text("utf-8").splitlines() == ["id,label", "'=1+1,'@x", "plain,'-2"]


def test_a_failure_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1}
        raise InputError("broken")

    out = tmp_path / "out.jsonl"
    out.write_text("old\n", "utf-8")
    with pytest.raises(InputError, match="broken"):
        answers.write(rows(), out)
    assert out.read_text("utf-8") == "old\n"
    assert list(tmp_path.iterdir()) == [out]
