"""The model card: Hugging Face's front matter, drawn from the same numbers as the report."""

from __future__ import annotations

from .artifact import Artifact


def model_card(artifact: Artifact) -> str:
    """README.md: Hugging Face's front matter, then what it is, how good it is and how to use it."""
    metrics = artifact.metrics
    name, measured = next(((key, metrics[key]) for key in ("test", "validation") if key in metrics), ("none", None))
    low, high = measured["accuracy_interval"] if measured else (0.0, 0.0)
    figures = (
        f"Accuracy {measured['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}), "
        f"macro F1 {measured['macro_f1']:.3f}, on {measured['n']:,} {name} texts."
        if measured
        else "Not measured."
    )
    budget = "no budget" if artifact.plan.budget is None else f"a budget of {artifact.plan.budget:,}"
    labels = "\n".join(f"{index}. {label}" for index, label in enumerate(artifact.labels.names))
    return f"""---
library_name: pennyweight
pipeline_tag: text-classification
base_model: {_card_base(artifact)}
tags: [text-classification, lora, peft]
---

# Text classifier, {metrics.get("trainable", 0):,} trained parameters

{artifact.backbone.name} frozen, with an adapter and a {artifact.plan.head.kind} head trained under {budget}.

{figures}

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


def _card_base(artifact: Artifact) -> str:
    return "sentence-transformers/all-MiniLM-L6-v2" if artifact.backbone.name == "embedded" else artifact.backbone.name
