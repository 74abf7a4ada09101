"""Erasing words, on a classifier whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pennyweight.data.input_spec import InputSpec
from pennyweight.errors import InputError
from pennyweight.predict.explanation import explain, log_odds


class Counting:
    """A stand-in: logit of "sport" is the number of goals in the text, of "business" that of shares, "rest" is 0."""

    labels = ("sport", "business", "rest")
    multi = pair = False
    temperature = 2.0
    input_spec = InputSpec()

    def tokens(self, texts: Sequence[str]) -> Sequence[str]:
        return texts

    def logits_of(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[2.0 * text.count("goal"), 2.0 * text.count("share"), 0.0] for text in texts])


def weights(text: str, label: str | None = None) -> Any:
    return explain(Counting(), text, label)  # type: ignore[arg-type]


def test_the_words_that_count_are_found_with_their_places() -> None:
    found = weights("A goal, then another goal: shares rose.")
    assert (found.label, found.predicted) == ("sport", "sport")
    assert found.probability == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(1) + 1))
    for_it, against = found.strongest()
    assert [word.text for word in for_it] == ["goal", "goal"]
    assert [word.text for word in against] == ["shares"]
    assert all(found.text[word.start : word.end] == word.text for word in found.words)
    assert {word.weight for word in found.words} - {word.weight for word in (*for_it, *against)} == {0.0}


def test_weights_are_what_the_log_odds_lose() -> None:
    (goal,) = [word for word in weights("one goal").words if word.text == "goal"]
    with_goal, without = log_odds(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), 0)
    assert goal.weight == pytest.approx(with_goal - without)


def test_another_label_can_be_asked_for() -> None:
    found = weights("a goal and a share and a goal", "business")
    assert found.label == "business"
    assert str(found).startswith("business: 24.5% (predicted: sport)\n\nspeaks for it\n  ")
    assert [word.text for word in found.strongest()[0]] == ["share"]


def test_scripts_without_spaces_are_weighed_character_by_character() -> None:
    assert [word.text for word in weights("株価goal、don't").words] == ["株", "価", "goal", "、", "don't"]


@pytest.mark.parametrize(
    ("text", "label", "said"),
    [
        ("  ", None, "the text has no words"),
        ("goal", "Sport", "unknown label; expected sport, business, rest; received Sport"),
    ],
)
def test_bad_input_is_refused(text: str, label: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        weights(text, label)


def test_log_odds_do_not_overflow() -> None:
    odds = log_odds(np.array([[1000.0, 0.0], [-1000.0, 0.0]]), 0)
    assert odds.tolist() == [1000.0, -1000.0]
