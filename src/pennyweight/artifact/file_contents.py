"""What the bytes of a saved classifier's files say, read as plain data: nothing that is read is ever run.

The functions take a file's bytes, and where it lies for messages. They raise `ArtifactError` for anything but what
saving writes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as arrays
from safetensors.torch import load as load_tensors

from ..errors import ArtifactError, PennyweightError, ResourceError
from ..storage.bounded_yaml import bounded_events

LARGEST_RECIPE = 1 << 20
LARGEST_HEADER = 16 << 20


def damaged(where: Path, problem: str) -> ArtifactError:
    """The error for a file that is not what was saved."""
    return ArtifactError(problem, where=where, remedy="copy the folder again from its source, or train again")


def parse_text(content: bytes, where: Path) -> str:
    """UTF-8 text; this and the functions below take a file's bytes, and where it lies for messages.

    Raises:
        ArtifactError: anything else, as the functions below.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(where, "a file is not UTF-8 text") from error


def parse_json(content: bytes, where: Path) -> dict[str, Any]:
    """A JSON object, all of whose numbers are finite."""
    try:
        value = json.loads(parse_text(content, where), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise damaged(where, f"not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise damaged(where, "not a JSON object")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large a number")
    return value


def parse_yaml(content: bytes, where: Path) -> dict[str, Any]:
    """A YAML mapping of plain values: no tags, and no aliases, by which a page of text unfolds to gigabytes."""
    import yaml

    if len(content) > LARGEST_RECIPE:
        raise damaged(where, f"a file is larger than the limit of {LARGEST_RECIPE:,} bytes")
    written = parse_text(content, where)
    try:
        try:
            value = _plain_yaml(written, where, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError:  # for the message, or where libyaml is stricter
            value = _plain_yaml(written, where, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        raise damaged(where, f"not a plain YAML file ({problem})") from error
    if not isinstance(value, dict):
        raise damaged(where, "not a recipe")
    return value


def _plain_yaml(written: str, where: Path, loader: Any) -> Any:
    import yaml

    if any(isinstance(event, yaml.AliasEvent) for event in bounded_events(written, loader)):
        raise damaged(where, "a recipe must not use YAML aliases")
    return loader(written).get_single_data()


def parse_tensors(content: bytes, where: Path) -> dict[str, torch.Tensor]:
    """A safetensors file of fp32 numbers, all of them finite."""
    _check_header(content, where)
    try:
        found = load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise damaged(where, f"not a readable safetensors file ({error})") from error
    for name, tensor in found.items():
        if tensor.dtype != torch.float32:
            raise damaged(where, f"tensor {name} is of type {tensor.dtype}, not float32")
        if not bool(torch.isfinite(tensor).all()):
            raise damaged(where, f"tensor {name} has values that are not finite numbers")
    return found


def parse_arrays(content: bytes, where: Path) -> dict[str, np.ndarray]:
    """A safetensors file of numbers of any type."""
    _check_header(content, where)
    try:
        found: dict[str, np.ndarray] = arrays.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise damaged(where, f"not a readable safetensors file ({error})") from error
    return found


def _check_header(content: bytes, where: Path) -> None:
    try:
        (header,) = struct.unpack_from("<Q", content)
    except struct.error as error:
        raise damaged(where, f"not a readable safetensors file ({error})") from error
    if header > LARGEST_HEADER:
        raise damaged(where, f"a header of {header:,} bytes")


@contextmanager
def damage_as_errors(folder: Path) -> Iterator[None]:
    """Turn whatever untrusted values lead to further on into one-line errors, and too little memory too."""
    try:
        yield
    except PennyweightError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower() or "bad_alloc" in str(error):
            raise ResourceError(
                "not enough memory to load this classifier", where=folder, remedy="free some"
            ) from error
        raise damaged(folder, f"unexpected content: {type(error).__name__}: {str(error)[:200]}") from error
