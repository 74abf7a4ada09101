"""`train.py --whole`: from the command to a saved classifier and its report, against a Trainer + PEFT script.

Both are programs of their own, started cold (files cached), given the same CSV files and left to end: ours is
`pennyweight train` with the default recipe at a budget of about the script's trainable parameters. Accuracy is that of
the saved classifiers on rows that neither saw, and is not part of the time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contender import in_child
from inputs import LABELS, ROOT, Texts, parts, write_csv

SIZES = (4000, 400, 2600)  # training, validation, and held-out rows
BUDGET, EPOCHS = "230k", 2
SCRIPT = ROOT / "benchmarks" / "peers" / "trainer_script.py"


def whole(backbone: Path, train: Texts, options: Any, *, bf16: bool) -> dict[str, Any]:
    """Both commands, in turn.

    Args:
        bf16: the number format that is faster for the script.
    """
    training, validation, held = parts(train, *SIZES)
    runs: dict[str, list[dict[str, Any]]] = {"peer": [], "ours": []}
    run_one: dict[str, Callable[..., dict[str, Any]]] = {"peer": _peer, "ours": _ours}
    with tempfile.TemporaryDirectory() as scratch:
        files = {
            name: write_csv(Path(scratch) / f"{name}.csv", texts)
            for name, texts in (("train", training), ("validation", validation))
        }
        # What both import is read from the disk once, so that the first does not pay for the second.
        subprocess.run([sys.executable, "-c", "import transformers.trainer, peft, sklearn"], check=True)
        for turn in range(options.repeats):
            for name, run in run_one.items():
                out = Path(scratch) / f"{name}-{turn}"
                runs[name].append(run(backbone, files, out, bf16) | {"accuracy": _accuracy(name, out, held)})
                print(f"  {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    best = {name: min(each, key=lambda run: run["seconds"]) for name, each in runs.items()}
    accuracy = {name: statistics.mean(run["accuracy"] for run in each) for name, each in runs.items()}
    return {
        "rows": dict(zip(("train", "validation", "held_out"), SIZES, strict=True)),
        "epochs": EPOCHS,
        "peer_is": f"Trainer + PEFT, {'bf16' if bf16 else 'fp32'}, grouped by length",
        "runs": runs,
        "accuracy": {name: round(value, 4) for name, value in accuracy.items()},
        "ratio_whole": round(best["peer"]["seconds"] / best["ours"]["seconds"], 2),
        "ratio_training": round(best["ours"]["texts_per_second"] / best["peer"]["texts_per_second"], 2),
    }


def _ours(backbone: Path, files: dict[str, Path], out: Path, bf16: bool) -> dict[str, Any]:
    seconds, _ = _timed(
        sys.executable, "-m", "pennyweight", "train", files["train"], "--validation", files["validation"],
        "--out", out, "--budget", BUDGET, "--epochs", EPOCHS,
    )  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    assert (out / "report.html").is_file(), "a report was written"
    return {
        "seconds": round(seconds, 1),
        "training_seconds": metrics["train"]["seconds"],
        "texts_per_second": metrics["train"]["texts_per_second"],
        "trainable": metrics["trainable"],
        "other_seconds": {key: value for key, value in metrics["seconds"].items() if key != "training"},
    }


def _peer(backbone: Path, files: dict[str, Path], out: Path, bf16: bool) -> dict[str, Any]:
    seconds, printed = _timed(
        sys.executable, SCRIPT, "--backbone", backbone, "--train", files["train"], "--validation", files["validation"],
        "--out", out, "--epochs", EPOCHS, *(["--bf16"] if bf16 else []),
    )  # fmt: skip
    said = json.loads(printed.strip().splitlines()[-1])
    return {
        "seconds": round(seconds, 1),
        "training_seconds": round(said["training_seconds"], 1),
        "texts_per_second": round(said["texts_per_second"], 1),
        "trainable": said["trainable"],
    }


def _timed(*command: Any) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=os.environ | {"TERM": "dumb"}
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def _accuracy(name: str, out: Path, held: Texts) -> float:
    given = in_child("whole:our_labels", str(out), held[0]) if name == "ours" else in_child(
        "peers.trainer_script:saved_labels", str(out), LABELS, held[0]
    )  # fmt: skip
    return sum(label == LABELS[number] for label, number in zip(given, held[1], strict=True)) / len(held[0])


def our_labels(folder: str, texts: list[str]) -> list[str]:
    """Labels that a saved classifier of ours gives."""
    import pennyweight as pw

    return list(pw.load(folder).predict(texts))
