"""Stratified splits, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .table import shown

Indices = npt.NDArray[np.int64]


def split(labels: npt.NDArray[np.int64], *, size: float | int, seed: int) -> tuple[Indices, Indices]:
    """Take a validation set out of N rows, each class in proportion.

    A class with a single row stays in training. Every other class has at least one validation row: a share that comes
    to fewer rows than classes is taken as one row per class.

    Args:
        labels: (N,) class numbers.
        size: the validation set's share, a float in (0, 1), or its rows, an integer from 1.
        seed: any integer from 0.

    Returns:
        Row numbers of the training and of the validation set, each ascending; together all N.

    Raises:
        DataError: a size that leaves a side empty or smaller than the number of classes, or a class without
            training rows.
    """
    from sklearn.model_selection import train_test_split

    if isinstance(size, float) and not 0 < size < 1:
        raise DataError("the validation size is out of range", expected="a share in (0, 1) or rows", received=size)
    classes, counts = np.unique(labels, return_counts=True)
    alone = np.isin(labels, classes[counts < 2])
    if alone.any() and not alone.all():
        rest = np.flatnonzero(~alone)
        kept, held = split(labels[rest], size=size, seed=seed)
        return np.sort(np.concatenate([rest[kept], np.flatnonzero(alone)])), rest[held]
    rows = len(labels)
    count = max(int(np.ceil(size * rows)), len(classes)) if isinstance(size, float) else size
    if rows < 2 * len(classes):
        raise DataError(
            f"cannot hold out {count} of {rows} rows for validation",
            expected=f"{2 * len(classes)} rows or more, so that both parts have all {len(classes)} classes",
            remedy="add rows, or train on every row with --validation-size 0",
        )
    if not len(classes) <= count <= rows - len(classes):
        raise DataError(
            f"cannot hold out {count} of {rows} rows for validation",
            expected=f"{len(classes)} to {rows - len(classes)} validation rows, so that both parts have all "
            f"{len(classes)} classes",
            remedy="change the validation size or add rows",
        )
    train, held = train_test_split(np.arange(rows), test_size=count, random_state=seed, stratify=labels)
    lost = np.setdiff1d(classes, labels[train])
    if lost.size:
        raise DataError(
            f"class number {lost[0]} would have no training rows",
            received=f"{int((labels == lost[0]).sum())} rows of this class, with {count} of {rows} rows for validation",
            remedy="make the validation set smaller or add rows of that class",
        )
    train, held = _one_of_each(labels, train, held, classes, seed)
    return np.sort(train), np.sort(held)


def _one_of_each(
    labels: npt.NDArray[np.int64], train: Indices, held: Indices, classes: Indices, seed: int
) -> tuple[Indices, Indices]:
    """Exchange rows with the largest classes until every class has a validation row."""
    random = np.random.default_rng([seed, len(labels)])
    for missing in np.setdiff1d(classes, labels[held]):
        found, counts = np.unique(labels[held], return_counts=True)
        largest = found[counts.argmax()]
        inward = random.choice(np.flatnonzero(labels[train] == missing))
        outward = random.choice(np.flatnonzero(labels[held] == largest))
        train[inward], held[outward] = held[outward], train[inward]
    return train, held


def split_multi_label(
    labels: npt.NDArray[np.int64], *, size: float | int, seed: int, names: Sequence[str]
) -> tuple[Indices, Indices]:
    """As `split`, for (N, L) labels of 0 and 1: rows are spread by the rarest label that each carries.

    The single row of a label stays in training.

    Raises:
        DataError: a size that leaves a side empty, or a label that would have no training rows.
    """
    counts = labels.sum(axis=0)
    alone = labels[:, counts == 1].any(axis=1)
    if alone.any() and not alone.all():
        rest = np.flatnonzero(~alone)
        kept, held = split_multi_label(labels[rest], size=size, seed=seed, names=names)
        return np.sort(np.concatenate([rest[kept], np.flatnonzero(alone)])), rest[held]
    rarest = np.where(labels == 1, counts, len(labels) + 1).argmin(axis=1)
    rarest[labels.sum(axis=1) == 0] = labels.shape[1]
    _, groups, rows = np.unique(rarest, return_inverse=True, return_counts=True)
    count = int(np.ceil(size * len(labels))) if isinstance(size, float) else size
    # A row that is alone of its kind cannot be spread: it goes with the largest group.
    groups = np.where(rows[groups] < 2, rows.argmax(), groups)
    if len(np.unique(groups)) > min(count, len(labels) - count):
        groups = np.zeros(len(labels), dtype=np.int64)
    kept, held = split(groups, size=size, seed=seed)
    lost = np.flatnonzero((labels[kept].sum(axis=0) == 0) & (counts > 0))
    if lost.size:
        raise DataError(
            f"label {shown(names[lost[0]])} would have no training rows",
            received=f"{int(counts[lost[0]])} rows with this label, with {len(held)} of {len(labels)} rows for "
            "validation",
            remedy="make the validation set smaller, add rows of that label, or choose another --split-seed",
        )
    return kept, held
