"""From a backbone on disk and trained tensors to an inference engine, and the ranges that int8 needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...budget.plan import Plan
from ...data.batching import Encoded
from ..backbone import Backbone
from ..device import DTYPES, Runtime
from ..heads import Head
from .cascade import CascadeEngine
from .engine import ENCODERS, InferenceEngine
from .inference_encoder import Products
from .int8_products import MARGIN, Int8Products, RangeRecorder, Ranges
from .merge import backbone_state, merged_state
from .pooling import pooled
from .products import FloatProducts
from .token_rows import plan_token_batches, token_rows


@dataclass(frozen=True)
class InferenceWeights:
    """All that an engine of any number format is built from.

    Attributes:
        state: the encoder's tensors by the names of transformers' `AutoModel`, the adapter merged, fp32; best read on
            demand, since each engine lays them out for itself.
        head: in evaluation mode, on the CPU.
        pooling: what the head reads, `cls`, `mean`, or `both`, one behind the other.
        pad_id: the tokenizer's padding id.
    """

    config: Mapping[str, object]
    state: Mapping[str, Tensor]
    head: nn.Module
    pooling: str
    pad_id: int

    def engine(self, runtime: Runtime, ranges: Ranges | None = None) -> InferenceEngine | CascadeEngine | None:
        """The engine of one number format; None if there is no inference encoder for this backbone or device.

        Args:
            ranges: ranges of the inputs of the products, for int8; with the limit of a cascade, the engine is one.
        """
        found = self.plain_engine(runtime, ranges)
        if found is None or runtime.precision != "int8" or not ranges or MARGIN not in ranges:
            return found
        exact = self._engine(FloatProducts(torch.float32), self.pooling)
        assert exact is not None  # as there is one in int8
        return CascadeEngine(found, exact, float(ranges[MARGIN]))

    def plain_engine(self, runtime: Runtime, ranges: Ranges | None = None) -> InferenceEngine | None:
        """The same without a cascade: all texts in one number format."""
        if runtime.device.type != "cpu":
            return None
        if runtime.precision != "int8":
            return self._engine(FloatProducts(DTYPES[runtime.precision]), self.pooling)
        assert ranges, "int8 needs the ranges of its inputs"
        return self._engine(Int8Products(ranges), self.pooling)

    def int8_engine(self, calibration: Encoded) -> InferenceEngine | None:
        """An engine in int8, its ranges measured over some texts; None if there is no inference encoder."""
        ranges = self.measure_ranges(calibration)
        return None if ranges is None else self._engine(Int8Products(ranges), self.pooling)

    def measure_ranges(self, tokens: Encoded) -> dict[str, Tensor] | None:
        """The ranges of all products' inputs over some texts; None if there is no inference encoder."""
        recorder = RangeRecorder()
        # With mean pooling every layer is computed for every token.
        engine = self._engine(recorder, "mean")
        if engine is None:
            return None
        with torch.inference_mode():
            tokens = tokens.sequences
            for indices in plan_token_batches(tokens.lengths):
                pooled(engine.encoder, token_rows(tokens, indices, self.pad_id), engine.pooling)
        return {name: values.clone() for name, values in recorder.ranges.items()}

    def _engine(self, products: Products, pooling: str) -> InferenceEngine | None:
        build = ENCODERS.get(str(self.config["model_type"]))
        if build is None:
            return None
        with torch.inference_mode():
            encoder = build(self.config, self.state, products, pooling)
        return None if encoder is None else InferenceEngine(encoder, self.head, pooling, self.pad_id)


def inference_weights(
    backbone: Backbone,
    plan: Plan,
    adapter: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    pooling: str,
    pad_id: int,
) -> InferenceWeights | None:
    """Merge the adapter into the backbone; None if its family has no inference encoder.

    Args:
        adapter: by the names that PEFT saves.
        head: by the names of `Head`.
    """
    if backbone.config["model_type"] not in ENCODERS:
        return None
    labels = len(head["out.bias"])
    own = Head(plan.head.kind, backbone.config, labels, rank=plan.head.rank)
    own.load_state_dict(dict(head))
    state = merged_state(backbone.config, backbone_state(backbone), plan.adapter, adapter)
    return InferenceWeights(backbone.config, state, own.eval().requires_grad_(False), pooling, pad_id)


def frozen_weights(backbone: Backbone, pad_id: int) -> InferenceWeights | None:
    """The backbone as it comes, for engines that give features; None if its family has none.

    Their features are (N, 2H) of N texts: each text's first vector, then the mean over its tokens.
    """
    if backbone.config["model_type"] not in ENCODERS:
        return None  # before any weight is read
    return InferenceWeights(backbone.config, backbone_state(backbone), nn.Identity(), "both", pad_id)
