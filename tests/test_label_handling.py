"""One label is one thing in every form; rare, unknown and missing labels; training without validation."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pennyweight as pw
from pennyweight.artifact.metrics_file import MetricsFile, MultiLabelMetricsFile
from pennyweight.errors import InputError, Interrupted
from pennyweight.runs.saved_evaluation import evaluate_saved, read_evaluation_data
from pennyweight.train.observer import forward_log

SMALL = {"budget": "5k", "max_steps": 2, "precision": "fp32", "batch_size": 8, "audit": "off", "report": "short"}
NUMBERS = {"Business": 0, "Sports": 1, "World": 2}

Pairs = list[tuple[str, Any]]


@pytest.fixture
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return SMALL | {"backbone": str(tiny_backbone("bert"))}


@pytest.fixture
def pairs(news: Path) -> Pairs:
    with (news / "train.csv").open(encoding="utf-8") as handle:
        return [(row["text"], row["label"]) for row in csv.DictReader(handle)]


def written(path: Path, rows: Pairs) -> Path:
    """The rows in a file, by the name's ending."""
    frame = pd.DataFrame(rows, columns=["text", "label"])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    else:
        frame.to_csv(path, index=False)
    return path


def numbered(pairs: Pairs, kind: Callable[[int], Any], first: int = 0) -> Pairs:
    return [(text, kind(NUMBERS[label] + first)) for text, label in pairs]


# --- one label in every form ---


@pytest.mark.parametrize("kind", [int, float, str, lambda number: f"{number}.0"])
def test_numbers_are_one_class_however_they_are_written(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path, kind: Callable[[int], Any]
) -> None:
    test = written(tmp_path / "test.csv", numbered(pairs[:15], int, 1))
    found = pw.train(written(tmp_path / "train.csv", numbered(pairs, kind, 1)), test=test, **settings)
    assert found.labels == ("1", "2", "3")
    same = pw.train(numbered(pairs, int, 1), test=numbered(pairs[:15], float, 1), **settings)
    assert same.metrics["test"]["confusion"] == found.metrics["test"]["confusion"]
    for other in (".parquet", ".jsonl"):
        again = written(tmp_path / f"again{other}", numbered(pairs[:15], float, 1))
        assert found.evaluate(again).accuracy == found.metrics["test"]["accuracy"]


def test_truth_values_are_one_class_however_they_are_written(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path
) -> None:
    rows = [(text, label == "Sports") for text, label in pairs]
    test = written(tmp_path / "test.parquet", rows[:15])
    found = pw.train(written(tmp_path / "train.csv", rows), test=test, **settings)
    assert found.labels == ("false", "true")
    for name in ("again.csv", "again.jsonl"):
        assert found.evaluate(written(tmp_path / name, rows[:15])).accuracy == found.metrics["test"]["accuracy"]
    assert found.evaluate([(text, str(label).upper()) for text, label in rows[:15]]).n == 15


def test_a_classifier_of_an_older_version_keeps_its_names_and_knows_the_numbers(
    pairs: Pairs, settings: dict[str, Any]
) -> None:
    from pennyweight.data.labels import LabelSet

    found = pw.train(numbered(pairs, int), **settings)
    before = found.evaluate(numbered(pairs, int)).accuracy
    found.artifact = replace(found.artifact, labels=LabelSet(("0.0", "1.0", "2.0")))
    for kind in (int, float, str):
        assert found.evaluate(numbered(pairs, kind)).accuracy == before
    assert set(found.predict([text for text, _ in pairs[:6]])) <= {"0.0", "1.0", "2.0"}


def test_numbers_are_no_positions_where_nothing_says_so(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path, command: Callable[..., Any]
) -> None:
    # The last class is absent, so that class numbers from 1 would pass for class numbers from 0.
    some = [(text, label) for text, label in pairs if label != "World"][:20]
    test = written(tmp_path / "test.csv", numbered(some, int, 1))
    train = written(tmp_path / "train.csv", pairs)
    with pytest.raises(InputError) as caught:
        pw.train(train, test=test, **settings)
    assert str(caught.value).endswith(
        "numbers are not read as positions; if they are class numbers, use --label-map 1=Business,2=Sports,3=World"
    )
    heard: list[str] = []
    label_map = "1=Business,2=Sports,3=World"
    out = tmp_path / "run"
    with forward_log(heard.append):
        found = pw.train(train, test=test, label_map=label_map, out=out, **settings)
    assert f"labels of {test}: 1 = Business, 2 = Sports" in heard
    assert found.metrics["test"]["n"] == 20
    # The saved classifier remembers what the numbers mean.
    assert pw.load(out).evaluate(test).accuracy == found.metrics["test"]["accuracy"]
    plain = pw.train(train, out=tmp_path / "plain", **settings)
    assert command("evaluate", tmp_path / "plain", test).code == 2
    said = command("evaluate", tmp_path / "plain", test, "--label-map", label_map)
    assert said.code == 0
    assert said.out.startswith(f"labels of {test}: 1 = Business, 2 = Sports\n\naccuracy ")
    as_json = json.loads(command("evaluate", tmp_path / "plain", test, "--label-map", label_map, "--json").out)
    assert as_json["notes"] == [f"labels of {test}: 1 = Business, 2 = Sports"]
    assert plain.labels == ("Business", "Sports", "World")


def test_a_sources_own_names_are_matched_by_name(pairs: Pairs, settings: dict[str, Any]) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    def dataset(rows: Pairs, names: list[str]) -> Dataset:
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        held = {"text": [text for text, _ in rows], "label": [names.index(label) for _, label in rows]}
        return Dataset.from_dict(held, features=features)

    heard: list[str] = []
    forwards, backwards = ["Business", "Sports", "World"], ["World", "Sports", "Business"]
    with forward_log(heard.append):
        found = pw.train(dataset(pairs, forwards), test=dataset(pairs[:15], backwards), **settings)
    assert "labels of data: 0 = Business, 1 = Sports, 2 = World" in heard
    assert "labels of data: 0 = World, 1 = Sports, 2 = Business" in heard
    assert found.evaluate(pairs[:15]).accuracy == found.metrics["test"]["accuracy"]
    measured = evaluate_saved(found, read_evaluation_data(found, dataset(pairs[:15], backwards)))
    assert measured.notes == ("labels of data: 0 = World, 1 = Sports, 2 = Business",)


def test_a_map_that_is_of_no_use_is_refused(pairs: Pairs, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        pw.train(pairs, label_map="sports=Sport", **settings)
    assert str(caught.value) == (
        "data -> label_map: none of the labels in label_map occurs in the data; expected some of Business, Sports, "
        "World; received sports"
    )
    merged = pw.train(pairs, label_map="Sports=Other,World=Other", **settings)
    assert merged.labels == ("Business", "Other")
    assert merged.evaluate(pairs).n == 60


def test_labels_joined_in_cells_are_refused_with_the_flag_to_add(pairs: Pairs, settings: dict[str, Any]) -> None:
    rows = [(text, f"{label}|{'abcd'[number % 4]}") for number, (text, label) in enumerate(pairs)]
    with pytest.raises(InputError, match=r"add --label-delimiter '\|', or --task single if each cell is one label"):
        pw.train(rows, **settings)
    assert len(pw.train(rows, task="single", **settings).labels) == 12
    assert len(pw.train(rows, label_delimiter="|", **settings).labels) == 7


def test_one_hot_vectors_train_and_are_measured_as_classes(pairs: Pairs, settings: dict[str, Any]) -> None:
    rows = [(text, [int(NUMBERS[label] == place) for place in range(3)]) for text, label in pairs]
    heard: list[str] = []
    with forward_log(heard.append):
        found = pw.train(rows, test=rows[:15], label_names="Business,Sports,World", **settings)
    assert "data: one-hot label vectors of length 3 read as classes 0 to 2" in heard
    assert "labels of data: 0 = Business, 1 = Sports, 2 = World" in heard
    assert found.evaluate(rows[:15]).accuracy == found.evaluate(pairs[:15]).accuracy
    vectors = [(text, [*held, int(number % 2 == 0)]) for number, (text, held) in enumerate(rows)]
    assert pw.train(vectors, **settings).labels == ("0", "1", "2", "3")


# --- unknown labels ---


def test_unknown_labels_are_refused_left_out_or_counted_as_wrong(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path, command: Callable[..., Any]
) -> None:
    test = written(tmp_path / "test.csv", [*pairs[:15], *((text, "Health") for text, _ in pairs[:5])])
    with pytest.raises(InputError, match="label Health is not one of the classes"):
        pw.train(pairs, test=test, **settings)
    heard: list[str] = []
    with forward_log(heard.append):
        drop = pw.train(pairs, test=test, unknown_labels="drop", **settings)
    assert f"labels: 5 of 20 rows of {test} left out, since their labels are not classes (Health 5)" in heard
    assert drop.metrics["test"]["n"] == 15
    assert "unknown" not in drop.metrics["test"]
    out = tmp_path / "run"
    wrong = pw.train(pairs, test=test, ood=str(test), unknown_labels="wrong", out=out, **settings)
    figures, known = wrong.metrics["test"], drop.metrics["test"]
    assert (figures["n"], figures["unknown"]) == (15, 5)
    assert figures["accuracy"] == pytest.approx(known["accuracy"] * 15 / 20)
    assert {key: figures[key] for key in ("macro_f1", "log_loss", "ece", "confusion")} == {
        key: known[key] for key in ("macro_f1", "log_loss", "ece", "confusion")
    }
    MetricsFile.model_validate(json.loads((out / "metrics.json").read_text("utf-8")), strict=True)
    for one in wrong.metrics["baselines"]:
        assert figures["accuracy"] - one["accuracy"] == pytest.approx(one["difference"])
    note = "5 further texts with unknown labels count as wrong in the accuracy only"
    assert note in (out / "report.html").read_text("utf-8")
    assert note in (out / "README.md").read_text("utf-8")
    ood = wrong.metrics["shift"]["ood"][0]
    assert (ood["n"], ood["accuracy"]) == (20, figures["accuracy"])

    assert command("evaluate", out, test).code == 2
    said = command("evaluate", out, test, "--unknown-labels", "wrong").out
    assert f"rows of {test} counted as wrong, since their labels are not classes (Health 5)" in said
    assert (
        "20 texts\n5 texts with unknown labels count as wrong in the accuracy; the other metrics use the remaining 15 "
        "texts\n" in said
    )
    as_json = json.loads(command("evaluate", out, test, "--unknown-labels", "drop", "--json").out)
    assert (as_json["n"], as_json["accuracy"]) == (15, known["accuracy"])
    other, plain = tmp_path / "other", tmp_path / "plain"
    pw.train(pairs, test=test, unknown_labels="wrong", out=other, **settings | {"seed": 1})
    compared = json.loads(command("compare", out, other, "--json").out)
    each = {one["name"]: one["accuracy"] for one in compared["runs"]}
    assert compared["pairs"][0]["n"] == 20
    assert compared["pairs"][0]["difference"] == pytest.approx(each["other"] - each["run"])
    pw.train(pairs, test=test, unknown_labels="drop", out=plain, **settings)
    unlike = command("compare", out, plain)
    assert unlike.code == 2
    assert "expected 5 rows with unknown labels that count as wrong; received 0" in unlike.err
    with pytest.raises(InputError, match="no row has a label of a known class"):
        read_evaluation_data(wrong, [("a text", "Health")], unknown_labels="drop")


def test_unknown_labels_in_a_validation_file_are_left_out(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path
) -> None:
    validation = written(tmp_path / "validation.csv", [*pairs[:15], ("a text", "Health")])
    for how in ("drop", "wrong"):
        heard: list[str] = []
        with forward_log(heard.append):
            found = pw.train(pairs, validation=str(validation), unknown_labels=how, **settings)
        assert f"labels: 1 of 16 rows of {validation} left out, since their labels are not classes (Health 1)" in heard
        assert (found.metrics["validation"]["n"], "unknown" in found.metrics["validation"]) == (15, False)


def test_an_unknown_label_makes_an_exact_match_impossible(
    multi_label_pairs: Callable[..., Any], settings: dict[str, Any]
) -> None:
    rows = multi_label_pairs(60, 1)
    test = [*rows[:10], ("The sea.", ["sea", "sport"])]
    drop = pw.train(rows, test=test, unknown_labels="drop", **settings).metrics["test"]
    wrong = pw.train(rows, test=test, unknown_labels="wrong", **settings).metrics["test"]
    assert (wrong["n"], wrong["unknown"]) == (10, 1)
    assert wrong["exact_match"] == pytest.approx(drop["exact_match"] * 10 / 11)
    assert wrong["micro_f1"] == drop["micro_f1"]


# --- missing labels ---


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, "", "nan"])
def test_a_missing_label_is_never_a_class(pairs: Pairs, settings: dict[str, Any], tmp_path: Path, missing: Any) -> None:
    rows = [(text, missing if row == 4 else label) for row, (text, label) in enumerate(pairs)]
    for data in (rows, pd.DataFrame(rows, columns=["text", "label"]), written(tmp_path / "train.csv", rows)):
        with pytest.raises(InputError, match="received 1 of 60 rows without a label") as caught:
            pw.train(data, **settings)
        assert "row 5: the label in column label" in str(caught.value) or "train.csv:6: the label" in str(caught.value)


# --- rare classes and few rows ---


def test_a_class_with_one_row_is_refused_left_out_or_kept(pairs: Pairs, settings: dict[str, Any]) -> None:
    rows = [*pairs, ("Roses in a garden", "Gardening")]
    with pytest.raises(InputError, match="data row 61: class Gardening has one row"):
        pw.train(rows, **settings)
    heard: list[str] = []
    with forward_log(heard.append):
        dropped = pw.train(rows, rare_classes="drop", **settings)
    assert dropped.labels == ("Business", "Sports", "World")
    assert "labels: 1 row of 1 rare class dropped (Gardening)" in heard
    with forward_log(heard.append):
        kept = pw.train(rows, rare_classes="keep", **settings)
    assert kept.labels == ("Business", "Gardening", "Sports", "World")
    assert kept.metrics["data"]["counts"][1] == 1
    assert "labels: trained on but not validated: 1 class with one row (Gardening)" in heard
    # Where nothing is split off there is nothing to refuse.
    given = pw.train(rows, validation=None, validation_size=0, **settings)
    assert given.metrics["train"]["rows"] == 61


def test_a_class_with_one_row_is_fine_where_validation_is_given(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path
) -> None:
    validation = written(tmp_path / "validation.csv", pairs[:15])
    found = pw.train([*pairs, ("Roses", "Gardening")], validation=str(validation), **settings)
    assert len(found.labels) == 4


def test_the_rare_class_of_a_source_that_names_its_classes_goes_by_name(settings: dict[str, Any], pairs: Pairs) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    names = ["Gardening", "Business", "Sports", "World"]
    rows = [("Roses", "Gardening"), *pairs]
    dataset = Dataset.from_dict(
        {"text": [text for text, _ in rows], "label": [names.index(label) for _, label in rows]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=names)}),
    )
    found = pw.train(dataset, test=dataset.select(range(1, 16)), rare_classes="drop", **settings)
    assert found.labels == ("Business", "Sports", "World")
    assert found.evaluate(pairs[:15]).accuracy == found.metrics["test"]["accuracy"]


def test_a_rare_label_among_several(multi_label_pairs: Callable[..., Any], settings: dict[str, Any]) -> None:
    rows = multi_label_pairs(60, 1)
    rows[7] = (rows[7][0], [*rows[7][1], "sea"])
    with pytest.raises(InputError, match="data row 8: class sea has one row"):
        pw.train(rows, **settings)
    assert pw.train(rows, rare_classes="drop", **settings).labels == ("money", "sport", "world")
    kept = pw.train(rows, rare_classes="keep", **settings)
    assert kept.metrics["data"]["counts"][kept.labels.index("sea")] == 1


def test_few_rows_of_many_classes_are_split_one_a_class(pairs: Pairs, settings: dict[str, Any]) -> None:
    rows = [(text, f"intent {row % 12}") for row, (text, _) in enumerate(pairs)]
    heard: list[str] = []
    with forward_log(heard.append):
        found = pw.train(rows, **settings)
    assert (found.metrics["train"]["rows"], found.metrics["validation"]["n"]) == (48, 12)
    assert [one["support"] for one in found.metrics["validation"]["per_class"]] == [1] * 12
    assert (
        "validation: 12 rows, one per class, because 10% would be 6; --validation-size 0 trains on all of them" in heard
    )


# --- no validation ---


def test_without_validation_the_last_epoch_is_kept_and_test_rows_are_measured(
    pairs: Pairs, settings: dict[str, Any], news: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    heard: list[str] = []
    run = tmp_path / "run"
    settings |= {"max_steps": None, "epochs": 3, "lp_ft": False}
    with forward_log(heard.append):
        found = pw.train(news / "train.csv", test=news / "test.csv", validation_size=0, out=run, **settings)
    assert any(line.startswith("data: 60 training, no validation, 15 test texts, 3 labels") for line in heard)
    assert "validation: no rows are held out, so the last epoch is kept, no temperature is fitted" in heard
    values = json.loads((run / "metrics.json").read_text("utf-8"))
    MetricsFile.model_validate(values, strict=True)
    assert "validation" not in values
    assert "abstention" not in values
    assert (values["calibration"]["temperature"], values["calibration"]["fitted_on"]) == (1.0, None)
    assert [set(one) for one in values["train"]["history"]] == [{"step", "epoch", "train_loss", "learning_rate"}] * 3
    assert values["train"]["best"] == values["train"]["history"][-1]
    page = (run / "report.html").read_text("utf-8")
    assert "The probabilities are not temperature-scaled: " in page
    assert "fitted on validation" not in page
    again = pw.load(run)
    assert again.temperature == 1.0
    assert again.evaluate(news / "test.csv").accuracy == found.metrics["test"]["accuracy"]
    said = json.loads(command("evaluate", run, news / "test.csv", "--json").out)
    assert said["accuracy"] == found.metrics["test"]["accuracy"]
    assert said["calibration"]["fitted_on"] is None
    refused = command("predict", run, news / "test.csv", "--target-accuracy", "0.9")
    assert refused.code == 2
    assert "has no saved validation predictions for choosing a threshold" in refused.err

    other = tmp_path / "other"
    pw.train(news / "train.csv", test=news / "test.csv", out=other, seed=1, **settings)
    assert command("compare", run, other).code == 0


def test_without_validation_and_test_nothing_is_measured(
    settings: dict[str, Any], news: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    flags = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    said = command("train", news / "train.csv", "--validation-size", "0", "--out", run, *flags)
    assert said.code == 0
    assert "nothing is measured: there are no validation or test texts" in said.err
    assert "not measured: there are no validation or test texts" in said.out
    values = json.loads((run / "metrics.json").read_text("utf-8"))
    MetricsFile.model_validate(values, strict=True)
    assert {"validation", "test", "calibration", "verdict"}.isdisjoint(values)
    assert not (run / "report.html").exists()
    assert "Not measured." in (run / "README.md").read_text("utf-8")
    again = pw.load(run)
    assert again.evaluate(news / "test.csv").n == 15
    measured = evaluate_saved(again, read_evaluation_data(again, news / "test.csv"))
    assert measured.to_json()["calibration"]["fitted_on"] is None
    assert command("predict", run, news / "test.csv").code == 0
    assert command("evaluate", run, news / "test.csv").code == 0
    unmeasured = command("compare", run, run)
    assert unmeasured.code == 2
    assert "this run was not measured on test rows" in unmeasured.err


def test_without_validation_every_threshold_is_a_half(
    multi_label_pairs: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    rows, heard = multi_label_pairs(60, 1), []
    run = tmp_path / "run"
    with forward_log(heard.append):
        found = pw.train(rows, test=rows[:20], validation_size=0, out=run, **settings)
    assert any(line.endswith("and every label has the threshold 0.5") for line in heard)
    values = json.loads((run / "metrics.json").read_text("utf-8"))
    MultiLabelMetricsFile.model_validate(values, strict=True)
    assert values["thresholds"] == {"values": [0.5] * 3, "tuned_for": "fixed", "tuned_on": None}
    page = (run / "report.html").read_text("utf-8")
    assert "A text gets a label if the label's probability is at least 0.5." in page
    assert "tuned on" not in page
    again = pw.load(run)
    assert again.thresholds.tolist() == [0.5] * 3
    assert again.evaluate(rows[:20]).exact == found.metrics["test"]["exact_match"]
    bare = pw.train(rows, validation_size=0, out=tmp_path / "bare", **settings)
    assert {"validation", "test"}.isdisjoint(bare.metrics)
    MultiLabelMetricsFile.model_validate(
        json.loads((tmp_path / "bare" / "metrics.json").read_text("utf-8")), strict=True
    )
    assert pw.load(tmp_path / "bare").evaluate(rows[:20]).n == 20


def test_without_validation_averaged_weights_are_what_is_left(
    pairs: Pairs, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"max_steps": None, "epochs": 2}
    plain = pw.train(pairs, validation_size=0, **settings)
    average = pw.train(pairs, validation_size=0, average="last_epochs", average_epochs=2, **settings)
    texts = [text for text, _ in pairs[:4]]
    assert abs(plain.logits(texts) - average.logits(texts)).max() > 0


def test_a_run_without_validation_goes_on_to_the_same_end(
    pairs: Pairs, settings: dict[str, Any], news: Path, tmp_path: Path
) -> None:
    class Stop:
        def step(self, step: int, *rest: Any) -> None:
            if step == 10:
                raise KeyboardInterrupt

        def evaluation(self, record: dict[str, Any]) -> None: ...

    settings |= {"max_steps": None, "epochs": 2, "validation_size": 0}
    whole = pw.train(news / "train.csv", out=tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        pw.train(news / "train.csv", out=tmp_path / "run", observer=Stop(), **settings)
    resumed = pw.train(news / "train.csv", out=tmp_path / "run", resume=True, **settings)
    texts = [text for text, _ in pairs[:4]]
    assert (whole.logits(texts) == resumed.logits(texts)).all()


def test_what_needs_validation_rows_says_so(pairs: Pairs, settings: dict[str, Any], tmp_path: Path) -> None:
    from pennyweight.search.search import search
    from pennyweight.search.seeds import train_seeds

    with pytest.raises(InputError) as caught:
        pw.train(pairs, validation_size=0, early_stopping_patience=2, **settings)
    assert "expected none with validation_size 0, since nothing is held out to stop on, received 2" in str(caught.value)
    with pytest.raises(
        InputError, match="there are no rows for measuring the spread; expected validation rows, or --test FILE"
    ):
        train_seeds(pairs, count=2, out=tmp_path / "seeds", validation_size=0, **settings)
    pytest.importorskip("optuna")
    with pytest.raises(InputError, match="a search compares trials by validation texts"):
        search(pairs, out=tmp_path / "search", trials=1, validation_size=0, backbone=settings["backbone"])
