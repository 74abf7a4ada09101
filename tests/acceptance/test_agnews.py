"""What a release must show on real data, through the command line: AG News, in minutes.

The data lie in the folder that PENNYWEIGHT_AGNEWS names, else in ../shared/data/agnews beside the repository.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
AGNEWS = Path(os.environ.get("PENNYWEIGHT_AGNEWS") or ROOT.parent / "shared" / "data" / "agnews")

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not (AGNEWS / "train.csv").is_file(),
        reason=f"no AG News at {AGNEWS}: name its folder (train.csv, test.csv) in PENNYWEIGHT_AGNEWS",
    ),
]


def pennyweight(*arguments: object, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    # All cores: a user's run has them, whatever the other tests are held to.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "pennyweight", *map(str, arguments)],
        capture_output=True, text=True, input=given, env=environment, timeout=3600,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("agnews") / "run"
    done = pennyweight(
        "train", AGNEWS / "train.csv", "--test", AGNEWS / "test.csv", "--budget", "200k", "--epochs", "3", "--out", out
    )
    assert done.returncode == 0, done.stderr
    return out


def test_91_percent_within_200_thousand_parameters(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    assert metrics["trainable"] <= 200_000
    assert metrics["total"] > 22_000_000
    assert metrics["test"]["accuracy"] >= 0.91
    assert metrics["train"]["seconds"] > 0
    assert metrics["train"]["texts_per_second"] > 0


def test_the_model_answers_line_by_line(run: Path) -> None:
    with (AGNEWS / "test.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))[:200]
    done = pennyweight("predict", run, "-", given="".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(rows)
    right = sum(answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True))
    assert right / len(rows) > 0.85


def test_the_submission_is_ids_and_class_numbers(run: Path, tmp_path: Path) -> None:
    order = ("--label-order", "World,Sports,Business,Sci/Tech")
    done = pennyweight(
        "predict", run, AGNEWS / "test.csv", "--submission", *order, "--out", tmp_path / "submission.csv"
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "submission.csv").read_text("utf-8").splitlines()
    assert lines[0] == "ID,Label"
    assert {line.split(",")[1] for line in lines[1:]} == {"0", "1", "2", "3"}


def test_evaluate_gives_the_figure_of_training_again(run: Path) -> None:
    known = json.loads((run / "metrics.json").read_text("utf-8"))["test"]["accuracy"]
    done = pennyweight("evaluate", run, AGNEWS / "test.csv", "--json")
    assert json.loads(done.stdout)["accuracy"] == pytest.approx(known, abs=0.002)


def test_the_export_gives_the_same_logits(run: Path, tmp_path: Path) -> None:
    done = pennyweight("export", run, tmp_path / "peft", "--format", "peft")
    assert done.returncode == 0, done.stderr
    found = re.search(r"at most (\S+) in fp32", done.stdout)
    assert found is not None
    assert float(found[1]) < 1e-4


def test_the_official_form_trains(tmp_path: Path) -> None:
    done = pennyweight(
        "train", AGNEWS / "official-format.csv", "--budget", "50k", "--max-steps", "4", "--report", "short",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 labels" in done.stderr


def test_the_demo_ends_with_table_sentences_and_report(tmp_path: Path) -> None:
    began = time.monotonic()
    done = pennyweight("demo", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 180
    assert "macro average" in done.stdout
    assert len(re.findall(r"^\S+ +>?\d+%  \S", done.stdout, re.MULTILINE)) == 3
    assert (tmp_path / "demo" / "report.html").is_file()
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text("utf-8"))
    assert metrics["trainable"] <= 200_000
    assert metrics["test"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--recipe", "notebook", "--budget", "none", "--json"], 0),
        (["--recipe", "notebook", "--budget", "1M"], 2),
        (["--recipe", "paper", "--budget", "1M", "--json"], 0),
    ],
)
def test_plans_take_under_a_second(arguments: list[str], code: int) -> None:
    times = []
    for _ in range(3):
        began = time.monotonic()
        done = pennyweight("plan", "--backbone", "roberta-base", "--labels", "4", *arguments)
        times.append(time.monotonic() - began)
        assert done.returncode == code
    assert min(times) < 1.0
