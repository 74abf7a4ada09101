import pytest
from scipy.stats import binomtest

from pennyweight.errors import DataError
from pennyweight.evaluate.metrics.intervals import wilson


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 10), (608, 640), (1, 10_000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_scipy(correct: int, n: int, level: float) -> None:
    theirs = binomtest(correct, n).proportion_ci(level, method="wilson")
    assert wilson(correct, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_proportion(correct: int, n: int) -> None:
    with pytest.raises(DataError, match=f"^a proportion needs .*; received {correct} of {n}$"):
        wilson(correct, n)
