"""Sealed JSON: what was changed is noticed."""

from __future__ import annotations

import pytest

from pennyweight.storage.checksums import seal, unseal


def test_sealed_json_comes_back_and_nan_is_refused() -> None:
    value = {"b": [1, 0.1, None, True], "a": "ä\u2028", "1": {"x": 1e-12}}
    assert unseal(seal(value)) == value
    with pytest.raises(ValueError, match="Out of range float"):
        seal({"a": float("nan")})


def test_a_seal_notices_every_single_byte() -> None:
    text = seal({"name": "x", "numbers": [1, 2.5], "nested": {"a": None}}).encode()
    for place in range(len(text)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytearray(text)
            changed[place] ^= mask
            with pytest.raises(ValueError):  # noqa: PT011 (UnicodeDecodeError, JSONDecodeError, our own)
                unseal(changed.decode())


@pytest.mark.parametrize("text", ["", "null", "[]", '"seal"', "{}", '{"seal": "x"}', "[" * 100_000, '"\\ud800"'])
def test_what_was_never_sealed_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        unseal(text)
