"""Train on eight labelled texts per class: `python examples/few_shot.py`.

With so few, Pennyweight compares ways of training on held-out parts of the training texts, and trains the best on all
of them (docs/few-labels.md).
"""

from __future__ import annotations

import csv
from pathlib import Path

import pennyweight as pw

DATA = Path(__file__).parent / "data"
PER_CLASS = 8


def read(path: Path) -> list[tuple[str, str]]:
    """(text, label) of each row."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


rows = read(DATA / "tickets.csv")
names = sorted({label for _, label in rows})
few = [row for name in names for row in [one for one in rows if one[1] == name][:PER_CLASS]]

# No validation rows: with only 32 texts, each is worth more in training.
classifier = pw.train(
    few, test=read(DATA / "tickets-test.csv"), budget="200k", validation_size=0, out="runs/few", overwrite=True
)

test = classifier.metrics["test"]
low, high = test["accuracy_interval"]
print(f"trained on {len(few)} texts")
print(f"{test['accuracy']:.0%} of {test['n']} others right (95% interval {low:.0%} to {high:.0%})")
print(classifier("The package is torn and something fell out."))
