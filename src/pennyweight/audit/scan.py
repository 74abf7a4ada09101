"""One pass over the rows of every part, which keeps numbers instead of texts; then the checks across rows."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..data.table import Unit
from .disk_store import BandStore, TextStore
from .findings import AuditedPart, Finding
from .near_duplicates import BANDS, NearDuplicates, band_keys, find_near_duplicates
from .text_checks import FEWEST_SHINGLES, NEAR_EMPTY, damage, plain, script, shingles

#: A row's label by name: None if it is missing, a tuple where a row may have any number.
LabelName = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Links:
    """How N rows of all parts hang together; -1 where they do not.

    Attributes:
        first: (N,) the first row of the same part with the same text (itself, if it is that).
        leak: (N,) for rows of later parts the first row of the first part with the same text.
        near: near-duplicates, None if they were left out.
    """

    first: np.ndarray
    leak: np.ndarray
    near: NearDuplicates | None


class Scan:
    """The pass. Parts come one after the other; `add` takes their rows in blocks. Used with `with`: it holds files.

    Args:
        near: look for near-duplicates.
        checks: look at each text for damage, markup and emptiness; otherwise only compare texts.
    """

    def __init__(self, *, near: bool = True, checks: bool = True) -> None:
        self.texts = TextStore()
        self.bands = BandStore(BANDS) if near else None
        self.checks = checks
        self.names: list[str] = []
        self.starts: list[int] = []
        self._places: dict[str, tuple[str, Unit]] = {}
        self.classes: dict[str, int] = {}
        self._labelled: set[str] = set()
        self._members: dict[str, Counter[str]] = {}
        self._scripts: list[Counter[str]] = []
        self._lines, self._codes = array("q"), array("l")
        self._identities, self._characters = array("q"), array("q")
        self._enough = bytearray()
        self._empty, self._markup = bytearray(), bytearray()
        self._damage: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.texts.close()
        if self.bands is not None:
            self.bands.close()

    def part(self, name: str, source: str, unit: Unit) -> None:
        """Begin a part."""
        self.names.append(name)
        self.starts.append(len(self.texts))
        self._places[name] = (source, unit)
        self._scripts.append(Counter())

    def add(self, texts: Sequence[str], labels: Sequence[LabelName] | None, lines: Sequence[int]) -> None:
        """Look at rows: N texts, their labels (None for a missing one, or for all) and positions.

        Of a row with several labels the whole set is its class, so that two rows agree when all their labels do.
        """
        base = len(self.texts)
        sets = []
        for place, text in enumerate(texts):
            form = plain(text)
            pairs = shingles(form.words)
            sets.append(pairs)
            self._identities.append(form.identity)
            self._enough.append(len(pairs) >= FEWEST_SHINGLES)
            self._empty.append(2 if not form.letters else form.letters < NEAR_EMPTY)
            if self.checks:
                self._markup.append(form.markup)
                if found := damage(text):
                    self._damage[base + place] = found
                self._scripts[-1][script(text)] += 1
        self._characters.extend(map(len, texts))
        self._lines.extend(lines)
        if labels is None:
            self._codes.extend([-1] * len(texts))
        else:
            self._labelled.add(self.names[-1])
            known = self.classes
            for name in labels:
                if isinstance(name, tuple):
                    self._members.setdefault(self.names[-1], Counter()).update(name)
                    name = " | ".join(sorted(name))
                self._codes.append(known.setdefault(name, len(known)) if name else -1)
        if self.bands is not None and sets:
            self.bands.add(band_keys(sets))
        self.texts.add(texts)

    def slice(self, name: str) -> slice:
        """Where a part's rows lie among all."""
        number = self.names.index(name)
        ends = [*self.starts[1:], len(self.texts)]
        return slice(self.starts[number], ends[number])

    def column(self, values: array[int] | bytearray) -> np.ndarray:
        """One of the pass's columns as an array (N,)."""
        return np.array(values, dtype=np.int64) if isinstance(values, array) else np.frombuffer(values, dtype=np.uint8)

    def parts(self) -> dict[str, AuditedPart]:
        """The description of each part, without its lengths in tokens."""
        order = sorted(self.classes)
        renumber = np.array([order.index(name) for name in self.classes] + [-1])  # the last for -1
        codes = renumber[self.column(self._codes)].astype(np.int32)
        lines, characters = self.column(self._lines), self.column(self._characters)
        found = {}
        for number, name in enumerate(self.names):
            here = self.slice(name)
            source, unit = self._places[name]
            labels = codes[here] if name in self._labelled else None
            found[name] = AuditedPart(
                source, lines[here], unit, tuple(order), labels, characters[here], np.empty(0, dtype=np.int64),
                dict(self._scripts[number].most_common()),
                dict(sorted(self._members[name].items())) if name in self._members else None,
            )  # fmt: skip
        return found

    def links(self) -> Links:
        """Compare every text with every other, in time about linear in their number."""
        identities = self.column(self._identities)
        empty = self.column(self._empty) == 2
        size = len(identities)
        first, leak = np.arange(size), np.full(size, -1)
        known: tuple[np.ndarray, np.ndarray] | None = None
        for name in self.names:
            here = self.slice(name)
            values, at, inverse = np.unique(identities[here], return_index=True, return_inverse=True)
            first[here] = at[inverse] + here.start
            if known is None:
                known = values, at
            elif len(known[0]):
                place = np.minimum(np.searchsorted(known[0], identities[here]), len(known[0]) - 1)
                leak[here] = np.where(known[0][place] == identities[here], known[1][place], -1)
        first[empty], leak[empty] = np.flatnonzero(empty), -1
        if self.bands is None:
            return Links(first, leak, None)
        eligible = (first == np.arange(size)) & (self.column(self._enough) > 0)
        boundary = self.starts[1] if len(self.starts) > 1 else size
        found = find_near_duplicates(self.bands, self.texts, eligible, boundary)
        return Links(first, leak, found)

    def own_findings(self) -> list[Finding]:
        """Findings about single texts."""
        empty = self.column(self._empty)
        markup = self.column(self._markup)
        found = []
        for name in self.names:
            here = self.slice(name)
            damaged = [row for row in sorted(self._damage) if here.start <= row < here.stop]
            details = tuple(self._damage[row] for row in damaged)
            for kind, title, rows, said, level in (
                ("empty-text", "texts without a letter or digit", np.flatnonzero(empty[here] == 2), "", "problem"),
                (
                    "near-empty-text", f"texts with fewer than {NEAR_EMPTY} letters and digits",
                    np.flatnonzero(empty[here] == 1), "", "note",
                ),
                ("encoding-damage", "texts with damaged encoding", np.array(damaged, int) - here.start, details,
                 "problem"),
                ("markup", "texts with left-over tags, entities or backslashes", np.flatnonzero(markup[here]), "",
                 "note"),
            ):  # fmt: skip
                if len(rows):
                    found.append(Finding(kind, name, title, rows, details=said, level=level))  # type: ignore[arg-type]
        return found
