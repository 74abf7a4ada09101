"""Values of headers, however often they are sent."""

from __future__ import annotations

from pennyweight.serve.web.header_values import members_of, values_of

HEADERS = [(b"a", b" one, two "), (b"b", b"other"), (b"a", b""), (b"a", b"three,, four")]


def test_values_come_one_for_each_header() -> None:
    assert values_of(HEADERS, b"a") == [b"one, two", b"", b"three,, four"]
    assert values_of(HEADERS, b"c") == []


def test_members_come_from_all_headers_and_empty_ones_do_not_count() -> None:
    assert members_of(HEADERS, b"a") == [b"one", b"two", b"three", b"four"]
