"""What training measured, a saved classifier measures again on the same file: to the last digit, in every command."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pennyweight as pw
from pennyweight.data.input_spec import InputSpec
from pennyweight.errors import DataError

from ..conftest import TOPICS

QUICK = {
    "budget": "5k", "epochs": 1, "learning_rate": 5e-3, "batch_size": 8, "precision": "fp32", "report": "short",
}  # fmt: skip
NAMES = {"Business": 1, "Sports": 2, "World": 3}


def topics(rows: int, seed: int) -> Iterator[tuple[str, str]]:
    draw = random.Random(seed)
    for row in range(rows):
        topic = list(TOPICS)[row % 3]
        yield "The {} and the {} of the {}".format(*draw.choices(TOPICS[topic], k=3)), topic


def decoys(path: Path, rows: int, seed: int) -> Path:
    """A file in which nothing is where a guess would look for it: the text in `abstract`, the class in `topic`."""
    held = []
    for text, topic in topics(rows, seed):
        first, _, second = text.partition(" of ")
        held.append(
            {
                "text": "Read more on our website.",
                "label": "x" if len(held) % 2 else "y",
                "abstract": text,
                "first": f"<b>{first}</b> &amp; co",
                "second": second,
                "topic": topic,
                "number": float(NAMES[topic]),
                "truth": topic == "Sports",
                "tags": f"{topic};all" if len(held) % 2 else topic,
                "is_a": int(topic == "Business"),
                "is_b": int(topic != "World"),
            }
        )
    if path.suffix == ".parquet":
        pd.DataFrame(held).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in held), "utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(held[0]))
            writer.writeheader()
            writer.writerows(held)
    return path


RECIPES: dict[str, dict[str, Any]] = {
    "another text column": {"text_columns": "abstract", "label_column": "topic"},
    "two columns and a separator": {"text_columns": "second,first", "label_column": "topic", "separator": " / "},
    "markup stripped": {"text_columns": "first,second", "label_column": "topic", "markup": "strip"},
    "markup dropped": {"text_columns": "abstract", "label_column": "topic", "markup": "drop"},
    "short texts left out": {"text_columns": "abstract", "label_column": "topic", "min_chars": 36},
    "long texts left out": {"text_columns": "abstract", "label_column": "topic", "max_chars": 43},
    "a pair": {"text_columns": "first,second", "label_column": "topic", "pair": True, "markup": "strip"},
    "floats": {"text_columns": "abstract", "label_column": "number"},
    "booleans": {"text_columns": "abstract", "label_column": "truth"},
    "a delimiter": {"text_columns": "abstract", "label_column": "tags", "label_delimiter": ";"},
    "a column a label": {"text_columns": "abstract", "label_columns": "is_a,is_b", "allow_unlabelled": True},
}


# Labels are of other types in other forms; texts are not, and each form has its turn.
FORMS = (".csv", ".jsonl", ".parquet")
TYPED = ("floats", "booleans", "a delimiter", "a column a label")


@pytest.mark.parametrize(
    ("recipe", "suffix"),
    [
        (recipe, suffix)
        for number, recipe in enumerate(RECIPES)
        for suffix in (FORMS if recipe in TYPED else [FORMS[number % 3]])
    ],
)
def test_what_was_measured_is_measured_again(
    recipe: str, suffix: str, tmp_path: Path, tiny_backbone: Callable[..., Path]
) -> None:
    train = decoys(tmp_path / f"train{suffix}", 45, 0)
    test = decoys(tmp_path / f"test{suffix}", 24, 1)
    made = pw.train(
        train, test=test, out=tmp_path / "run", backbone=str(tiny_backbone("bert")), **QUICK, **RECIPES[recipe]
    )
    loaded = pw.load(tmp_path / "run")
    for classifier in (made, loaded):
        measured = classifier.evaluate(test).to_json()
        trained = {key: made.metrics["test"][key] for key in measured if key in made.metrics["test"]}
        assert len(trained) > 3
        assert {key: measured[key] for key in trained} == trained


def test_every_command_reads_the_columns_of_the_training(
    tmp_path: Path, tiny_backbone: Callable[..., Path], command: Callable[..., Any]
) -> None:
    train, test = decoys(tmp_path / "train.csv", 45, 0), decoys(tmp_path / "test.csv", 24, 1)
    run = tmp_path / "run"
    made = pw.train(
        train, test=test, out=run, backbone=str(tiny_backbone("bert")), text_columns="first,second",
        label_column="topic", separator=" / ", markup="strip", **QUICK,
    )  # fmt: skip
    expected = made.metrics["test"]["accuracy"]
    rows = list(csv.DictReader(test.read_text("utf-8").splitlines()))
    answers = made.predict([f"{row['first']} / {row['second']}" for row in rows])

    told = command("evaluate", run, test, "--json")
    assert json.loads(told.out)["accuracy"] == expected
    told = command("evaluate", run, test, "--shift", "--severity", "1", "--rows", "9", "--ood", test, "--json")
    assert json.loads(told.out)["shift"]["ood"][0]["accuracy"] == expected
    found = [json.loads(line)["predicted_label"] for line in command("predict", run, test).out.splitlines()]
    assert found == answers
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    found = [json.loads(line) for line in command("predict", run, "-", stdin=lines).out.splitlines()]
    assert [row["predicted_label"] for row in found] == answers
    audited = json.loads(command("audit", test, "--model", run, "--json").out)
    assert audited["parts"]["data"]["classes"] == {"Business": 8, "Sports": 8, "World": 8}


def test_a_missing_column_is_refused_by_name_and_flags_name_another(
    tmp_path: Path, tiny_backbone: Callable[..., Path], command: Callable[..., Any]
) -> None:
    train = decoys(tmp_path / "train.csv", 45, 0)
    run = tmp_path / "run"
    pw.train(
        train, out=run, backbone=str(tiny_backbone("bert")), text_columns="abstract", label_column="topic", **QUICK
    )
    other = tmp_path / "other.csv"
    other.write_text("text,label\nThe bank and the rate,Business\nThe cup and the match,Sports\n", "utf-8")
    without = f"{other}: no column named {{}}; expected one of text, label; name it with {{}}"
    refused = command("predict", run, other)
    assert (refused.code, refused.error) == (2, without.format("abstract", "--text-columns a,b"))
    refused = command("evaluate", run, other, "--label-column", "label")
    assert (refused.code, refused.error) == (2, without.format("abstract", "--text-columns a,b"))
    refused = command("evaluate", run, other, "--text-columns", "text")
    assert (refused.code, refused.error) == (2, without.format("topic", "--label-column NAME"))
    done = command("evaluate", run, other, "--text-columns", "text", "--label-column", "label", "--json")
    assert json.loads(done.out)["n"] == 2
    assert len(command("predict", run, other, "--text-columns", "text").out.splitlines()) == 2


def test_an_inferred_column_stays_though_a_new_file_has_one_with_a_better_name(
    tmp_path: Path, tiny_backbone: Callable[..., Path]
) -> None:
    train, better = tmp_path / "train.csv", tmp_path / "better.csv"
    train.write_text("review,sentiment\n" + "".join(f"{text},{topic}\n" for text, topic in topics(45, 0)), "utf-8")
    better.write_text(
        "review,sentiment,text,label\n" + "".join(f"{text},{topic},advertisement,x\n" for text, topic in topics(9, 1)),
        "utf-8",
    )
    classifier = pw.train(train, backbone=str(tiny_backbone("bert")), **QUICK)
    texts, truth = zip(*topics(9, 1), strict=True)
    expected = classifier.evaluate((list(texts), list(truth)))
    assert classifier.evaluate(better).to_json() == expected.to_json()


def test_sources_without_names_are_read_by_their_form(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    pairs = list(topics(45, 0))
    by_pairs = pw.train(pairs, backbone=str(tiny_backbone("bert")), **QUICK)
    file = tmp_path / "reviews.csv"
    file.write_text("review,sentiment\n" + "".join(f"{text},{topic}\n" for text, topic in pairs[:9]), "utf-8")
    assert by_pairs.evaluate(file).to_json() == by_pairs.evaluate(pairs[:9]).to_json()
    file.write_text("review,sentiment\n" + "".join(f"{text},{topic}\n" for text, topic in pairs), "utf-8")
    by_file = pw.train(file, backbone=str(tiny_backbone("bert")), **QUICK)
    assert by_file.evaluate(file).to_json() == by_file.evaluate(pairs).to_json()


def test_markup_is_stripped_in_python_as_in_training(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    marked = [(f"<p>{text}</p>", topic) for text, topic in topics(45, 0)]
    classifier = pw.train(marked, backbone=str(tiny_backbone("bert")), markup="strip", **QUICK)
    assert (classifier.logits(["<p>The cup</p>"]) == classifier.logits(["The cup"])).all()
    plain = pw.train(marked, backbone=str(tiny_backbone("bert")), **QUICK)
    assert (plain.logits(["<p>The cup</p>"]) != plain.logits(["The cup"])).any()


def test_a_description_is_what_was_written() -> None:
    input_spec = InputSpec(("a", "b"), "c", " / ", True, "strip", 2, 9).changed(label_columns=["x", "y"])
    again = InputSpec.from_json(json.loads(json.dumps(input_spec.to_json())))
    assert again.to_json() == json.loads(json.dumps(input_spec.to_json())) | {
        "text_columns": ("a", "b"),
        "form": input_spec.to_json()["form"],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"text_columns": "text"}, {"text_columns": []}, {"text_columns": [1]}, {"label_column": 3}, {"separator": None},
        {"label_map": []}, {"label_map": {"a": 1}}, {"label_base": "1"},
        {"pair": 1}, {"markup": "burn"}, {"min_chars": True}, {"max_chars": "9"}, {"form": None}, {"form": {}},
    ],
)  # fmt: skip
def test_another_description_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="not an input specification"):
        InputSpec.from_json(InputSpec().to_json() | change)
    with pytest.raises(DataError, match="not an input specification"):
        InputSpec.from_json(None)


def trained(rows: list[dict[str, Any]], test: list[dict[str, Any]], tmp_path: Path, **fields: Any) -> pw.Classifier:
    """A classifier of JSON lines, saved and loaded; `evaluate` has repeated what was measured on `test`."""
    for name, held in (("train", rows), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held), "utf-8")
    made = pw.train(
        tmp_path / "train.jsonl", test=tmp_path / "test.jsonl", out=tmp_path / "run", **QUICK, max_steps=2, **fields
    )
    again = pw.load(tmp_path / "run")
    measured = again.evaluate(tmp_path / "test.jsonl").to_json()
    assert {key: made.metrics["test"][key] for key in measured} == measured
    return again


def support(found: Any) -> dict[str, int]:
    values = found.to_json()
    return {one["name"]: one["support"] for one in values.get("per_class", values.get("per_label"))}


@pytest.mark.parametrize(
    "label_map",
    [
        {"Business": "Sports", "Sports": "World", "World": "Business"},
        {"Business": "Sports", "Sports": "other"},
        {"Business": "1", "Sports": "Business"},
    ],
)
def test_labels_are_renamed_once(label_map: dict[str, str], tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    rows = [{"text": text, "label": topic} for text, topic in topics(45, 0)]
    uneven = [row for row in rows[:20] if row["label"] != "World" or row is rows[2]]
    found = trained(rows, uneven, tmp_path, backbone=str(tiny_backbone("bert")), label_map=label_map)
    expected: dict[str, int] = {}
    for row in uneven:
        name = label_map.get(row["label"], row["label"])
        expected[name] = expected.get(name, 0) + 1
    assert support(found.evaluate(tmp_path / "test.jsonl")) == {name: expected.get(name, 0) for name in found.labels}


def test_classes_are_counted_from_where_the_training_counts_them(
    tmp_path: Path, tiny_backbone: Callable[..., Path]
) -> None:
    numbers = {name: number for number, name in enumerate(TOPICS)}
    rows = [{"Class Index": numbers[topic], "text": text} for text, topic in topics(45, 0)]
    found = trained(rows, [row for row in rows if row["Class Index"]], tmp_path, backbone=str(tiny_backbone("bert")))
    assert support(found.evaluate(tmp_path / "test.jsonl")) == {"0": 0, "1": 15, "2": 15}
    frame = pd.DataFrame([row for row in rows if row["Class Index"] == 1])
    assert support(found.evaluate(frame)) == {"0": 0, "1": 15, "2": 0}


def test_numbers_are_no_positions_of_words(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    rows = [{"Class Index": topic, "text": text} for text, topic in topics(45, 0)]
    found = trained(rows, rows[:9], tmp_path, backbone=str(tiny_backbone("bert")))
    numbers = [{"Class Index": 1 + row % 3, "text": "The bank"} for row in range(6)]
    with pytest.raises(DataError, match="numbers are not read as positions"):
        found.evaluate(numbers)
    mapped = found.evaluate(numbers, label_map={"1": "Business", "2": "Sports", "3": "World"})
    assert support(mapped) == {"Business": 2, "Sports": 2, "World": 2}


def test_lists_are_what_they_were_in_training(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    backbone = str(tiny_backbone("bert"))
    rows = [{"text": text, "labels": [[2], [1, 2], [3, 0]][row % 3]} for row, (text, _) in enumerate(topics(45, 0))]
    ids = trained(rows, [{"text": "The bank", "labels": [0, 1]}] * 4, tmp_path, backbone=backbone)
    assert support(ids.evaluate(tmp_path / "test.jsonl")) == {"0": 4, "1": 4, "2": 0, "3": 0}
    vectors = [{"text": text, "labels": [int(row % 4 == at) for at in range(4)]} for row, (text, _) in
               enumerate(topics(48, 0))]  # fmt: skip
    (tmp_path / "b").mkdir()
    one_hot = trained(vectors, vectors[:8], tmp_path / "b", backbone=backbone)
    with pytest.raises(
        DataError, match="the label vectors differ in length from those in training; expected 4 zeros and"
    ):
        one_hot.evaluate([{"text": "The bank", "labels": [0, 1, 0]}] * 3)


def test_names_of_the_training_are_no_positions(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    rows = [{"1": text, "2": topic} for text, topic in topics(45, 0)]
    found = trained(rows, rows[:9], tmp_path, backbone=str(tiny_backbone("bert")))
    with pytest.raises(DataError, match="no column named 1; expected one of id, text"):
        found.predict(pd.DataFrame({"id": ["a"], "text": ["The bank"]}))


def test_label_columns_keep_their_names(tmp_path: Path, tiny_backbone: Callable[..., Path]) -> None:
    rows = [{"text": text} | {name: int(name == topic) for name in TOPICS} for text, topic in topics(45, 0)]
    found = trained(
        rows, rows[:9], tmp_path, backbone=str(tiny_backbone("bert")), text_columns="1", label_columns="2,3,4"
    )
    wider = [{"text": row["text"], "flag": 0} | row for row in rows[:9]]
    assert support(found.evaluate(wider)) == {"Business": 3, "Sports": 3, "World": 3}
