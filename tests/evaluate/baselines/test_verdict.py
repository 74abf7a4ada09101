import re

import numpy as np
import pytest

from pennyweight.evaluate.baselines.baseline import Baseline
from pennyweight.evaluate.baselines.comparison import BaselineRow, compare_with_baselines
from pennyweight.evaluate.baselines.linear_probe import LINEAR_PROBE
from pennyweight.evaluate.baselines.majority import COMMONEST, MAJORITY
from pennyweight.evaluate.baselines.tfidf import TFIDF
from pennyweight.evaluate.baselines.verdict import Verdict, given_up, verdict
from pennyweight.evaluate.metrics.classification import Metrics, score
from pennyweight.evaluate.metrics.paired_tests import Comparison, compare


def guessing(labels: np.ndarray, accuracy: float, seed: int) -> np.ndarray:
    """Probabilities that are right on about that share of rows."""
    wrong = np.random.default_rng(seed).random(len(labels)) >= accuracy
    return np.eye(3)[(labels + wrong) % 3] * 0.7 + 0.1


def run(accuracy: float, **baselines: float) -> tuple[Metrics, tuple[BaselineRow, ...]]:
    labels = np.arange(900) % 3
    names = {"majority": MAJORITY, "tfidf": TFIDF, "frozen": LINEAR_PROBE}
    probabilities = guessing(labels, accuracy, 0)
    compared = compare_with_baselines(
        labels,
        probabilities.argmax(axis=1),
        [
            Baseline(names[key], guessing(labels, share, 1), 1.5, trivial=key == "majority")
            for key, share in baselines.items()
        ],
    )
    return score(labels, probabilities, list("abc")), compared


def verdict_on(accuracy: float, **baselines: float) -> Verdict:
    metrics, rows = run(accuracy, **baselines)
    return verdict(metrics, {}, rows)


def test_rows_hold_the_baselines_figures() -> None:
    metrics, (row,) = run(0.9, tfidf=0.8)
    assert row.name == TFIDF
    assert 0.77 < row.metrics.accuracy < 0.83
    low, high = row.metrics.accuracy_interval
    assert low < row.metrics.accuracy < high
    assert row.seconds == 1.5
    assert row.comparison.difference == pytest.approx(metrics.accuracy - row.metrics.accuracy)
    assert row.comparison.second == "this classifier"


def test_better_than_all_names_the_strongest() -> None:
    result = verdict_on(0.95, majority=0.33, tfidf=0.8, frozen=0.85)
    assert result.standing == "better"
    assert re.fullmatch(
        r"Better than every baseline\. The best baseline, frozen backbone \+ linear head, reaches 8\d\.\d%; the "
        "classifier leads by "
        r"\d+\.\d points \(95% interval \d+\.\d to \d+\.\d\)\.",
        result.headline,
    )


def test_shuffled_labels_are_said_first() -> None:
    result = verdict_on(0.34, majority=0.33, tfidf=0.9)
    assert result.standing == "no better"
    assert result.headline.startswith("This classifier is no better than the majority class (accuracy 3")
    assert re.search(r"%\)\. TF-IDF \+ logistic regression reaches \d+\.\d%\.$", result.headline)
    assert verdict_on(0.34, majority=0.33, tfidf=0.34).headline.endswith("%).")


def test_a_large_lead_on_few_texts_is_not_called_no_better() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    majority = Baseline(MAJORITY, np.tile([0.5, 0.3, 0.2], (6, 1)), 0.0, trivial=True)
    result = verdict(
        score(labels, np.eye(3)[labels], list("abc")), {}, compare_with_baselines(labels, labels, [majority])
    )
    assert result.standing == "unclear"
    assert result.headline.startswith(
        "Not shown to be better than the majority class (accuracy 100.0%, 95% interval 61.0 to 100.0 on 6 texts; "
        "always predicting the commonest label gives 50.0%). The lead of 50.0 points may be chance; about "
    )


def test_one_strong_baseline_decides() -> None:
    result = verdict_on(0.8, majority=0.33, tfidf=0.95, frozen=0.5)
    assert result.standing == "no better"
    assert re.match(
        r"Worse than the best baseline \(TF-IDF \+ logistic regression, 9\d\.\d%\) by 1\d\.\d points, 95% interval 1",
        result.headline,
    )


def test_an_even_baseline_leaves_it_open() -> None:
    result = verdict_on(0.8, majority=0.33, tfidf=0.8)
    assert result.standing == "unclear"
    assert re.fullmatch(
        r"Tied with the best baseline \(TF-IDF \+ logistic regression, \d\d\.\d%\)\. "
        r"The (lead|deficit) of \d\.\d points may be chance; about \d[\d,]*0 texts would settle it\.",
        result.headline,
    )


def test_equal_figures_are_said_so() -> None:
    labels = np.arange(90) % 3
    probabilities = guessing(labels, 0.8, 0)
    predicted = probabilities.argmax(axis=1)
    rows = compare_with_baselines(labels, predicted, [Baseline(TFIDF, probabilities, 1.0)])
    found = verdict(score(labels, probabilities, list("abc")), {}, rows)
    assert found.headline.endswith("%). Both reach the same accuracy.")


@pytest.mark.parametrize("lead", [3, 10])
def test_the_texts_that_are_said_to_settle_it_do(lead: int) -> None:
    """As many texts as are asked for, with the same shares of disagreement, and the interval leaves 0 out."""

    def comparison(times: float) -> Comparison:
        only_first, only_second, both = (round(times * count) for count in (20, 20 + lead, 300))
        labels = np.zeros(only_first + only_second + both, dtype=int)
        first, second = labels.copy(), labels.copy()
        first[only_first : only_first + only_second] = 1
        second[:only_first] = 1
        return compare(labels, first, second)

    small = comparison(1)
    assert not small.second_is_better
    needed = small.texts_to_settle
    assert needed is not None
    assert comparison(1.15 * needed / small.n).interval[0] > 0
    assert comparison(0.7 * needed / small.n).interval[0] < 0


def test_without_baselines_nothing_is_claimed() -> None:
    metrics, _ = run(0.8)
    result = verdict(metrics, {}, ())
    assert result.standing == "not compared"
    assert result.headline.startswith("This classifier was not compared with any baseline (accuracy ")


def test_with_any_number_of_labels_micro_f1_decides() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (300, 4))

    def noisy(share: float) -> np.ndarray:
        return np.where(random.random(labels.shape) < share, 1 - labels, labels)

    predicted, validation = noisy(0.05), noisy(0.3) * 0.8 + 0.1
    baselines = [
        Baseline(COMMONEST, np.full(labels.shape, 0.5), 0.1, trivial=True, validation=np.full(labels.shape, 0.5)),
        Baseline("another", validation, 0.1, validation=validation),
    ]
    rows = compare_with_baselines(labels, predicted, baselines, validation=labels, unknown=100)
    metrics = score(labels, predicted.astype(float), list("abcd"))
    result = verdict(metrics, {"micro_f1": (0.9, 0.97)}, rows)
    assert result.standing == "better"
    assert result.headline.startswith("Better than every baseline. The best baseline, another, reaches ")
    assert " points of micro F1 (95% interval " in result.headline
    assert rows[1].to_json()["difference"] == pytest.approx(metrics.micro.f1 - rows[1].metrics.micro.f1)
    assert rows[1].metrics.unknown == 100
    assert "p" not in rows[1].to_json()
    worse = compare_with_baselines(labels, np.zeros_like(labels), baselines, validation=labels)
    result = verdict(score(labels, np.zeros(labels.shape), list("abcd")), {"micro_f1": (0.0, 0.0)}, worse)
    assert result.headline == (
        "This classifier is no better than the commonest labels (micro F1 0.0%, 95% interval 0.0 to 0.0; always "
        f"predicting the commonest labels gives {100 * worse[0].score:.1f}%). Another reaches "
        f"{100 * worse[1].score:.1f}%."
    )


def test_a_class_given_up_is_named_and_macro_f1_decides() -> None:
    labels = np.repeat([0, 1, 2], [500, 460, 40])
    ours, theirs = labels.copy(), labels.copy()
    ours[labels == 2] = 0  # right but for the rare class, of which nothing is found
    theirs[:60], theirs[500:560] = 1, 0  # worse by accuracy, with every text of the rare class
    baseline = Baseline(TFIDF, np.eye(3)[theirs] * 0.7 + 0.1, 1.0)
    rows = compare_with_baselines(labels, ours, [baseline])
    found = verdict(score(labels, np.eye(3)[ours] * 0.7 + 0.1, ["a", "b", "rare"]), {}, rows)
    assert found.standing == "no better"
    assert found.headline.startswith("Better than every baseline. ")
    assert re.search(r"But its macro F1, .*, is \d+\.\d points of macro F1 below that of TF-IDF", found.headline)
    assert found.headline.endswith("It misses nearly all texts of the class rare (finds 0 of 40).")


def test_of_many_classes_given_up_three_are_named_with_their_counts() -> None:
    labels = np.repeat(np.arange(6), 10)
    names = [
        "found",
        *(f"class {number} of a name so long that it is cut somewhere before its end" for number in range(5)),
    ]
    found = given_up(score(labels, np.eye(6)[np.zeros(60, int)], names))
    assert found is not None
    assert found.startswith("It misses nearly all texts of 5 classes: class 0 of ")
    assert found.count("(finds 0 of 10)") == 3
    assert found.endswith(" and 2 more.")


def test_paired_macro_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    from pennyweight.evaluate.metrics.bootstrap import paired_macro_f1

    random = np.random.default_rng(0)
    labels, first, second = random.integers(0, 4, (3, 200))
    gap, (low, high) = paired_macro_f1(labels, first, second)
    assert gap == pytest.approx(f1_score(labels, second, average="macro") - f1_score(labels, first, average="macro"))
    assert low < gap < high
