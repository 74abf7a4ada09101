"""Whether a saved classifier's folder holds what was saved, and reading its files without trusting them.

The manifest, `pennyweight.json`, lists the SHA-256 of every file and is sealed with its own, so damage anywhere is
noticed before anything is used. A stranger can seal what he likes: what comes after the checksums (sizes, numbers,
names) is checked as well, and nothing that is read is ever run.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from .errors import ArtifactError
from .files import sealed, sha256, unsealed

FORMAT = 1
NAME = "pennyweight.json"
# A classifier's files are small; anything larger was not written by us.
LARGEST_FILE = 1 << 30
LARGEST_TEXT = 256 << 20  # tokenizers of many languages take tens of MB
LARGEST_RECIPE = 1 << 20
LARGEST_HEADER = 16 << 20
MOST_FILES = 200
# Folders that libraries read as a whole: a file nobody signed for could change the answers.
CLOSED = ("adapter", "tokenizer")

_SAFE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def text(facts: dict[str, Any], folder: Path, files: list[str]) -> str:
    """The manifest's text: `facts`, and the checksums of `files` in `folder`."""
    return sealed({"format": FORMAT} | facts | {"sha256": {name: sha256(folder / name) for name in files}})


def read(folder: Path, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The manifest of a saved classifier, after every file was checked against it.

    Args:
        required: files without which it is no classifier.

    Raises:
        ArtifactError: no artifact, a newer format, a missing, foreign or damaged file.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise ArtifactError("no such classifier", where=folder, expected="a folder that `pennyweight train` wrote")
    if not path.is_file():
        hint = "the run did not finish; go on with --resume" if (folder / "checkpoints").is_dir() else None
        raise ArtifactError(f"not a saved classifier: no {NAME}", where=folder, remedy=hint)
    _refuse_newer(path)
    try:
        manifest = unsealed(read_text(path))
    except ValueError as error:
        raise damaged(path, f"the manifest is damaged: {error}") from error
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or len(digests) > MOST_FILES or manifest.get("format") != FORMAT:
        raise damaged(path, "the manifest is not one")
    for name in required:
        if name not in digests:
            raise damaged(path, f"the manifest does not list {name}")
    for name, digest in digests.items():
        _check_file(folder, name, digest)
    _refuse_unlisted(folder, digests)
    return manifest


def unchecked(path: Path) -> dict[str, Any]:
    """A manifest's values whose files are not checked yet; empty where it cannot be read, which `read` will say."""
    try:
        return unsealed(read_text(path))
    except ValueError:
        return {}


def _refuse_newer(path: Path) -> None:
    """Before the seal is looked at: a newer format may be sealed in another way."""
    try:
        version = json.loads(read_text(path))["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return  # the seal will say so
    if isinstance(version, int) and version > FORMAT:
        raise ArtifactError(
            "this classifier was saved by a newer Pennyweight",
            where=path.parent,
            expected=f"format {FORMAT} or older",
            received=f"format {version}",
            remedy="upgrade: pip install -U pennyweight",
        )


def _check_file(folder: Path, name: str, digest: object) -> None:
    # A name that leads out of the folder, by `..` or by a link, is never followed.
    if not _SAFE_NAME.fullmatch(name) or (folder / name).resolve() != folder.resolve() / name:
        raise damaged(folder / NAME, f"the manifest names a file that is not in the folder: {name[:80]!r}")
    file = folder / name
    if not file.is_file():
        raise damaged(file, "a file is missing")
    if file.stat().st_size > LARGEST_FILE:
        raise damaged(file, "a file is far larger than a classifier's files are")
    try:
        found = sha256(file)
    except OSError as error:
        raise damaged(file, f"a file cannot be read ({error.strerror})") from error
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or found != digest:
        raise damaged(file, "a file does not match its checksum")


def _refuse_unlisted(folder: Path, digests: dict[str, Any]) -> None:
    for closed in CLOSED:
        for file in sorted((folder / closed).rglob("*")):
            if file.relative_to(folder).as_posix() not in digests and not file.is_dir():
                raise damaged(file, "a file that the manifest does not list")


def damaged(where: Path, problem: str) -> ArtifactError:
    """The error for a file that is not what was saved."""
    return ArtifactError(problem, where=where, remedy="copy the folder again from its source, or train again")


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """A UTF-8 file of bounded size.

    Raises:
        ArtifactError: too large, not UTF-8, or not to be read.
    """
    try:
        if path.stat().st_size > largest:
            raise damaged(path, f"a file is far larger than the {largest:,} bytes that it may have")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, "a file is not UTF-8 text") from error
    except OSError as error:
        raise damaged(path, f"a file cannot be read ({error.strerror})") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ArtifactError: anything else.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise damaged(path, "not a JSON object")
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values: no tags, and no aliases, by which a page of text unfolds to gigabytes.

    Raises:
        ArtifactError: anything else.
    """
    import yaml

    content = read_text(path, LARGEST_RECIPE)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, yaml.SafeLoader)):
            raise damaged(path, "YAML aliases are not for recipes")
        value = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        raise damaged(path, f"not a plain YAML file ({problem})") from error
    if not isinstance(value, dict):
        raise damaged(path, "not a recipe")
    return value


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file of fp32 numbers, all of them finite.

    Raises:
        ArtifactError: naming the file and the tensor.
    """
    try:
        with path.open("rb") as handle:
            (header,) = struct.unpack("<Q", handle.read(8))
        if header > LARGEST_HEADER:
            raise damaged(path, f"a header of {header:,} bytes")
        found = load_tensors(path.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError, struct.error) as error:
        raise damaged(path, f"not a readable safetensors file ({error})") from error
    for name, tensor in found.items():
        if tensor.dtype != torch.float32:
            raise damaged(path, f"tensor {name} is of type {tensor.dtype}, not float32")
        if not bool(torch.isfinite(tensor).all()):
            raise damaged(path, f"tensor {name} holds values that are not finite numbers")
    return found
