from pennyweight.evaluate.metrics.pareto_front import pareto_front


def test_what_nothing_beats_in_both_is_on_the_front() -> None:
    scores, prices = [0.8, 0.9, 0.7, 0.9, 0.8], [100, 1000, 500, 2000, 100]
    assert pareto_front(scores, prices).tolist() == [True, True, False, False, True]
    assert pareto_front([], []).tolist() == []
