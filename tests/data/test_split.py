import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennyweight.data.split import split
from pennyweight.errors import DataError

LABELS = np.repeat([0, 1, 2, 3], [400, 300, 200, 100])


@pytest.mark.parametrize(("size", "count"), [(0.1, 100), (100, 100), (0.25, 250), (640, 640)])
def test_by_share_and_by_count(size: float | int, count: int) -> None:
    train, held = split(LABELS, size=size, seed=42)
    assert (len(train), len(held)) == (1000 - count, count)
    assert np.bincount(LABELS[held]).tolist() == [count * 4 // 10, count * 3 // 10, count * 2 // 10, count // 10]


def test_the_seed_decides() -> None:
    first, again, other = (split(LABELS, size=0.2, seed=seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(2, 30), min_size=2, max_size=6),
    size=st.one_of(st.floats(0.01, 0.99), st.integers(1, 100)),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_once_each_class_on_the_training_side_or_a_refusal(counts, size, seed) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    with contextlib.suppress(DataError):
        train, held = split(labels, size=size, seed=seed)
        assert sorted([*train, *held]) == list(range(len(labels)))
        assert (np.diff(train) > 0).all()
        assert (np.diff(held) > 0).all()
        assert set(labels[train]) == set(labels)
        assert train.dtype == held.dtype == np.int64


@pytest.mark.parametrize("size", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_share_out_of_range(refusal, size: float) -> None:
    assert refusal(split, LABELS, size=size, seed=0) == (
        f"the validation size is out of range; expected a share in (0, 1) or rows; received {size}"
    )


@pytest.mark.parametrize("size", [0, 3, 997, 1000, 5000])
def test_a_count_that_leaves_no_room_for_the_classes(refusal, size: int) -> None:
    assert refusal(split, LABELS, size=size, seed=0) == (
        f"cannot hold out {size} of 1000 rows for validation; expected 4 to 996 validation rows, so "
        "that both parts have all 4 classes; change the validation size or add rows"
    )


def test_few_rows_keep_one_of_each_class_for_validation() -> None:
    labels = np.repeat(np.arange(20), 5)
    train, held = split(labels, size=0.1, seed=3)
    assert sorted(labels[held]) == list(range(20))
    assert np.bincount(labels[train]).tolist() == [4] * 20


@pytest.mark.parametrize("seed", range(4))
def test_a_small_class_beside_a_large_one_has_a_validation_row(seed: int) -> None:
    labels = np.repeat([0, 1], [396, 4])
    train, held = split(labels, size=0.1, seed=seed)
    assert sorted([*train, *held]) == list(range(400))
    assert len(held) == 40
    assert (labels[held] == 1).sum() == 1


def test_a_class_with_a_single_row_stays_in_training() -> None:
    labels = np.append(np.repeat([0, 1], 20), 2)
    train, held = split(labels, size=0.25, seed=0)
    assert sorted([*train, *held]) == list(range(41))
    assert 40 in train
    assert set(labels[held]) == {0, 1}


def test_a_class_that_would_only_be_validated(refusal) -> None:
    labels = np.repeat([0, 1], [98, 2])
    assert refusal(split, labels, size=0.95, seed=0) == (
        "class number 1 would have no training rows; received 2 rows of this class, with 95 of 100 rows for "
        "validation; make the validation set smaller or add rows of that class"
    )


def test_one_row_per_class_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"expected 8 rows or more.*; add rows, or train on every row with"):
        split(np.arange(4), size=4, seed=0)
