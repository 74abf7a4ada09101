"""SHA-256 of files, and JSON text that carries its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .json_files import to_json


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seal(value: dict[str, Any]) -> str:
    """JSON text that carries the SHA-256 of the rest of itself as its last key, `seal`."""
    return to_json(value | {"seal": hashlib.sha256(to_json(value).encode()).hexdigest()})


def unseal(text: str) -> dict[str, Any]:
    """The value of a text that `seal` wrote. Any changed byte is noticed, white space included.

    Raises:
        ValueError: not JSON, or it was changed after it was saved.
    """
    try:
        value = json.loads(text)
        rest = {key: part for key, part in value.items() if key != "seal"}
        whole = seal(rest) == text
    except (AttributeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError("not a sealed object") from error
    if not whole:
        raise ValueError("it was changed after it was saved")
    return rest
