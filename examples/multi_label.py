"""Texts with any number of labels, each with its own threshold: `python examples/multi_label.py`."""

from __future__ import annotations

from pathlib import Path

import pennyweight as pw

DATA = Path(__file__).parent / "data"

# Lists of labels in the file make the classifier multi-label; no setting is needed.
classifier = pw.train(
    DATA / "reviews.jsonl",
    test=DATA / "reviews-test.jsonl",
    validation_size=0.25,  # these rows choose the thresholds
    budget="50k",
    epochs=12,
    out="runs/reviews",
    overwrite=True,
)

texts = ["Lovely food at a fair price.", "The room was filthy, and nobody answered when we called reception."]
probabilities = classifier.predict_proba(texts)  # (2, 5): each label's own, so that a row need not sum to 1
for text, labels, row in zip(texts, classifier.predict(texts), probabilities, strict=True):
    print(f"\n{text}\n  predicted: {', '.join(labels) or 'no label'}")
    for label, probability, threshold in zip(classifier.labels, row, classifier.thresholds, strict=True):
        print(f"  {label:<12} {probability:5.1%}   predicted from {threshold:5.1%}")

print(f"\n{classifier.metrics['verdict']['headline']}")
