"""Few labels: how candidates are compared and chosen."""

from __future__ import annotations

import numpy as np

from pennyweight.train.few_label_trials import Trial, best_or_usual, choose_trial, halves


def trial(steps: int, right: list[int], strength: float = 1.0) -> Trial:
    """With as many right rows as there are ones, of three classes of like size."""
    labels = np.arange(len(right)) % 3
    return Trial(steps, strength, np.eye(3)[(labels + 1 - np.array(right)) % 3], labels)


def test_on_many_rows_the_contrastive_phase_must_be_ahead() -> None:
    frozen, behind, ahead = (
        trial(0, [1] * 100 + [0] * 50),
        trial(20, [1] * 99 + [0] * 51),
        trial(60, [1] * 101 + [0] * 49),
    )
    assert choose_trial([frozen, behind], forced=False) is frozen
    assert choose_trial([frozen, trial(20, [1] * 100 + [0] * 50)], forced=False) is frozen
    assert choose_trial([frozen, behind, ahead], forced=False) is ahead


def test_on_few_rows_it_may_be_behind_by_less_than_chance() -> None:
    frozen = trial(0, [1] * 20 + [0] * 12)
    assert choose_trial([frozen, near := trial(20, [1] * 17 + [0] * 3 + [1, 1] + [0] * 10)], forced=False) is near
    # 4 rows behind on 8 that differ: 1.4 standard errors.
    assert choose_trial([frozen, near := trial(20, [1] * 14 + [0] * 6 + [1, 1] + [0] * 10)], forced=False) is near
    assert choose_trial([frozen, far := trial(20, [1] * 15 + [0] * 17)], forced=False) is frozen
    assert choose_trial([frozen, far], forced=True) is far
    assert choose_trial([frozen], forced=True) is frozen


def test_a_phase_that_is_no_better_than_the_commonest_class_must_be_ahead() -> None:
    frozen = trial(0, [1] * 12 + [0] * 18)
    chance = trial(20, [1] * 8 + [0] * 4 + [1, 1] + [0] * 16)  # 10 of 30, as always answering one of three classes
    assert not chance.beats_commonest_class
    assert choose_trial([frozen, chance], forced=False) is frozen
    assert choose_trial([frozen, trial(20, [1] * 8 + [0] * 4 + [1] * 3 + [0] * 15)], forced=False) is not frozen
    assert choose_trial([trial(0, [1] * 9 + [0] * 21), chance], forced=False) is chance


def test_another_penalty_must_be_ahead_by_a_standard_error() -> None:
    usual = trial(20, [1] * 80 + [0] * 20)
    # 2 rows ahead on 8 that differ, and 4 rows on 8: 0.7 and 1.4 standard errors.
    near = trial(20, [0] * 3 + [1] * 77 + [1] * 5 + [0] * 15)
    far = trial(20, [0] * 2 + [1] * 78 + [1] * 6 + [0] * 14)
    assert near.rank > usual.rank
    assert best_or_usual(usual, [near, usual]) is usual
    assert best_or_usual(usual, [far, usual, near]) is far


def test_a_shorter_phase_must_have_the_lower_loss_by_a_standard_error() -> None:
    frozen = trial(0, [1] * 60 + [0] * 40)
    short = trial(20, [1] * 80 + [0] * 20)
    # Of 100 rows 4 fewer right, on 8 that differ; and 8 fewer on 8.
    near, far = trial(60, [1] * 74 + [0] * 6 + [1] * 2 + [0] * 18), trial(60, [1] * 72 + [0] * 28)
    assert choose_trial([frozen, short, trial(60, [1] * 80 + [0] * 20)], forced=False).steps == 60
    assert choose_trial([frozen, short, trial(60, [1] * 79 + [0] + [1] + [0] * 19)], forced=False).steps == 60
    assert choose_trial([frozen, short, near], forced=False) is short
    assert choose_trial([frozen, short, far], forced=False) is short
    # Logits of another size say the same.
    same = trial(60, [1] * 81 + [0] * 19)
    loud = Trial(60, 1.0, 8 * same.logits, same.labels)
    assert choose_trial([frozen, short, loud], forced=False) is loud
    # By macro F1 the rare class counts.
    gives_up, finds = [0] * 200, [0] * 178 + [1] * 12 + [1] * 10
    for longest, chosen in ((finds, 60), (gives_up, 20)):
        shorter = gives_up if longest is finds else finds
        trials = [rare(0, gives_up), rare(20, shorter), rare(60, longest)]
        assert choose_trial(trials, forced=True).steps == chosen


def rare(steps: int, guesses: list[int], metric: str = "macro_f1") -> Trial:
    """Predictions of 190 rows of a common class and ten of a rare one."""
    labels = np.array([0] * 190 + [1] * 10)
    return Trial(steps, 1.0, np.eye(2)[guesses] * 4, labels, metric=metric)


def test_candidates_are_compared_by_the_metric_of_the_training_loop() -> None:
    gives_up = [0] * 200  # 95% right
    finds = [0] * 178 + [1] * 12 + [1] * 10  # 94%, and every rare row
    for metric, chosen in (("accuracy", 0), ("auto", 0), ("macro_f1", 20)):
        trials = [rare(0, gives_up, metric), rare(20, finds, metric)]
        assert choose_trial(trials, forced=False).steps == chosen
        assert max(trials, key=lambda trial: trial.rank).steps == chosen
    for metric, chosen in (("accuracy", 20), ("macro_f1", 0)):
        assert choose_trial([rare(0, finds, metric), rare(20, gives_up, metric)], forced=False).steps == chosen
    assert rare(0, gives_up).score == "macro F1 48.7%, 95.0% of 200 held-out rows"
    assert rare(0, gives_up, "auto").score == "95.0% of 200 held-out rows"


def test_by_loss_a_surer_candidate_is_ahead() -> None:
    labels = np.zeros(200, dtype=np.int64)
    sure, unsure = (Trial(steps, 1.0, np.tile([gap, 0.0], (200, 1)), labels, metric="loss") for steps, gap in
                    ((20, 3.0), (0, 1.0)))  # fmt: skip
    assert choose_trial([unsure, sure], forced=False) is sure
    assert sure.rank > unsure.rank


def test_rows_are_held_out_once_each_or_one_half_of_many() -> None:
    labels = np.arange(40) % 4
    found = halves(labels, 0)
    assert sorted(np.concatenate([held for _, held in found]).tolist()) == list(range(40))
    for kept, held in [*found, *halves(np.arange(400) % 4, 0)]:
        assert not set(kept.tolist()) & set(held.tolist())
        assert len(set(np.bincount(labels[kept]).tolist() if len(kept) < 40 else [0])) == 1
    assert len(halves(np.arange(400) % 4, 0)) == 1


def test_the_only_row_of_a_class_is_never_held_out() -> None:
    labels = np.array([0, 1, 1, 1, 1, 2, 2])
    for kept, held in halves(labels, 0):
        assert 0 in kept
        assert sorted([*kept.tolist(), *held.tolist()]) == list(range(7))
    assert halves(np.arange(5), 0) == []
