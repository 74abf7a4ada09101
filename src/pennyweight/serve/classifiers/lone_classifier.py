"""One classifier served alone: with the engine, number format and device that `pennyweight predict` takes for it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import torch

from ...errors import ArtifactError
from ...model.backbone import Backbone
from ...model.device import Runtime
from ...model.long_texts import LongTexts
from ...predict.load_classifier import load
from ...predict.onnx_classifier import OnnxClassifier
from ...predict.onnx_spec import is_onnx_folder
from ...predict.predictor import Classifier
from ...storage.json_files import to_json
from .logits_engine import LoneEngine
from .served_classifier import ServedClassifier
from .served_folders import ClassifierSummary, ServedFolder, read_summary


@dataclass(frozen=True)
class LoneClassifier:
    """A classifier with all that serving it needs.

    Attributes:
        backbone: None of an exported model, which holds its own.
        runtime: where and in which number format it computes.
    """

    served: ServedClassifier
    summary: ClassifierSummary
    engine: LoneEngine
    backbone: Backbone | None
    runtime: Runtime


def load_lone(place: ServedFolder, backbone: str | None, device: str, precision: str | None) -> LoneClassifier:
    """Load a classifier, saved or exported as ONNX; arguments and errors as for `pennyweight.load`."""
    before = None if is_onnx_folder(place.folder) else read_summary(place.folder)
    classifier = load(place.folder, backbone=backbone, device=device, precision=precision)
    if isinstance(classifier, OnnxClassifier):
        return _exported(place, classifier)
    summary = read_summary(place.folder)
    if summary != before:
        raise ArtifactError("it was overwritten while it was being loaded", where=place.folder, remedy="start again")
    artifact = classifier.artifact
    size = sum(tensor.nbytes for tensor in (*artifact.tensors.adapter.values(), *artifact.tensors.head.values()))
    served = _served(place.name, classifier, summary, size)
    engine = LoneEngine(classifier.logits_of, classifier.runtime.device.type != "cpu")
    return LoneClassifier(served, summary, engine, artifact.backbone, classifier.runtime)


def _exported(place: ServedFolder, classifier: OnnxClassifier) -> LoneClassifier:
    spec = classifier.spec
    digest = sha256(to_json(classifier.identity).encode()).hexdigest()
    summary = ClassifierSummary(
        spec.labels.names, spec.labels.multi, spec.input_spec.pair, spec.max_length, None, digest, None
    )  # fmt: skip
    served = _served(place.name, classifier, summary, classifier.size)
    runtime = Runtime(torch.device("cpu"), spec.number_format)
    return LoneClassifier(served, summary, LoneEngine(classifier.logits_of, True), None, runtime)


def _served(
    name: str, classifier: Classifier | OnnxClassifier, summary: ClassifierSummary, size: int
) -> ServedClassifier:
    long_texts: LongTexts = "truncate"  # export refuses the others
    if isinstance(classifier, OnnxClassifier):
        tokenizer = classifier.fast_tokenizer
    else:
        tokenizer, long_texts = classifier.artifact.fast_tokenizer, classifier.artifact.recipe.data.long_texts
    return ServedClassifier(
        name, summary.version, summary.labels, summary.multi, summary.pair, classifier.input_spec.markup,
        classifier.temperature, classifier.thresholds if summary.multi else None, summary.max_length, tokenizer,
        classifier, size, long_texts,
    )  # fmt: skip
