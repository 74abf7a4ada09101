"""The number format for measuring, saving and using the trained classifier."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..budget.plan import Plan
from ..data.batching import Encoded, select
from ..data.sampling import sample_rows
from ..model.backbone import Backbone
from ..model.device import Runtime
from ..model.inference import Feed, logits
from ..model.inference.build import InferenceWeights, inference_weights
from ..model.inference.cascade import CascadeEngine, margin_limit
from ..model.inference.engine import InferenceEngine
from ..model.inference.int8_products import MARGIN, Ranges
from ..model.inference.merge import backbone_state
from ..model.inference.precision import FEWEST_ROWS, PrecisionChoice, measure_precisions
from ..model.kernels.int8_linear import has_int8
from ..model.kernels.nf4_linear import has_quantized, restore_linears
from ..model.text_model import TextModel, TokenLogits
from ..recipe.schema import TrainRecipe

logger = logging.getLogger(__name__)

# Training texts whose ranges int8 rounds by: more of them change little.
CALIBRATED_ON = 256
# Texts whose logits in int8 and fp32 are compared where the number format is not measured.
COMPARED = 512


@dataclass(frozen=True)
class ReadyModel:
    """A trained model, ready to predict.

    Attributes:
        plan: the plan, without the ranks that training removed.
        text_model: with the engine, where its family has one.
        choice: its number format, and what it was chosen by.
        ranges: what int8 rounds by, and the limit of its cascade; empty if it was not tried.
    """

    plan: Plan
    text_model: TextModel
    choice: PrecisionChoice
    ranges: Ranges = field(default_factory=dict)

    def held_out_logits(self, tokens: Mapping[str, Encoded]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """The logits of validation and test rows, by split, and the seconds that those of the test rows took, if any.

        Validation rows may come from kept frozen layers and are not timed.
        """
        found, seconds = {}, {}
        for name in (each for each in tokens if each != "train"):
            began = time.perf_counter()
            found[name] = self.text_model.logits(tokens[name])
            if name == "test":
                seconds["predicting"] = time.perf_counter() - began
        return found, seconds


def as_trained(model: TextModel, plan: Plan) -> ReadyModel:
    """A trained model without any engine: of a process that is not the one that measures and saves."""
    return ReadyModel(plan, model, PrecisionChoice(model.runtime.precision))


def prepare_inference(
    model: TextModel,
    backbone: Backbone,
    plan: Plan,
    settings: TrainRecipe,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
    *,
    reference: bool = False,
    validation: Feed | None = None,
) -> ReadyModel:
    """End the training of a model: its adapter as plain LoRA, scaled and merged, and its number format chosen.

    Args:
        model: trained; `plan`: as it was trained.
        settings: `inference_precision` may be `auto`, the fastest that is as good on the validation rows.
        tokens, labels: by split.
        reference: whether transformers' own forward pass was asked for; then there is no engine.
        validation: of the validation batches in training. Where it is given and fp32 needs no choice, no engine is
            built: the model computes its logits itself, within rounding of the engine's.
    """
    trained, runtime = model.model, model.runtime
    if has_quantized(trained.module):
        restore_linears(trained.module, backbone_state(backbone))
        logger.info("inference: trained on 4-bit weights; metrics and predictions use the original ones")
    left = trained.fold_adapter(plan, len(trained.head.out.bias))
    if left is not plan:
        logger.info(left.why[-1])
    trained.adapter.scale(settings.adapter_scale)
    if validation is not None and _is_plain(runtime, settings, len(tokens["validation"])):
        engine = _AsTrained(model, tokens["validation"], validation)
        return ReadyModel(left, replace(model, engine=engine), PrecisionChoice("fp32"))
    weights = None
    if runtime.device.type == "cpu" and not reference:
        head = {name: tensor.detach() for name, tensor in trained.head.state_dict().items()}
        weights = inference_weights(
            backbone, left, trained.adapter.state(), head, trained.pooling, model.tokenizer.pad_token_id
        )
    wanted = settings.inference_precision
    measures = wanted == "auto" and "validation" in tokens and len(tokens["validation"]) >= FEWEST_ROWS
    # Before any engine is built: the ranges are measured with weights of their own.
    ranges = _ranges(weights, tokens["train"]) if weights and has_int8() and (measures or wanted == "int8") else {}
    exact = None if weights is None else weights.plain_engine(replace(runtime, precision="fp32"))
    if weights is None or exact is None:
        if wanted not in ("auto", runtime.precision):
            logger.info(
                f"inference: no engine for this backbone, so predictions use the training code: {runtime.precision}"
            )
        return ReadyModel(left, model, PrecisionChoice(runtime.precision))
    fixed = None if measures else runtime.precision if wanted == "auto" else wanted
    choice, chosen, kept = _choose(fixed, weights, exact, ranges, runtime, tokens, labels)
    used = replace(model, runtime=replace(runtime, precision=choice.precision), engine=chosen)
    return ReadyModel(left, used, choice, kept)


def _choose(
    fixed: str | None,
    weights: InferenceWeights,
    exact: InferenceEngine,
    ranges: Ranges,
    runtime: Runtime,
    tokens: Mapping[str, Encoded],
    labels: Mapping[str, np.ndarray],
) -> tuple[PrecisionChoice, TokenLogits, Ranges]:
    """The number format with its engine, and the ranges, with the limit of int8's cascade where there is one.

    Args:
        fixed: the number format, None to choose it on the validation rows; `exact`: the engine in fp32.
    """
    engines, multi = {"fp32": exact}, labels["train"].ndim == 2
    if fixed is None:
        engines |= _other_engines(weights, runtime, ranges)
        decide = _above_half if multi else _best
        choice = measure_precisions(engines, tokens["validation"], decide, labels["validation"])
        logger.info(f"inference: {choice}")
    else:
        choice = PrecisionChoice(fixed)
    engine = engines.get(choice.precision) or weights.plain_engine(replace(runtime, precision=choice.precision), ranges)
    assert engine is not None  # as there is one in fp32
    cascade = choice.cascade
    if choice.precision == "int8" and cascade is None and not multi:
        some = select(tokens["train"], sample_rows(len(tokens["train"]), COMPARED, 0))
        cascade = CascadeEngine(engine, exact, margin_limit(exact.logits(some), engine.logits(some)))
    if cascade is None:
        return choice, engine, ranges
    kept = {**ranges, MARGIN: torch.tensor([cascade.limit])}
    return choice, cascade if choice.precision == "int8" else engine, kept


def _is_plain(runtime: Runtime, settings: TrainRecipe, held_out: int) -> bool:
    """Whether the classifier predicts as it was trained, in fp32 on a CPU, with nothing to choose or to round."""
    wanted = settings.inference_precision
    plain = wanted == "fp32" or (wanted == "auto" and held_out < FEWEST_ROWS)
    return plain and runtime.device.type == "cpu" and runtime.precision == "fp32"


@dataclass(frozen=True)
class _AsTrained:
    """A trained model's own logits; of the validation rows from what was kept of their frozen layers."""

    model: TextModel
    validation: Encoded
    feed: Feed

    def logits(self, tokens: Encoded) -> np.ndarray:
        feed = self.feed if tokens is self.validation else self.model.batches(tokens)
        size, bucket = self.model.batch_size, self.model.bucket
        return logits(self.model.model, feed, tokens.lengths, batch_size=size, bucket=bucket)


def _other_engines(weights: InferenceWeights, runtime: Runtime, ranges: Ranges) -> dict[str, InferenceEngine]:
    """Those that may be faster than fp32: the format of the training, and int8."""
    precisions = {runtime.precision, "int8"} if ranges else {runtime.precision}
    others = sorted(precisions - {"fp32"})
    made = {each: weights.plain_engine(replace(runtime, precision=each), ranges) for each in others}
    return {precision: engine for precision, engine in made.items() if engine is not None}


def _above_half(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = logits > 0
    return found


def _best(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = logits.argmax(axis=1)
    return found


def _ranges(weights: InferenceWeights, tokens: Encoded) -> dict[str, Tensor]:
    chosen = sample_rows(len(tokens), CALIBRATED_ON, 0)
    return weights.measure_ranges(select(tokens, chosen)) or {}
