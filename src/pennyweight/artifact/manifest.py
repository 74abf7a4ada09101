"""The manifest, `pennyweight.json`: facts about a saved classifier, the SHA-256 of every file, and its own.

Damage anywhere is therefore noticed before anything is used. Anybody can seal a manifest: what comes after the
checksums (sizes, numbers, names) is checked as well, see `validation`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import ArtifactError
from ..storage.checksums import seal, sha256, unseal
from .file_contents import damaged, parse_text

FORMAT = 1
LONGEST_NAME = 200
MOST_FILES = 200

_SAFE_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def manifest_text(facts: dict[str, Any], folder: Path, files: list[str]) -> str:
    """The manifest's text: `facts`, and the checksums of `files` in `folder`."""
    return seal({"format": FORMAT} | facts | {"sha256": {name: sha256(folder / name) for name in files}})


def parse_manifest(manifest: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of a manifest, and of these the checksums."""
    content = parse_text(manifest, path)
    _refuse_newer(content, path)
    try:
        facts = unseal(content)
    except ValueError as error:
        raise damaged(path, f"the manifest is damaged: {error}") from error
    digests = facts.get("sha256")
    if not isinstance(digests, dict) or len(digests) > MOST_FILES or facts.get("format") != FORMAT:
        raise damaged(path, "the file is not a manifest")
    for name, digest in digests.items():
        if len(name) > LONGEST_NAME or not _SAFE_NAME.fullmatch(name):
            raise damaged(path, f"the manifest names a file that is not in the folder: {name[:80]!r}")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise damaged(path, f"the manifest has no checksum for {name}")
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
