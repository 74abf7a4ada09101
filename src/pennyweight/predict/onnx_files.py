"""The files of an exported ONNX folder, each read once and checked against its checksum.

What is used are the very bytes that were checked: a folder that is replaced or copied over meanwhile gives one exported
model or the other, or an error, never parts of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ..errors import ArtifactError
from ..storage.untrusted_folder import open_folder, read_inside
from .onnx_spec import LARGEST, MODEL, SPEC, TOKENIZER, WEIGHTS, OnnxSpec, parse_spec, spec_errors

LARGEST_FILES = {TOKENIZER: 256 << 20, MODEL: 2 << 30, WEIGHTS: 64 << 30}  # bytes; a protocol buffer holds 2 GiB


@dataclass(frozen=True)
class OnnxFiles:
    """An exported model as bytes.

    Attributes:
        spec: what `classifier.json` says.
        tokenizer: of `tokenizer.json`.
        model: of `model.onnx`.
        weights: of `model.onnx.data`; None where the model holds its weights.
        digests: SHA-256 of each of these files, `classifier.json` first.
    """

    spec: OnnxSpec
    tokenizer: bytes
    model: bytes
    weights: bytes | None
    digests: tuple[str, ...]


def read_onnx_files(folder: Path) -> OnnxFiles:
    """Read an exported model.

    Raises:
        ArtifactError: a file that is missing, too large, a link, or not the one that `classifier.json` was written for.
    """
    try:
        with open_folder(folder) as root:
            with spec_errors(folder):
                described = read_inside(root, SPEC, LARGEST)
                spec = parse_spec(described)
            files = {SPEC: described}
            for name, largest in LARGEST_FILES.items():
                try:
                    files[name] = read_inside(root, name, largest)
                except FileNotFoundError:
                    if name != WEIGHTS or name in spec.checksums:
                        raise
    except OSError as error:
        raise ArtifactError(
            f"the exported model cannot be read ({error.strerror})",
            where=folder / (error.filename or ""),
            remedy="copy the whole folder again, or export it again; links are not followed",
        ) from error
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    for name, digest in spec.checksums.items():
        if digests[name] != digest:
            raise ArtifactError(
                "a file does not match its checksum",
                where=folder / name,
                remedy=f"copy the whole folder again, or export it again (if you changed the file yourself, delete "
                f'"sha256" from {SPEC})',
            )
    return OnnxFiles(spec, files[TOKENIZER], files[MODEL], files.get(WEIGHTS), tuple(digests.values()))
