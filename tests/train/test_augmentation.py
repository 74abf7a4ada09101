"""Corrupted copies of training texts: drawn by seed and epoch, tokenized once, with their text's label."""

from __future__ import annotations

import numpy as np

from pennyweight.data.batching import Encoded, join, pack
from pennyweight.data.corruption import augmented
from pennyweight.train.augmentation import augment

TEXTS = [f"Text number {number} says that the bank held its rate for a third month in a row." for number in range(40)]


def encode(texts: list[str]) -> Encoded:
    return pack([[ord(letter) for letter in text] for text in texts])


def read(encoded: Encoded, row: int) -> str:
    return "".join(map(chr, encoded.row(row)))


def test_each_epoch_reads_each_text_once_clean_or_as_one_of_its_copies() -> None:
    found = augment(TEXTS, encode(TEXTS), encode, share=0.5, copies=3, epochs=4, seed=1)
    assert found is not None
    assert len(found.tokens) == len(found.texts)
    copies = {
        (text, copy): augmented(TEXTS[text], 1, copy) for text in range(40) for copy in range(3)
    }  # fmt: skip
    for rows in found.epochs:
        assert found.texts[rows].tolist() == list(range(40))
        for text, row in enumerate(rows.tolist()):
            said = read(found.tokens, row)
            assert said == TEXTS[text] if row < 40 else said in {copies[text, copy] for copy in range(3)}
    corrupted = [(rows >= 40).mean() for rows in found.epochs]
    assert all(0.2 < share < 0.8 for share in corrupted)
    assert len({tuple(rows.tolist()) for rows in found.epochs}) == 4
    # Only what is read was made.
    assert set(found.texts[40:]) <= set(range(40))
    assert set(range(40, len(found.texts))) == {row for rows in found.epochs for row in rows[rows >= 40].tolist()}


def test_the_draw_hangs_on_the_seed_and_an_epoch_on_no_other() -> None:
    def rows(seed: int, epochs: int) -> list[str]:
        found = augment(TEXTS, encode(TEXTS), encode, share=0.5, copies=2, epochs=epochs, seed=seed)
        assert found is not None
        return [read(found.tokens, row) for row in found.epochs[1].tolist()]

    assert rows(1, 2) == rows(1, 5)
    assert rows(1, 2) != rows(2, 2)


def test_all_and_none() -> None:
    everything = augment(TEXTS, encode(TEXTS), encode, share=1, copies=1, epochs=1, seed=0)
    assert everything is not None
    assert everything.epochs[0].tolist() == list(range(40, 80))
    assert str(everything) == "augmentation: 40 corrupted copies of 40 texts"
    assert augment(TEXTS, encode(TEXTS), encode, share=0, copies=1, epochs=3, seed=0) is None


def test_rows_lie_end_to_end() -> None:
    both = join(pack([[1, 2], [3]]), pack([[4], [], [5, 6]], truncated=1))
    assert [both.row(row).tolist() for row in range(5)] == [[1, 2], [3], [4], [], [5, 6]]
    assert both.truncated == 1
    assert np.array_equal(both.lengths, [2, 1, 1, 0, 2])
