from collections import Counter

import pytest

from pennyweight.data import sample
from pennyweight.data.labels import fit_labels


def test_the_split_is_whole_and_disjoint() -> None:
    train, test = sample.load("train"), sample.load("test")
    assert (len(train), len(test)) == (480, 880)
    assert sorted([*train.extras["id"], *test.extras["id"]]) == list(range(1360))


def test_the_split_is_stratified_by_class_and_by_style() -> None:
    for split, rows in (("train", 30), ("test", 55)):
        table = sample.load(split)  # type: ignore[arg-type]
        cells = Counter(zip(table.labels or (), table.extras["source"], strict=True))
        assert len(cells) == 16
        assert set(cells.values()) == {rows}


def test_the_split_is_fixed() -> None:
    assert sample.load("test").extras["id"][:8] == [3, 7, 10, 12, 25, 30, 32, 34]
    assert sample.load("train").texts[0].startswith("Six seconds, one slip, no second chance.")


def test_the_classes_are_those_of_ag_news() -> None:
    assert set(fit_labels(sample.load("train")).names) == {"World", "Sports", "Business", "Sci/Tech"}


def test_another_split_is_an_error() -> None:
    with pytest.raises(ValueError, match='splits "train" and "test", not "validation"'):
        sample.load("validation")  # type: ignore[arg-type]
