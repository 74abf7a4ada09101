"""Encoder, adapter and head put together: `SequenceClassifier`, a plain module from token ids to logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..budget.count import count
from ..budget.plan import Plan
from ..errors import RecipeError
from .adapters import Adapter, NoAdapter, inject
from .adapters.lora import remove_adapters
from .backbone import Backbone, pooler_tensors
from .device import Runtime
from .encoders import Encoder, EncoderSettings, load_encoder, stock_head_of
from .heads import Head
from .kernels.int8_rows import check_int8_rows


class SequenceClassifier(nn.Module):
    """Logits (B, L) from token ids (B, T), or from hidden states (B, T, H) that frozen lower layers left behind."""

    def __init__(
        self, encoder: Encoder, adapter: Adapter, head: Head, pooling: str, engine: str, quantization: str
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.module = encoder.module  # registered, so that its parameters belong to this module
        self.adapter = adapter
        self.head = head
        self.pooling = pooling
        self.engine = engine
        self.quantization = quantization

    @property
    def how(self) -> str:
        """The engine, and the quantization in training if there is any, in words."""
        return self.engine if self.quantization == "none" else f"{self.engine} ({self.quantization} in training)"

    def fold_adapter(self, plan: Plan, labels: int) -> Plan:
        """Turn the trained adapter into plain LoRA, as it is saved; returns the plan of what is left."""
        folded, self.adapter = self.adapter.fold(plan, labels)
        return folded

    def drop_adapter(self, plan: Plan, labels: int, config: dict[str, Any], reason: str) -> Plan:
        """Take the adapter out, so that the encoder is as it was loaded; returns the plan of what is left.

        Biases that the adapter trains must be back at their initial values.

        Args:
            config: the backbone's config.json.
            reason: one clause for the plan.
        """
        remove_adapters(self.module)
        self.adapter = NoAdapter(self.module)
        counted = count(config, adapter=None, head=plan.head, labels=labels)
        return replace(plan, adapter=None, count=counted, why=(*plan.why, reason))

    def pooled(
        self,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        hidden: Tensor | None = None,
        first: int = 0,
        token_type_ids: Tensor | None = None,
        tokens: int | None = None,
    ) -> Tensor:
        """Run the layers from `first` on: (B, H), what the head reads.

        Args:
            attention_mask: (B, T), 1 for tokens and 0 for padding.
            input_ids: (B, T) token ids, when starting at the bottom.
            hidden: (B, T, H) hidden states before layer `first`, instead of ids.
            first: the layer to begin at.
            token_type_ids: (B, T) segments of pairs of texts, in addition to the ids.
            tokens: how many ones the mask has, where the host knows it.
        """
        if hidden is None:
            assert input_ids is not None, "give input_ids or hidden"
            hidden = self.encoder.embed(input_ids, attention_mask, token_type_ids)
        return self.encoder.pooled(hidden, attention_mask, first, self.pooling, tokens)

    def forward(self, *batch: Any, windows: Tensor | None = None, **named: Any) -> Tensor:
        """(B, L) logits in fp32 of what `pooled` takes.

        The encoder computes in its own number format and the head in fp32, whatever autocast the caller is in.

        Args:
            windows: (B,) rows of each text, whose logits are their mean, where texts are read in windows.
        """
        pooled = self.pooled(*batch, **named)
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled.float())
            return logits if windows is None else mean_by_text(logits, windows)


def mean_by_text(rows: Tensor, windows: Tensor) -> Tensor:
    """(B, ...) means of rows (W, ...), of which `windows` (B,) belong to each text, one text behind the other."""
    numbers = torch.arange(len(windows), device=rows.device)
    texts = torch.repeat_interleave(numbers, windows, output_size=len(rows))  # else the device is asked for the size
    sums = rows.new_zeros(len(windows), *rows.shape[1:]).index_add(0, texts, rows)
    return sums / windows.to(rows.dtype).reshape(-1, *(1,) * (rows.dim() - 1))


class Pooled(nn.Module):
    """A classifier without its head, as a module of its own: it returns pooled vectors (B, H) instead of logits."""

    def __init__(self, classifier: SequenceClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.training = classifier.training

    def forward(self, *, windows: Tensor | None = None, **batch: Any) -> Tensor:
        pooled = self.classifier.pooled(**batch)
        return pooled if windows is None else mean_by_text(pooled, windows)


@dataclass(frozen=True)
class ModelSettings:
    """How a model is built around a backbone.

    Attributes:
        encoder: `auto`, `fast` or `reference`.
        pooling: `cls` or `mean`.
        hidden_dropout: dropout inside the backbone.
        attention_dropout: dropout on attention weights.
        head_dropout: dropout before each linear map of the head.
        seed: seed of the adapter's and the head's initial values.
        quantization: of the frozen matrices of layers, while the model is trained: `none`, `int8` or `nf4`; `auto` has
            to be resolved before a model is built.
    """

    encoder: str
    pooling: str
    hidden_dropout: float
    attention_dropout: float
    head_dropout: float = 0.0
    seed: int = 0
    quantization: str = "none"

    def of_encoder(self, plan: Plan, runtime: Runtime) -> EncoderSettings:
        """How the encoder computes with the adapter of a plan."""
        bias = "none" if plan.adapter is None else plan.adapter.bias
        return EncoderSettings(
            runtime.dtype, runtime.device, self.hidden_dropout, self.attention_dropout, bias, self.quantization
        )


def build(backbone: Backbone, plan: Plan, labels: int, runtime: Runtime, settings: ModelSettings) -> SequenceClassifier:
    """Load the frozen encoder, inject the adapter, put the head on top.

    Args:
        labels: L, the number of classes.
        runtime: device and number format. In bf16 and fp16 the fast encoder keeps its frozen matrices in that format;
            trained parameters, biases and norms stay fp32.

    Returns:
        The classifier in evaluation mode.

    Raises:
        RecipeError: when the fast encoder is asked for where it does not apply.
        BackboneError: when the backbone cannot be loaded.
        ResourceError: when this machine lacks what the quantization needs.
    """
    if settings.quantization == "nf4":
        _check_nf4(plan)
    elif settings.quantization == "int8":
        check_int8_rows()
    encoder, engine = load_encoder(backbone, settings.encoder, settings.of_encoder(plan, runtime))
    return assemble(encoder, engine, backbone, plan, labels, settings).to(runtime.device)


def _check_nf4(plan: Plan) -> None:
    """Refuse what needs more of the frozen matrices than products."""
    adapter = plan.adapter
    bases = adapter is not None and adapter.adapter == "lora-xs" and adapter.bases == "gradient"
    if bases or (adapter is not None and adapter.bias != "none"):
        raise RecipeError(
            "4-bit weights have no gradients",
            where="train -> quantization",
            expected="none beside " + ("lora-xs with gradient bases" if bases else "trained biases"),
            received="nf4",
            remedy="use --adapter lora or --bases svd" if bases else "use --bias none",
        )


def assemble(
    encoder: Encoder, engine: str, backbone: Backbone, plan: Plan, labels: int, settings: ModelSettings
) -> SequenceClassifier:
    """Inject the adapter into a loaded encoder and put the head on top, in evaluation mode; arguments as for `build`.

    Args:
        encoder: the backbone's, without an adapter.
        engine: its name, `fast` or `reference`.
    """
    torch.manual_seed(settings.seed)
    adapter = inject(encoder.module, plan.adapter, backbone.config)
    head = Head(plan.head.kind, backbone.config, labels, rank=plan.head.rank, dropout=settings.head_dropout)
    if plan.head.kind == "full" and stock_head_of(backbone.config).pretrained:
        head.start_from_pooler(pooler_tensors(backbone))
    return SequenceClassifier(encoder, adapter, head, settings.pooling, engine, settings.quantization).eval()
