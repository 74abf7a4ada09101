"""The model card, from the same figures as the report."""

from __future__ import annotations

import html
import json
import os
import re
from typing import Any

from ..data.provenance import shareable_recipe
from ..errors import ArtifactError
from ..evaluate.metrics.thresholds import saved_thresholds
from ..model.backbone import EMBEDDED_HUB_ID
from ..recipe.schema import Recipe
from .artifact import Artifact

# Characters with a meaning within a line of Markdown, and those with one at its beginning.
_SIGNS = re.compile(r"([\\`*_\[\]|~$])")
_STARTS = re.compile(r"^(?:([#+=:-])|(\d+)([.)]))")


def prose(text: object) -> str:
    """Text escaped for a line of Markdown, so that it reads as it is: no HTML, link, table column or heading."""
    line = _SIGNS.sub(r"\\\1", html.escape(_line(text), quote=False))
    return _STARTS.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}", line)


def code(text: object) -> str:
    """Text as a code span of Markdown."""
    line = _line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{room}{line}{room}{fence}"


def block(text: str) -> str:
    """Python code as a block of Markdown."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}python\n{text}\n{fence}"


def _line(text: object) -> str:
    """Line breaks and other control characters become blanks."""
    return " ".join("".join(one if one.isprintable() else " " for one in str(text)).split())


def model_card(artifact: Artifact) -> str:
    """README.md: Hugging Face's front matter, then what the classifier is, how good it is and how to use it.

    Source of the front matter: https://huggingface.co/docs/hub/model-cards
    """
    try:
        return _card(artifact)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError("the saved metrics lack a value that the model card needs", received=repr(error)) from error


def _card(artifact: Artifact) -> str:
    metrics = artifact.metrics
    found = ((key, metrics.get(key)) for key in ("test", "validation"))
    name, measured = next(((key, value) for key, value in found if value is not None), ("none", None))
    budget = "no budget" if artifact.plan.budget is None else f"a budget of {artifact.plan.budget:,}"
    stored = artifact.plan.stored_note
    multi, names = artifact.labels.multi, artifact.labels.names
    limits = [f" (threshold {value:.3f})" for value in saved_thresholds(metrics, len(names)).tolist()]
    labels = "\n".join(
        f"{index}. {prose(label)}{limit if multi else ''}"
        for index, (label, limit) in enumerate(zip(names, limits, strict=True))
    )
    labels = ("A text may have any number of labels.\n\n" if multi else "") + labels
    adapter, tags = ("an adapter and ", ", lora, peft") if artifact.plan.adapter is not None else ("", "")
    return f"""---
library_name: pennyweight
pipeline_tag: text-classification
{base_model(artifact)}tags: [text-classification{tags}]
{_index(name, measured)}---

# Text classifier, {metrics.get("trainable") or 0:,} trained parameters

{prose(shown_backbone(artifact.backbone.name))} frozen, with {adapter}a {artifact.plan.head.kind} head trained \
under {budget}.{stored and f" {stored}"}{_origin(metrics)}

{_figures(name, measured)}
{_verdict_and_baselines(metrics)}
## Labels

{labels}

## Use

```python
import pennyweight as pw

classifier = pw.load("this-folder")
classifier.predict([{'("...", "...")' if artifact.input_spec.pair else '"..."'}])
```

Texts are truncated to {artifact.recipe.data.max_length} tokens. To train the classifier again, use `recipe.yaml` \
with the same data.
"""


def _origin(metrics: dict[str, Any]) -> str:
    """Sentences on the runs it was merged from and on its teacher; empty if there were none."""
    merged, taught, moved = (metrics.get(key) for key in ("merged", "distillation", "bias_offsets"))
    found = ""
    if merged is not None:
        runs = ", ".join(prose(run) for run in merged["runs"])
        found += f" Merged ({merged['method']}) from {runs}; not trained any further."
    if taught is not None:
        found += (
            f" Distilled from {prose(taught['teacher'])}: its probabilities were targets in addition to the labels."
        )
    if moved is not None and any(moved["values"]):
        found += f" Adjustment of the head's biases on the validation texts: {prose(moved['summary'])}."
    return found


def _figures(name: str, measured: dict[str, Any] | None) -> str:
    if measured is None:
        return "Not measured."
    if "exact_match" in measured:
        low, high = measured["exact_match_interval"]
        return (
            f"Micro F1 {measured['micro_f1']:.3f}, macro F1 {measured['macro_f1']:.3f}, "
            f"exact match {measured['exact_match']:.1%} (95% interval {low:.1%} to {high:.1%}), "
            f"Hamming loss {measured['hamming_loss']:.1%}, on {measured['n']:,} {name} texts."
            + _unknown_labels_note(measured, "exact match")
        )
    low, high = measured["accuracy_interval"]
    return (
        f"Accuracy {measured['accuracy']:.1%} (95% interval {low:.1%} to {high:.1%}), "
        f"macro F1 {measured['macro_f1']:.3f}, expected calibration error {measured['ece']:.1%}, "
        f"on {measured['n']:,} {name} texts." + _unknown_labels_note(measured, "accuracy")
    )


def _unknown_labels_note(measured: dict[str, Any], figure: str) -> str:
    """A sentence on rows with unknown labels that count as wrong; empty without any."""
    rows = measured.get("unknown", 0)
    return f" {rows:,} further texts with unknown labels count as wrong in the {figure} only." if rows else ""


def _verdict_and_baselines(metrics: dict[str, Any]) -> str:
    """The verdict and the baselines as a table; nothing where nothing was compared."""
    if metrics.get("verdict") is None:
        return ""
    if metrics.get("task") == "multi":
        return _multi_label_baselines(metrics)
    rows = "\n".join(
        f"| {prose(one['name'])} | {one['accuracy']:.1%} | {one['accuracy_interval'][0]:.1%} to "
        f"{one['accuracy_interval'][1]:.1%} | {one['difference']:+.1%} |"
        for one in metrics.get("baselines") or []
    )
    return f"""
{prose(metrics["verdict"]["headline"])}

| baseline on the same split | accuracy | 95% interval | this classifier |
|---|---|---|---|
{rows}
"""


def _multi_label_baselines(metrics: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {prose(one['name'])} | {one['micro_f1']:.3f} | {one['macro_f1']:.3f} | {one['exact_match']:.1%} | "
        f"{100 * one['difference']:+.1f} points |"
        for one in metrics.get("baselines") or []
    )
    return f"""
{prose(metrics["verdict"]["headline"])}

| baseline on the same split | micro F1 | macro F1 | exact match | this classifier, micro F1 |
|---|---|---|---|---|
{rows}
"""


def _index(name: str, measured: dict[str, Any] | None) -> str:
    """The hub's `model-index`, which shows the figures next to the model."""
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


def shown_backbone(name: str) -> str:
    """A backbone's name as others see it: of a folder of this machine its last part."""
    return os.path.basename(os.path.normpath(name)) if is_local(name) else name


def shared_recipe(recipe: Recipe) -> Recipe:
    """A recipe as a report shows it: of folders of this machine the last part."""
    shared = shareable_recipe(recipe)
    model = shared.model.model_copy(update={"backbone": shown_backbone(shared.model.backbone)})
    return shared.model_copy(update={"model": model})


def is_local(name: str) -> bool:
    """Whether a backbone's name is that of a folder of this machine, not of a hub's repository."""
    return name.startswith((".", "/", "~")) or os.path.isdir(name)


def base_model(artifact: Artifact) -> str:
    """The line of the front matter that names the base model on the hub; empty for a local backbone."""
    name = artifact.backbone.name
    if is_local(name):
        return ""
    return f"base_model: {json.dumps(EMBEDDED_HUB_ID if name == 'embedded' else name)}\n"
