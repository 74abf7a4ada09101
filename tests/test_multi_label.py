"""Texts with any number of labels, from a file to a classifier, its answers, its report and stock PEFT."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.artifact.metrics_file import MultiLabelMetricsFile
from pennyweight.errors import InputError, Interrupted
from pennyweight.evaluate.metrics.classification import Metrics
from pennyweight.export.merged import to_merged
from pennyweight.export.peft import to_peft
from pennyweight.train.observer import forward_log

Pairs = list[tuple[str, list[str]]]
SETTINGS: dict[str, Any] = {
    "budget": "none", "r": 4, "target_modules": "all-linear", "epochs": 2, "learning_rate": 5e-3, "batch_size": 8,
    "precision": "fp32", "report": "short", "pooling": "mean",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(multi_label_pairs: Callable[..., Pairs]) -> dict[str, Pairs]:
    return {"train": multi_label_pairs(160, 1), "test": multi_label_pairs(40, 2)}


@pytest.fixture(scope="module")
def settings(tiny_backbone: Callable[..., Path]) -> dict[str, Any]:
    return SETTINGS | {"backbone": str(tiny_backbone("minilm"))}


@pytest.fixture(scope="module")
def run(rows: dict[str, Pairs], settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with cls pooling, which stock classes can express."""
    folder = tmp_path_factory.mktemp("several") / "run"
    pw.train(rows["train"], test=rows["test"], out=folder, **settings | {"report": "full", "pooling": "cls"})
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text("utf-8")))


def write(path: Path, rows: Pairs, delimiter: str = "|") -> Path:
    """A CSV file with the labels in one cell."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "text", "label"])
        writer.writerows([number, text, delimiter.join(labels)] for number, (text, labels) in enumerate(rows))
    return path


def test_it_learns_and_measures(run: Path) -> None:
    found = metrics(run)
    MultiLabelMetricsFile.model_validate(found, strict=True)
    assert found["data"]["labels"] == ["money", "sport", "world"]
    assert found["train"]["history"][-1]["train_loss"] < found["train"]["history"][0]["train_loss"]
    assert set(found["train"]["history"][0]) >= {"accuracy", "macro_f1", "micro_f1", "validation_loss"}
    assert found["test"]["n"] == 40
    low, high = found["test"]["intervals"]["micro_f1"]
    assert low < found["test"]["micro_f1"] < high
    assert [one["name"] for one in found["baselines"]] == [
        "commonest labels",
        "TF-IDF + one-vs-rest logistic regression",
        "frozen backbone + linear head",
    ]
    assert [row["threshold"] for row in found["test"]["per_label"]] == found["thresholds"]["values"]


def test_the_saved_classifier_gives_the_same_probabilities_and_figures(run: Path, rows: dict[str, Pairs]) -> None:
    texts = [text for text, _ in rows["test"]]
    first, again = pw.load(run), pw.load(run)
    assert np.array_equal(first.predict_proba(texts), again.predict_proba(texts))
    assert first.predict(texts) == again.predict(texts)
    probabilities = first.predict_proba(texts)
    assert probabilities.shape == (40, 3)
    assert not np.allclose(probabilities.sum(axis=1), 1)  # each label on its own
    found = first.evaluate(rows["test"])
    assert isinstance(found, Metrics)
    assert found.micro.f1 == metrics(run)["test"]["micro_f1"]
    given = [[first.labels[i] for i in np.flatnonzero(row >= first.thresholds)] for row in probabilities]
    assert first.predict(texts) == given


def test_a_classifier_in_memory_and_its_saved_self_agree(
    rows: dict[str, Pairs], settings: dict[str, Any], tmp_path: Path
) -> None:
    classifier = pw.train(rows["train"], **settings)
    texts = [text for text, _ in rows["test"]]
    loaded = pw.load(classifier.save(tmp_path / "saved"))
    assert np.array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))
    assert loaded.predict(texts) == classifier.predict(texts)
    assert loaded.artifact.labels.multi
    again = pw.train(rows["train"], recipe=tmp_path / "saved" / "recipe.yaml")
    assert np.array_equal(again.predict_proba(texts), classifier.predict_proba(texts))


def test_every_form_of_labels_trains_the_same(rows: dict[str, Pairs], settings: dict[str, Any], tmp_path: Path) -> None:
    import pandas as pd
    from datasets import Dataset

    train = rows["train"]
    texts, labels = [text for text, _ in train], [held for _, held in train]
    names = ["money", "sport", "world"]
    columns = {"text": texts} | {name: [int(name in held) for held in labels] for name in names}
    pd.DataFrame(columns).to_csv(tmp_path / "columns.csv", index=False)
    (tmp_path / "lists.jsonl").write_text(
        "".join(json.dumps({"text": text, "labels": held}) + "\n" for text, held in train), "utf-8"
    )
    (tmp_path / "json.csv").write_text("text,label\n" + "".join(
        f'{text},"{json.dumps(held).replace(chr(34), chr(34) * 2)}"\n' for text, held in train), "utf-8")  # fmt: skip
    pd.DataFrame({"text": texts, "labels": labels}).to_parquet(tmp_path / "lists.parquet")
    forms: list[tuple[Any, dict[str, Any]]] = [
        (train, {}),
        ((texts, labels), {}),
        (pd.DataFrame({"text": texts, "label": labels}), {}),
        (Dataset.from_dict({"text": texts, "labels": labels}), {}),
        (tmp_path / "lists.jsonl", {}),
        (tmp_path / "lists.parquet", {}),
        (tmp_path / "json.csv", {"task": "multi"}),
        (write(tmp_path / "cells.csv", train), {"label_delimiter": "|"}),
        (write(tmp_path / "semicolons.csv", train, "; "), {"label_delimiter": ";"}),
        (tmp_path / "columns.csv", {"label_columns": names}),
        (columns, {"label_columns": names}),
    ]
    found = [pw.train(form, **settings | more | {"max_steps": 2}).logits(texts[:4]) for form, more in forms]
    for number, logits in enumerate(found):
        assert np.array_equal(logits, found[0]), number


def test_stock_peft_gives_the_same_logits(run: Path, tmp_path: Path) -> None:
    artifact = pw.load(run, device="cpu", precision="fp32").artifact
    assert to_peft(artifact, tmp_path / "peft") < 1e-4

    # The user's lines, with nothing of ours.
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(tmp_path / "peft")
    assert config.problem_type == "multi_label_classification"
    assert config.id2label == {0: "money", 1: "sport", 2: "world"}
    base = AutoModelForSequenceClassification.from_pretrained(artifact.backbone.folder, config=config)
    model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "peft")(["The bank and the cup."], return_tensors="pt")
    theirs = model(**batch).logits.detach()
    ours = artifact.model(batch["attention_mask"], input_ids=batch["input_ids"]).detach()
    assert float((theirs - ours).abs().max()) < 1e-4
    to_merged(artifact, tmp_path / "merged")
    merged = json.loads((tmp_path / "merged" / "config.json").read_text("utf-8"))
    assert merged["problem_type"] == "multi_label_classification"


def test_predict_writes_lists_or_joins_them(
    run: Path, rows: dict[str, Pairs], tmp_path: Path, command: Callable[..., Any]
) -> None:
    import pyarrow.parquet as pq

    source = write(tmp_path / "test.csv", rows["test"])
    said = pw.load(run).predict([text for text, _ in rows["test"]])
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        assert command("predict", run, source, "--out", tmp_path / name).code == 0
    with (tmp_path / "out.csv").open(encoding="utf-8") as handle:
        cells = list(csv.DictReader(handle))
    assert list(cells[0])[-4:] == ["labels", "p_money", "p_sport", "p_world"]
    assert [row["labels"] for row in cells] == ["|".join(held) for held in said]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["labels"] for row in lines] == said
    assert pq.read_table(tmp_path / "out.parquet").column("labels").to_pylist() == said
    streamed = command("predict", run, "-", stdin="The bank.\nThe cup.\n")
    assert [json.loads(line)["labels"] for line in streamed.out.splitlines()] == pw.load(run).predict(
        ["The bank.", "The cup."]
    )


def test_texts_without_any_answer_still_say_what_their_lists_are_of(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from pennyweight.predict.writers import write_file

    write_file([{"labels": [], "p_a": 0.1}], tmp_path / "out.parquet")
    assert str(pq.read_table(tmp_path / "out.parquet").schema.field("labels").type) == "list<element: string>"


def test_verbs_do_the_sensible_thing_or_refuse(
    run: Path, rows: dict[str, Pairs], tmp_path: Path, command: Callable[..., Any]
) -> None:
    source = write(tmp_path / "test.csv", rows["test"])
    shown = command("evaluate", run, source, "--label-delimiter", "|", "--report", tmp_path / "report.html")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("micro F1 ")
    assert "Exact match" in (tmp_path / "report.html").read_text("utf-8")
    assert (
        json.loads(command("evaluate", run, source, "--label-delimiter", "|", "--json").out)["micro_f1"]
        == (metrics(run)["test"]["micro_f1"])
    )
    assert "submission has one label per text" in command("predict", run, source, "--submission").error
    assert "has a threshold for each label" in command("predict", run, source, "--abstain-below", "0.5").error
    assert "has a threshold for each label" in command("predict", run, source, "--target-accuracy", "0.9").error
    assert command("explain", run, "The bank and the cup.", "--label", "sport").out.startswith("sport: ")


def test_shift_is_refused_before_anything_is_trained(
    rows: dict[str, Pairs], settings: dict[str, Any], tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(InputError, match="one label per text"), forward_log(said.append):
        pw.train(rows["train"], out=tmp_path / "run", shift=True, **settings)
    assert not any("model:" in line for line in said)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_runs_compare_by_exact_match(
    run: Path, rows: dict[str, Pairs], settings: dict[str, Any], tmp_path: Path, command: Callable[..., Any]
) -> None:
    pw.train(rows["train"], test=rows["test"][::-1], out=tmp_path / "other", **settings | {"seed": 1})
    shown = command("compare", run, tmp_path / "other", "--json")
    assert shown.code == 0, shown.err
    found = json.loads(shown.out)
    exact = [metrics(folder)["test"]["exact_match"] for folder in (run, tmp_path / "other")]
    assert [row["accuracy"] for row in found["runs"]] == exact
    assert found["pairs"][0]["difference"] == pytest.approx(exact[1] - exact[0])


def test_the_report_and_the_card_speak_of_labels(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    for words in ("Micro F1", "Hamming loss", "threshold", "commonest labels", "Trained parameters by part"):
        assert words in page, words
    assert "Confusion matrix" not in page
    assert not (run / "report" / "confusion.png").exists()
    assert (run / "report" / "curves.png").is_file()
    card = (run / "README.md").read_text("utf-8")
    assert "Micro F1" in card
    assert "A text may have any number of labels." in card


def test_a_stopped_run_goes_on_to_the_same_end(
    rows: dict[str, Pairs], settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = pw.train(rows["train"], **settings | {"eval_steps": 4}, out=tmp_path / "whole")

    class Stop:
        def step(self, step: int, *rest: Any) -> None:
            if step == 10:
                raise KeyboardInterrupt

        def evaluation(self, record: dict[str, Any]) -> None: ...

    with pytest.raises(Interrupted):
        pw.train(rows["train"], **settings | {"eval_steps": 4}, out=tmp_path / "part", observer=Stop())
    resumed = pw.train(rows["train"], **settings | {"eval_steps": 4}, out=tmp_path / "part", resume=True)
    texts = [text for text, _ in rows["test"]]
    assert np.array_equal(resumed.predict_proba(texts), whole.predict_proba(texts))
    assert resumed.thresholds.tolist() == whole.thresholds.tolist()


def test_rows_without_any_label_are_refused_or_taken(
    multi_label_pairs: Callable[..., Pairs], settings: dict[str, Any], tmp_path: Path, command: Callable[..., Any]
) -> None:
    source = write(tmp_path / "train.csv", [("The bank.", []), *multi_label_pairs(60, 3), ("The cup.", [])])
    flags = ["--backbone", settings["backbone"], "--label-delimiter", "|", "--max-steps", "2", "--budget", "5k"]
    refused = command("train", source, "--out", tmp_path / "run", *flags)
    assert refused.code == 2
    assert refused.error == (
        f"{source}:2: the row has no label in column label; expected at least one label per row; received 2 of 62 rows "
        "without any label; label or remove them, or accept them as rows without labels: --allow-unlabelled"
    )
    taken = command("train", source, "--out", tmp_path / "run", *flags, "--allow-unlabelled", "--report", "short")
    assert taken.code == 0, taken.err
    assert "(2 rows in total without labels)" in taken.err


def test_bad_labels_are_told_in_one_line(
    multi_label_pairs: Callable[..., Pairs], settings: dict[str, Any], tmp_path: Path
) -> None:
    rows = multi_label_pairs(60, 3)

    def said(data: Any, **more: Any) -> str:
        with pytest.raises(InputError) as caught:
            pw.train(data, **settings | more)
        return str(caught.value)

    odd = [(text, ["a|b"] if number == 4 or number == 9 else held) for number, (text, held) in enumerate(rows)]
    assert said(odd) == (
        "data row 5: label a|b holds the delimiter |; expected labels without the delimiter; received 2 of 60 rows "
        "with this label; rename it, or choose another delimiter with --label-delimiter"
    )
    columns: dict[str, Any] = {"text": [text for text, _ in rows], "a": [0, 1] * 30, "b": [1, 1] * 29 + [2, 0.5]}
    assert said(columns, label_columns=["a", "b"]) == (
        "data row 59: column b contains a value other than 0 and 1; expected 0 or 1 in every row of --label-columns; "
        "received 2; 2 of 60 rows have such values"
    )
    assert "no column named c" in said(columns, label_columns=["a", "c"])
    assert said(rows, test=[("The bank.", ["sport"]), ("The sea.", ["sport", "sea"])]) == (
        "data row 2: label sea is not one of the classes; expected one of money, sport, world; received 1 of 2 rows "
        "with unknown labels (sea 1); correct or remove these rows, train with their class, or say --unknown-labels "
        "drop or wrong"
    )
    matrix = [(text, [0, 1, 0, 0][: 3 + number % 2]) for number, (text, _) in enumerate(rows)]
    assert "data row 1: the row names label 0 twice; if these are zeros and ones" in said(matrix)
    assert "expected multi (or auto) with label_delimiter, received single" in said(
        rows, task="single", label_delimiter="|"
    )
    assert "the label cannot be used; expected one string or number per row" in said(rows, task="single")


def test_other_data_may_hold_labels_in_another_form(
    run: Path, rows: dict[str, Pairs], tmp_path: Path, command: Callable[..., Any]
) -> None:
    texts = [text for text, _ in rows["test"]]
    columns = {"text": texts} | {name: [int(name in held) for _, held in rows["test"]] for name in ("money", "sport")}
    columns["world"] = [int("world" in held) for _, held in rows["test"]]
    classifier, expected = pw.load(run), metrics(run)["test"]["micro_f1"]
    found = classifier.evaluate(columns, label_columns=["money", "sport", "world"])
    assert isinstance(found, Metrics)
    assert found.micro.f1 == expected
    cells = write(tmp_path / "cells.csv", rows["test"], ";")
    found = classifier.evaluate(cells, label_column="label", label_delimiter=";")
    assert isinstance(found, Metrics)
    assert found.micro.f1 == expected
    bare = write(tmp_path / "bare.csv", [*rows["test"], ("The sea.", [])], ";")
    refused = command("evaluate", run, bare, "--label-delimiter", ";")
    assert "received 1 of 41 rows without any label" in refused.error
    assert command("evaluate", run, bare, "--label-delimiter", ";", "--allow-unlabelled").code == 0


def test_damaged_thresholds_are_refused(run: Path) -> None:
    classifier = pw.load(run)
    classifier.artifact.metrics["thresholds"] = {"values": [0.5, 2.0, 0.5]}
    with pytest.raises(InputError, match="the saved thresholds are damaged; expected 3 numbers between 0 and 1"):
        classifier.predict(["The bank."])


def test_several_seeds_and_the_estimator(rows: dict[str, Pairs], settings: dict[str, Any], tmp_path: Path) -> None:
    from pennyweight.search.seeds import train_seeds

    found = train_seeds(rows["train"], count=2, out=tmp_path / "seeds", **settings | {"max_steps": 2})
    assert list(found.figures) == ["micro_f1", "macro_f1", "exact_match", "log_loss"]
    assert "micro F1 %" in str(found)
    texts, labels = zip(*rows["train"], strict=True)
    with pytest.raises(InputError, match="the estimator takes one label per text"):
        pw.PennyweightClassifier(settings=settings).fit(texts, labels)


def test_one_label_stays_one_label(news: Path, tiny_run: Path) -> None:
    """A cell with a bar in it is one label unless a delimiter is given."""
    from pennyweight.data.sources import read

    assert not read(news / "train.csv").multi
    classifier = pw.load(tiny_run)
    with pytest.raises(InputError, match="the label cannot be used; expected one string or number per row"):
        classifier.evaluate([("The bank.", ["Business", "World"])])
