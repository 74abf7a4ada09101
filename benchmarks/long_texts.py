"""Texts of 300 to 600 words in which one item decides: read from their beginning, or in windows.

Items of the newsroom sample are joined: all are Business but one, at the start, in the middle or at the end, whose
class is the label. Every item is used three times, once at each place, with another background each time. Every tenth
training item is held out for validation.

    python benchmarks/long_texts.py
"""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import pennyweight as pw
from pennyweight.data import sample

PLACES = ("start", "middle", "end")
BACKGROUND = "Business"


def joined(signal: str, background: Sequence[str], place: str, random: np.random.Generator) -> str:
    """A text of 300 to 600 words with `signal` at its place."""
    wanted, around = int(random.integers(300, 550)), list[str]()  # no item has more than 51 words
    while len(" ".join([signal, *around]).split()) < wanted:
        around.append(background[int(random.integers(len(background)))])
    position = {"start": 0, "middle": len(around) // 2, "end": len(around)}[place]
    return " ".join([*around[:position], signal, *around[position:]])


def make(part: str, seed: int) -> list[tuple[str, str, str]]:
    """(text, label, place) of a part of the sample, the three texts of an item side by side."""
    table, random = sample.load(part), np.random.default_rng(seed)
    rows = list(zip(table.texts, map(str, table.labels or ()), strict=True))
    background = [text for text, label in rows if label == BACKGROUND]
    signals = [(text, label) for text, label in rows if label != BACKGROUND]
    return [(joined(text, background, place, random), label, place) for text, label in signals for place in PLACES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="truncate,head-tail,windows", help="Some of these, separated by commas.")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train, test = make("train", 0), make("test", 1)
    words = [len(text.split()) for text, _, _ in train]
    print(f"{len(train)} training and {len(test)} test texts of {min(words)} to {max(words)} words", flush=True)
    held_out = np.arange(len(train)) // len(PLACES) % 10 == 0
    places = np.array([place for _, _, place in test])
    for way in options.ways.split(","):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder) / f"{name}.csv" for name in ("train", "validation")}
            for file, part in zip(files.values(), (~held_out, held_out), strict=True):
                with file.open("w", encoding="utf-8", newline="") as handle:
                    rows = [train[row][:2] for row in np.flatnonzero(part)]
                    csv.writer(handle).writerows([("text", "label"), *rows])
            found = pw.train(
                files["train"], validation=str(files["validation"]), long_texts=way, epochs=options.epochs,
                audit="off", inference_precision="fp32",
            )  # fmt: skip
        seconds = time.perf_counter() - began
        right = np.array(found.predict([text for text, _, _ in test])) == np.array([label for _, label, _ in test])
        by_place = ", ".join(f"{place} {100 * right[places == place].mean():.1f}" for place in PLACES)
        print(f"{way}: accuracy {100 * right.mean():.1f} ({by_place}), trained in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
