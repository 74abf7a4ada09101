"""Whether a saved classifier's folder holds what was saved, and reading its files without trusting them.

The manifest, `pennyweight.json`, lists the SHA-256 of every file and is sealed with its own, so damage anywhere is
noticed before anything is used. Each file is read once, and what is used are the very bytes that were checked: a folder
that is saved again meanwhile gives one classifier or the other, never parts of both. A stranger can seal what he likes:
what comes after the checksums (sizes, numbers, names) is checked as well, and nothing that is read is ever run.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import numpy as arrays
from safetensors.torch import load as load_tensors

from ..errors import ArtifactError
from ..storage.atomic import being_written, former_places
from ..storage.bounded_yaml import bounded_events
from ..storage.checksums import seal, sha256, unseal
from ..storage.untrusted_folder import open_folder, read_inside

FORMAT = 1
NAME = "pennyweight.json"
# What `atomic_items` calls the folders of those who save.
WRITER = "artifact"
# A classifier's files are small; anything larger was not written by us.
LARGEST_FILE = 1 << 30
LARGEST_SUM = 2 << 30
LARGEST_TEXT = 256 << 20  # tokenizers of many languages take tens of MB
LARGEST_RECIPE = 1 << 20
LARGEST_HEADER = 16 << 20
LONGEST_NAME = 200
MOST_FILES = 200
# Folders that libraries read as a whole: a file nobody signed for could change the answers.
CLOSED = ("adapter", "tokenizer")
TEXTS = (".json", ".yaml", ".md", ".txt")

_SAFE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Seconds between looks at a folder that somebody saves into.
_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class Saved:
    """The files of a saved classifier, as they were when their checksums were found right.

    Attributes:
        folder: where they lie, for messages.
        facts: the manifest, and `manifest` its bytes.
        content: the bytes of each file that was asked for, by its name in the manifest.
    """

    folder: Path
    facts: dict[str, Any]
    manifest: bytes
    content: dict[str, bytes]

    def path(self, name: str) -> Path:
        """Where a file lies, for messages: nothing is read there again."""
        return self.folder / name

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def text(self, name: str) -> str:
        """A UTF-8 file."""
        return as_text(self.content[name], self.path(name))

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return as_json(self.content[name], self.path(name))

    def yaml(self, name: str) -> dict[str, Any]:
        """A YAML mapping."""
        return as_yaml(self.content[name], self.path(name))

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """A safetensors file of finite fp32 numbers."""
        return as_tensors(self.content[name], self.path(name))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """A safetensors file of any numbers."""
        return as_arrays(self.content[name], self.path(name))


def text(facts: dict[str, Any], folder: Path, files: list[str]) -> str:
    """The manifest's text: `facts`, and the checksums of `files` in `folder`."""
    return seal({"format": FORMAT} | facts | {"sha256": {name: sha256(folder / name) for name in files}})


def read(folder: Path, required: tuple[str, ...] = (), only: tuple[str, ...] | None = None) -> Saved:
    """The files of a saved classifier, each read once and checked against the manifest.

    Args:
        required: files without which it is no classifier.
        only: read no others; None reads all.

    Raises:
        ArtifactError: no artifact, a newer format, a missing, foreign or damaged file.
    """
    for pause in _PAUSES:
        before = _signature(folder)
        try:
            return _read(folder, required, only)
        except ArtifactError:
            # If nobody saves here, a second look would see the same.
            if not being_written(folder, WRITER) and _signature(folder) == before:
                raise
            time.sleep(pause)
    return _read(folder, required, only)


def _signature(folder: Path) -> tuple[int, ...] | None:
    """Changes whenever another manifest takes the place of the one in a folder."""
    with suppress(OSError, ValueError):
        facts = os.lstat(folder / NAME)
        return facts.st_ino, facts.st_mtime_ns, facts.st_size
    return None


def _read(folder: Path, required: tuple[str, ...], only: tuple[str, ...] | None) -> Saved:
    if not os.path.isdir(folder):
        raise ArtifactError("no such classifier", where=folder, expected="a folder that `pennyweight train` wrote")
    path = folder / NAME
    try:
        with open_folder(folder) as descriptor:
            manifest = _manifest(descriptor, path)
            facts, digests = _facts(manifest, path)
            for name in required:
                if name not in digests:
                    raise damaged(path, f"the manifest does not list {name}")
            kept = former_places(folder, WRITER)
            content, left = {}, LARGEST_SUM
            for name, digest in digests.items():
                if only is None or name in only:
                    content[name] = _checked(descriptor, folder, name, digest, min(left, LARGEST_FILE))
                    left -= len(content[name])
            if not kept and only is None:
                _refuse_unlisted(folder, digests)
    except OSError as error:
        raise damaged(folder, f"the folder cannot be read ({error.strerror})") from error
    return Saved(folder, facts, manifest, content)


def _manifest(root: int, path: Path) -> bytes:
    try:
        return _content(root, path.parent, NAME, LARGEST_TEXT)
    except FileNotFoundError:
        hint = "the run did not finish; go on with --resume" if os.path.isdir(path.parent / "checkpoints") else None
        raise ArtifactError(f"not a saved classifier: no {NAME}", where=path.parent, remedy=hint) from None


def _facts(manifest: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of a manifest, and of these the checksums."""
    content = as_text(manifest, path)
    _refuse_newer(content, path)
    try:
        facts = unseal(content)
    except ValueError as error:
        raise damaged(path, f"the manifest is damaged: {error}") from error
    digests = facts.get("sha256")
    if not isinstance(digests, dict) or len(digests) > MOST_FILES or facts.get("format") != FORMAT:
        raise damaged(path, "the manifest is not one")
    for name, digest in digests.items():
        if len(name) > LONGEST_NAME or not _SAFE_NAME.fullmatch(name):
            raise damaged(path, f"the manifest names a file that is not in the folder: {name[:80]!r}")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise damaged(path, f"the manifest holds no checksum of {name}")
    return facts, digests


def _refuse_newer(content: str, path: Path) -> None:
    """Before the seal is looked at: a newer format may be sealed in another way."""
    try:
        version = json.loads(content)["format"]
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


def _checked(root: int, folder: Path, name: str, digest: str, largest: int) -> bytes:
    """A file's bytes, with the checksum that they must have.

    Where somebody is saving into the folder, or was killed while he did, the file may have been moved aside.
    """
    largest = min(largest, LARGEST_TEXT) if name.endswith(TEXTS) else largest
    problem = damaged(folder / name, "a file is missing")
    for place in ("", *former_places(folder, WRITER)):
        try:
            content = _content(root, folder, f"{place}/{name}".lstrip("/"), largest)
        except FileNotFoundError:
            continue
        if digest_of(content).hexdigest() == digest:
            return content
        if not place:
            problem = damaged(folder / name, "a file does not match its checksum")
    raise problem


def _content(root: int, folder: Path, name: str, largest: int) -> bytes:
    try:
        return read_inside(root, name, largest)
    except FileNotFoundError:
        raise
    except OSError as error:
        problem = f"a file cannot be read ({error.strerror})"
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EINVAL):
            problem = "not a regular file of the folder (links are not followed)"
        if error.errno == errno.EFBIG:
            problem = "a file is far larger than a classifier's files are"
        raise damaged(folder / name, problem) from error


def _refuse_unlisted(folder: Path, digests: dict[str, Any]) -> None:
    for closed in CLOSED:
        for base, folders, files in os.walk(folder / closed):
            links = [name for name in folders if os.path.islink(os.path.join(base, name))]
            for name in sorted([*files, *links]):
                file = Path(base) / name
                if file.relative_to(folder).as_posix() not in digests:
                    raise damaged(file, "a file that the manifest does not list")


def damaged(where: Path, problem: str) -> ArtifactError:
    """The error for a file that is not what was saved."""
    return ArtifactError(problem, where=where, remedy="copy the folder again from its source, or train again")


def as_text(content: bytes, where: Path) -> str:
    """UTF-8 text; this and the functions below take a file's bytes, and where it lies for messages.

    Raises:
        ArtifactError: anything else, as the functions below.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(where, "a file is not UTF-8 text") from error


def as_json(content: bytes, where: Path) -> dict[str, Any]:
    """A JSON object, all of whose numbers are finite."""
    try:
        value = json.loads(as_text(content, where), parse_constant=_refuse_constant, parse_float=_finite)
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


def as_yaml(content: bytes, where: Path) -> dict[str, Any]:
    """A YAML mapping of plain values: no tags, and no aliases, by which a page of text unfolds to gigabytes."""
    import yaml

    if len(content) > LARGEST_RECIPE:
        raise damaged(where, f"a file is far larger than the {LARGEST_RECIPE:,} bytes that it may have")
    written = as_text(content, where)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in bounded_events(written)):
            raise damaged(where, "YAML aliases are not for recipes")
        value = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        raise damaged(where, f"not a plain YAML file ({problem})") from error
    if not isinstance(value, dict):
        raise damaged(where, "not a recipe")
    return value


def as_tensors(content: bytes, where: Path) -> dict[str, torch.Tensor]:
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
            raise damaged(where, f"tensor {name} holds values that are not finite numbers")
    return found


def as_arrays(content: bytes, where: Path) -> dict[str, np.ndarray]:
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
