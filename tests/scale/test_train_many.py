from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pennyweight as pw
from pennyweight.errors import Interrupted
from pennyweight.scale.tenant_training import TenantOutcome
from pennyweight.scale.train_many import _base_recipe, train_many

from ..conftest import Outcome

Command = Callable[..., Outcome]
QUICK = ("--budget", "5k", "--epochs", "2", "--learning-rate", "5e-3", "--precision", "fp32")


@pytest.fixture
def manifest(news: Path, tmp_path: Path, tiny_backbone: Callable[..., Path]) -> Path:
    """Three rows on the tiny news, the second of which cannot be trained."""
    (tmp_path / "one_class.csv").write_text("text,label\n" + "The same,x\n" * 20, "utf-8")
    lines = ["name,data,test,backbone,seed"]
    backbone = tiny_backbone("bert")
    data = f"{news / 'train.csv'},{news / 'test.csv'},{backbone}"
    lines += [f"a,{data},0", f"c,{data},1"]
    lines.insert(2, f"b <i>,one_class.csv,,{backbone},")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_failures_are_listed_and_the_others_are_trained(command: Command, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("train-many", manifest, "--out", out, "--workers", 1, *QUICK)
    assert done.code == 1
    assert done.error == (
        f"{out}: 1 of 3 classifiers failed; see the summary for the reasons; the same command trains only these again"
    )
    assert "2 classifiers trained" in done.out
    assert "failed: b <i>: " in done.out
    assert {item.name for item in out.iterdir() if not item.name.startswith(".")} == {
        "a", "c", "summary.html", "summary.csv", "summary.json",
    }  # fmt: skip
    assert pw.load(out / "a").predict(["The bank and the shares in the rate"])
    values = json.loads((out / "summary.json").read_text("utf-8"))
    assert values["counts"] == {"trained": 2, "finished": 0, "failed": 1, "left": 0}
    with (out / "summary.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["name"], row["state"]) for row in rows] == [("a", "trained"), ("b <i>", "failed"), ("c", "trained")]
    metrics = json.loads((out / "a" / "metrics.json").read_text("utf-8"))
    assert float(rows[0]["accuracy"]) == metrics["test"]["accuracy"]
    assert (rows[0]["measured_on"], rows[0]["measured_texts"]) == ("test", "15")
    page = (out / "summary.html").read_text("utf-8")
    assert "b &lt;i&gt;" in page
    assert "<i>" not in page
    assert 'href="a/report.html"' in page
    report = (out / "a" / "report.html").read_text("utf-8")
    assert report.count("<svg") <= 1  # the map of ranks, which is not drawn by matplotlib
    assert "true classes down, predicted classes across" in report


def test_the_same_command_again_trains_what_failed_alone(command: Command, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("train-many", manifest, "--out", out, "--workers", 1, *QUICK)
    (tmp_path / "one_class.csv").write_text("text,label\n" + "The match,x\nThe polls,y\n" * 10, "utf-8")
    done = command("train-many", manifest, "--out", out, "--workers", 1, "--json", *QUICK)
    assert done.code == 0, done.err
    values = json.loads(done.out)
    assert values["counts"] == {"trained": 1, "finished": 2, "failed": 0, "left": 0}
    assert all(row["accuracy"] is not None for row in values["classifiers"])


def test_two_processes_make_what_one_makes(manifest: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"budget": "5k", "epochs": 1, "precision": "fp32"}
    told: list[TenantOutcome] = []
    one = train_many(manifest, out=tmp_path / "one", workers=1, threads=1, **settings)
    two = train_many(
        manifest, out=tmp_path / "two", workers=2, threads=1, told=lambda outcome, done, of: told.append(outcome),
        **settings,
    )  # fmt: skip
    assert [outcome.state for outcome in two.outcomes] == ["trained", "failed", "trained"]
    assert {outcome.name for outcome in told} == {"a", "b <i>", "c"}
    assert [outcome.name for outcome in two.outcomes] == [outcome.name for outcome in one.outcomes]
    for name in ("a", "c"):
        first, second = (tmp_path / which / name / "head.safetensors" for which in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
        first, second = (next((tmp_path / which / name).rglob("adapter_model.safetensors")) for which in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_a_signal_leaves_a_summary_and_what_was_finished(manifest: Path, tmp_path: Path) -> None:
    def stop(outcome: TenantOutcome, done: int, of: int) -> None:
        raise KeyboardInterrupt

    settings: dict[str, Any] = {"budget": "5k", "epochs": 1, "precision": "fp32"}
    out = tmp_path / "out"
    with pytest.raises(Interrupted) as caught:
        train_many(manifest, out=out, workers=1, told=stop, **settings)
    assert str(caught.value) == (
        f"{out}: stopped by a signal after 1 of 3 classifiers; run the same command again to continue"
    )
    values = json.loads((out / "summary.json").read_text("utf-8"))
    assert (values["counts"]["trained"], values["not_reached"]) == (1, ["b <i>", "c"])
    assert "Not reached" in (out / "summary.html").read_text("utf-8")
    again = train_many(manifest, out=out, workers=1, **settings)
    assert [outcome.state for outcome in again.outcomes] == ["finished", "failed", "trained"]


def test_multi_label_texts_are_summarized_by_their_exact_matches(
    tmp_path: Path, tiny_backbone: Callable[..., Path], multi_label_pairs: Callable[..., list[tuple[str, list[str]]]]
) -> None:
    lines = [json.dumps({"text": text, "labels": labels}) for text, labels in multi_label_pairs(60)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "manifest.csv").write_text("name,data\na,data.jsonl\n", "utf-8")
    summary = train_many(
        tmp_path / "manifest.csv", out=tmp_path / "out", workers=1, backbone=str(tiny_backbone("bert")), budget="5k",
        epochs=1, precision="fp32",
    )  # fmt: skip
    (row,) = summary.rows
    metrics = json.loads((tmp_path / "out" / "a" / "metrics.json").read_text("utf-8"))
    assert row["accuracy"] == metrics["validation"]["exact_match"]


def test_bad_input_is_one_line_before_anything_is_trained(command: Command, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with manifest.open("a", encoding="utf-8") as handle:
        handle.write("d,nowhere.csv,,,\n")
    done = command("train-many", manifest, "--out", out)
    assert (done.code, done.error) == (2, f"{manifest}:5: data: no such file: nowhere.csv; nothing was trained")
    assert not out.exists()
    done = command("train-many", manifest, "--out", out, "--train", "x.csv")
    assert (
        done.error
        == "--train names the texts of a single classifier; use the column data, which names the texts of each row"
    )
    done = command("train-many", tmp_path / "none.csv", "--out", out)
    assert (done.code, done.error.partition(";")[0]) == (2, f"{tmp_path / 'none.csv'}: no such file")
    (tmp_path / "file").write_text("x", "utf-8")
    manifest.write_text(manifest.read_text("utf-8").replace("d,nowhere.csv,,,\n", ""), "utf-8")
    done = command("train-many", manifest, "--out", tmp_path / "file")
    assert done.error == f"{tmp_path / 'file'}: the folder of the classifiers is a file; choose another --out"


def test_what_a_recipe_says_is_not_overridden(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "train:\n  report: full\n  prefix_precision: same\nplan:\n  adapter: auto\n", "utf-8"
    )
    for given, expected in (
        ("default", ("tables", "auto", "off", "lora")),
        (tmp_path / "mine.yaml", ("full", "same", "off", "auto")),
    ):
        found = _base_recipe(given, {})
        train, plan = found.train, found.plan
        assert (train.report, train.prefix_precision, train.contrastive, plan.adapter) == expected
    flagged = _base_recipe("default", {"contrastive": "auto", "report": "short"})
    assert (flagged.train.contrastive, flagged.train.report, flagged.plan.adapter) == ("auto", "short", "lora")
