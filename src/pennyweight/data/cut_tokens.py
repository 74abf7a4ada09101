"""Truncation: counting the tokens of texts longer than `max_length`, which the model does not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .batching import Encoded
from .table import shown

REMEDY = "train with --max-length auto or --long-texts windows to read them"
#: A larger share of the tokens that are cut is worth a warning.
MUCH_CUT = 0.05
#: Of so many texts that come without an end it is known whether much of them is cut.
ENOUGH_TEXTS = 50


@dataclass
class CutTally:
    """The tokens of texts that come one after the other.

    Attributes:
        texts, read, lost: how many texts, and tokens that were read and cut; texts of pairs lose none that is known.
        asked: whether `first_warning` or `warning_once` has answered.
    """

    texts: int = 0
    read: int = 0
    lost: int = 0
    asked: bool = field(default=False, compare=False)

    def add(self, tokens: Encoded) -> None:
        """Count further texts."""
        lost = 0 if tokens.lost is None else int(tokens.lost.sum())
        self.add_counts(len(tokens), int(tokens.lengths.sum()), lost)

    def add_counts(self, texts: int, read: int, lost: int) -> None:
        """Count texts that were counted elsewhere."""
        self.texts += texts
        self.read += read
        self.lost += lost

    def warning(self) -> str | None:
        """A sentence with its remedies; None if at most `MUCH_CUT` of the tokens are cut."""
        share = self.lost / max(1, self.read + self.lost)
        if share <= MUCH_CUT:
            return None
        texts = f"{self.texts:,} text{'' if self.texts == 1 else 's'}"
        return f"{_percent(share)} of the tokens of {texts} are cut off and not read; {REMEDY}"

    def first_warning(self, tokens: Encoded) -> str | None:
        """Count further texts: `warning` when it first has something to say, and None ever after."""
        self.add(tokens)
        found = None if self.asked else self.warning()
        self.asked = self.asked or found is not None
        return found

    def warning_once(self, enough: int = ENOUGH_TEXTS) -> str | None:
        """As `warning`, of the first `enough` texts; None before there are as many, and ever after."""
        if self.asked or self.texts < enough:
            return None
        self.asked = True
        return self.warning()


def cut_share(tokens: Encoded) -> float:
    """The share of the texts' tokens that were cut; 0 for pairs, of which it is not known."""
    lost = 0 if tokens.lost is None else int(tokens.lost.sum())
    return lost / max(1, int(tokens.lengths.sum()) + lost)


def describe_cut(
    tokens: Encoded, max_length: int, part: str, labels: np.ndarray | None = None, names: Sequence[str] = ()
) -> str | None:
    """One sentence on the tokens that were cut, in all and of the class that loses most; None if none was.

    Args:
        tokens: tokens of N texts.
        part: whose they are: `training`, `test`.
        labels: (N,) class numbers, or (N, L) of 0 and 1.
        names: L class names.
    """
    share = cut_share(tokens)
    if not share or tokens.lost is None:
        return None
    said = f"{_percent(share)} of the tokens of the {part} texts are cut at {max_length} tokens"
    if labels is None or not len(names):
        return said
    every = tokens.lengths + tokens.lost
    members = np.eye(len(names))[labels] if labels.ndim == 1 else labels  # (N, L)
    shares = (tokens.lost @ members) / np.maximum(1, every @ members)
    worst = int(shares.argmax())
    return f"{said} (of the class {shown(names[worst])} {_percent(float(shares[worst]))})"


def warn_of_cut(
    tokens: Encoded, max_length: int, part: str, labels: np.ndarray | None = None, names: Sequence[str] = ()
) -> str | None:
    """A warning with its remedies; None if at most `MUCH_CUT` of the tokens are cut. Arguments as `describe_cut`."""
    if cut_share(tokens) <= MUCH_CUT:
        return None
    said = describe_cut(tokens, max_length, part, labels, names)
    return f"{said} and not read; {REMEDY}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.1 else f"{100 * share:.0f}%"
