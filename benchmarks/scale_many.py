"""`train-many` by processes of one thread, one and two of them, against one process of two threads.

    python benchmarks/scale_many.py            all-MiniLM-L6-v2, classifiers of 200 AG News texts: minutes
    python benchmarks/scale_many.py --json     one JSON object on standard output

Each classifier has rows of train.csv of its own. A steady rate is taken from the moment when each process has
finished a classifier to the last one's end, so that imports and loading the backbone do not count. Contenders take
turns; each one's rate is that of its best round. Ratios as in scale_predict.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contender import in_child
from inputs import ROOT, machine, news, parts, versions, write_csv
from scale_predict import Event, steady_rate, threads_of_children

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
ROWS, BUDGET = 200, "5k"
# Processes, and the threads of each.
CONTENDERS = {"workers_1": (1, 1), "workers_2": (2, 1), "process_2_threads": (1, 2)}
#: What `scale.py --quick` gives `measure`.
QUICK = {"each": 4, "rounds": 1}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--each", type=int, default=10, help="classifiers that each thread trains a round (default 10)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found = measure(data=options.data, each=options.each, rounds=options.rounds)
    print(json.dumps(found, indent=2) if options.json else report(found))


def measure(*, data: Path | None = None, each: int = 10, rounds: int = 2) -> dict[str, Any]:
    """Every figure, see above. It trains about `rounds` * 5 * `each` classifiers.

    Args:
        data: folder of AG News; None finds it, see `inputs.news`.
        each: classifiers that a thread trains a round; the first does not count.
        rounds: in turn.
    """
    texts = news(data)[0]
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="pennyweight-scale-") as folder:
        manifests = {count: _manifest(Path(folder) / str(count), texts, count) for count in (each, 2 * each)}
        for turn in range(rounds):
            for name, (workers, threads) in CONTENDERS.items():
                manifest = manifests[each * workers * threads]
                with threads_of_children(threads), tempfile.TemporaryDirectory() as out:
                    events = in_child("scale_many:events_of", str(manifest), f"{out}/many", workers, threads)
                rates[name].append(steady_rate(events, workers))
                print(f"  round {turn + 1} {name}: {rates[name][-1]:.3f} classifiers/s", file=sys.stderr, flush=True)
    best = {name: max(each) for name, each in rates.items()}
    return {
        "machine": machine("cpu") | versions("pennyweight"),
        "rows": ROWS, "budget": BUDGET, "each": each,
        "classifiers_per_second": {name: round(rate, 3) for name, rate in best.items()},
        "rounds": {name: [round(rate, 3) for rate in each] for name, each in rates.items()},
        "ratio_workers": round(best["workers_2"] / best["workers_1"], 3),
        "ratio_process": round(best["workers_2"] / best["process_2_threads"], 3),
    }  # fmt: skip


def events_of(manifest: str, out: str, workers: int, threads: int) -> list[Event]:
    """Train all rows of a manifest: when how many were done."""
    from pennyweight.scale.train_many import train_many

    events: list[Event] = [(time.monotonic(), 0)]
    train_many(
        manifest, out=out, workers=workers, budget=BUDGET, threads=threads,
        told=lambda outcome, done, of: events.append((time.monotonic(), done)),
    )  # fmt: skip
    return events


def report(found: dict[str, Any]) -> str:
    """The same, for reading."""
    lines = [f"{key}: {value}" for key, value in found["machine"].items()]
    lines += [f"{name:<18}{rate:>9} classifiers/s" for name, rate in found["classifiers_per_second"].items()]
    return "\n".join([*lines, *(f"{name}: {found[name]}" for name in ("ratio_workers", "ratio_process"))])


def _manifest(folder: Path, texts: tuple[list[str], list[int]], count: int) -> Path:
    folder.mkdir()
    rows = [
        {"name": f"n{number}", "data": str(write_csv(folder / f"{number}.csv", one))}
        for number, one in enumerate(parts(texts, *[ROWS] * count))
    ]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + os.linesep for row in rows), "utf-8")
    return path


if __name__ == "__main__":
    main()
