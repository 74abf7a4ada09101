"""Parsing untrusted JSON: cases that RFC 8259 leaves open are refused."""

from __future__ import annotations

import json
from typing import Any

from .refusals import Refusal


def parse_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        Refusal: status 400 for anything else, for a name that an object has twice, for NaN and the infinities, which
            are no JSON, for numbers of more digits than Python converts, and for values nested too deep.
    """
    try:
        # A byte order mark is no part of JSON, but some programs on Windows send one (RFC 8259, section 8.1).
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(400, "json", f"the body is not UTF-8 at byte {error.start}", expected="JSON in UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise Refusal(
            400, "json", f"the body is not JSON at line {error.lineno}, column {error.colno}: {error.msg}",
            received=text[error.pos : error.pos + 40] or "nothing more",
        ) from None  # fmt: skip
    except RecursionError:
        raise Refusal(400, "json", "the body's JSON is nested too deep") from None
    except ValueError:  # a number of thousands of digits
        raise Refusal(400, "json", "the body's JSON has a number with too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Refusal(400, "json", "a JSON object has a name twice", received=twice)
    return found


def _constant(word: str) -> Any:
    raise Refusal(400, "json", "NaN and infinities are not JSON", received=word)
