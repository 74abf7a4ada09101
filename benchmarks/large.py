"""How long and in how much memory a large file is audited and predicted.

    python benchmarks/large.py --rows 1000000 --model RUN

A file of N rows is generated (seeded: news items put together from sentences of the built-in sample, words changed, a
number of its own in each), then audited and predicted from Parquet to Parquet, each in a child process of its own.
Prints one JSON object a step: seconds and peak memory, the child's own maximum resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

BLOCK = 50_000
# Of each thousand rows so many repeat an earlier one, exactly or with words changed.
EXACT, NEAR = 10, 10


def news(rows: int, seed: int = 0, most: int | None = None) -> Iterator[tuple[int, str, str]]:
    """(id, text, label): N rows like news, of at most so many words, most of them unlike any other."""
    from pennyweight.data import sample

    table = sample.load("train")
    chance = random.Random(seed)
    sentences: dict[str, list[str]] = {}
    for text, label in zip(table.texts, table.labels or (), strict=True):
        sentences.setdefault(str(label), []).extend(re.split(r"(?<=[.!?]) ", text))
    vocabulary = sorted({word for each in sentences.values() for sentence in each for word in sentence.split()})
    labels = sorted(sentences)
    recent: list[tuple[str, str]] = []
    for number in range(rows):
        kind = chance.randrange(1000)
        if recent and kind < EXACT + NEAR:
            text, label = chance.choice(recent)
            if kind < NEAR:
                words = text.split()
                words[chance.randrange(len(words))] = chance.choice(vocabulary)
                text = f"Update: {' '.join(words)}"
        else:
            label = chance.choice(labels)
            words = " ".join(chance.sample(sentences[label], 2)).split()[:most]
            # Half of the words are others': sentences of 480 items would otherwise make near-duplicates of all rows.
            words = [chance.choice(vocabulary) if chance.random() < 0.5 else word for word in words]
            text = f"{' '.join(words)} ({number})"
        if len(recent) < 5000:
            recent.append((text, label))
        else:
            recent[chance.randrange(5000)] = (text, label)
        yield number, text, label


def write(path: Path, rows: int, seed: int, most: int | None = None) -> None:
    """Write the rows block by block: Parquet or CSV, by the name."""
    made = news(rows, seed, most)
    if path.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(("id", "text", "label"))
            writer.writerows(made)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("label", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        while block := list(islice(made, BLOCK)):
            columns = [list(column) for column in zip(*block, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))


def measured(*command: str) -> dict[str, Any]:
    """Run a command of ours in a child process; seconds and the peak of its memory in MB."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "pennyweight", *command], stdout=subprocess.DEVNULL)
    # wait4 tells the peak of this very child; RUSAGE_CHILDREN would keep the largest of all so far.
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "exit": child.returncode,
    }


def main() -> int:
    """Generate, audit, predict."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--words", type=int, help="At most so many words per text.")
    arguments.add_argument("--form", choices=("parquet", "csv"), default="parquet")
    arguments.add_argument("--model", help="A run to predict with; without one only the audit is measured.")
    arguments.add_argument("--only-write", metavar="FILE", help="Generate this file and end.")
    arguments.add_argument("--folder", help="Where to keep the files; else a temporary folder.")
    given = arguments.parse_args()
    if given.only_write:
        write(Path(given.only_write), given.rows, given.seed, given.words)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / f"large.{given.form}"
        began = time.perf_counter()
        # In a child too: what this process once held would count as the peak of those it starts.
        shape = ["--rows", str(given.rows), "--seed", str(given.seed)]
        shape += [] if given.words is None else ["--words", str(given.words)]
        subprocess.run([sys.executable, __file__, "--only-write", str(data), *shape], check=True)
        about = {"rows": given.rows, "form": given.form, "megabytes": round(data.stat().st_size / 1e6)}
        print(json.dumps({"step": "generate", "seconds": round(time.perf_counter() - began, 1)} | about), flush=True)
        steps = {"audit": ("audit", str(data), "--out", str(folder / "audit"))}
        if given.model:
            out = folder / f"answers.{given.form}"
            steps["predict"] = ("predict", given.model, str(data), "--text-columns", "text", "--out", str(out))
        failed = 0
        for name, command in steps.items():
            found = measured(*command)
            failed |= found["exit"]
            print(json.dumps({"step": name} | found), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
