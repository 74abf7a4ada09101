"""Which words speak for a label and which against it: the prediction is repeated without each word in turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..data.html_table import html_text
from ..data.input_texts import to_text
from ..data.table import shown
from ..errors import InputError
from .predictor import Classifier

# A run of letters or digits, one character of a script without spaces, or a run of marks; U+FDD0 keeps pairs apart.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+(?:['\u2019]\w+)*|[^\w\s\ufdd0]+")
# Every word costs a forward pass. A text of more words is usually truncated anyway.
MOST_WORDS = 512


@dataclass(frozen=True)
class Word:
    """A word at text[start:end]. `weight` is what the label's log odds lose without it, in nats: positive weights
    speak for the label, negative ones against it."""

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The words of a text, in order, with weights for `label`, which has `probability`; `predicted` is the likeliest
    label."""

    text: str
    label: str
    predicted: str
    probability: float
    words: tuple[Word, ...]

    def strongest(self, most: int = 8) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
        """The words that speak most for the label, and most against it, strongest first."""
        ranked = sorted(self.words, key=lambda word: -word.weight)
        return (
            tuple(word for word in ranked[:most] if word.weight > 0),
            tuple(word for word in ranked[::-1][:most] if word.weight < 0),
        )

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        """Plain text: the label, then two lists of words."""
        lines = [f"{self.label}: {100 * self.probability:.1f}%" + ("" if self.label == self.predicted else
                 f" (predicted: {self.predicted})")]  # fmt: skip
        for heading, words in zip(("speaks for it", "speaks against it"), self.strongest(), strict=True):
            lines += ["", heading, *(f"  {word.weight:+6.2f}  {word.text}" for word in words)]
            if not words:
                lines.append("  no word")
        return "\n".join(lines)


@dataclass(frozen=True)
class Erasures:
    """A text, and where its W words stand that are left out in turn; `erase_words` makes it."""

    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def variants(self) -> list[str]:
        """1 + W texts: the whole one, then without each word."""
        return [self.text, *(self.text[:start] + self.text[end:] for start, end in self.spans)]

    def weigh(
        self, logits: np.ndarray, labels: Sequence[str], *, multi: bool, temperature: float, label: str | None = None
    ) -> Explanation:
        """The words with their weights for a label, the predicted one unless another is named.

        Args:
            logits: (1 + W, L) of the variants.
            labels: L names.
            multi: whether they do not exclude each other.
            temperature: logits are divided by it where they do.

        Raises:
            InputError: an unknown label.
        """
        check_label(label, labels)
        logits = logits.astype(np.float64) / (1.0 if multi else temperature)
        predicted = int(logits[0].argmax())
        place = predicted if label is None else labels.index(label)
        # Where labels do not exclude each other, a label's logit is its log odds.
        odds = logits[:, place] if multi else log_odds(logits, place)  # (1 + W,)
        words = tuple(
            Word(self.text[start:end], start, end, float(odds[0] - without))
            for (start, end), without in zip(self.spans, odds[1:].tolist(), strict=True)
        )
        probability = float(1 / (1 + np.exp(-odds[0])))
        return Explanation(self.text, labels[place], labels[predicted], probability, words)


def erase_words(text: str) -> Erasures:
    """The words of a text, the first `MOST_WORDS` of them.

    Raises:
        InputError: it has none.
    """
    spans = tuple(match.span() for match in islice(_WORD.finditer(text), MOST_WORDS))
    if not spans:
        raise InputError("the text has no words", received=text[:40])
    return Erasures(text, spans)


def check_label(label: str | None, labels: Sequence[str]) -> None:
    """Refuse a label that is none of a classifier's.

    Raises:
        InputError: for one.
    """
    if label is not None and label not in labels:
        raise InputError("unknown label", expected=", ".join(labels), received=shown(label))


def explain(classifier: Classifier, text: str | tuple[str, str], label: str | None = None) -> Explanation:
    """Weight every word of a text for a label, the predicted one unless another is named.

    Erasure rather than gradients: it says what the classifier would have predicted, needs no backward pass, and works
    the same for every backbone and number format. It does not see words that only matter together.

    Raises:
        InputError: for a text without words or an unknown label.

    Source: Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation Erasure", 2016,
    https://arxiv.org/abs/1612.08220
    """
    erasures = erase_words(classifier.input_spec.cleaned(to_text(text, classifier.pair)))
    check_label(label, classifier.labels)
    logits = classifier.logits_of(classifier.tokens(erasures.variants))
    return erasures.weigh(
        logits, classifier.labels, multi=classifier.multi, temperature=classifier.temperature, label=label
    )


def log_odds(logits: np.ndarray, place: int) -> np.ndarray:
    """(N,) log(p / (1 - p)) of one class from logits (N, L), without forming p."""
    others = np.delete(logits, place, axis=1)
    top = others.max(axis=1)
    rest: np.ndarray = top + np.log(np.exp(others - top[:, None]).sum(axis=1))
    difference: np.ndarray = logits[:, place] - rest
    return difference
