"""Opening a classifier for prediction, whatever form its folder has: saved, or exported as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.input_spec import InputSpec
from ..errors import InputError
from .hub_folder import local_folder
from .onnx_spec import OnnxSpec, is_onnx_folder, read_spec

if TYPE_CHECKING:
    from .onnx_classifier import OnnxClassifier
    from .predictor import Classifier


def load(
    folder: str | Path,
    *,
    backbone: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    adapter_scale: float = 1.0,
) -> Classifier | OnnxClassifier:
    """Load a saved classifier, or one exported as ONNX, and check every file against its checksum.

    Args:
        folder: a folder written by `pennyweight train`, `Classifier.save` or `pennyweight export --format onnx`, or
            `owner/name` of a repository on the hub.
        backbone: the current path of the backbone, if it was moved.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `fp32`, `bf16`, `fp16` or `int8`; if None, the one chosen in training if this machine supports it.
        adapter_scale: factor on the adapter's update, see `Classifier.scaled`.

    Raises:
        InputError: one of the last four arguments for an exported model, in which they are fixed.
        ArtifactError: damaged or foreign files.
        ResourceError: ONNX Runtime is not installed.
        StorageError: the hub cannot be reached.
    """
    folder = local_folder(folder)
    if not is_onnx_folder(folder):
        from . import predictor

        return predictor.load(
            folder, backbone=backbone, device=device, precision=precision, adapter_scale=adapter_scale
        )
    from .onnx_classifier import load_onnx

    exported = load_onnx(folder)
    spec = exported.spec
    _refuse(folder, spec, "backbone", backbone, None)
    _refuse(folder, spec, "device", None if device in ("auto", "cpu") else device, None)
    _refuse(folder, spec, "precision", precision, spec.number_format)
    _refuse(folder, spec, "adapter_scale", None if adapter_scale == 1 else adapter_scale, None)
    return exported


def read_input_spec(folder: str | Path) -> InputSpec:
    """How a classifier reads its data; nothing else is loaded. The default for one that cannot be read."""
    folder = local_folder(folder)
    if is_onnx_folder(folder):
        return read_spec(folder).input_spec
    from ..artifact import load_artifact

    return load_artifact.read_input_spec(folder)


def _refuse(folder: str | Path, spec: OnnxSpec, name: str, given: object, fixed: object) -> None:
    if given is not None and given != fixed:
        raise InputError(
            f"an exported ONNX model ({spec.number_format}, on the CPU, its adapter merged) has no {name} to choose",
            where=folder,
            received=f"{name} {given}",
            remedy="leave it out, or use the original classifier",
        )
