"""Distillation from a saved classifier and from a table of probabilities: what is read, trained, told and refused."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import DataError, InputError, PennyweightError, RecipeError
from pennyweight.pipeline import load_data
from pennyweight.recipe import loading as recipe

LABELS = ("Business", "Sports", "World")


def read_rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text("utf-8").splitlines()))


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return {
        "backbone": str(tiny_backbone("bert")), "budget": "5k", "epochs": 2, "learning_rate": 5e-3, "batch_size": 8,
        "precision": "fp32", "report": "short", "audit": "off",
    }  # fmt: skip


@pytest.fixture
def further(tmp_path: Path, news: Path) -> Path:
    """Twelve unlabelled texts, two of which are training texts."""
    rows = read_rows(news / "train.csv")
    texts = [f"A {row['text'][4:]} again" for row in rows[:10]] + [row["text"] for row in rows[:2]]
    file = tmp_path / "further.csv"
    file.write_text("\n".join(["text", *texts]) + "\n", "utf-8")
    return file


def write_table(file: Path, texts: list[str], rows: list[list[Any]], names: tuple[str, ...] = LABELS) -> str:
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", *names])
        writer.writerows([text, *row] for text, row in zip(texts, rows, strict=True))
    return str(file)


def texts_of(file: Path) -> list[str]:
    return [row["text"] for row in read_rows(file)]


def test_a_run_teaches(
    tiny_run: Path, news: Path, further: Path, settings: dict[str, Any], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO, logger="pennyweight"):
        student = pw.train(
            news / "train.csv", teacher=str(tiny_run), unlabelled=str(further), out=tmp_path / "run", **settings
        )
    found = student.metrics["distillation"]
    teacher = pw.load(tiny_run)
    kept = load_data(recipe.load(**settings), news / "train.csv")
    training, validation = kept.splits.train, kept.splits.validation
    assert validation is not None
    agree = np.array(teacher.predict(training.texts)) == np.array(training.labels)
    assert found["agreement_with_labels"] == pytest.approx(agree.mean())
    assert (found["teacher"], found["kind"], found["temperature"], found["weight"]) == ("tiny", "classifier", 2, 0.5)
    assert found["unlabelled"] == {
        "rows": 12, "labelled_elsewhere": 2, "abstained": 0, "used": 10, "confidence": 0.0,
    }  # fmt: skip
    both = np.array(teacher.predict(validation.texts)) == np.array(student.predict(validation.texts))
    assert found["validation"]["agreement"] == pytest.approx(both.mean())
    assert found["validation"]["n"] == len(validation)
    assert len(found["shares"]) == 3
    assert sum(found["shares"]) == pytest.approx(1)
    assert student.metrics["train"]["texts"] == 2 * (len(training) + 10)
    assert "it labels 10 of 12 further ones, left out 2 among the labelled texts" in caplog.text
    assert "the classifier agrees with its teacher on" in caplog.text
    assert "not compared with the frozen head, because the recipe sets teacher; it may be behind" in caplog.text
    saved = recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (saved.train.teacher, saved.data.unlabelled) == ("tiny", "further.csv")
    assert pw.load(tmp_path / "run").predict(["The bank."]) == student.predict(["The bank."])


def test_what_predict_writes_teaches_as_its_run_does(
    tiny_run: Path, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    table = tmp_path / "teacher.csv"
    pw.load(tiny_run).predict_file(news / "train.csv", table)
    by_run = pw.train(news / "train.csv", teacher=str(tiny_run), **settings)
    by_table = pw.train(news / "train.csv", teacher=str(table), **settings)
    texts = texts_of(news / "test.csv")
    # A table has six decimals.
    assert by_table.predict_proba(texts) == pytest.approx(by_run.predict_proba(texts), abs=1e-3)
    assert by_table.metrics["distillation"]["kind"] == "table"
    plain = pw.train(news / "train.csv", **settings)
    assert np.abs(plain.predict_proba(texts) - by_run.predict_proba(texts)).max() > 1e-3


def test_of_a_table_that_was_predicted_again_the_newest_columns_teach(
    tiny_run: Path, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    rows = [[row["text"], row["label"], 1, 0, 0] for row in read_rows(news / "train.csv")]
    with first.open("w", newline="", encoding="utf-8") as handle:  # as of a run that says Business to everything
        csv.writer(handle).writerows([["text", "label", *(f"p_{name}" for name in LABELS)], *rows])
    pw.load(tiny_run).predict_file(first, second)
    assert "predicted_p_World" in read_rows(second)[0]
    loaded = load_data(recipe.load(**settings, teacher=str(second)), news / "train.csv")
    assert loaded.teaching is not None
    found = loaded.teaching.targets.probabilities
    assert found == pytest.approx(pw.load(tiny_run).predict_proba(loaded.splits.train.texts), abs=1e-5)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_form_that_predict_writes_is_read(
    ending: str, tiny_run: Path, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    table = tmp_path / f"teacher.{ending}"
    pw.load(tiny_run).predict_file(news / "train.csv", table)
    loaded = load_data(recipe.load(**settings, teacher=str(table)), news / "train.csv")
    assert loaded.teaching is not None
    found = loaded.teaching.targets.probabilities
    assert found == pytest.approx(pw.load(tiny_run).predict_proba(loaded.splits.train.texts), abs=1e-5)
    assert (found.dtype, loaded.teaching.figures["kind"]) == (np.float32, "table")


@pytest.mark.usefixtures("traced_once")
def test_an_exported_model_teaches_as_its_run_does(
    tiny_run: Path, news: Path, settings: dict[str, Any], tmp_path: Path, command: Callable[..., Any]
) -> None:
    pytest.importorskip("onnxruntime")
    assert command("export", tiny_run, tmp_path / "onnx", "--format", "onnx").code == 0
    found = []
    for teacher in (tiny_run, tmp_path / "onnx"):
        loaded = load_data(recipe.load(**settings, teacher=str(teacher)), news / "train.csv")
        assert loaded.teaching is not None
        found.append(loaded.teaching.targets.probabilities)
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_a_teacher_alone_overrules_the_labels(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    """Every Business text is Sports to this teacher, and labels have no weight."""
    rows = read_rows(news / "train.csv")
    moved = [["0", "1", "0"] if row["label"] == "Business" else
             ["0", "0", "1"] if row["label"] == "World" else ["1", "0", "0"] for row in rows]  # fmt: skip
    table = write_table(tmp_path / "t.csv", [row["text"] for row in rows], moved)
    student = pw.train(
        news / "train.csv", teacher=table, validation_size=0, **settings | {"distillation_weight": 1.0, "epochs": 8}
    )
    said = dict(zip(texts_of(news / "train.csv"), student.predict(texts_of(news / "train.csv")), strict=True))
    right = [
        said[row["text"]] == {"Business": "Sports", "Sports": "Business"}.get(row["label"], "World") for row in rows
    ]
    assert np.mean(right) > 0.9
    assert student.metrics["distillation"]["agreement_with_labels"] == pytest.approx(1 / 3, abs=0.02)
    assert "validation" not in student.metrics["distillation"]


def test_unsure_texts_are_left_out(news: Path, further: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    training, unlabelled = texts_of(news / "train.csv"), texts_of(further)[:10]
    rows = [[1, 0, 0]] * len(training) + [[0.9, 0.1, 0]] * 4 + [[0.5, 0.3, 0.2]] * 6
    table = write_table(tmp_path / "t.csv", training + unlabelled, rows)
    student = pw.train(
        news / "train.csv", teacher=table, unlabelled=str(further), unlabelled_confidence=0.8, max_steps=1, **settings
    )
    counts = student.metrics["distillation"]["unlabelled"]
    assert (counts["abstained"], counts["used"], counts["confidence"]) == (6, 4, 0.8)


@pytest.mark.parametrize(
    "more",
    [
        {"layers": "top:1", "strategy": "manual", "r": 2, "budget": "none"},  # a kept prefix
        {"augment": 0.5}, {"long_texts": "windows", "max_length": 8}, {"oversample": True}, {"strategy": "head-only"},
        {"adapter": "lora-xs", "strategy": "auto"}, {"class_weights": "balanced", "label_smoothing": 0.1},
        {"average": "ema"}, {"encoder": "reference"},
    ],
)  # fmt: skip
def test_every_way_of_training_takes_the_targets(
    more: dict[str, Any], news: Path, further: Path, settings: dict[str, Any], tiny_run: Path
) -> None:
    given = {"teacher": str(tiny_run), "unlabelled": str(further)}
    student = pw.train(news / "train.csv", **settings | {"epochs": 2} | given | more)
    plain = pw.train(news / "train.csv", **settings | {"epochs": 2} | more)
    texts = texts_of(news / "test.csv")
    assert np.isfinite(student.metrics["train"]["best"]["train_loss"])
    assert np.abs(student.predict_proba(texts) - plain.predict_proba(texts)).max() > 1e-4


def test_any_number_of_labels(
    multi_label_pairs: Callable[..., list[tuple[str, list[str]]]], settings: dict[str, Any], tmp_path: Path
) -> None:
    pairs = multi_label_pairs(60)
    pw.train(pairs, out=tmp_path / "teacher", **settings)
    student = pw.train(pairs, teacher=str(tmp_path / "teacher"), **settings)
    found = student.metrics["distillation"]
    assert 0 <= found["agreement_with_labels"] <= 1
    assert found["validation"]["n"] == student.metrics["validation"]["n"]
    with pytest.raises(RecipeError, match="task; expected one label per text; received any number of labels"):
        pw.train([(text, labels[0]) for text, labels in pairs], teacher=str(tmp_path / "teacher"), **settings)


def test_a_run_with_another_teacher_is_not_resumed(
    tiny_run: Path, news: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    training = texts_of(news / "train.csv")
    table = write_table(tmp_path / "t.csv", training, [[1, 0, 0]] * len(training))
    pw.train(news / "train.csv", teacher=table, out=tmp_path / "run", **settings)
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    moved = shutil.copy(table, tmp_path / "moved.csv")
    again = pw.train(news / "train.csv", teacher=str(moved), out=tmp_path / "run", resume=True, **settings)
    assert again.metrics["distillation"]["teacher"] == "t.csv"  # finished: the same probabilities elsewhere
    for teacher in ({"teacher": str(tiny_run)}, {}):
        with pytest.raises(RecipeError, match="cannot resume: the run has changed since its checkpoint: teacher: was"):
            pw.train(news / "train.csv", out=tmp_path / "run", resume=True, **settings | teacher)
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


ROWS = [["0.2", "0.3", "0.5"]] * 60


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({3: ["0.2", "0.3", "0.4"]}, LABELS,
         "TMP/t.csv:5: the teacher's probabilities do not sum to 1 in 1 of 60 rows; "
         "expected a sum of 1, give or take 0.015 for rounding, over Business, Sports, World; received 0.9; give "
         "probabilities (a softmax of logits), a column for every class"),
        ({1: ["nan", "0.3", "0.7"]}, LABELS,
         "TMP/t.csv:3: COLUMN Business has a value that is not a probability; expected a number from 0 to 1; received "
         "nan"),
        ({1: ["", "0.3", "0.7"]}, LABELS,
         "TMP/t.csv:3: COLUMN Business has a value that is not a probability; expected a number from 0 to 1; received "
         "an empty cell"),
        ({1: ["1.2", "0", "-0.2"]}, LABELS,
         "TMP/t.csv:3: COLUMN Business has a value that is not a probability; expected a number from 0 to 1; received "
         "1.2"),
        ({}, ("p_Business", "p_Sports", "p_Weather"),
         "train -> teacher: the teacher TMP/t.csv has other labels; expected 3: Business, Sports, World; received 3: "
         "Business, Sports, Weather; rename the data's labels with --label-map"),
        ({row: [*values, "0"] for row, values in enumerate(ROWS)}, ("p_Business", "p_Sports", "p_World", "p_value"),
         "TMP/t.csv: the teacher's table has columns for what is no class of the data: p_value; expected of the "
         "columns named p_CLASS, one for each of Business, Sports, World; remove it, or rename what is no probability "
         "of a class"),
        ({}, ("Business", "Sports", "Weather"),
         "TMP/t.csv: the teacher's table has no probabilities for World; expected a column for each class, named "
         "p_CLASS, as written by predict, or CLASS; received columns text, Business, Sports, Weather"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(
    change: dict[int, list[str]], names: tuple[str, ...], message: str, news: Path, settings: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    rows = [change.get(row, values) for row, values in enumerate(ROWS)]
    table = write_table(tmp_path / "t.csv", texts_of(news / "train.csv"), rows, names)
    with pytest.raises(InputError) as caught:
        pw.train(news / "train.csv", teacher=table, out=tmp_path / "run", **settings)
    said = str(caught.value).replace(str(tmp_path), "TMP").replace("the teacher's column", "COLUMN")
    assert said == message
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


def test_a_table_that_lacks_texts(news: Path, further: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    texts = texts_of(news / "train.csv")
    others = [text for text in texts if text != texts[0]]
    short = write_table(tmp_path / "short.csv", others, ROWS[: len(others)])
    lacks = f"short.csv: the teacher's table lacks {60 - len(others)} of 60 training texts; expected a row for each"
    with pytest.raises(DataError, match=lacks):
        pw.train(news / "train.csv", teacher=short, validation_size=0, **settings)
    whole = write_table(tmp_path / "whole.csv", texts, ROWS)
    with pytest.raises(DataError, match=r"further.csv: the teacher's table lacks 10 of 10 unlabelled texts; expected"):
        pw.train(news / "train.csv", teacher=whole, unlabelled=str(further), **settings)
    kept = load_data(recipe.load(**settings), news / "train.csv").splits.train.texts
    training = write_table(tmp_path / "training.csv", kept, ROWS[: len(kept)])
    student = pw.train(news / "train.csv", teacher=training, max_steps=1, **settings)
    assert "validation" not in student.metrics["distillation"]


def test_teachers_that_are_refused(
    news: Path, settings: dict[str, Any], tiny_run: Path, tmp_path: Path, further: Path
) -> None:
    def refused(**more: Any) -> str:
        with pytest.raises(PennyweightError) as caught:
            pw.train(news / "train.csv", out=tmp_path / "run", **settings | more)
        assert caught.value.exit_code == 2
        assert not (tmp_path / "run").exists()
        return str(caught.value).replace(str(tmp_path), "TMP").replace(str(tiny_run), "TEACHER")

    (tmp_path / "empty").mkdir()
    assert refused(teacher=str(tmp_path / "empty")).startswith("TMP/empty: not a saved classifier")
    assert refused(teacher=str(tmp_path / "none")).startswith("TMP/none: no such classifier")
    two = {"Business": "Trade", "Sports": "Sports", "World": "Trade"}
    assert refused(teacher=str(tiny_run), label_map=two) == (
        "train -> teacher: the teacher TEACHER has other labels; expected 2: Sports, Trade; received 3: Business, "
        "Sports, World; rename the data's labels with --label-map"
    )
    assert "expected a teacher (--teacher RUN), which labels these texts, received none" in refused(
        unlabelled=str(further)
    )
    assert "distillation_weight: expected a teacher" in refused(distillation_weight=0.3)
    assert "expected unlabelled texts" in refused(teacher=str(tiny_run), unlabelled_confidence=0.3)
    assert "expected auto or off with teacher, received on" in refused(teacher=str(tiny_run), contrastive="on")
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n3,4\n", "utf-8")
    assert refused(teacher=str(tiny_run), unlabelled=str(tmp_path / "numbers.csv")).startswith(
        "TMP/numbers.csv: no column named text; expected one of a, b"
    )


def test_two_rows_of_one_text_have_to_agree(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    texts = texts_of(news / "train.csv")
    twice = [*texts, f"  {texts[3]}", texts[4]]
    for last, agrees in ((["0.21", "0.3", "0.49"], True), (["0.5", "0.3", "0.2"], False)):
        rows = [*ROWS[: len(texts)], ROWS[0], last]
        table = write_table(tmp_path / "t.csv", twice, rows)
        if agrees:
            assert pw.train(news / "train.csv", teacher=table, max_steps=1, **settings).metrics["distillation"]
            continue
        with pytest.raises(DataError) as caught:
            pw.train(news / "train.csv", teacher=table, **settings)
        first, second = (f"{table}:{row + 2}" for row in (4, len(twice) - 1))
        assert str(caught.value).startswith(
            f"{second}: the teacher's table has two rows with different probabilities for the same text; expected the "
            f"probabilities of {first}; received others for {texts[4][:20]!r}"[:-1]
        )
        assert str(caught.value).endswith("; remove one of the rows")


def test_errors_of_a_table_name_no_flags_of_other_files(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes("text,Business,Sports,World\ncaf\u00e9,1,0,0\n".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        pw.train(news / "train.csv", teacher=str(table), **settings)
    assert str(caught.value) == (
        f"{table}:2: byte 0xE9 at offset 30 is not UTF-8; expected UTF-8; save it as CSV in UTF-8, with the texts and "
        "a column of probabilities for each class"
    )


def test_probabilities_may_be_rounded_to_two_decimals(news: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    texts = texts_of(news / "train.csv")
    for row in (["0.33", "0.33", "0.33"], ["0.34", "0.335", "0.335"]):
        table = write_table(tmp_path / "t.csv", texts, [row] * len(texts))
        assert pw.train(news / "train.csv", teacher=table, max_steps=1, **settings).metrics["distillation"]
