"""One and two workers of one thread against one process of two threads, for all that may be spread over workers.

    python benchmarks/scale.py                 all parts: half an hour
    python benchmarks/scale.py --quick --json  smaller; one JSON object on standard output
    python benchmarks/scale.py --only many     one part

A part is a program beside this one, `scale_NAME.py`, that may be run by itself: its `measure` gives the rates of
`workers_1`, `workers_2` and `process_2_threads` under a key that ends in `_per_second`, `ratio_workers` (two
workers over one) and `ratio_process` (two workers over the process of two threads). Its `QUICK` are `measure`'s
settings with --quick, its `NEEDS` the packages without which it is skipped. Starting Ray is no part of a rate; its
seconds stand apart.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLUMNS = ("workers_1", "workers_2", "process_2_threads")


def main() -> None:
    """Parse, measure, print."""
    names = part_names()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args()
    found = {name: measure_part(name, options.data, quick=options.quick) for name in options.only}
    print(json.dumps(found, indent=2) if options.json else report(found))


def part_names() -> list[str]:
    """The parts that are here."""
    return sorted(file.stem.removeprefix("scale_") for file in HERE.glob("scale_*.py"))


def measure_part(name: str, data: Path | None, *, quick: bool) -> dict[str, Any]:
    """What a part measures, or why it is skipped."""
    part = importlib.import_module(f"scale_{name}")
    if missing := absent(getattr(part, "NEEDS", ())):
        return {"skipped": f"{missing} is not installed"}
    found: dict[str, Any] = part.measure(data=data, **(part.QUICK if quick else {}))
    return found


def absent(packages: Iterable[str]) -> str | None:
    """The first of these packages that is not installed."""
    return next((name for name in packages if importlib.util.find_spec(name) is None), None)


def report(found: dict[str, dict[str, Any]]) -> str:
    """A table of all parts."""
    rows = [["", *COLUMNS, "2 workers / 1", "2 workers / process", ""]]
    notes = []
    for name, one in found.items():
        if "skipped" in one:
            notes.append(f"{name}: skipped, {one['skipped']}")
            continue
        unit, rates = next((key, value) for key, value in one.items() if key.endswith("_per_second"))
        rows.append([name, *(f"{rates[column]:g}" for column in COLUMNS), f"{one['ratio_workers']:.2f}",
                     f"{one['ratio_process']:.2f}", unit.replace("_per_second", "/s")])  # fmt: skip
        notes += [f"{name}: {key.replace('_', ' ')} {one[key]}" for key in one if key.endswith("_start_seconds")]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    facts = next((one["machine"] for one in found.values() if "machine" in one), {})
    return "\n".join([*(f"{key}: {value}" for key, value in facts.items()), "", *table, "", *notes]).strip()


if __name__ == "__main__":
    main()
