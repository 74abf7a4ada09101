"""An engine for every classifier, each with the backbone's weights merged anew: right, but neither lean nor mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..budget.plan import Plan
from ..data.batching import Encoded, select
from ..errors import InputError
from ..model.backbone import Backbone
from ..model.device import Runtime
from ..model.inference.build import inference_weights
from ..model.inference.engine import InferenceEngine
from ..model.tokenizer import longest_input


@dataclass(frozen=True, eq=False)
class SeparateMember:
    """One classifier's engine; `nbytes` of its trained tensors."""

    engine: InferenceEngine
    nbytes: int


class SeparateEngines:
    """See `LogitsEngine` and `MemberBuilder`."""

    def __init__(self, backbone: Backbone, runtime: Runtime, pad_id: int) -> None:
        self._backbone = backbone
        self._runtime = runtime
        self._pad_id = pad_id
        self.max_length = longest_input(backbone.config)

    def member(
        self, plan: Plan, adapter: Mapping[str, Tensor], head: Mapping[str, Tensor], pooling: str
    ) -> SeparateMember:
        """Merge one classifier."""
        weights = inference_weights(self._backbone, plan, adapter, head, pooling, self._pad_id)
        engine = None if weights is None else weights.engine(self._runtime)
        if engine is None:
            raise InputError("backbones of this family are served one classifier at a time")
        return SeparateMember(engine, sum(tensor.nbytes for tensor in (*adapter.values(), *head.values())))

    def logits(self, tokens: Encoded, readers: Sequence[Sequence[SeparateMember]]) -> list[list[np.ndarray]]:
        """As `LogitsEngine.logits`, one member after the other."""
        found: list[list[np.ndarray]] = [[np.empty(0)] * len(own) for own in readers]
        places: dict[SeparateMember, list[tuple[int, int]]] = {}
        for row, own in enumerate(readers):
            for place, member in enumerate(own):
                places.setdefault(member, []).append((row, place))
        for member, rows in places.items():
            logits = member.engine.logits(select(tokens, np.array([row for row, _ in rows])))
            for (row, place), values in zip(rows, logits, strict=True):
                found[row][place] = values
        return found
