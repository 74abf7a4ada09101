"""`classifier.json` in an exported ONNX folder: what Pennyweight needs to predict with it, and its files' checksums."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..errors import ArtifactError, InputError
from ..storage.checksums import sha256
from ..storage.json_files import write_json
from ..storage.untrusted_folder import open_folder, read_inside

SPEC, MODEL, TOKENIZER = "classifier.json", "model.onnx", "tokenizer.json"
WEIGHTS = f"{MODEL}.data"  # only of a large model
ITEMS = (SPEC, MODEL, WEIGHTS, TOKENIZER)  # what prediction reads
FORMAT = 1
LARGEST = 16 << 20


@dataclass(frozen=True)
class OnnxSpec:
    """An exported model, described.

    Attributes:
        labels: the classes, in the order of the logits.
        input_spec: how texts are read, as in training.
        max_length: texts are cut at this many tokens.
        pad_id: the token that fills batches up.
        delimiter: separates labels written into one cell.
        thresholds: multi-label, the least probability at which each label is given; otherwise empty.
        number_format: `fp32` or `int8`.
        opset: opset of the graph.
        temperature: what was folded into the output layer: the logits are already divided by it.
        difference: the largest difference of logits from Pennyweight's own, when it was exported.
        checksums: of the other files that prediction reads, by name. Empty in folders of older versions, and where
            somebody who changed the model on purpose took them out.
    """

    labels: LabelSet
    input_spec: InputSpec
    max_length: int
    pad_id: int
    delimiter: str
    thresholds: tuple[float, ...] = ()
    number_format: str = "fp32"
    opset: int = 0
    temperature: float = 1.0
    difference: float = 0.0
    checksums: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `classifier.json`."""
        nested = ("labels", "input_spec", "thresholds", "checksums")
        plain = {name: value for name, value in vars(self).items() if name not in nested}
        plain |= {"labels": self.labels.to_json(), "input": self.input_spec.to_json()}
        plain |= {"thresholds": list(self.thresholds), "sha256": self.checksums}
        write_json(folder / SPEC, {"format": FORMAT} | plain)


def checksums_of(folder: Path) -> dict[str, str]:
    """SHA-256 of those files of an exported model that prediction reads besides `classifier.json`, by name."""
    return {name: sha256(folder / name) for name in (MODEL, WEIGHTS, TOKENIZER) if (folder / name).is_file()}


def is_onnx_folder(folder: str | Path) -> bool:
    """Whether a folder holds a model that `pennyweight export --format onnx` or `onnx-int8` wrote."""
    return (Path(folder) / SPEC).is_file() and (Path(folder) / MODEL).is_file()


def read_spec(folder: str | Path) -> OnnxSpec:
    """Read `classifier.json`.

    Raises:
        ArtifactError: when it cannot be read, or contains anything that exporting never writes.
    """
    with spec_errors(folder), open_folder(folder) as root:
        return parse_spec(read_inside(root, SPEC, LARGEST))


@contextmanager
def spec_errors(folder: str | Path) -> Iterator[None]:
    """Raise what goes wrong while `classifier.json` is read as `ArtifactError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        problem = error.problem if isinstance(error, InputError) else f"{type(error).__name__}: {str(error)[:200]}"
        raise ArtifactError(
            f"not a valid description of an exported model ({problem})",
            where=Path(folder) / SPEC,
            remedy="export it again",
        ) from error


def parse_spec(content: bytes) -> OnnxSpec:
    """What `classifier.json` says; for errors see `spec_errors`."""
    return _spec_of(json.loads(content))


def _spec_of(value: Any) -> OnnxSpec:
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']!r} is not {FORMAT}")
    labels = LabelSet.from_json(value["labels"])
    thresholds = tuple(float(one) for one in value["thresholds"])
    if len(thresholds) != (len(labels.names) if labels.multi else 0) or not all(0 < one < 1 for one in thresholds):
        raise ValueError("thresholds that do not fit the labels")
    whole: dict[str, Any] = {name: value[name] for name in ("max_length", "pad_id", "opset")}
    if not all(type(number) is int and 0 <= number < 1 << 31 for number in whole.values()):
        raise ValueError("a length, an id or an opset that is not valid")
    real: dict[str, Any] = {name: float(value[name]) for name in ("temperature", "difference")}
    if not all(math.isfinite(number) for number in real.values()):
        raise ValueError("a number that is not finite")
    words: dict[str, Any] = {name: value[name] for name in ("delimiter", "number_format")}
    if not all(isinstance(word, str) for word in words.values()):
        raise TypeError("a value that is not text")
    checksums = value.get("sha256", {})
    if not isinstance(checksums, dict) or not checksums.keys() <= {MODEL, WEIGHTS, TOKENIZER}:
        raise ValueError("checksums of something else than its files")
    rest = whole | real | words
    return OnnxSpec(labels, InputSpec.from_json(value["input"]), thresholds=thresholds, checksums=checksums, **rest)
