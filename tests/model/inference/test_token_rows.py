"""Texts as token rows: every token once, groups of one length, batches of so many tokens."""

from __future__ import annotations

import numpy as np
import pytest

from pennyweight.data.batching import pack
from pennyweight.model.inference.token_rows import BLOCK, plan_token_batches, token_rows


def rows_of(lengths: list[int]) -> list[list[int]]:
    return [[100 * number + place for place in range(length)] for number, length in enumerate(lengths)]


@pytest.mark.parametrize(
    "lengths", [[5], [9, 9, 9, 9, 4, 4, 4, 4], [9, 8, 8, 3, 1], [20, 19, 18, 7, 7, 7, 7, 6, 2], [3, 0], [0]]
)
def test_each_text_is_read_from_its_own_rows(lengths: list[int]) -> None:
    texts = rows_of(lengths)
    batch = token_rows(pack(texts), np.arange(len(lengths)), pad_id=-1)
    at, text = 0, 0
    for group in batch.groups:
        assert group.start == at
        for row in range(group.texts):
            begin = at + row * group.length
            assert int(batch.firsts[text]) == begin
            assert batch.ids[begin : begin + lengths[text]].tolist() == texts[text]
            assert batch.ids[begin + lengths[text] : begin + group.length].unique().tolist() in ([], [-1])
            assert batch.places[begin : begin + group.length].tolist() == list(range(group.length))
            if group.mask is None:
                assert group.length == lengths[text]
            else:
                assert group.mask[row].flatten().tolist() == [c < max(1, lengths[text]) for c in range(group.length)]
            text += 1
        at += group.texts * group.length
    assert text == len(lengths)
    assert at <= 1.2 * sum(lengths) + 1  # little padding
    assert batch.ids[at:].unique().tolist() in ([], [-1])
    assert len(batch.ids) == len(batch.places) == -(-at // 16) * 16  # few numbers of rows


def test_segments_come_with_their_tokens() -> None:
    encoded = pack([[1, 2, 3], [4, 5]], type_ids=[[0, 0, 1], [0, 1]])
    batch = token_rows(encoded, np.array([0, 1]), pad_id=0)
    assert batch.types is not None
    assert batch.types.tolist()[:3] == [0, 0, 1]
    assert batch.types.tolist()[int(batch.firsts[1]) :][:2] == [0, 1]


def test_every_text_is_in_one_batch_of_at_most_so_many_tokens() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=500)
    batches = list(plan_token_batches(lengths, most_tokens=100))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        own = lengths[batch]
        assert own.sum() <= 100 or len(batch) == 1
        assert (np.diff(own) <= 0).all()


def test_no_batch_crosses_a_block() -> None:
    lengths = np.ones(BLOCK + 10, dtype=np.int64)
    for batch in plan_token_batches(lengths, most_tokens=100):
        assert len(set((batch // BLOCK).tolist())) == 1


def test_no_texts_are_no_batches() -> None:
    assert list(plan_token_batches(np.zeros(0, dtype=np.int64))) == []
