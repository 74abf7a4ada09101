"""The model card: Hugging Face's front matter, drawn from the same numbers as the report."""

from __future__ import annotations

from typing import Any

from .artifact import Artifact


def model_card(artifact: Artifact) -> str:
    """README.md: Hugging Face's front matter, then what it is, how good it is and how to use it.

    Source of the front matter: https://huggingface.co/docs/hub/model-cards
    """
    metrics = artifact.metrics
    name, measured = next(((key, metrics[key]) for key in ("test", "validation") if key in metrics), ("none", None))
    budget = "no budget" if artifact.plan.budget is None else f"a budget of {artifact.plan.budget:,}"
    thresholds = metrics.get("thresholds", {}).get("values", [None] * len(artifact.labels.names))
    labels = "\n".join(
        f"{index}. {label}" + ("" if threshold is None else f" (from a probability of {threshold:.3f} on)")
        for index, (label, threshold) in enumerate(zip(artifact.labels.names, thresholds, strict=True))
    )
    labels = ("A text may carry any number of them.\n\n" if artifact.labels.multi else "") + labels
    return f"""---
library_name: pennyweight
pipeline_tag: text-classification
base_model: {_base(artifact)}
tags: [text-classification, lora, peft]
{_index(name, measured)}---

# Text classifier, {metrics.get("trainable", 0):,} trained parameters

{artifact.backbone.name} frozen, with an adapter and a {artifact.plan.head.kind} head trained under {budget}.

{_figures(name, measured)}
{_judged(metrics)}
## Labels

{labels}

## Use

```python
import pennyweight as pw

classifier = pw.load("this-folder")
classifier.predict(["..."])
```

Texts are cut at {artifact.recipe.data.max_length} tokens. `recipe.yaml` trains it again.
"""


def _figures(name: str, measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "Not measured."
    if "exact_match" in measured:
        low, high = measured["exact_match_interval"]
        return (
            f"Micro F1 {measured['micro_f1']:.3f}, macro F1 {measured['macro_f1']:.3f}, "
            f"all labels right {measured['exact_match']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
            f"Hamming loss {measured['hamming_loss']:.1%}, on {measured['n']:,} {name} texts."
            + _unknown(measured, "exact match")
        )
    low, high = measured["accuracy_interval"]
    return (
        f"Accuracy {measured['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
        f"macro F1 {measured['macro_f1']:.3f}, expected calibration error {measured['ece']:.1%}, "
        f"on {measured['n']:,} {name} texts." + _unknown(measured, "accuracy")
    )


def _unknown(measured: dict[str, Any], figure: str) -> str:
    """What is to be known where rows with unknown labels count as wrong."""
    rows = measured.get("unknown", 0)
    return f" {rows:,} further texts with unknown labels count as wrong in the {figure} only." if rows else ""


def _judged(metrics: dict[str, Any]) -> str:
    """The verdict and the baselines as a table; nothing where nothing was compared."""
    if "verdict" not in metrics:
        return ""
    if metrics.get("task") == "multi":
        return _judged_by_f1(metrics)
    rows = "\n".join(
        f"| {one['name']} | {one['accuracy']:.1%} | {one['accuracy_interval'][0]:.1%} to "
        f"{one['accuracy_interval'][1]:.1%} | {one['difference']:+.1%} |"
        for one in metrics["baselines"]
    )
    return f"""
{metrics["verdict"]["headline"]}

| baseline on the same split | accuracy | 95 % interval | this classifier |
|---|---|---|---|
{rows}
"""


def _judged_by_f1(metrics: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {one['name']} | {one['micro_f1']:.3f} | {one['macro_f1']:.3f} | {one['exact_match']:.1%} | "
        f"{100 * one['difference']:+.1f} points |"
        for one in metrics["baselines"]
    )
    return f"""
{metrics["verdict"]["headline"]}

| baseline on the same split | micro F1 | macro F1 | exact match | this classifier, micro F1 |
|---|---|---|---|---|
{rows}
"""


def _index(name: str, measured: dict[str, Any] | None) -> str:
    """The hub's `model-index`, which shows the figures beside the model."""
    if measured is None or name != "test":
        return ""
    figures = [("accuracy", "accuracy", "Accuracy"), ("f1", "macro_f1", "Macro F1")]
    if "exact_match" in measured:
        figures = [("accuracy", "exact_match", "Exact match"), ("f1", "micro_f1", "Micro F1"), figures[1]]
    rows = "".join(
        f"          - {{type: {kind}, value: {measured[key]:.4f}, name: {shown}}}\n" for kind, key, shown in figures
    )
    return f"""model-index:
  - name: pennyweight
    results:
      - task: {{type: text-classification}}
        dataset: {{type: text, name: the test file of the run}}
        metrics:
{rows}"""


def _base(artifact: Artifact) -> str:
    return "sentence-transformers/all-MiniLM-L6-v2" if artifact.backbone.name == "embedded" else artifact.backbone.name
