"""From the command line's arguments to a registry: folders scanned, backbones compared, the engine chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...artifact import validation
from ...artifact.file_contents import damage_as_errors
from ...artifact.layout import TOKENIZER
from ...artifact.saved_files import read_files
from ...errors import ArtifactError, InputError
from ...model.backbone import Backbone, resolve
from ...model.device import Runtime, choose, set_threads
from ...model.inference.engine import ENCODERS
from ...model.inference.mixed_engine import mixed_engine
from ...predict.onnx_spec import is_onnx_folder
from .classifier_loader import ClassifierLoader
from .lone_classifier import load_lone
from .registry import Entry, Registry, nothing_usable, scan
from .served_folders import ServedFolder, common_backbone, find_classifiers, refuse_backbones


def open_registry(
    sources: Sequence[str],
    *,
    backbone: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    memory: int = 2_000_000_000,
    admin: bool = False,
    threads: int | None = None,
) -> Registry:
    """Find classifiers and make ready to serve them; `Registry.preload` then loads them.

    One classifier alone computes as `pennyweight predict` does: merged, in the number format that was chosen in
    training, on any device. Several, or those that may change while the server runs, share one engine on the CPU.

    Args:
        sources: each a classifier's folder, a folder whose direct children are classifiers, or `NAME=FOLDER`.
        backbone: where the backbone is now, if it moved.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `fp32`, `bf16`; of one classifier alone also `fp16` and `int8`.
        memory: bytes that loaded classifiers may take.
        admin: whether classifiers may be loaded, unloaded and reloaded.
        threads: threads that compute; None for one per physical core.

    Raises:
        InputError: folders without classifiers, a damaged one that was named itself, none that can be used, several
            backbones, or a device, a number format or a backbone's family that several classifiers cannot share.
        ResourceError: a device that is not there, or too little memory.
    """
    places = find_classifiers(sources)
    if len(places) == 1 and not admin:
        registry = _lone_registry(places[0], backbone, device, precision, memory)
        set_threads(threads)
        return registry
    _refuse_onnx(places)
    runtime = _runtime(device, precision, threads)
    entries = [scan(place) for place in places]
    for entry in entries:
        if entry.place.explicit and entry.problem is not None:
            raise ArtifactError(entry.problem)
    if all(entry.summary is None for entry in entries):
        raise nothing_usable(entries)
    found = _shared_backbone(entries, backbone)
    engine = mixed_engine(found, runtime, _pad_id(entries, found))
    if engine is None:
        raise InputError(
            f"backbones of the family {found.config['model_type']} are served one classifier at a time, "
            "without --allow-admin",
            expected=f"one of {', '.join(ENCODERS)}",
            remedy="run a separate server for each classifier",
        )
    return Registry(entries, engine, ClassifierLoader(found, engine), memory, sources, found, runtime)


def _lone_registry(
    place: ServedFolder, backbone: str | None, device: str, precision: str | None, memory: int
) -> Registry:
    lone = load_lone(place, backbone, device, precision)
    registry = Registry([Entry(place, lone.summary)], lone.engine, None, memory, (), lone.backbone, lone.runtime)
    registry.hold(lone.served)
    return registry


def _refuse_onnx(places: Sequence[ServedFolder]) -> None:
    for place in places:
        if is_onnx_folder(place.folder):
            raise InputError(
                "an exported ONNX model can only be served alone, without --allow-admin",
                where=place.folder,
                remedy="serve the original classifier, or run a separate server for this one",
            )


def _runtime(device: str, precision: str | None, threads: int | None) -> Runtime:
    if device not in ("auto", "cpu"):
        raise InputError(
            "several classifiers, or --allow-admin, need the CPU",
            received=f"--device {device}",
            remedy="use --device cpu, or serve one classifier alone",
        )
    if precision not in (None, "auto", "fp32", "bf16"):
        raise InputError(
            "several classifiers, or --allow-admin, share weights in one number format",
            expected="--precision fp32 or bf16",
            received=precision,
            remedy="serve one classifier alone to compute in int8 or fp16",
        )
    return choose("cpu", precision or "auto", threads)


def _shared_backbone(entries: Sequence[Entry], instead: str | None) -> Backbone:
    """The backbone of all classifiers.

    Args:
        instead: where it is now, if it moved.
    """
    summaries = [(entry.place.name, entry.summary) for entry in entries if entry.summary is not None]
    known = [(name, summary.backbone) for name, summary in summaries if summary.backbone is not None]
    if instead is None:
        stored = common_backbone(known)
        return validation.same_backbone(stored, resolve(stored.name, stored.revision))
    found = resolve(instead)
    foreign = [name for name, stored in known if not validation.is_backbone(stored, found)]
    if foreign:
        refuse_backbones(foreign, f"--backbone {instead}")
    return found


def _pad_id(entries: Sequence[Entry], backbone: Backbone) -> int:
    """The padding id of the first tokenizer that can be read: all are the backbone's."""
    for entry in entries:
        if entry.problem is None:
            try:
                saved = read_files(Path(entry.place.folder))
                with damage_as_errors(saved.folder):
                    return validation.check_tokenizer(saved, TOKENIZER, backbone).pad_token_id
            except ArtifactError as error:
                if entry.place.explicit:
                    raise
                entry.problem = str(error)
    raise nothing_usable(entries)
