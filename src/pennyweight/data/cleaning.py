"""Filters over texts, with a report of what they dropped and changed."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import DataError
from .table import Table

Markup = Literal["keep", "strip", "drop"]

# Left-overs of web pages and feeds, as AG News is full of them: `#39;` and `quot;` whose ampersand became a blank,
# `&lt;b&gt;`, real tags, and a backslash where a line broke or before a dollar.
_ENTITY = re.compile(r"&(#?\w{2,8});")
_BARE_ENTITY = re.compile(r"&(#?\w{2,8});| ?(#\d{2,6}|#x[0-9a-fA-F]{2,6}|\b(?:quot|amp|lt|gt|nbsp|apos));")
_SIGNS = ("&", "<", "\\", "#", "quot;", "amp;", "lt;", "gt;", "nbsp;", "apos;")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>|<!--.{0,500}?-->", re.DOTALL)
_BREAK = re.compile(r"(?<!\\)\\++(?=[A-Za-z\s]|$)")
_ESCAPE = re.compile(r"\\(?=[$#%&_])")
_BLANKS = re.compile(r"[ \t\u00a0]{2,}")


@dataclass(frozen=True)
class CleanReport:
    """The numbers of texts that `clean` dropped and changed.

    Attributes:
        kept: rows left.
        dropped: filter (markup, empty, short, long) -> rows it dropped. Every filter that ran is named, 0 included.
        changed: filter -> texts it changed.
    """

    kept: int
    dropped: dict[str, int]
    changed: dict[str, int]

    def __str__(self) -> str:
        parts = [f"{rows:,} {name}" for name, rows in self.dropped.items() if rows]
        parts += [f"{rows:,} stripped of {name}" for name, rows in self.changed.items() if rows]
        return f"{self.kept:,} rows kept" + (f" ({', '.join(parts)})" if parts else "")


def clean(
    table: Table, *, min_chars: int = 1, max_chars: int | None = None, markup: Markup = "keep"
) -> tuple[Table, CleanReport]:
    """Filter a table. Rows without a visible character are always dropped.

    Args:
        table: N rows.
        min_chars: the shortest text kept, in characters, blanks around it not counted.
        max_chars: the longest text kept; None, any.
        markup: "keep" leaves tags and entities in; "strip" takes them out; "drop" drops the rows that have any.

    Returns:
        The table of the rows kept, in order, and what was done.

    Raises:
        DataError: nothing is left.
    """
    texts = table.texts
    changed = {}
    bare: list[str] = texts
    if markup != "keep":
        bare = [strip_markup(text) for text in texts]
    if markup == "strip":
        changed["markup"] = sum(new != old for new, old in zip(bare, texts, strict=True))
        texts = bare
    dropped = dict.fromkeys(["markup"] if markup == "drop" else [], 0) | {"empty": 0, "short": 0}
    dropped |= {} if max_chars is None else {"long": 0}
    kept = []
    for row, text in enumerate(texts):
        size = len(text.strip())
        if not size:
            dropped["empty"] += 1
        elif markup == "drop" and bare[row] != text:
            dropped["markup"] += 1
        elif size < min_chars:
            dropped["short"] += 1
        elif max_chars is not None and size > max_chars:
            dropped["long"] += 1
        else:
            kept.append(row)
    if not kept:
        raise DataError(
            "no rows are left after cleaning",
            received=f"{len(table)} rows: " + ", ".join(f"{rows} {name}" for name, rows in dropped.items() if rows),
            remedy="relax the filters or check the text column",
            where=table.source,
        )
    cleaned = table if texts is table.texts else replace(table, texts=texts)
    return (cleaned if len(kept) == len(table) else cleaned.select(kept)), CleanReport(len(kept), dropped, changed)


def strip_markup(text: str) -> str:
    """`text` without tags, entities and stray backslashes. "3 < 5" and "AT&T" stay as they are."""
    if not any(sign in text for sign in _SIGNS):  # most texts have none, and looking is cheap
        return text
    # Those with an ampersand first: in `&amp;lt;` the second is whole only when the first is undone.
    stripped = _BARE_ENTITY.sub(_character, _ENTITY.sub(_character, text))
    stripped = _TAG.sub(" ", stripped)
    stripped = _ESCAPE.sub("", _BREAK.sub(" ", stripped))
    return text if stripped == text else _BLANKS.sub(" ", stripped).strip()


def _character(match: re.Match[str]) -> str:
    """The character of an entity; what only looks like one ("R&D;") stays."""
    entity = f"&{match[match.lastindex or 0]};"
    letter = html.unescape(entity)
    return match[0] if letter == entity else letter.replace("\u00a0", " ")
