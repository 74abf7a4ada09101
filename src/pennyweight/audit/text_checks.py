"""Checks of a single text: its plain form, damage, left-over markup and script; and its shingles."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from ..data.cleaning import strip_markup

#: Fewer letters and digits than this say too little for any classifier.
NEAR_EMPTY = 10
#: Texts with fewer shingles are compared exactly only: a word more or less would decide.
FEWEST_SHINGLES = 5

#: Texts of fewer words are copies only where nothing but spelling differs: one word may be what they are about.
SHORT = 16

_WORD = re.compile(r"\w+")
_LATIN, _FOREIGN = re.compile("[A-Za-z]"), re.compile(r"[^\x00-\x7f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\ufeff]")
# UTF-8 read as Windows-1252. The bytes 80 to BF, which follow a lead byte, look like this:
_TAIL = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
# Two bytes are taken for damage after the leads of Latin letters only, or when two such pairs follow each other
# (Cyrillic, Greek): "É”" at the end of a quotation is honest.
_MOJIBAKE = re.compile(f"[ÂÃ]{_TAIL}|[à-ï]{_TAIL}{_TAIL}|ð{_TAIL}{_TAIL}{_TAIL}|(?:[ÎÏÐÑ]{_TAIL}){{2,}}")
_SHORT_WORDS = 15  # words longer than this on average belong to a script without blanks


@dataclass(frozen=True)
class NormalizedText:
    """A text as it is compared.

    Attributes:
        words: lower-cased, without markup, punctuation and case.
        identity: 64 bits of a hash of the words' letters and digits; the same as the report's.
        letters: how many letters and digits there are.
        markup: whether tags, entities or stray backslashes were taken out.
    """

    words: list[str]
    identity: int
    letters: int
    markup: bool


def plain(text: str) -> NormalizedText:
    """Bring a text to the form in which texts are compared."""
    once = strip_markup(text)
    folded = (strip_markup(once) if once is not text else once).casefold()
    words = _WORD.findall(folded)
    bare = "".join(words).replace("_", "")
    digest = hashlib.blake2b((bare or text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return NormalizedText(
        words, int.from_bytes(digest, "big", signed=True), len(bare), once is not text and once != text
    )


def shingles(words: list[str]) -> set[str]:
    """Pairs of neighbouring words; runs of three characters where the script has no blanks between words."""
    size = sum(map(len, words))
    if size > _SHORT_WORDS * len(words):
        run = "".join(words)
        return {run[at : at + 3] for at in range(len(run) - 2)}
    return set(map(" ".join, pairwise(words)))


def jaccard(one: set[str] | frozenset[str], other: set[str] | frozenset[str]) -> float:
    """Shared over all shingles; 0 where there are none."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def same_but_for_spelling(one: list[str], other: list[str]) -> bool:
    """Whether two short texts have the same words, typing errors aside.

    "book a table in Rome" is no copy of "book a table in Oslo", nor "turn it on" of "turn it off": in a short text the
    word that differs may be all that tells the classes apart.
    """
    if len(one) != len(other):
        return False
    return all(
        first == second or (first.isalpha() and second.isalpha() and _typo(first, second))
        for first, second in zip(one, other, strict=True)
    )


def _typo(one: str, other: str) -> bool:
    """One letter more, less or other, or two neighbours swapped, in a word of at least five letters."""
    if min(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1:
        return False
    start = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    rest, others = one[start:], other[start:]
    swapped = len(rest) > 1 and len(others) > 1 and rest[0] == others[1] and rest[1] == others[0]
    return rest[1:] == others[1:] or rest[1:] == others or rest == others[1:] or (swapped and rest[2:] == others[2:])


def damage(text: str) -> str | None:
    """A description of damage to a text's encoding; None if there is none."""
    if not text.isascii():
        if "\ufffd" in text:
            return "U+FFFD, the mark of a lost character"
        found = next((run for run in _MOJIBAKE.finditer(text) if _repaired(run) != run[0]), None)
        if found:
            return f"UTF-8 read as Windows-1252: {found[0]!r} for {_repaired(found)!r}"
    control = _CONTROL.search(text)
    return f"control character U+{ord(control[0]):04X}" if control else None


def repair(text: str) -> str:
    """`text` with what `damage` names put right, where that can be known; U+FFFD stays, since what it was is lost."""
    mended = text if text.isascii() else _MOJIBAKE.sub(_repaired, text)
    return _CONTROL.sub("", mended)


def _repaired(run: re.Match[str]) -> str:
    try:
        data = b"".join(bytes([ord(sign)]) if ord(sign) < 256 else sign.encode("cp1252") for sign in run[0])
        return data.decode("utf-8")
    except UnicodeError:
        return run[0]


def script(text: str) -> str:
    """The script of most of a text's letters, by their Unicode names: Latin, Cyrillic, CJK, Arabic..."""
    if text.isascii():
        return "Latin"
    counts = {"Latin": len(_LATIN.findall(text))}
    for letter in _FOREIGN.findall(text):
        if letter.isalpha():
            name = _script(letter)
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=lambda name: counts[name])


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "other").split()[0]
    return first if first == "CJK" else first.capitalize()
