"""Encoder, adapter and head put together: `Classifier`, a plain module from token ids to logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..budget.count import AdapterSpec, HeadSpec
from ..errors import RecipeError
from . import adapt, encoder
from .backbone import Backbone, load_module, pooler_tensors
from .generic import GenericEncoder
from .head import Head
from .protocol import Encoder
from .runtime import Runtime


class Classifier(nn.Module):
    """Logits (B, L) from token ids (B, T), or from hidden states (B, T, H) that frozen lower layers left behind."""

    def __init__(self, encoder: Encoder, head: Head, pooling: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.module = encoder.module  # registered, so that its parameters are ours
        self.head = head
        self.pooling = pooling

    def forward(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        hidden: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Run the layers from `first` on.

        Args:
            attention_mask: (B, T), 1 for tokens and 0 for padding.
            input_ids: (B, T) token ids, when starting at the bottom.
            hidden: (B, T, H) hidden states before layer `first`, instead of ids.
            first: the layer to begin at.

        Returns:
            (B, L) logits in fp32.
        """
        if hidden is None:
            assert input_ids is not None, "give input_ids or hidden"
            hidden = self.encoder.embed(input_ids, attention_mask)
        pooled = self.encoder.pooled(hidden, attention_mask, first, self.pooling)  # (B, H)
        logits: Tensor = self.head(pooled.float())
        return logits


def build(
    backbone: Backbone,
    *,
    adapter: AdapterSpec | None,
    head: HeadSpec,
    labels: int,
    pooling: str = "cls",
    engine: str = "auto",
    runtime: Runtime,
    head_dropout: float = 0.0,
    hidden_dropout: float = 0.0,
    attention_dropout: float = 0.0,
    seed: int = 0,
) -> Classifier:
    """Load the frozen encoder, inject the adapter, put the head on top.

    Args:
        engine: `fast` (our forward pass), `reference` (transformers'), or `auto`: fast where it applies.
        runtime: device and number format. In bf16 the fast engine keeps frozen weights so; adapters and head stay fp32.
        seed: of the adapter's and the head's first values.

    Raises:
        RecipeError: when `fast` is asked for where it does not apply.
        BackboneError: when the backbone cannot be loaded.
    """
    fast = choose_engine(backbone.config, adapter, engine, hidden_dropout, attention_dropout) == "fast"
    overrides = _dropouts(backbone.config, hidden_dropout, attention_dropout)
    reference = load_module(backbone, **overrides)
    torch.manual_seed(seed)
    chosen: Encoder
    if fast:
        dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
        chosen = encoder.FastEncoder(backbone.config, dtype=dtype)
        chosen.load_weights(reference.state_dict())
    else:
        chosen = GenericEncoder(reference)
    adapt.inject(chosen.module, None if adapter is None else adapt.lora_config(adapter, backbone.config))
    top = Head(head.kind, backbone.config, labels, rank=head.rank, dropout=head_dropout)
    top.start_from_pooler(pooler_tensors(backbone) if backbone.config["model_type"] == "bert" else {})
    return Classifier(chosen, top, pooling).to(runtime.device)


def choose_engine(
    config: Mapping[str, Any], adapter: AdapterSpec | None, engine: str, hidden_dropout: float, attention_dropout: float
) -> str:
    """`fast` or `reference`, with the reason when `fast` was asked for in vain."""
    reason = None
    if not encoder.supports(dict(config)):
        reason = f"the architecture {config['model_type']}"
    elif hidden_dropout or attention_dropout:
        reason = "dropout inside the backbone"
    elif adapter is not None and adapter.bias != "none":
        reason = f"bias {adapter.bias}"
    if engine == "fast" and reason is not None:
        raise RecipeError(
            f"model -> encoder: the fast encoder does not do {reason}", remedy="use --encoder reference, or auto"
        )
    return "reference" if engine == "reference" or reason is not None else "fast"


def _dropouts(config: Mapping[str, Any], hidden: float, attention: float) -> dict[str, float]:
    """The recipe's dropouts under the names the architecture gives them: the checkpoint's own are never used silently."""
    names = {
        "distilbert": ("dropout", "attention_dropout"),
        "modernbert": ("mlp_dropout", "attention_dropout"),
    }.get(config["model_type"], ("hidden_dropout_prob", "attention_probs_dropout_prob"))
    values = {names[0]: hidden, names[1]: attention}
    return values | ({"embedding_dropout": hidden} if config["model_type"] == "modernbert" else {})
