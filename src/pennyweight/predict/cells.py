"""Single values as CSV and JSON have them."""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def csv_cell(value: Any, delimiter: str) -> Any:
    """A value as the csv module is to write it: nothing for NaN, labels joined, other lists and objects as JSON.

    Args:
        delimiter: joins the strings of a list; one of which holds it makes the list JSON.
    """
    if isinstance(value, list) and all(isinstance(part, str) and delimiter not in part for part in value):
        return delimiter.join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return None
    return json_text(value) if isinstance(value, (list, tuple, dict)) else value


def json_text(value: Any) -> str:
    """A value as JSON; null for NaN and infinity, which it does not have."""
    if type(value) is str:
        return encode_basestring(value)
    if value is None:
        return "null"
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
