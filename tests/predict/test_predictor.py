"""Answers: in order, in every form, from every kind of source."""

from __future__ import annotations

import csv
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import pennyweight as pw
from pennyweight.artifact.save_artifact import save_artifact
from pennyweight.data.batching import Encoded
from pennyweight.errors import ArtifactError, InputError
from pennyweight.predict.streaming import predict_stream
from pennyweight.predict.submission import class_numbers
from pennyweight.predict.writers import write_file

from ..forked_python import ForkedPython

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
    moved = tmp_path / "moved"
    shutil.copytree(tiny_backbone("bert"), moved)
    assert pw.load(tiny_run, backbone=str(moved)).predict(TEXTS) == expected(pw.load(tiny_run))
    done = command("predict", tiny_run, news / "test.csv", "--backbone", tiny_backbone("roberta"))
    assert done.code == 2
    assert "the backbone is not the one this classifier was trained on" in done.error
    assert done.error.endswith("give the right folder with --backbone")


def without_cut(told: str) -> list[str]:
    """The lines without the one that warns of cut tokens: one of TEXTS is longer than what is read."""
    lines = told.splitlines()
    cut = [line for line in lines if line.startswith("warning: ") and "of the tokens of 4 texts are cut" in line]
    assert len(cut) == 1
    return [line for line in lines if line not in cut]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_form_keeps_the_order(
    form: str, classifier: pw.Classifier, tiny_run: Path, unlabelled: Path, tmp_path: Path, command: Command
) -> None:
    import pandas as pd

    out = tmp_path / f"answers.{form}"
    done = command("predict", tiny_run, unlabelled, "--out", out)
    assert (done.code, done.out, without_cut(done.err)) == (
        0, "", [f"{unlabelled}: 1 empty text, labelled like any other: 3", f"4 texts labelled: {out}"]
    )  # fmt: skip
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}
    table = read[form](out) if form in read else pd.read_json(out, lines=True)
    assert list(table.columns) == ["ID", "text", "label", "probability", "p_Business", "p_Sports", "p_World"]
    assert table["ID"].tolist() == ["n0", "n1", "n2", "n3"]
    assert table["text"].fillna("").tolist() == TEXTS
    assert table["label"].tolist() == expected(classifier)
    probabilities = classifier.predict_proba(TEXTS)
    assert np.allclose(table[["p_Business", "p_Sports", "p_World"]].to_numpy(), probabilities, atol=1e-5)
    assert np.allclose(table["probability"], probabilities.max(axis=1), atol=1e-5)


ORDER = "World,Sports,Business"


def test_a_submission_is_ids_and_class_numbers(
    classifier: pw.Classifier, tiny_run: Path, unlabelled: Path, tmp_path: Path, command: Command
) -> None:
    numbers = [ORDER.split(",").index(label) for label in expected(classifier)]
    done = command("predict", tiny_run, unlabelled, "--submission", "--label-order", ORDER)
    assert done.out.splitlines() == ["ID,Label", *(f"n{row},{number}" for row, number in enumerate(numbers))]
    assert without_cut(done.err) == [
        f"{unlabelled}: 1 empty text, labelled like any other: 3",
        "class numbers: 0 = World, 1 = Sports, 2 = Business",
    ]
    # Without ids of its own, a file's rows are counted from 0.
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (tmp_path / "bare.jsonl").write_text(lines, "utf-8")
    for source, stdin in ((tmp_path / "bare.jsonl", ""), ("-", lines)):
        out = tmp_path / "out.csv"
        asked = ("predict", tiny_run, source, "--submission", "--label-order", ORDER, "--out", out)
        assert command(*asked, stdin=stdin).code == 0
        assert out.read_text("utf-8").splitlines() == [
            "ID,Label", *(f"{row},{number}" for row, number in enumerate(numbers)),
        ]  # fmt: skip


def test_a_submission_needs_an_order_that_is_not_the_alphabets(
    classifier: pw.Classifier, tiny_run: Path, unlabelled: Path, tmp_path: Path, command: Command
) -> None:
    done = command("predict", tiny_run, unlabelled, "--submission", "--out", tmp_path / "out.csv")
    assert (done.code, done.error) == (
        2, "a submission needs class numbers, but the training data does not define the order of the classes; "
        "expected --label-order with all labels in the contest's order, number 0 first; "
        "received Business, Sports, World, which is only alphabetical",
    )  # fmt: skip
    assert not (tmp_path / "out.csv").exists()
    for order in ("World,Sports", "World,Sports,Sports", "World,Sports,Business,Sci/Tech", ""):
        done = command("predict", tiny_run, unlabelled, "--submission", "--label-order", order)
        assert (done.code, done.error) == (
            2, "--label-order has to name each label once; expected Business, Sports, World, in any order; "
            f"received {order}".rstrip(),
        )  # fmt: skip
    assert command("predict", tiny_run, unlabelled, "--label-order", ORDER).error == (
        "--label-order is only for submissions; add --submission"
    )


@pytest.mark.parametrize(
    ("noted", "names", "labels", "numbers"),
    [
        ("given", None, ("b", "a"), {"b": 0, "a": 1}),
        ("source", None, ("b", "a"), {"b": 0, "a": 1}),
        ("numbers", None, ("-1", "1"), {"-1": 0, "1": 1}),
        # Saved before the order was noted: numbers speak for themselves, words only where the recipe names them.
        (None, None, ("0", "1", "10"), {"0": 0, "1": 1, "10": 2}),
        (None, None, ("false", "true"), {"false": 0, "true": 1}),
        (None, ["b", "a"], ("b", "a"), {"b": 0, "a": 1}),
        (None, None, ("a", "b"), None),
        ("sorted", None, ("a", "b"), None),
        ("sorted", None, ("007", "01"), None),
    ],
)
def test_where_the_order_of_the_classes_comes_from(
    noted: str | None, names: list[str] | None, labels: tuple[str, ...], numbers: dict[str, int] | None
) -> None:
    data = SimpleNamespace(label_names=names)
    metrics = {"data": {} if noted is None else {"label_order": noted}}
    stand_in: Any = SimpleNamespace(
        multi=False, labels=labels, metrics=metrics, artifact=SimpleNamespace(recipe=SimpleNamespace(data=data))
    )
    if numbers is None:
        with pytest.raises(InputError, match="only alphabetical"):
            class_numbers(stand_in)
    else:
        assert class_numbers(stand_in) == numbers
    quoted = ",".join(f'"{name}"' for name in reversed(labels))
    assert class_numbers(stand_in, quoted) == {name: number for number, name in enumerate(reversed(labels))}


def test_the_contests_pickled_file(classifier: pw.Classifier, tiny_run: Path, tmp_path: Path, command: Command) -> None:
    from datasets import Dataset

    with (tmp_path / "test_unlabelled.pkl").open("wb") as handle:
        pickle.dump(Dataset.from_dict({"text": TEXTS}), handle)
    done = command("predict", tiny_run, tmp_path / "test_unlabelled.pkl", "--submission", "--label-order", ORDER)
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
    assert [list(row)[:3] for row in found] == [["id", "text", "label"]] * 4
    assert [(row["id"], row["text"]) for row in found] == list(enumerate(TEXTS))
    assert [row["label"] for row in found] == expected(classifier)
    plain = command("predict", tiny_run, "-", "--format", "csv", stdin="\n".join(TEXTS) + "\n").out.splitlines()
    assert plain[0] == "text,label,probability,p_Business,p_Sports,p_World"
    assert [row["label"] for row in csv.DictReader(plain)] == expected(classifier)
    other = command(
        "predict", tiny_run, "-", "--text-columns", "a,b", stdin='{"a": "The bank", "b": "and the rate."}\n'
    )
    assert json.loads(other.out)["label"] == classifier.predict(["The bank and the rate."])[0]


LONG = "bank " * 900
CUT = (
    r"\d+% of the tokens of {} are cut off and not read; train with --max-length auto or --long-texts "
    r"windows to read them"
)


def cut_lines(told: str) -> list[str]:
    return [line for line in told.splitlines() if "are cut" in line]


def test_cut_tokens_are_warned_of_wherever_texts_come_from(tiny_run: Path, command: Command) -> None:
    (line,) = cut_lines(command("predict", tiny_run, "--text", LONG, "--text", "The bank.").err)
    assert re.fullmatch("warning: --text: " + CUT.format("2 texts"), line)
    (line,) = cut_lines(command("predict", tiny_run, "-", stdin=f"The bank.\n{LONG}\n").err)
    assert re.fullmatch("warning: standard input: " + CUT.format("2 texts"), line)
    # A pipe may never end: the warning does not wait for it, and comes once.
    (line,) = cut_lines(command("predict", tiny_run, "-", stdin=f"{LONG}\n" * 200).err)
    found = re.fullmatch("warning: standard input: " + CUT.format(r"(\d+) texts"), line)
    assert found is not None
    assert 50 <= int(found[1]) < 200
    assert not cut_lines(command("predict", tiny_run, "-", stdin="The bank.\n").err)


def test_python_is_warned_of_cut_tokens_once(tiny_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    classifier = pw.load(tiny_run)
    with caplog.at_level(logging.WARNING, "pennyweight"):
        classifier.predict(["The bank."] * 3)
        assert not caplog.records
        classifier.predict_proba(LONG)
        classifier.predict([LONG] * 9)
    (record,) = caplog.records
    assert re.fullmatch(CUT.format("4 texts"), record.getMessage())


def test_what_waits_is_answered_in_batches(classifier: pw.Classifier) -> None:
    sizes: list[int] = []

    class Counting:
        labels, multi = classifier.labels, False
        probabilities_of = staticmethod(classifier.probabilities_of)

        def encoded(self, texts: list[str]) -> Encoded:
            sizes.append(len(texts))
            return classifier.encoded(texts)

    given = (({"id": number}, f"text {number}") for number in range(300))
    found = list(predict_stream(Counting(), given, most=32))  # type: ignore[arg-type]
    assert [fields["id"] for fields, _ in found] == list(range(300))
    assert max(sizes) <= 32
    assert len(sizes) < 300


def test_a_failing_source_fails_after_what_came_before(classifier: pw.Classifier) -> None:
    def lines() -> Iterator[tuple[dict[str, Any], str]]:
        yield {"id": 0}, "The bank."
        raise InputError("broken")

    found = predict_stream(classifier, lines())
    assert next(found)[0] == {"id": 0}
    with pytest.raises(InputError, match="broken"):
        next(found)


def test_a_failure_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"id": 1}
        raise InputError("broken")

    out = tmp_path / "out.jsonl"
    out.write_text("old\n", "utf-8")
    with pytest.raises(InputError, match="broken"):
        write_file(rows(), out)
    assert out.read_text("utf-8") == "old\n"
    assert list(tmp_path.iterdir()) == [out]


def test_weights_that_answer_nan_are_refused(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    """Finite weights of 3e38 load, and their products do not fit a float."""
    artifact = pw.load(tiny_run).artifact
    head = {name: torch.full_like(tensor, 3e38) for name, tensor in artifact.tensors.head.items()}
    save_artifact(replace(artifact, tensors=replace(artifact.tensors, head=head)), tmp_path / "huge")
    with pytest.raises(ArtifactError, match="logits of 2 of 2 texts are not finite numbers; train it again"):
        pw.load(tmp_path / "huge").predict(["The bank.", "The cup."])
    done = command("predict", tmp_path / "huge", news / "test.csv", "--out", tmp_path / "out.csv")
    assert (done.code, done.error) == (
        2, "the classifier's logits of 15 of 15 texts are not finite numbers; train it again: its weights are unusable"
    )  # fmt: skip
    assert not (tmp_path / "out.csv").exists()


def test_a_classifier_is_called_like_a_function(classifier: pw.Classifier) -> None:
    assert classifier("bank rate cut") == classifier.predict("bank rate cut")
    assert classifier(["bank", "cup"]) == classifier.predict(["bank", "cup"])


def test_predictions_as_a_frame_keep_the_index(classifier: pw.Classifier) -> None:
    pandas = pytest.importorskip("pandas")
    texts = pandas.Series(["bank rate cut", "cup match"], index=["x", "y"])
    frame = classifier.predict(texts, as_frame=True)
    assert list(frame.columns) == ["label", "probability", *(f"p_{name}" for name in classifier.labels)]
    assert list(frame.index) == ["x", "y"]
    assert frame["label"].tolist() == classifier.predict(texts)
    assert classifier.predict("one text", as_frame=True).shape == (1, 2 + len(classifier.labels))
    assert len(classifier.predict([], as_frame=True)) == 0


def test_a_classifier_describes_itself(classifier: pw.Classifier) -> None:
    shown = str(classifier)
    assert f"{classifier.metrics['trainable']:,} of {classifier.metrics['total']:,} parameters" in shown
    for name in classifier.labels:
        assert name in shown
    assert "<table>" in classifier._repr_html_()
    assert repr(classifier).startswith("<Classifier of ")
    assert str(classifier.artifact.plan) in unescape(classifier.artifact.plan._repr_html_())


# What a pool of processes does where they are forked: the texts are tokenized in parallel, as by default.
FORKING = """
import multiprocessing, os, sys
os.environ.pop("TOKENIZERS_PARALLELISM")
import pennyweight as pw
classifier = pw.load(sys.argv[1])
texts = ["The bank and the rate", "The cup and the match", "The polls"] * 9
before = classifier.predict_proba(texts).tolist()
def answer(queue):
    queue.put(classifier.predict_proba(texts).tolist())
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=answer, args=(queue,), daemon=True)
child.start()
print(queue.get(timeout=60) == before)
child.join()
"""


def test_a_forked_process_predicts_too(tiny_run: Path) -> None:
    done = ForkedPython(FORKING, tiny_run).wait(timeout=120)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_explain_and_report_are_methods(classifier: pw.Classifier, news: Path, tmp_path: Path) -> None:
    found = classifier.explain("bank rate cut")
    assert found.label == classifier("bank rate cut")
    assert "<pre " in found._repr_html_()
    page = classifier.report(news / "test.csv", tmp_path / "page.html")
    assert page == tmp_path / "page.html"
    assert f"{classifier.evaluate(news / 'test.csv').accuracy:.1%}" in page.read_text("utf-8")


def test_a_classifier_on_a_local_backbone_is_not_pushed(classifier: pw.Classifier) -> None:
    with pytest.raises(ArtifactError, match="a folder on this machine, so others cannot load it"):
        classifier.push_to_hub("me/news")
