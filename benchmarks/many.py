"""Many small classifiers on one backbone: `pennyweight train-many` with one process a core, and `train` beside it.

    python benchmarks/many.py                    1,000 tenants of 200 texts, a quarter of an hour
    python benchmarks/many.py --tenants 40       fewer
    python benchmarks/many.py --kills 20         end processes at random by SIGKILL, and go on; then no pairs
    python benchmarks/many.py --json             one JSON object on standard output

A tenant is 200 rows of AG News' training file, drawn at random; the 20 tenants that `train` trains as well, with the
same recipe (`--contrastive off --adapter lora`), are measured on 1,000 other rows of it, both ways, and compared in
pairs. Memory is that of all processes together. With --kills the command or one of its processes is killed at random
moments, and the command is given again whenever it has ended; all classifiers are then read, with their checksums.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from inputs import LABELS, ROOT, Texts, machine, news, write_csv

sys.path[:0] = [str(ROOT / "src")]
TEXTS, TEST, COMPARED = 200, 1_000, 20
# What train-many leaves out unless it is asked for.
SAME = ("--contrastive", "off", "--adapter", "lora")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--compared", type=int, default=COMPARED, help="tenants that `train` trains, too")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--budget", default="5k")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further fields of the recipe")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pennyweight-many-") as place:
        found = {"machine": machine("cpu")} | measure(Path(place), news(options.data)[0], options)
    print(json.dumps(found, indent=2) if options.json else table(found))


def measure(place: Path, rows: Texts, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of train-many, and the accuracy beside `train` of the first tenants."""
    random = np.random.default_rng(0)
    order = random.permutation(len(rows[0]))
    test = write_csv(place / "test.csv", pick(rows, order[:TEST]))
    with (place / "tenants.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("name", "data", "budget"))
        for number in range(options.tenants):
            drawn = random.choice(order[TEST:], TEXTS, replace=False)
            write_csv(place / f"{number}.csv", pick(rows, drawn))
            writer.writerow((f"tenant-{number}", f"{number}.csv", options.budget))
    flags = [word for setting in options.set for word in _flag(*setting.split("=", 1))]
    command = ["train-many", place / "tenants.csv", "--out", place / "many", *flags]
    if options.kills:
        return killed(command, place / "many", options)
    seconds, memory = timed(command)
    summary = json.loads((place / "many" / "summary.json").read_text("utf-8"))
    trained = sum(
        (place / "many" / f"tenant-{number}" / "pennyweight.json").is_file() for number in range(options.tenants)
    )
    found = {
        "tenants": options.tenants, "texts_each": TEXTS, "trained": trained, "workers": summary.get("workers"),
        "seconds": round(seconds, 1),
        "seconds_each_and_core": round(seconds * (psutil.cpu_count(False) or 1) / trained, 3),
        "minutes_for_1000": round(seconds / options.tenants * 1000 / 60, 1), "peak_memory_mb": round(memory / 1e6),
    }  # fmt: skip
    return found | compare(place, test, min(options.compared, options.tenants), options.budget, flags)


def compare(place: Path, test: Path, count: int, budget: str, flags: list[str]) -> dict[str, Any]:
    """Test accuracy of tenants by train-many, and by `train` of the same rows."""
    import pennyweight as pw

    both: list[tuple[float, float]] = []
    for number in range(count):
        single = place / f"single-{number}"
        timed(["train", place / f"{number}.csv", "--budget", budget, "--out", single, "--report", "short", *SAME])
        many = pw.load(place / "many" / f"tenant-{number}").evaluate(test).accuracy
        both.append((many, pw.load(single).evaluate(test).accuracy))
        print(f"  tenant {number}: {both[-1][0]:.1%} by train-many, {both[-1][1]:.1%} by train", file=sys.stderr)
    if not both:
        return {}
    many, single = np.array(both).T
    differences = many - single
    spread = 1.96 * differences.std(ddof=1) / np.sqrt(count) if count > 1 else float("nan")
    return {
        "compared": count, "test_texts": TEST, "accuracy_train_many": round(float(many.mean()), 4),
        "accuracy_train": round(float(single.mean()), 4), "difference": round(float(differences.mean()), 4),
        "difference_interval": [round(float(differences.mean() + side * spread), 4) for side in (-1, 1)],
    }  # fmt: skip


def killed(command: list[Any], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Have the command finish in spite of kills: what was killed, and what is there in the end."""
    from pennyweight.artifact.saved_files import read_files

    random = np.random.default_rng(1)
    kills = {"command": 0, "worker": 0}
    began = time.perf_counter()
    while True:
        process = start(command, subprocess.DEVNULL)
        while process.poll() is None and sum(kills.values()) < options.kills:
            # About evenly over what the run would take without kills, and never before a process has begun.
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(8, 8 + 1.4 * options.tenants / options.kills))
            if process.poll() is None:
                _kill_one(process, random, kills)
        if process.wait() == 0:
            break
        if sum(kills.values()) >= options.kills and process.returncode > 0:
            sys.exit(f"the command ended with exit code {process.returncode}")
    seconds = time.perf_counter() - began
    names = {f"tenant-{number}" for number in range(options.tenants)}
    left = {path.name for path in out.iterdir()} - names
    whole = sum(bool(read_files(out / name)) for name in sorted(names))
    counts = json.loads((out / "summary.json").read_text("utf-8"))["counts"]
    return {
        "tenants": options.tenants, "kills": kills, "whole": whole, "counts_of_the_last_command": counts,
        "beside_them": sorted(left), "seconds": round(seconds, 1),
    }  # fmt: skip


def _kill_one(process: subprocess.Popen[Any], random: np.random.Generator, kills: dict[str, int]) -> None:
    """End the command with its processes, or one of its workers; which is drawn."""
    workers = [
        one for one in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in str(one.cmdline())
    ]
    if workers and random.random() < 0.5:
        with suppress(psutil.NoSuchProcess):
            workers[random.integers(len(workers))].kill()
        kills["worker"] += 1
    else:
        process.kill()
        process.wait()
        kills["command"] += 1


def start(arguments: list[Any], told: Any) -> subprocess.Popen[Any]:
    """Start a command."""
    words = [sys.executable, "-m", "pennyweight", *map(str, arguments)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=told, env=_environment())


def timed(arguments: list[Any]) -> tuple[float, int]:
    """Run a command: its seconds, and the most bytes that it and its processes held together."""
    began, most, done = time.perf_counter(), 0, threading.Event()
    told = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  read where a command fails
    process = start(arguments, told)

    def watch() -> None:
        nonlocal most
        while not done.wait(0.5):
            try:
                every = [psutil.Process(process.pid)]
                every += every[0].children(recursive=True)
                most = max(most, sum(one.memory_info().rss for one in every))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    if code:
        told.seek(0)
        sys.exit(f"{arguments[0]} ended with exit code {code}: {told.read()[-2000:]}")
    return time.perf_counter() - began, most


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}


def _flag(key: str, value: str) -> tuple[str, str]:
    return f"--{key.replace('_', '-')}", value


def pick(rows: Texts, chosen: np.ndarray) -> Texts:
    """Some rows."""
    assert set(rows[1]) <= set(range(len(LABELS)))
    return [rows[0][row] for row in chosen], [rows[1][row] for row in chosen]


def table(found: dict[str, Any]) -> str:
    """The figures, one a line."""
    return "\n".join(f"{name:24} {value}" for name, value in found.items() if name != "machine")


if __name__ == "__main__":
    main()
