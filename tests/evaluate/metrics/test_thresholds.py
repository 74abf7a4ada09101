"""Thresholds of labels, against trying all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pennyweight.errors import DataError
from pennyweight.evaluate.metrics.classification import Metrics, score
from pennyweight.evaluate.metrics.epoch_metrics import figures, sigmoid
from pennyweight.evaluate.metrics.thresholds import Target, out_of_reach, threshold_for_target, tune_thresholds


def case(seed: int, n: int = 12, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, (n, count))
    labels[0] = 1
    return labels, np.round(draw.random((n, count)), 1) * 0.9 + 0.05  # with ties


def f1(labels: np.ndarray, said: np.ndarray) -> float:
    """What scikit-learn's f1_score gives, a hundred times as fast; 0 where nothing is there and nothing is said."""
    return 2 * float((labels * said).sum()) / max(1, int(labels.sum() + said.sum()))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_thresholds_have_a_better_macro_f1(seed: int) -> None:
    labels, probabilities = case(seed)
    chosen = tune_thresholds(labels, probabilities)
    assert ((chosen > 0) & (chosen < 1)).all()
    best = [max(f1(labels[:, one], probabilities[:, one] >= cut) for cut in np.linspace(0, 1, 201)) for one in range(2)]
    found = f1_score(labels, (probabilities >= chosen).astype(int), average=None, zero_division=0)
    assert found.tolist() == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_micro_f1_is_not_worse_than_any_pair_of_thresholds_allows(seed: int) -> None:
    """Coordinate by coordinate it may stop short of the best pair; it must not be below what one change gives."""
    labels, probabilities = case(seed)
    chosen = tune_thresholds(labels, probabilities, "micro_f1")

    def micro(cuts: tuple[float, ...]) -> float:
        return f1(labels, probabilities >= cuts)

    reached = micro(tuple(chosen))
    said = (probabilities >= chosen).astype(int)
    assert reached == pytest.approx(f1_score(labels, said, average="micro", zero_division=0), abs=1e-12)
    grid = np.linspace(0.0, 1.0, 41)
    assert reached >= micro(tuple(tune_thresholds(labels, probabilities))) - 1e-12
    for one, cut in product(range(2), grid):
        moved = chosen.copy()
        moved[one] = cut
        assert micro(tuple(moved)) <= reached + 1e-12


def test_a_clear_gap_is_cut_in_its_middle_and_an_unseen_label_stays_at_half() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 0]])
    probabilities = np.array([[0.4, 0.9], [0.3, 0.1], [0.1, 0.2]])
    assert tune_thresholds(labels, probabilities).tolist() == pytest.approx([0.2, 0.5])
    assert tune_thresholds(labels, probabilities, "micro_f1").tolist() == pytest.approx([0.2, 0.5])
    assert tune_thresholds(labels, probabilities, "fixed").tolist() == [0.5, 0.5]
    with pytest.raises(DataError, match="labels and probabilities do not fit"):
        tune_thresholds(labels, probabilities[:2])


def test_each_label_is_scored_from_its_own_threshold_on() -> None:
    labels = np.array([[1, 0], [1, 1]])
    probabilities = np.array([[0.3, 0.6], [0.2, 0.8]])
    found = score(labels, probabilities, ["a", "b"], [0.1, 0.7])
    assert (found.exact, found.micro.f1, found.thresholds) == (1.0, 1.0, (0.1, 0.7))
    assert Metrics.from_json(found.to_json()) == found


def test_figures_of_one_evaluation() -> None:
    logits = np.array([[800.0, -800.0], [1.0, -2.0]])
    assert sigmoid(logits)[0].tolist() == [1.0, 0.0]
    assert sigmoid(logits)[1] == pytest.approx(1 / (1 + np.exp([-1.0, 2.0])))
    assert set(figures(np.array([0, 0]), logits, ["a", "b"])) == {"loss", "accuracy", "macro_f1"}
    found = figures(np.array([[1, 0], [1, 1]]), logits, ["a", "b"])
    assert (found["accuracy"], found["micro_f1"]) == (0.5, pytest.approx(0.8))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_targets_against_all_thresholds(seed: int, share: float) -> None:
    labels, probabilities = (each[:, 0] for each in case(seed, 30))

    def figures(cut: float) -> tuple[float, float]:
        said = probabilities >= cut
        right = (labels[said] == 1).sum()
        return right / max(1, said.sum()), right / labels.sum()

    every = [figures(cut) for cut in np.unique(probabilities)]
    found = threshold_for_target(labels, probabilities, Target("precision", share))
    assert figures(found.value) == pytest.approx((found.precision, found.recall))
    reaching = [recall for precision, recall in every if precision >= share - 1e-12]
    assert found.reached == bool(reaching)
    assert found.recall == pytest.approx(max(reaching)) if reaching else found.precision == max(every)[0]
    wanted = threshold_for_target(labels, probabilities, Target("recall", share))
    assert wanted.reached
    assert wanted.precision == pytest.approx(max(precision for precision, recall in every if recall >= share - 1e-12))


def test_every_label_has_its_own_target_and_those_out_of_reach_are_named() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])
    probabilities = np.array([[0.9, 0.2, 0.1], [0.8, 0.9, 0.2], [0.3, 0.6, 0.3], [0.1, 0.8, 0.4]])
    found = tune_thresholds(labels, probabilities, "precision=0.9")
    assert found[0] == pytest.approx(0.55)
    assert found[2] == 0.5, "no row carries it"
    assert out_of_reach(labels, probabilities, "precision=0.9", "abc") == ("b", "c")
    assert out_of_reach(labels, probabilities, "macro_f1", "abc") == ()
