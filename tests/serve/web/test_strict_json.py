"""JSON of strangers."""

from __future__ import annotations

import pytest

from pennyweight.serve.web.refusals import Refusal
from pennyweight.serve.web.strict_json import parse_json


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a": ["b", 1, 2.5, true, null, {"c": "d"}]}', {"a": ["b", 1, 2.5, True, None, {"c": "d"}]}),
        (b'\xef\xbb\xbf"a"', "a"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"é"'.encode(), "é"),
    ],
)
def test_json_is_read(body: bytes, found: object) -> None:
    assert parse_json(body) == found


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON at line 1, column 1: Expecting value; received nothing more"),
        (b'{"a": 1]', "the body is not JSON at line 1, column 8: Expecting ',' delimiter; received ]"),
        (b"\xff", "the body is not UTF-8 at byte 0; expected JSON in UTF-8"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "a JSON object has a name twice; received c"),
        (b"[NaN]", "NaN and infinities are not JSON; received NaN"),
        (b"[-Infinity]", "NaN and infinities are not JSON; received -Infinity"),
        (b"[" * 100_000, "the body's JSON is nested too deep"),
        (b"9" * 10_000, "the body's JSON has a number with too many digits"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, error: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_json(body)
    assert (caught.value.status, str(caught.value)) == (400, error)
