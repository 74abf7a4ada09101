"""The audit before training: in metrics.json, in the report, in one line, and off."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import pennyweight as pw
from pennyweight.audit import short_audit as shorts
from pennyweight.data.batching import pack
from pennyweight.data.table import Table
from pennyweight.train.observer import forward_log

LONG = "The central bank held its rate as inflation slowed for a third month in a row"


def table(rows: list[tuple[str, str]]) -> Table:
    return Table([text for text, _ in rows], [label for _, label in rows], "data", list(range(1, len(rows) + 1)))


def short(tables: dict[str, Table], mode: str = "short") -> shorts.ShortAudit:
    tokens = {name: pack([[1, 2]] * len(one), truncated=1) for name, one in tables.items()}
    return shorts.audit_splits(mode, tables, tokens, 64)


def test_leaks_conflicts_imbalance_and_truncation_are_warned_of() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
    train = [(f"{LONG}, said {word} of them.", "b") for word in words] + [("Rain stopped play in Galle.", "s")]
    train += [("Voters go to the polls on Sunday.", "b"), ("voters go to the polls on SUNDAY", "s")]
    test = [(f"{LONG}, said one of them!", "b"), (f"{LONG}, said nobody at all.", "b"), ("Something else.", "s")]
    found = short({"train": table(train), "validation": table([("A quiet text.", "s")]), "test": table(test)})
    assert found.leakage == {"validation": {"exact": 0, "near": 0}, "test": {"exact": 1, "near": 1}}
    assert (found.exact_duplicates, found.near_duplicates, found.conflicting_labels) == (1, 11, 2)
    assert found.warnings == (
        "training texts among the 3 test texts: 1 exact and 1 near duplicates",
        "2 training rows have the same text as another row with a different label",
        "7% of the training texts are longer than 64 tokens",
        "1 of 2 classes have no validation rows (b): the best epoch is chosen without them",
        "the largest class has 13 training rows, the smallest (s) 2",
    )
    assert str(found) == "audit: " + "; ".join(found.warnings)


def test_clean_data_off_and_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {
        "train": table([("A bank cut its rate.", "b"), ("The striker won it.", "s")]),
        "test": table([("x", "s")]),
    }
    tokens = {name: pack([[1]] * len(one)) for name, one in tables.items()}
    found = shorts.audit_splits("short", tables, tokens, 64)
    assert str(found) == "audit: no warnings for 3 texts"
    assert short(tables, "off").to_json() == {"mode": "off", "rows": 3}
    monkeypatch.setattr(shorts, "MOST_ROWS", 2)
    skipped = short(tables)
    assert skipped.to_json() == {"mode": "skipped", "rows": 3}
    assert str(skipped) == "audit: skipped above 2 rows; run `pennyweight audit` on the files"


def test_a_run_keeps_it_and_its_report_shows_it(tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path) -> None:
    with (news / "train.csv").open(encoding="utf-8", newline="") as handle:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(handle)]
    said: list[str] = []
    settings = {"backbone": str(tiny_backbone("bert")), "budget": "5k", "max_steps": 1, "report": "short"}
    with forward_log(said.append):
        pw.train(rows, test=[*rows[:3], ("Nothing of the kind", "World")], out=tmp_path / "run", **settings)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["audit"]["mode"] == "short"
    leaks = metrics["audit"]["leakage"]["test"]
    assert leaks["exact"] + leaks["near"] >= 2
    (line,) = [one for one in said if one.startswith("audit: ")]
    assert "4 test texts" in line
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<h3>Audit</h3>" in page
    assert f"Training texts among the 4 test texts: {leaks['exact']} exact" in page
    said.clear()
    with forward_log(said.append):
        off = pw.train(rows, audit="off", **settings)
    assert off.metrics["audit"] == {"mode": "off", "rows": 60}
    assert [one for one in said if one.startswith("audit")] == []


def test_what_the_tokenizer_does_not_know_and_classes_that_look_alike() -> None:
    rows = [("a b", "Sci/Tech"), ("c d", "SCI/TECH"), ("e f", "Sports"), ("g h", "cafe\u0301"), ("i j", "caf\u00e9")]
    tokens = {name: pack([[1, 9, 5, 2]] * 5) for name in ("train", "validation")}
    tables = {"train": table(rows), "validation": table([(f"{text}!", label) for text, label in rows])}
    found = shorts.audit_splits("short", tables, tokens, 64, unknown_id=9)
    assert found.unknown_tokens == 0.5
    assert found.similar_classes == [["SCI/TECH", "Sci/Tech"], ["cafe\u0301", "caf\u00e9"]]
    assert found.warnings[-3:] == (
        "the tokenizer does not know 50% of the training tokens: choose a backbone for the language and characters of "
        "the texts",
        "the class names 'SCI/TECH' and 'Sci/Tech' look alike: are they one class?",
        "the class names 'cafe\u0301' and 'caf\u00e9' look alike: are they one class?",
    )
    assert shorts.audit_splits("short", tables, tokens, 64).unknown_tokens == 0
