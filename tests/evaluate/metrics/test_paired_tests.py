from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference

from pennyweight.errors import DataError
from pennyweight.evaluate.metrics.paired_tests import compare, mcnemar, paired_bootstrap


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (0, 1), (5, 5), (3, 17), (17, 3), (210, 260)])
def test_mcnemar_agrees_with_statsmodels(only_first: int, only_second: int) -> None:
    theirs = reference([[900, only_first], [only_second, 40]], exact=True).pvalue
    assert mcnemar(only_first, only_second) == pytest.approx(theirs, abs=1e-12)


def test_intervals_cover_a_known_difference_in_95_of_100_simulated_pairs() -> None:
    random = np.random.default_rng(2024)
    covered = []
    for seed in range(2000):
        # The first is right on 90%, the second on 92% of all texts there are; 1,000 of them are the test set.
        only_first, only_second, _ = random.multinomial(1000, [0.03, 0.05, 0.92])
        low, high = paired_bootstrap(only_first, only_second, 1000, replications=1000, seed=seed)
        covered.append(low <= 0.02 <= high)
    assert 0.93 <= np.mean(covered[:200]) <= 0.97
    assert 0.935 <= np.mean(covered) <= 0.965


def test_drawing_three_counts_is_resampling_texts() -> None:
    difference = np.repeat([-1, 1, 0], [30, 60, 910])
    random = np.random.default_rng(0)
    means = [difference[random.integers(0, 1000, 1000)].mean() for _ in range(4000)]
    assert paired_bootstrap(30, 60, 1000) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.0025)


def verdicts(only_first: int, only_second: int, n: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, first, second = np.ones(n, int), np.ones(n, int), np.ones(n, int)
    second[:only_first] = 0
    first[only_first : only_first + only_second] = 0
    return labels, first, second


def test_a_clear_difference_in_plain_words() -> None:
    better = compare(*verdicts(20, 60), names=("TF-IDF", "the adapter"))
    assert (better.only_first, better.only_second, better.difference) == (20, 60, 0.04)
    assert better.interval == pytest.approx((0.0225, 0.0575), abs=0.001)
    assert better.second_is_better
    assert not better.first_is_better
    said = str(replace(better, interval=(0.0225, 0.0576)))
    assert said == "the adapter is better than TF-IDF by 4.0 points, 95% interval 2.2 to 5.8"
    worse = compare(*verdicts(60, 20), names=("TF-IDF", "the adapter"))
    assert worse.first_is_better
    said = str(replace(worse, interval=(-0.0576, -0.0225)))
    assert said == "the adapter is worse than TF-IDF by 4.0 points, 95% interval 2.2 to 5.8"


def test_an_unclear_difference_is_called_that() -> None:
    unclear = compare(*verdicts(20, 25))
    assert not unclear.second_is_better
    assert not unclear.first_is_better
    said = str(replace(unclear, interval=(-0.008, 0.018)))
    assert said == ("B is tied with A (difference +0.5 points, 95% interval -0.8 to +1.8, p = 0.55)")


def test_interval_and_test_must_both_agree() -> None:
    torn = replace(compare(*verdicts(20, 25)), interval=(0.001, 0.01), p=0.06)
    assert not torn.second_is_better
    assert not replace(torn, interval=(-0.01, -0.001)).first_is_better


def test_agreement_on_few_texts_is_no_proof_of_equality() -> None:
    same = compare(*verdicts(0, 0, n=10))
    assert same.interval[0] < -0.05
    assert same.interval[1] > 0.05
    assert same.p == 1.0


def test_different_test_sets_are_refused() -> None:
    with pytest.raises(DataError, match=r"^two classifiers can be compared only on the same texts; expected .*\(2,\)"):
        compare(np.ones(3), np.ones(3), np.ones(2))
