import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.data.batching import collate, pack, plan_batches

PLANS = {
    "lengths": st.lists(st.integers(0, 70), max_size=120),
    "batch_size": st.integers(1, 17),
    "bucket": st.sampled_from([1, 8, 16]),
    "seed": st.one_of(st.none(), st.integers(0, 2**40)),
    "epoch": st.integers(0, 50),
    "group": st.booleans(),
}


def texts_like(rows: int = 4000) -> np.ndarray:
    """Lengths as news items have them: mean 53 tokens, most between 30 and 80."""
    return np.clip(np.random.default_rng(7).gamma(9, 6, rows).astype(np.int64), 5, 128)


def padded(lengths: np.ndarray, batch: np.ndarray, bucket: int) -> int:
    return int(-(-max(lengths[batch].max(), 1) // bucket) * bucket)


@given(**PLANS)
def test_every_index_once_and_all_batches_but_one_full(lengths, batch_size, bucket, seed, epoch, group) -> None:
    batches = plan_batches(
        np.array(lengths, dtype=np.int64), batch_size=batch_size, bucket=bucket, seed=seed, epoch=epoch, group=group
    )
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    sizes = sorted(len(batch) for batch in batches)
    assert all(size == batch_size for size in sizes[1:])
    assert len(sizes) == -(-len(lengths) // batch_size)


@given(**PLANS)
def test_the_same_arguments_give_the_same_plan(lengths, batch_size, bucket, seed, epoch, group) -> None:
    once, again = (
        plan_batches(np.array(lengths), batch_size=batch_size, bucket=bucket, seed=seed, epoch=epoch, group=group)
        for _ in range(2)
    )
    assert [batch.tolist() for batch in once] == [batch.tolist() for batch in again]


@pytest.mark.parametrize("group", [True, False])
def test_seed_and_epoch_each_change_the_plan(group: bool) -> None:
    def plan(seed: int, epoch: int) -> list[list[int]]:
        batches = plan_batches(texts_like(200), batch_size=8, bucket=16, seed=seed, epoch=epoch, group=group)
        return [batch.tolist() for batch in batches]

    assert len({str(plan(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_grouped_batches_have_few_shapes_and_each_row_few_blanks() -> None:
    lengths = texts_like()
    batches = plan_batches(lengths, batch_size=32, bucket=16, seed=0, epoch=0, group=True)
    shapes = {(len(batch), padded(lengths, batch, 16)) for batch in batches}
    assert len(shapes) <= 128 // 16
    # Batches that span two padded lengths lie on borders: fewer than there are lengths.
    mixed = [batch for batch in batches if len({-(-length // 16) for length in lengths[batch]}) > 1]
    assert len(mixed) < 128 // 16
    plain = plan_batches(lengths, batch_size=32, bucket=16, seed=0, epoch=0, group=False)
    grouped, shuffled = (
        1 - lengths.sum() / sum(len(batch) * padded(lengths, batch, 16) for batch in each) for each in (batches, plain)
    )
    assert grouped < 0.16
    assert grouped < shuffled / 2


def test_grouped_batches_come_in_no_order_of_length() -> None:
    lengths = texts_like()
    widths = [padded(lengths, batch, 16) for batch in plan_batches(lengths, batch_size=32, bucket=16, seed=0)]
    assert abs(np.corrcoef(widths, range(len(widths)))[0, 1]) < 0.3


def test_each_epoch_brings_others_together() -> None:
    same_length = np.full(1000, 20)
    first, second = (
        {
            frozenset(batch.tolist())
            for batch in plan_batches(same_length, batch_size=10, bucket=16, seed=0, epoch=epoch)
        }
        for epoch in (0, 1)
    )
    assert not first & second


def test_evaluation_takes_the_longest_first_and_ties_in_order() -> None:
    batches = plan_batches(np.array([3, 9, 3, 7, 9]), batch_size=2, bucket=8, seed=None, epoch=0, group=True)
    assert [batch.tolist() for batch in batches] == [[1, 4], [3, 0], [2]]


@pytest.mark.parametrize(("batch_size", "bucket"), [(0, 8), (8, 0)])
def test_sizes_start_at_one(batch_size: int, bucket: int) -> None:
    with pytest.raises(ValueError, match="start at 1"):
        plan_batches(np.array([1]), batch_size=batch_size, bucket=bucket, seed=0)


def test_packing() -> None:
    encoded = pack([[1, 2, 3], [], [4]], type_ids=[[0, 0, 1], [], [0]], truncated=2)
    assert (len(encoded), encoded.truncated) == (3, 2)
    assert encoded.lengths.tolist() == [3, 0, 1]
    assert [encoded.row(index).tolist() for index in range(3)] == [[1, 2, 3], [], [4]]
    assert (encoded.ids.dtype, encoded.offsets.dtype) == (np.int32, np.int64)
    assert encoded.type_ids is not None
    assert encoded.type_ids.tolist() == [0, 0, 1, 0]
    assert pack([[1]]).type_ids is None
    for index in (3, -1):
        with pytest.raises(IndexError):
            encoded.row(index)


def test_packing_nothing() -> None:
    nothing = pack([])
    assert len(nothing) == 0
    assert plan_batches(nothing.lengths, batch_size=4, bucket=8, seed=0) == []


def test_collating_by_hand() -> None:
    encoded = pack([[1, 2, 3], [9], [4, 5, 6, 7, 8]])
    ids, mask = collate(encoded, np.array([2, 0]), pad_id=-1, bucket=4, max_length=128)
    assert ids.tolist() == [[4, 5, 6, 7, 8, -1, -1, -1], [1, 2, 3, -1, -1, -1, -1, -1]]
    assert mask.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_the_padded_length_does_not_pass_max_length() -> None:
    encoded = pack([[1] * 10, [2]])
    assert collate(encoded, np.array([0]), pad_id=0, bucket=8, max_length=12)[0].shape == (1, 12)
    with pytest.raises(ValueError, match="a sequence of 10 tokens is longer than max_length 9"):
        collate(encoded, np.array([1, 0]), pad_id=0, bucket=8, max_length=9)


@given(st.lists(st.lists(st.integers(0, 30_000), max_size=20), min_size=1, max_size=10), st.sampled_from([1, 8, 16]))
def test_collating_loses_and_invents_nothing(rows: list[list[int]], bucket: int) -> None:
    order = np.arange(len(rows))[::-1]
    ids, mask = collate(pack(rows), order, pad_id=-1, bucket=bucket, max_length=64)
    assert ids.shape == mask.shape == (len(rows), padded(np.array([len(row) for row in rows]), order, bucket))
    assert [row[keep == 1].tolist() for row, keep in zip(ids, mask, strict=True)] == rows[::-1]
    assert (ids[mask == 0] == -1).all()
