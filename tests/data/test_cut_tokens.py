"""Tokens that are cut, counted over texts that come one after the other."""

from dataclasses import replace

import numpy as np

from pennyweight.data.batching import Encoded, pack
from pennyweight.data.cut_tokens import CutTally


def texts(lengths: list[int], lost: list[int] | None) -> Encoded:
    return replace(
        pack([[0] * length for length in lengths]), lost=None if lost is None else np.array(lost, dtype=np.int64)
    )


def test_a_tally_warns_once_more_than_a_twentieth_is_cut() -> None:
    tally = CutTally()
    assert tally.warning() is None
    tally.add(texts([8, 4], None))
    tally.add(texts([7], [1]))
    assert (tally.texts, tally.read, tally.lost) == (3, 19, 1)
    assert tally.warning() is None, "a twentieth"
    tally.add(texts([8], [12]))
    assert tally.warning() == (
        "32% of the tokens of 4 texts are cut off and not read; train with --max-length auto or "
        "--long-texts windows to read them"
    )


def test_of_texts_without_an_end_a_tally_warns_once_there_are_enough() -> None:
    tally = CutTally()
    tally.add(texts([5] * 49, [5] * 49))
    assert tally.warning_once() is None
    tally.add_counts(1, 5, 5)
    assert str(tally.warning_once()).startswith("50% of the tokens of 50 texts are cut off and not read; ")
    assert (tally.asked, tally.warning_once()) == (True, None)
    few = CutTally()
    few.add(texts([5], [5]))
    assert str(few.warning_once(0)).startswith("50% of the tokens of 1 text are cut off and not read; ")
