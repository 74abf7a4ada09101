"""Named text corruptions at severities 1 to 5, the same for the same seed.

Corruptions fall into two families that never mix: `training`, which augmentation may draw from, and `held out`, which
it never does. Only the second measures robustness to what training did not cover. The families differ in kind as
far as their members can: training loses characters, words and ends and gains markup; held out exchanges characters,
changes the order, the signs and the case, and adds sentences about something else.

Source of the idea of named corruptions at five severities: Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from .table import PAIR

Family = Literal["training", "held out"]
SEVERITIES = (1, 2, 3, 4, 5)
MIDDLE = 3

_WORD = re.compile(r"\S+")
_GAP = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")
_PUNCTUATION = re.compile(r"[^\w\s]|_")

# The keys next to each letter on a QWERTY keyboard.
_BESIDE = {
    "q": "wa", "w": "qeas", "e": "wrsd", "r": "etdf", "t": "ryfg", "y": "tugh", "u": "yihj", "i": "uojk", "o": "ipkl",
    "p": "ol", "a": "qwsz", "s": "awedxz", "d": "serfcx", "f": "drtgvc", "g": "ftyhbv", "h": "gyujnb", "j": "huikmn",
    "k": "jiolm", "l": "kop", "z": "asx", "x": "zsdc", "c": "xdfv", "v": "cfgb", "b": "vghn", "n": "bhjm", "m": "njk",
}  # fmt: skip
_DEBRIS = (
    "<br>", "<br />", "</p>", "<p>", "&nbsp;", "&amp;", "#39;", "&quot;", "&lt;b&gt;", "</div>", '<div class="c-body">',
    "<span>", "</span>", '<a href="/p?id=7">', "</a>", "<!-- -->", "\\", "&#8217;",
)  # fmt: skip
# Sentences of every site and of no topic.
_BOILERPLATE = (
    "Please enable cookies to continue reading.",
    "You are receiving this message because you signed up for alerts.",
    "Click here to read the full version of this page.",
    "All rights reserved.",
    "This page may not be copied or passed on without permission.",
    "Share this with your friends.",
    "Log in or create an account to leave a comment.",
    "We value your privacy and use cookies to improve your visit.",
    "To stop these messages, follow the link at the bottom.",
    "Photo: handout.",
    "Last updated a few minutes ago.",
    "Reading time: two minutes.",
    "Did you find this useful? Tell us what you think.",
    "Skip to main content.",
)
_FILLERS = (
    "um,", "like,", "you know,", "I mean,", "so basically", "kind of", "well,", "actually", "to be honest", "right,",
    "or whatever", "and so on and so forth,", "as I was saying,", "anyway,", "let me think,", "honestly",
)  # fmt: skip

Change = Callable[[str, float, random.Random], str]


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Attributes:
        name: as it is asked for.
        family: `training` or `held out`.
        what: what it does, in words.
        parameter: what the numbers in `levels` are.
        levels: the parameter at severities 1 to 5.
        change: (text, parameter, random numbers) to the corrupted text.
    """

    name: str
    family: Family
    what: str
    parameter: str
    levels: tuple[float, float, float, float, float]
    change: Change


def _letters(text: str, share: float, draw: random.Random, change: Callable[[str], str]) -> str:
    return "".join(
        change(letter) if letter.isalpha() and draw.random() < share else letter for letter in text
    )  # fmt: skip


def _drop_characters(text: str, share: float, draw: random.Random) -> str:
    return _letters(text, share, draw, lambda letter: "")


def _repeat_characters(text: str, share: float, draw: random.Random) -> str:
    return _letters(text, share, draw, lambda letter: letter * draw.choice((2, 3)))


def _typos(text: str, share: float, draw: random.Random) -> str:
    def slip(letter: str) -> str:
        near = _BESIDE.get(letter.lower())
        if near is None:
            return letter
        hit = draw.choice(near)
        return hit.upper() if letter.isupper() else hit

    return _letters(text, share, draw, slip)


def _swap_characters(text: str, share: float, draw: random.Random) -> str:
    letters = list(text)
    at = 0
    while at + 1 < len(letters):
        if letters[at].isalpha() and letters[at + 1].isalpha() and draw.random() < share:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
            at += 1  # a letter moves by one place only
        at += 1
    return "".join(letters)


def _words(text: str, share: float, draw: random.Random, change: Callable[[str], str]) -> str:
    return _WORD.sub(lambda word: change(word[0]) if draw.random() < share else word[0], text)


def _drop_words(text: str, share: float, draw: random.Random) -> str:
    kept = [word for word in text.split() if draw.random() >= share]
    return " ".join(kept)


def _lower(text: str, share: float, draw: random.Random) -> str:
    return _words(text, share, draw, str.lower)


def _upper(text: str, share: float, draw: random.Random) -> str:
    return _words(text, share, draw, str.upper)


def _random_case(text: str, share: float, draw: random.Random) -> str:
    return _letters(text, share, draw, str.swapcase)


def _truncate(text: str, words: float, draw: random.Random) -> str:
    found = list(_WORD.finditer(text))
    return text if len(found) <= words else text[: found[int(words) - 1].end()]


def _between_words(text: str, share: float, draw: random.Random, pieces: Sequence[str]) -> str:
    return _GAP.sub(lambda gap: f" {draw.choice(pieces)} " if draw.random() < share else gap[0], text)


def _debris(text: str, share: float, draw: random.Random) -> str:
    return draw.choice(_DEBRIS) + " " + _between_words(text, share, draw, _DEBRIS)


def _ramble(text: str, share: float, draw: random.Random) -> str:
    return f"{draw.choice(('Okay so,', 'So yeah,', 'Right, so', 'Hmm, well,'))} " + _between_words(
        text, share, draw, _FILLERS
    )


def _blanks(text: str, share: float, draw: random.Random) -> str:
    """Gaps are lost or widened, words are cut in two."""

    def cut(word: str) -> str:
        place = draw.randrange(1, len(word)) if len(word) > 1 else 0
        return f"{word[:place]} {word[place:]}".lstrip()

    text = _words(text, share, draw, cut)
    return _GAP.sub(lambda gap: draw.choice(("", "  ", "\t")) if draw.random() < share else gap[0], text)


def _no_punctuation(text: str, share: float, draw: random.Random) -> str:
    return _PUNCTUATION.sub(lambda sign: "" if draw.random() < share else sign[0], text)


def _prefix(text: str, sentences: float, draw: random.Random) -> str:
    return " ".join([*draw.sample(_BOILERPLATE, int(sentences)), text])


def _suffix(text: str, sentences: float, draw: random.Random) -> str:
    return " ".join([text, *draw.sample(_BOILERPLATE, int(sentences))])


def _shuffle_sentences(text: str, times: float, draw: random.Random) -> str:
    parts = _SENTENCE_END.split(text.strip())
    for _ in range(int(times) if len(parts) > 1 else 0):
        one, other = draw.sample(range(len(parts)), 2)
        parts[one], parts[other] = parts[other], parts[one]
    return " ".join(parts)


_LETTERS = (0.02, 0.05, 0.1, 0.15, 0.2)
_WORDS = (0.2, 0.4, 0.6, 0.8, 1.0)
_GAPS = (0.05, 0.1, 0.2, 0.3, 0.4)
_MORE = (1, 2, 3, 4, 5)
_ALL = (
    Corruption("dropped_characters", "training", "letters are lost", "share of letters", _LETTERS, _drop_characters),
    Corruption(
        "repeated_characters", "training", "letters are doubled or tripled", "share of letters", _LETTERS,
        _repeat_characters,
    ),
    Corruption("word_drop", "training", "words are lost", "share of words", (0.1, 0.2, 0.3, 0.4, 0.5), _drop_words),
    Corruption("lower_case", "training", "words are in lower case", "share of words", _WORDS, _lower),
    Corruption("truncation", "training", "the end is cut off", "words kept", (40, 25, 15, 10, 6), _truncate),
    Corruption(
        "html_debris", "training", "tags and entities are added at the start and between words", "share of gaps",
        _GAPS, _debris,
    ),
    Corruption(
        "whitespace", "training", "spaces are lost or widened, words are split", "share of gaps and of words",
        (0.02, 0.05, 0.1, 0.2, 0.3), _blanks,
    ),
    Corruption("keyboard_typos", "held out", "letters become a neighbouring key", "share of letters", _LETTERS, _typos),
    Corruption(
        "swapped_characters", "held out", "neighbouring letters are swapped", "share of pairs", _LETTERS,
        _swap_characters,
    ),
    Corruption("upper_case", "held out", "words are in capitals", "share of words", _WORDS, _upper),
    Corruption(
        "random_case", "held out", "the case of letters is inverted", "share of letters",
        (0.1, 0.2, 0.3, 0.4, 0.5), _random_case,
    ),
    Corruption(
        "no_punctuation", "held out", "punctuation is missing", "share of marks", _WORDS, _no_punctuation
    ),
    Corruption("boilerplate_prefix", "held out", "a website's own sentences come first", "sentences", _MORE, _prefix),
    Corruption("boilerplate_suffix", "held out", "a website's own sentences come last", "sentences", _MORE, _suffix),
    Corruption(
        "sentence_shuffle", "held out", "sentences and clauses are reordered", "exchanges", (1, 2, 4, 8, 16),
        _shuffle_sentences,
    ),
    Corruption("rambling", "held out", "filler words are added, as in chat", "share of gaps", _GAPS, _ramble),
)  # fmt: skip
CORRUPTIONS: dict[str, Corruption] = {one.name: one for one in _ALL}
TRAINING = tuple(one.name for one in _ALL if one.family == "training")
HELD_OUT = tuple(one.name for one in _ALL if one.family == "held out")


def corrupt(text: str, name: str, severity: int, seed: int = 0) -> str:
    """`text` with one corruption. Depends on these four values only, so neither on order nor on what else was done.

    Args:
        name: one of `CORRUPTIONS`.
        severity: 1, hardly visible, to 5; `MIDDLE` is 3.
        seed: any integer.

    Returns:
        The corrupted text; the text itself where a corruption would leave nothing of it.

    Raises:
        InputError: an unknown name, or a severity out of range.
    """
    if name not in CORRUPTIONS:
        raise InputError("no such corruption", expected=f"one of {', '.join(CORRUPTIONS)}", received=name)
    if severity not in SEVERITIES:
        raise InputError("no such severity", expected="1, 2, 3, 4 or 5", received=severity)
    if PAIR in text:  # each text of a pair on its own, so that they stay two
        return PAIR.join(corrupt(part, name, severity, seed) if part else part for part in text.split(PAIR))
    one = CORRUPTIONS[name]
    changed = one.change(text, one.levels[severity - 1], _numbers(seed, name, severity, text))
    return changed if changed.strip() else text


def augmented(text: str, seed: int, copy: int) -> str:
    """`text` with a corruption of the training family and a severity, both drawn by (text, seed, copy)."""
    draw = _numbers(seed, "augmented", copy, text)
    return corrupt(text, draw.choice(TRAINING), draw.choice(SEVERITIES), draw.getrandbits(32))


def _numbers(*parts: object) -> random.Random:
    """Random numbers of their own for each combination. Python's hash() differs from process to process."""
    raw = "\x00".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return random.Random(int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big"))
