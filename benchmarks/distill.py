"""Does a teacher of a million parameters help a student of ten thousand? And is a soup of three better than its parts?

    python benchmarks/distill.py --train FILE --out RUNS.jsonl --folder RUNS [--seeds 1] [--rows 1000]
                                 [--unlabelled 3000] [--validation 1500] [--epochs 3] [--threads 1] [--most N]
    python benchmarks/distill.py --table RUNS.jsonl

Of a random order of the file, another for each seed, the first --rows are labelled, the next --unlabelled lose their
labels, and the --validation rows behind them are measured on and choose nothing: every run keeps its last epoch. No
other file is opened. The student is trained without a teacher, without one for as many steps as with the unlabelled
texts, with a teacher, and with the unlabelled texts too. A soup averages three students of the same rows, trained with
other seeds. Each run adds a line to RUNS.jsonl; runs that are there already are not repeated, and one that was stopped
goes on. --most N ends after N runs. Seconds are those of the training loop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from methods import paired, split
from runs import done, in_words, keep

import pennyweight as pw

TEACHER, STUDENT = "teacher", "student"
SOUP = {"soup": "soup", "composed": "compose"}  # by the name of the run, the method of merging
PARTS = (STUDENT, "student, seed 1", "student, seed 2")
RUNS = (TEACHER, STUDENT, "taught", "taught, unlabelled", *PARTS[1:], *SOUP, "student, more epochs")
# What says whether a run is in the file already.
IDENTITY = ("run", "seed", "rows", "unlabelled", "validation", "epochs")


def write_texts(file: Path, folder: Path, wanted: dict[str, Any]) -> None:
    """The rows of a seed as labelled.csv, unlabelled.csv (texts alone) and validation.csv."""
    rows = wanted["rows"]
    training, validation = split(file, rows + wanted["unlabelled"], wanted["validation"], wanted["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    training.iloc[:rows].to_csv(folder / "labelled.csv", index=False)
    training.iloc[rows:][["text"]].to_csv(folder / "unlabelled.csv", index=False)
    validation.to_csv(folder / "validation.csv", index=False)


def settings(wanted: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a run is trained with, beside its rows."""
    name, epochs = wanted["run"], wanted["epochs"]
    found: dict[str, Any] = {"budget": "1M" if name == TEACHER else "10k", "seed": wanted["seed"], "epochs": epochs}
    if name == "student, more epochs":
        found["epochs"] = epochs * (wanted["rows"] + wanted["unlabelled"]) // wanted["rows"]
    if name in PARTS[1:]:
        found["seed"] = 100 * wanted["seed"] + PARTS.index(name)
    if name.startswith("taught"):
        found["teacher"] = str(folder / TEACHER)
    if name == "taught, unlabelled":
        found["unlabelled"] = str(folder / "unlabelled.csv")
    return found


def run(wanted: dict[str, Any], file: Path, folder: Path, threads: int | None) -> dict[str, Any]:
    """Train one run of a seed in its folder, or merge others, and measure it."""
    from pennyweight.data.sources import read

    place = folder / f"seed-{wanted['seed']}"
    write_texts(file, place, wanted)
    if wanted["run"] in SOUP:
        from pennyweight.runs.merging import merge

        merge([place / part for part in PARTS], out=place / wanted["run"], method=SOUP[wanted["run"]])
        classifier = pw.load(place / wanted["run"])
    else:
        classifier = pw.train(
            place / "labelled.csv", out=place / wanted["run"], validation_size=0, audit="off", report="tables",
            contrastive="off", inference_precision="fp32", threads=threads, resume=True, **settings(wanted, place),
        )  # fmt: skip
    held_out = read(place / "validation.csv")
    right = classifier.logits(held_out.texts).argmax(axis=1) == classifier.artifact.labels.encode(held_out)
    return wanted | {
        "accuracy": float(right.mean()),
        "right": np.packbits(right).tobytes().hex(),
        "trainable": classifier.metrics["trainable"],
        "stored": classifier.metrics["stored"],
        "seconds": classifier.metrics["train"]["seconds"],
        "distillation": classifier.metrics.get("distillation"),
    }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The runs as Markdown, each compared row by row with the student that had no teacher."""
    text = [
        "| run | trained | stored | validation accuracy, % | against the student, points | seconds |",
        "|---|---:|---:|---|---|---:|",
    ]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda each: (RUNS.index(each["run"]), each["seed"])):
        by_name.setdefault(line["run"], []).append(line)
    students = {line["seed"]: line for line in by_name.get(STUDENT, ())}
    for name, runs in by_name.items():
        pairs = [(each, students[each["seed"]]) for each in runs if each["seed"] in students]
        text.append(
            f"| {name} | {runs[0]['trainable']:,} | {runs[0]['stored']:,} | "
            f"{in_words([100 * each['accuracy'] for each in runs])} | {'' if name == STUDENT else _against(pairs)} | "
            f"{np.mean([each['seconds'] for each in runs]):.0f} |"
        )
    return "\n".join(text)


def _against(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The difference in points with its 95% interval, in words; empty without pairs."""
    if not pairs:
        return ""
    low, mean, high = paired(pairs)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="a CSV file with the columns text and label")
    parser.add_argument("--out", type=Path, help="the file of runs")
    parser.add_argument("--folder", type=Path, help="where the classifiers are kept")
    parser.add_argument("--table", type=Path, help="print the table of a file of runs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--unlabelled", type=int, default=3000)
    parser.add_argument("--validation", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--most", type=int, help="end after so many runs")
    options = parser.parse_args()
    if options.table is None and None in (options.train, options.out, options.folder):
        parser.error("give --train, --out and --folder, or --table")
    runs = options.table or options.out
    if options.table is None:
        found = {tuple(line[key] for key in IDENTITY) for line in done(runs)}
        sizes = {key: getattr(options, key) for key in IDENTITY[2:]}
        left = [
            {"run": name, "seed": seed} | sizes
            for seed, name in product(range(options.seeds), RUNS)
            if (name, seed, *sizes.values()) not in found
        ]
        for wanted in islice(left, options.most):
            line = run(wanted, options.train, options.folder, options.threads)
            keep(runs, [line])
            print(json.dumps({key: value for key, value in line.items() if key != "right"}))
    print(table(done(runs)))


if __name__ == "__main__":
    main()
