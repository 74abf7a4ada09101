"""Every file of `tests/cases`: read rightly, or refused by one line that says what to add."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pennyweight as pw
from pennyweight.data.load import load
from pennyweight.errors import DataError, PennyweightError
from pennyweight.recipe.schema import DataRecipe

CASES = Path(__file__).parent / "cases"
Rows = Sequence[tuple[str, Any]]

STARS = {"World": 1, "Business": 2, "Sci/Tech": 3, "Sports": 4}
NUMBERS = {"Business": 0, "Sci/Tech": 1, "Sports": 2, "World": 3}
SIGNS = {"World": -1, "Business": 0, "Sci/Tech": 0, "Sports": 1}
ODD = {"Sci/Tech": 'q"uote', "Sports": "line\nbreak", "World": "a,b", "Business": "x|y"}


@cache
def rows(name: str) -> Rows:
    with (CASES / name).open(encoding="utf-8", newline="") as handle:
        return [(row["text"], row["label"]) for row in csv.DictReader(handle)]


@cache
def forms() -> Rows:
    held = json.loads((CASES / "forms" / "columns.json").read_text("utf-8"))
    return list(zip(held["text"], held["label"], strict=True))


def called(names: dict[str, Any]) -> Callable[[Rows], Rows]:
    return lambda held: [(text, names[label]) for text, label in held if label in names]


def sport(held: Rows) -> Rows:
    return [(text, "true" if label == "Sports" else "false") for text, label in held]


def with_length(held: Rows) -> Rows:
    return [(text, (label, "short" if len(text) < 200 else "long")) for text, label in held]


def same(held: Rows) -> Rows:
    return held


def on_one_line(held: Rows) -> Rows:
    return [(text.replace("\n", " "), label) for text, label in held]


def with_a_semicolon(held: Rows) -> Rows:
    return [(f"{text}; and more", label) for text, label in held]


TRAIN, TEST = "train.csv", "test.csv"
#: file -> (the file whose rows it holds, what its labels are called, further fields of the recipe)
READ: dict[str, tuple[str, Callable[[Rows], Rows], dict[str, Any]]] = {
    "train.csv": (TRAIN, same, {}),
    "test.csv": (TEST, same, {}),
    "train.csv.gz": (TRAIN, same, {}),
    "train.csv.zip": (TRAIN, same, {}),
    "bool.csv": (TRAIN, sport, {}),
    "bool.jsonl": (TRAIN, sport, {}),
    "bool-test.csv": (TEST, sport, {}),
    "dupcol.csv": (TRAIN, same, {}),
    "excel-semi.csv": (TRAIN, same, {}),
    "excel-semi-comma-header.csv": (TRAIN, same, {}),
    "excel-sep.csv": (TRAIN, same, {}),
    "index.csv": (TRAIN, same, {}),
    "int-test.csv": (TEST, called(STARS | {"Sports": 10}), {}),
    "named-star-train.csv": (TRAIN, called({name: f"{number} stars" for name, number in STARS.items()}), {}),
    "neg-test.csv": (TEST, called(SIGNS), {}),
    "neg-train.csv": (TRAIN, called(SIGNS), {}),
    "nested-data.json": (TRAIN, same, {}),
    "noheader.csv": (TRAIN, same, {}),
    "noheader-id.csv": (TRAIN, same, {}),
    "oddnames.csv": (TRAIN, called(ODD), {}),
    "oldmac.csv": (TRAIN, same, {}),
    "orient-columns.json": (TRAIN, same, {}),
    "orient-list.json": (TRAIN, same, {}),
    "pipes.csv": (TRAIN, same, {}),
    "quotes.tsv": (TRAIN, same, {}),
    "setfit.jsonl": (TRAIN, called(NUMBERS), {}),
    "skew.csv": (TRAIN, same, {"text_columns": "abstract"}),
    "skew-test.csv": (TEST, same, {"text_columns": "abstract"}),
    "split-schema.json": (TRAIN, same, {}),
    "star-train.csv": (TRAIN, called(STARS), {}),
    "star-test-int.csv": (TEST, called({name: STARS[name] for name in ("World", "Business", "Sci/Tech")}), {}),
    "star-test-float.csv": (TEST, called({name: STARS[name] for name in ("World", "Business", "Sci/Tech")}), {}),
    "tabs-in.csv": (TRAIN, same, {}),
    "twolabels.csv": (TRAIN, called(NUMBERS), {"label_column": "topic"}),
    "twolabels-test.csv": (TEST, called(NUMBERS), {"label_column": "topic"}),
    "onehot2.csv": (TRAIN, called(dict.fromkeys(NUMBERS, 1) | {"Sports": 0}), {}),
    "onehot2.jsonl": (TRAIN, called(dict.fromkeys(NUMBERS, 1) | {"Sports": 0}), {}),
    "onehot4.jsonl": (TRAIN, called(NUMBERS), {}),
    "forms/columns.json": ("forms", same, {}),
    "forms/data_key.json": ("forms", same, {}),
    "forms/pairs.json": ("forms", same, {}),
    "forms/texts.txt,labels.txt": ("forms", on_one_line, {}),
    "forms/semicolon_single_quotes.csv": ("forms", with_a_semicolon, {}),
}
#: file -> (rows, rows of each label, further fields): whose texts are its own, or in another order
HELD: dict[str, tuple[int, dict[Any, int], dict[str, Any]]] = {
    "case-train.csv": (160, {"SPORTS": 19, "sci/tech": 17, "Sci/Tech": 15, "World": 15, "Sports": 14}, {}),
    "emoji.csv": (200, {"neg": 100, "pos": 100}, {}),
    "hebrew.csv": (200, {"money": 100, "sport": 100}, {}),
    "thai.csv": (200, {"money": 100, "sport": 100}, {}),
    "fewshot6x8.csv": (48, {f"intent 00{number}": 8 for number in range(6)}, {}),
    "many160x4.csv": (640, {f"intent {number:03}": 4 for number in range(160)}, {}),
    "imbalance.csv": (400, {"common": 396, "rare": 4}, {}),
    "markup.csv": (160, {"Sci/Tech": 45, "Sports": 44, "World": 41, "Business": 30}, {"markup": "strip"}),
    "lists.jsonl": (160, {("Sci/Tech", "long"): 31, ("World", "short"): 15}, {}),
    "lists-json.csv": (160, {("Sci/Tech", "long"): 31, ("World", "short"): 15}, {}),
    "lists-python.csv": (160, {("Sci/Tech", "long"): 31, ("World", "short"): 15}, {}),
    "nantext-empty.csv": (152, {}, {}),
    "nantext-word.csv": (160, {"Sci/Tech": 45}, {}),
    "spam-utf8.csv": (160, {"ham": 130, "spam": 30}, {}),
    "spam-latin1.csv": (160, {"ham": 130, "spam": 30}, {"encoding": "latin-1"}),
    "singleton.csv": (161, {"Sci/Tech": 45, "Gardening": 1}, {"rare_classes": "keep"}),
    "test-unseen.csv": (80, {"Business": 22, "Weather": 8}, {}),
    "forms/by_label.json": (120, {"Business": 33, "Sci/Tech": 31, "World": 29, "Sports": 27}, {}),
    "forms/folder_per_class": (120, {"Business": 33, "Sci-Tech": 31, "World": 29, "Sports": 27}, {}),
    "forms/fewshot_8_per_class.csv": (32, dict.fromkeys(NUMBERS, 8), {}),
    "forms/fewshot_20_classes_x5.csv": (100, {f"topic {number:02}": 5 for number in range(20)}, {}),
    "forms/splits.json": (80, {"World": 26, "Sports": 19, "Business": 19, "Sci/Tech": 16}, {}),
    "forms/stray_quote.tsv": (6, {"Sports": 2, "Business": 2, "World": 1, "Sci/Tech": 1}, {"validation_size": 0}),
    "forms/multi_delimited.csv": (120, {("World", "odd", "space"): 3}, {"label_delimiter": "|"}),
    "forms/two_sentences.csv": (119, {0: 60, 1: 59}, {"pair": True}),
}
#: file -> the line that refuses it as training data
REFUSED: dict[str, str] = {
    "frame.pkl": (
        "the pickle is refused: it asks for pandas.DataFrame; expected a pickled datasets.Dataset that "
        'was in memory; nothing in it was run; on the machine that made it, write frame.to_parquet("data.parquet") and '
        "use that"
    ),
    "nanlabel-empty.csv": (
        ":5: the label in column label is empty; received 8 of 160 rows without a label; fill it in or remove the row"
    ),
    "nanlabel-word.csv": (
        ":5: the label in column label is missing (nan); received 8 of 160 rows without a label; fill it "
        "in or remove the row"
    ),
    "nulltext.jsonl": (":4: the text is missing (null or NaN); expected a string; remove the row or give it a text"),
    "numtext.jsonl": (":4: the text is not a string; expected a string; received 12345"),
    "spam-latin1.csv": (
        ":2: byte 0xA3 at offset 177 is not UTF-8; expected UTF-8; name it, such as --encoding "
        "cp1252, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
    ),
    "singleton.csv": (
        ":162: class Gardening has one row; expected at least 2 rows per class, one for training and one for "
        "validation; add rows, merge the class with --label-map, or use --rare-classes drop (leave it out) or keep "
        "(train on it without validation)"
    ),
    "sst-test.csv": (
        "all 80 rows have the label -1; expected at least two classes; check the label column, or name "
        "another with --label-column NAME"
    ),
    "val-oneclass.csv": (
        "all 14 rows have the label Sports; expected at least two classes; check the label column, or "
        "name another with --label-column NAME"
    ),
    "forms/fasttext.txt": (
        ":9: the label in column label is empty; received 2 of 122 rows without a label; fill it in or remove the row"
    ),
    "forms/label_space_text.label": (
        ":9: the label in column label is empty; received 2 of 122 rows without a label; fill it in or remove the row"
    ),
    "forms/multi_delimited.csv": (
        "the cells look like several labels joined by |; received 120 of 120 labels with |: 71 "
        "different ones, 13 once they are split, such as World|fast|war; add --label-delimiter '|', or "
        "--task single if each cell is one label"
    ),
    "forms/two_sentences.csv": (
        "several columns could be the text: sentence1, sentence2; received columns sentence1, sentence2, "
        "quality; name it with --text-columns a,b, or add --pair if each row is a pair of texts"
    ),
}
#: file -> the line and the fields it is ragged by: texts with line breaks that nothing quotes
RAGGED = {
    "forms/headerless_id_first.tsv": (7, 5),
    "forms/headerless_label_first.tsv": (9, 2),
    "forms/position_columns.tsv": (8, 3),
    "forms/position_multi.tsv": (8, 3),
}
#: file -> texts it holds, none of them labelled, and so the answers it gets
ANSWERED = {
    "gaps.csv": 12,
    "gaps-onecol.csv": 12,
    "ids.csv": 5,
    "noheader-texts.csv": 160,
    "plain.txt": 12,
    "quotes-unlabelled.tsv": 160,
    "test_unlabelled.pkl": 40,
    "forms/headerless_two_texts.tsv": 2,
    "forms/texts.txt": 120,
    "forms/labels.txt": 120,
}


def read(name: str, **fields: Any) -> tuple[list[str], list[Any]]:
    """The texts and labels of a file as a training reads them, in the file's order."""
    first, *others = name.split(",")
    path = CASES / first
    source = ",".join(map(str, [path, *(path.parent / other for other in others)]))
    found = load(DataRecipe(train=source, **fields))
    tables = [one for one in (found.train, found.validation) if one is not None]
    held = [zip(table.lines, table.texts, table.labels or (), strict=True) for table in tables]
    order = sorted(chain.from_iterable(held), key=lambda row: row[0])
    return [text for _, text, _ in order], [label for _, _, label in order]


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_it_is(name: str) -> None:
    base, names, fields = READ[name]
    held = names(forms() if base == "forms" else rows(base))
    texts, labels = read(name, **fields)
    if name == "quotes.tsv":  # its stray quotes are letters
        texts = [text.replace('"', "").replace("'", "") for text in texts]
        held = [(text.replace('"', "").replace("'", ""), label) for text, label in held]
    assert texts == [text for text, _ in held]
    assert labels == [label for _, label in held]


@pytest.mark.parametrize("name", HELD)
def test_a_file_of_its_own_is_read_whole(name: str) -> None:
    count, each, fields = HELD[name]
    texts, labels = read(name, **fields)
    assert len(texts) == count
    counted = Counter(labels)
    assert {label: counted[label] for label in each} == each
    assert not any("<p>" in text for text in texts)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused_by_the_expected_line(name: str) -> None:
    with pytest.raises(DataError) as caught:
        read(name)
    said = REFUSED[name]
    assert str(caught.value) == f"{CASES / name}{said if said.startswith(':') else f': {said}'}"


@pytest.mark.parametrize("name", RAGGED)
def test_line_breaks_that_nothing_quotes_are_refused_with_their_line(name: str) -> None:
    line, fields = RAGGED[name]
    with pytest.raises(DataError) as caught:
        read(name)
    assert str(caught.value).startswith(f"{CASES / name}:{line}: the row is ragged; expected {fields} fields (")


@pytest.mark.parametrize("name", ANSWERED)
def test_every_text_gets_one_answer(name: str, tiny_run: Path, command: Callable[..., Any]) -> None:
    done = command("predict", tiny_run, CASES / name, "--no-input-columns")
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert len(answers) == ANSWERED[name]
    if name == "quotes-unlabelled.tsv":
        assert [str(row["id"]) for row in answers] == [str(number) for number in range(160)]


def test_every_file_has_its_entry() -> None:
    files = {file.relative_to(CASES).as_posix() for file in CASES.rglob("*") if file.is_file()}
    files = {name for name in files if not name.startswith("forms/folder_per_class/")} - {"README.md"}
    named = {*READ, *HELD, *REFUSED, *RAGGED, *ANSWERED} - {"forms/folder_per_class", "forms/texts.txt,labels.txt"}
    assert files == named


QUICK = {
    "budget": "5k", "epochs": 1, "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32", "report": "short",
    "max_length": 16, "max_steps": 3,
}  # fmt: skip
MEASURED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "another text column": ("skew.csv", "skew-test.csv", {"text_columns": "abstract"}),
    "booleans": ("bool.csv", "bool-test.csv", {}),
    "booleans of two kinds": ("bool.jsonl", "bool-test.csv", {}),
    "floats and integers": ("star-train.csv", "star-test-int.csv", {}),
    "floats": ("star-train.csv", "star-test-float.csv", {}),
    "signs": ("neg-train.csv", "neg-test.csv", {}),
    "a label column of two": ("twolabels.csv", "twolabels-test.csv", {"label_column": "topic"}),
    "unknown labels left out": ("train.csv", "test-unseen.csv", {"unknown_labels": "drop"}),
    "unknown labels are wrong": ("train.csv", "test-unseen.csv", {"unknown_labels": "wrong"}),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_training_measured_is_measured_again(
    name: str, tmp_path: Path, tiny_backbone: Callable[..., Path], command: Callable[..., Any]
) -> None:
    train, test, fields = MEASURED[name]
    made = pw.train(
        CASES / train, test=CASES / test, out=tmp_path / "run", backbone=str(tiny_backbone("bert")), **QUICK, **fields
    )
    flags = ("--unknown-labels", fields["unknown_labels"]) if "unknown_labels" in fields else ()
    measured = json.loads(command("evaluate", tmp_path / "run", CASES / test, *flags, "--json").out)
    for key in ("accuracy", "macro_f1", "log_loss", "ece", "confusion"):
        assert measured[key] == made.metrics["test"][key]


def test_frames_are_measured_as_files_are(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    train, test = (pd.read_csv(CASES / f"star-{name}.csv") for name in ("train", "test-float"))
    assert str(train["label"].dtype) == "float64"
    made = pw.train(train, test=test, backbone=str(tiny_backbone("bert")), **QUICK)
    figures = made.evaluate(CASES / "star-test-int.csv").to_json()
    assert figures["accuracy"] == made.metrics["test"]["accuracy"]
    assert figures == made.evaluate(test).to_json()


def test_numbers_are_no_positions() -> None:
    with pytest.raises(PennyweightError, match="numbers are not read as positions; if they are class numbers, use"):
        load(DataRecipe(train=str(CASES / "named-star-train.csv"), test=str(CASES / "star-test-int.csv")))
    with pytest.raises(PennyweightError, match="the rows seem to be unlabelled: every label is -1"):
        load(DataRecipe(train=str(CASES / "train.csv"), test=str(CASES / "sst-test.csv")))
