"""One stratified split, the same for the same seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import DataError

Indices = npt.NDArray[np.int64]


def split(labels: npt.NDArray[np.int64], *, size: float | int, seed: int) -> tuple[Indices, Indices]:
    """Take a validation set out of N rows, each class in proportion.

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
    rows, classes = len(labels), np.unique(labels)
    count = int(np.ceil(size * rows)) if isinstance(size, float) else size
    if not len(classes) <= count <= rows - len(classes):
        raise DataError(
            f"a validation set of {count} rows cannot be split off {rows}",
            expected=f"{len(classes)} to {rows - len(classes)} rows, so that each of the {len(classes)} classes "
            "can be on both sides",
            remedy="change the validation size or add rows",
        )
    train, held = train_test_split(np.arange(rows), test_size=count, random_state=seed, stratify=labels)
    lost = np.setdiff1d(classes, labels[train])
    if lost.size:
        raise DataError(
            f"class number {lost[0]} would have no training rows",
            received=f"{int((labels == lost[0]).sum())} rows of it, and a validation set of {count} of {rows}",
            remedy="make the validation set smaller or add rows of that class",
        )
    return np.sort(train), np.sort(held)
