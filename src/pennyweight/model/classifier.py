"""Encoder, adapter and head put together: `SequenceClassifier`, a plain module from token ids to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..budget.plan import Plan
from ..budget.specs import AdapterSpec
from ..errors import RecipeError
from ..recipe.loading import ModelRecipe
from .adapters import adalora as adaptive
from .adapters import lora as adapt
from .backbone import Backbone, load_module, pooler_tensors
from .device import Runtime
from .encoders.bert import FastEncoder, supports
from .encoders.encoder import Encoder
from .encoders.reference import GenericEncoder
from .heads import Head


class SequenceClassifier(nn.Module):
    """Logits (B, L) from token ids (B, T), or from hidden states (B, T, H) that frozen lower layers left behind."""

    def __init__(self, encoder: Encoder, head: Head, pooling: str, engine: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.module = encoder.module  # registered, so that its parameters are ours
        self.head = head
        self.pooling = pooling
        self.engine = engine
        self.adaptive: adaptive.Adaptive | None = None

    def pooled(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        hidden: Tensor | None = None,
        first: int = 0,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Run the layers from `first` on: (B, H), what the head reads.

        Args:
            attention_mask: (B, T), 1 for tokens and 0 for padding.
            input_ids: (B, T) token ids, when starting at the bottom.
            hidden: (B, T, H) hidden states before layer `first`, instead of ids.
            first: the layer to begin at.
            token_type_ids: (B, T) segments of pairs of texts, beside the ids.
        """
        if hidden is None:
            assert input_ids is not None, "give input_ids or hidden"
            hidden = self.encoder.embed(input_ids, attention_mask, token_type_ids)
        return self.encoder.pooled(hidden, attention_mask, first, self.pooling)

    def forward(self, *batch: Any, **named: Any) -> Tensor:
        """(B, L) logits in fp32 of what `pooled` takes.

        The encoder computes in its own number format and the head in fp32, whatever autocast the caller is in.
        """
        pooled = self.pooled(*batch, **named)
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled.float())
        return logits


class Pooled(nn.Module):
    """A classifier up to its head, as a module of its own: (B, H) where the classifier gives logits."""

    def __init__(self, classifier: SequenceClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.training = classifier.training

    def forward(self, **batch: Any) -> Tensor:
        return self.classifier.pooled(**batch)


def build(
    backbone: Backbone,
    recipe: ModelRecipe,
    plan: Plan,
    labels: int,
    runtime: Runtime,
    head_dropout: float = 0.0,
    seed: int = 0,
) -> SequenceClassifier:
    """Load the frozen encoder, inject the adapter, put the head on top.

    Args:
        runtime: device and number format. In bf16 and fp16 the fast encoder keeps its frozen matrices so; what is
            trained, biases and norms stay fp32.
        seed: of the adapter's and the head's first values.

    Returns:
        The classifier in evaluation mode.

    Raises:
        RecipeError: when the fast encoder is asked for where it does not apply.
        BackboneError: when the backbone cannot be loaded.
    """
    engine = choose_engine(backbone.config, recipe, plan.adapter)
    reference = load_module(backbone, **_dropouts(backbone.config, recipe))
    torch.manual_seed(seed)
    chosen: Encoder = GenericEncoder(reference, runtime.dtype)
    if engine == "fast":
        fast = FastEncoder(backbone.config, runtime.dtype)
        fast.load_weights(reference.state_dict())
        chosen = fast
    moving = None
    if plan.adapter is not None and plan.adapter.adaptive_ranks:
        moving = adaptive.inject(chosen.module, plan.adapter, backbone.config)
    else:
        adapt.inject(chosen.module, None if plan.adapter is None else adapt.lora_config(plan.adapter, backbone.config))
    head = Head(plan.head.kind, backbone.config, labels, rank=plan.head.rank, dropout=head_dropout)
    head.start_from_pooler(pooler_tensors(backbone) if backbone.config["model_type"] == "bert" else {})
    model = SequenceClassifier(chosen, head, recipe.pooling, engine).to(runtime.device)
    model.adaptive = moving
    return model.eval()


def choose_engine(config: Mapping[str, Any], recipe: ModelRecipe, adapter: AdapterSpec | None) -> str:
    """`fast` or `reference`.

    Raises:
        RecipeError: with the reason, when `fast` was asked for in vain.
    """
    reason = None
    if not supports(config):
        reason = f"the architecture {config['model_type']}"
    elif recipe.hidden_dropout or recipe.attention_dropout:
        reason = "dropout inside the backbone"
    elif adapter is not None and adapter.bias != "none":
        reason = f"bias {adapter.bias}"
    if recipe.encoder == "fast" and reason is not None:
        raise RecipeError(
            "the fast encoder does not do this",
            where="model -> encoder",
            received=reason,
            remedy="use --encoder reference, or auto",
        )
    return "reference" if recipe.encoder == "reference" or reason is not None else "fast"


def _dropouts(config: Mapping[str, Any], recipe: ModelRecipe) -> dict[str, float]:
    """The recipe's dropouts under the architecture's names: the checkpoint's own are never used silently."""
    kind = config["model_type"]
    special = {"distilbert": "dropout", "modernbert": "mlp_dropout"}
    values = {special.get(kind, "hidden_dropout_prob"): recipe.hidden_dropout}
    values["attention_dropout" if kind in special else "attention_probs_dropout_prob"] = recipe.attention_dropout
    return values | ({"embedding_dropout": recipe.hidden_dropout} if kind == "modernbert" else {})
