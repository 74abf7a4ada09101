"""A class made rare: macro F1 of the defaults beside the baselines, and beside the same training without offsets.

    python benchmarks/rare.py FILE --rare CLASS [--share 0.05] [--rows 2000] [--test 2000] [--seed 0] [--epochs 2]

FILE is a table of labelled texts. One class is thinned out, in the rows that are trained on and in the others that are
measured. The baselines are those of the run's report, trained on the same rows.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from typing import Any

import numpy as np

import pennyweight as pw
from pennyweight.data.sources import read
from pennyweight.evaluate.metrics.bootstrap import paired_macro_f1

Pairs = list[tuple[str, str]]


def thinned(pairs: Pairs, rare: str, share: float, rows: int, test: int, seed: int) -> tuple[Pairs, Pairs]:
    """Training and test rows, drawn without overlap; `rare` has this share of either, as far as there are rows."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    kinds = [[pairs[row] for row in order if (pairs[row][1] == rare) == wanted] for wanted in (False, True)]
    found: list[Pairs] = []
    for count in (rows, test):
        parts = round(count * (1 - share)), round(count * share)
        taken = [kind[:part] for kind, part in zip(kinds, parts, strict=True)]
        kinds = [kind[part:] for kind, part in zip(kinds, parts, strict=True)]
        found.append(taken[0] + taken[1])
    return found[0], found[1]


def percent(figures: Any) -> str:
    return " to ".join(f"{100 * value:.1f}" for value in np.atleast_1d(figures))


def report(classifier: pw.Classifier, test: Pairs) -> str:
    """The figures on the test rows, as Markdown."""
    metrics = classifier.metrics
    found = metrics["test"]
    offsets = metrics.get("bias_offsets", {"values": np.zeros(len(classifier.labels)), "summary": "none tried"})
    labels = np.array([classifier.labels.index(label) for _, label in test])
    logits = classifier.logits([text for text, _ in test])
    without = (logits - np.array(offsets["values"], dtype=np.float32)).argmax(axis=1)
    gain, interval = paired_macro_f1(labels, without, logits.argmax(axis=1))
    lines = [
        f"epoch chosen by {classifier.artifact.recipe.train.metric}; biases: {offsets['summary']}", "",
        "| | accuracy, % | macro F1, % | ours minus it, points of macro F1 |", "|---|---:|---:|---:|",
        f"| ours | {percent(found['accuracy'])} | {percent(found['macro_f1'])} "
        f"({percent(found['intervals']['macro_f1'])}) | |",
        f"| ours without offsets | {percent((without == labels).mean())} | {percent(found['macro_f1'] - gain)} "
        f"| {percent(gain)} ({percent(interval)}) |",
    ]  # fmt: skip
    lines += [
        f"| {row['name']} | {percent(row['accuracy'])} | {percent(row['macro_f1'])} "
        f"| {percent(row['macro_f1_difference'])} ({percent(row['macro_f1_difference_interval'])}) |"
        for row in metrics["baselines"]
    ]
    return "\n".join([*lines, "", metrics["verdict"]["headline"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--rare", required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--budget", default="1M")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table = read(options.file)
    pairs = [(str(text), str(label)) for text, label in zip(table.texts, table.labels, strict=True)]
    train, test = thinned(pairs, options.rare, options.share, options.rows, options.test, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"epochs": options.epochs, "seed": options.seed, "budget": options.budget}
        if options.epochs == 3:
            del settings["epochs"]
        classifier = pw.train(train, test=test, out=f"{folder}/run", progress=False, **settings)
        print(report(classifier, test))


if __name__ == "__main__":
    main()
