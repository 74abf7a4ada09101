"""JSON files as Pennyweight writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .atomic import write_text


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically: two-space indent, keys as given, NaN refused."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """JSON text as in all our files: two-space indent, keys as given, NaN refused."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
