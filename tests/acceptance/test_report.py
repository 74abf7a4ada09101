"""What the report must show, on AG News. Needs the folder that PENNYWEIGHT_AGNEWS names (train.csv, test.csv)."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.predict.abstention import make_abstainer

pytestmark = pytest.mark.acceptance

TEXTS = 600
SETTINGS: dict[str, Any] = {
    "epochs": 1,
    "budget": "200k",
    "learning_rate": 2e-3,
    "lora_dropout": 0.0,  # fifty steps are too few to need any
    "head_dropout": 0.0,
    "batch_size": 8,
    "validation_size": 200,
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def agnews() -> Path:
    folder = os.environ.get("PENNYWEIGHT_AGNEWS")
    if folder is None:
        pytest.skip("PENNYWEIGHT_AGNEWS does not name a folder with train.csv and test.csv")
    return Path(folder)


@pytest.fixture(scope="session")
def subset(agnews: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function `(name, rows, shuffled) -> file`: so many random rows, with the agency as a further column."""

    def write(name: str, rows: int, shuffled: bool = False) -> Path:
        with (agnews / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
            chosen = random.Random(0).sample(list(csv.DictReader(handle)), rows)
        labels = [row["label"] for row in chosen]
        if shuffled:
            random.Random(1).shuffle(labels)
        path = tmp_path_factory.mktemp("agnews") / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["text", "label", "agency"])
            for row, label in zip(chosen, labels, strict=True):
                agency = next((word for word in ("Reuters", "AP", "AFP") if f"({word})" in row["text"]), "other")
                writer.writerow([row["text"], label, agency])
        return path

    return write


@pytest.fixture(scope="session")
def run(
    subset: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    rendering: Callable[[], AbstractContextManager[None]],
) -> Path:
    folder = tmp_path_factory.mktemp("run") / "agnews"
    with rendering():
        pw.train(subset("train", TEXTS), test=subset("test", 800), out=folder, **SETTINGS)
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return values


def chromium(*arguments: str, profile: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


# Added to a copy of the page: tells the page around it how wide it is, what sticks out and what it loaded.
PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(one => !one.closest(".wide")
    && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.tagName);
  parent.postMessage(JSON.stringify({width: document.documentElement.scrollWidth, inner: innerWidth, wide,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    loaded: performance.getEntriesByType("resource").map(one => one.name)}), "*");
});</script>"""
# A headless window is never narrower than 500 pixels; a frame is.
AROUND = """<body><script>addEventListener("message", told => { document.body.dataset.probe = told.data; });</script>
<iframe src="report.html" width="WIDTH" height="900" style="border: 0"></iframe></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_fits_the_window_asks_nothing_of_the_network_and_has_no_error(
    run: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert len(page.encode()) < 3_000_000
    # The page forbids every script; the copy that is measured allows this one.
    probed = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    (tmp_path / "report.html").write_text(probed.replace("</body>", f"{PROBE}</body>"), "utf-8")
    around = tmp_path / "around.html"
    around.write_text(AROUND.replace("WIDTH", str(width)), "utf-8")
    colours = f"--blink-settings=preferredColorScheme={1 if scheme == 'light' else 0}"
    arguments = (colours, "--window-size=1400,1000", "--virtual-time-budget=3000", "--dump-dom", around.as_uri())
    done = chromium(*arguments, profile=tmp_path / "profile")
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found, done.stderr
    probe = json.loads(found[1].replace("&quot;", '"'))
    assert (probe["inner"], probe["dark"]) == (width, scheme == "dark")
    assert probe["width"] <= width
    assert probe["wide"] == []
    assert probe["loaded"] == []
    assert "CONSOLE" not in done.stderr


def test_every_picture_names_its_axes(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    pictures = [svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if 'class="ranks"' not in svg]
    names = [
        ("loss (nats per text)", "training step (optimizer updates)"),
        ("true class", "predicted class"),
        ("accuracy (%, 95% interval)", "mean confidence (%)"),
        ("errors among the answered (%)", "texts answered (%)"),
    ]
    if len(metrics(run)["train"]["history"]) == 1:  # a single point is not drawn
        del names[0]
    assert len(pictures) == len(names)
    for picture, axes in zip(pictures, names, strict=True):
        assert all(axis in picture for axis in axes)


def test_the_temperature_lowers_the_calibration_error_or_the_report_says_that_it_did_not(run: Path) -> None:
    found = metrics(run)["calibration"]
    page = (run / "report.html").read_text("utf-8")
    said = "lowers the calibration error" if found["ece_after"] < found["ece_before"] else "does not help"
    assert f"A temperature of {found['temperature']:.2f}, fitted on validation, {said}" in page


def test_the_temperature_changes_no_label(run: Path, subset: Callable[..., Path]) -> None:
    classifier = pw.load(run)
    with subset("test", 800).open(encoding="utf-8", newline="") as handle:
        texts = [row["text"] for row in csv.DictReader(handle)][:200]
    assert classifier.temperature != 1.0
    predicted = classifier.logits(texts).argmax(axis=1)
    assert np.array_equal(classifier.predict_proba(texts).argmax(axis=1), predicted)


def test_a_target_accuracy_picked_on_validation_is_met_on_the_test_rows_within_its_interval(run: Path) -> None:
    from pennyweight.evaluate.metrics.intervals import wilson
    from pennyweight.evaluate.row_predictions import RowPredictions

    classifier = pw.load(run)
    target = max(one["target"] for one in metrics(run)["abstention"])
    value = make_abstainer(classifier, target=target).threshold
    test = RowPredictions.from_arrays(classifier.artifact.predictions, "test")
    assert test is not None
    assert value is not None
    right = test.correct[test.confidence >= value]
    assert len(right) > 100
    assert wilson(int(right.sum()), len(right))[1] >= target


def test_a_run_on_shuffled_labels_is_told_so_at_the_top(subset: Callable[..., Path], tmp_path: Path) -> None:
    # The test's labels too: the texts of a class lie together, so that whatever label is by chance the commonest of
    # them in training is given to all, and is right or wrong for all.
    train, test = (subset(name, 400, shuffled=True) for name in ("train", "test"))
    pw.train(train, test=test, out=tmp_path / "run", report="short", **SETTINGS)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    top = page[page.index("<body>") : page.index("</header>")]
    told = re.search(r'<p class="verdict no-better">([^<]*)</p>', top)
    assert told, top
    assert told[1].startswith("This classifier is no better than the majority class (accuracy ")
