"""The files of a saved classifier's folder, read once each and checked against its manifest.

What is used are the very bytes that were checked: a folder that is saved again meanwhile gives one classifier or the
other, never parts of both.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ArtifactError
from ..storage.atomic import being_written, former_places
from ..storage.untrusted_folder import open_folder, read_inside
from .file_contents import damaged, parse_arrays, parse_json, parse_tensors, parse_text, parse_yaml
from .layout import LIBRARY_FOLDERS, MANIFEST, REQUIRED, WRITER
from .manifest import parse_manifest

# A classifier's files are small; anything larger was not written by us.
LARGEST_FILE = 1 << 30
LARGEST_SUM = 2 << 30
LARGEST_TEXT = 256 << 20  # tokenizers of many languages take tens of MB
TEXTS = (".json", ".yaml", ".md", ".txt")

# Seconds between looks at a folder that another process saves into.
_PAUSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class SavedFiles:
    """The files of a saved classifier, as they were when their checksums were found right.

    Attributes:
        folder: where they lie, for messages.
        facts: what the manifest says.
        manifest: its bytes.
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
        return parse_text(self.content[name], self.path(name))

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        return parse_json(self.content[name], self.path(name))

    def yaml(self, name: str) -> dict[str, Any]:
        """A YAML mapping."""
        return parse_yaml(self.content[name], self.path(name))

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """A safetensors file of finite fp32 numbers."""
        return parse_tensors(self.content[name], self.path(name))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """A safetensors file of any numbers."""
        return parse_arrays(self.content[name], self.path(name))


def read_files(folder: Path, only: tuple[str, ...] | None = None) -> SavedFiles:
    """The files of a saved classifier, each read once and checked against the manifest.

    Args:
        only: the files to read; None reads all.

    Raises:
        ArtifactError: no artifact, a newer format, a missing, foreign or damaged file.
    """
    for pause in _PAUSES:
        before = _signature(folder)
        try:
            return _read(folder, only)
        except ArtifactError:
            # If nobody saves here, a second look would see the same.
            if not being_written(folder, WRITER) and _signature(folder) == before:
                raise
            time.sleep(pause)
    return _read(folder, only)


def _signature(folder: Path) -> tuple[int, ...] | None:
    """A value that changes whenever a folder's manifest is replaced."""
    with suppress(OSError, ValueError):
        facts = os.lstat(folder / MANIFEST)
        return facts.st_ino, facts.st_mtime_ns, facts.st_size
    return None


def _read(folder: Path, only: tuple[str, ...] | None) -> SavedFiles:
    if not os.path.isdir(folder):
        raise ArtifactError("no such classifier", where=folder, expected="a folder that `pennyweight train` wrote")
    path = folder / MANIFEST
    try:
        with open_folder(folder) as descriptor:
            manifest = _read_manifest(descriptor, path)
            facts, digests = parse_manifest(manifest, path)
            for name in REQUIRED:
                if name not in digests:
                    raise damaged(path, f"the manifest does not list {name}")
            replaced = former_places(folder, WRITER)
            content, left = {}, LARGEST_SUM
            for name, digest in digests.items():
                if only is None or name in only:
                    content[name] = _read_checked(descriptor, folder, name, digest, min(left, LARGEST_FILE))
                    left -= len(content[name])
            if not replaced and only is None:
                _refuse_unlisted(folder, digests)
    except OSError as error:
        raise damaged(folder, f"the folder cannot be read ({error.strerror})") from error
    return SavedFiles(folder, facts, manifest, content)


def _read_manifest(root: int, path: Path) -> bytes:
    try:
        return _read_inside(root, path.parent, MANIFEST, LARGEST_TEXT)
    except FileNotFoundError:
        hint = (
            "the run did not finish; continue it with --resume" if os.path.isdir(path.parent / "checkpoints") else None
        )
        raise ArtifactError(f"not a saved classifier: no {MANIFEST}", where=path.parent, remedy=hint) from None


def _read_checked(root: int, folder: Path, name: str, digest: str, largest: int) -> bytes:
    """A file's bytes, once their checksum is right.

    While another process saves into the folder, or after one was killed doing so, the file may lie aside.
    """
    largest = min(largest, LARGEST_TEXT) if name.endswith(TEXTS) else largest
    problem = damaged(folder / name, "a file is missing")
    for place in ("", *former_places(folder, WRITER)):
        try:
            content = _read_inside(root, folder, f"{place}/{name}".lstrip("/"), largest)
        except FileNotFoundError:
            continue
        if sha256(content).hexdigest() == digest:
            return content
        if not place:
            problem = damaged(folder / name, "a file does not match its checksum")
    raise problem


def _read_inside(root: int, folder: Path, name: str, largest: int) -> bytes:
    try:
        return read_inside(root, name, largest)
    except FileNotFoundError:
        raise
    except OSError as error:
        problem = f"a file cannot be read ({error.strerror})"
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EINVAL):
            problem = "not a regular file of the folder (links are not followed)"
        if error.errno == errno.EFBIG:
            problem = "a file is far too large for a classifier"
        raise damaged(folder / name, problem) from error


def _refuse_unlisted(folder: Path, digests: dict[str, Any]) -> None:
    for library in LIBRARY_FOLDERS:
        for base, folders, files in os.walk(folder / library):
            links = [name for name in folders if os.path.islink(os.path.join(base, name))]
            for name in sorted([*files, *links]):
                file = Path(base) / name
                if file.relative_to(folder).as_posix() not in digests:
                    raise damaged(file, "a file that the manifest does not list")
