from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from pennyweight.errors import ArtifactError, DataError, InputError
from pennyweight.evaluate.row_predictions import RowPredictions, aligned, fingerprint, identities
from pennyweight.runs.compare import Run, holm, read_run, side_by_side


def test_runs_on_the_same_rows_are_compared_whatever_their_order(run: Path, second_run: Path) -> None:
    first, second = read_run(run), read_run(second_run)
    assert first.predictions.rows.tolist() != second.predictions.rows.tolist()
    both = side_by_side([first, second])
    (pair,) = both.pairs
    assert (pair.first, pair.second, pair.n) == ("first", "second", 60)
    assert pair.difference == pytest.approx(second.metrics.accuracy - first.metrics.accuracy)
    assert second.trainable < first.trainable
    assert "second" in both.frontier  # the cheapest is never beaten in both
    table = str(both)
    assert table.splitlines()[0].split()[:5] == ["run", "for", "its", "size", "accuracy"]
    assert str(pair) in table
    assert [one["name"] for one in both.to_json()["runs"]] == ["first", "second"]


def test_other_rows_are_refused_and_the_message_says_how_many_are_shared(run: Path) -> None:
    first = read_run(run)
    rows = first.predictions.rows.copy()
    rows[:7] += 1
    other = replace(first, name="other", predictions=replace(first.predictions, rows=rows))
    with pytest.raises(DataError) as caught:
        side_by_side([first, other])
    assert str(caught.value) == (
        "first and other were not measured on the same test rows; expected "
        "60 test rows; received 60 test rows, 53 texts in common; train or evaluate both on the same test file"
    )


def test_other_labels_are_refused(run: Path) -> None:
    first = read_run(run)
    moved = replace(first.predictions, labels=(first.predictions.labels + 1) % len(first.labels))
    with pytest.raises(DataError, match="expected the same label for each text; received 60 texts with another label"):
        side_by_side([first, replace(first, name="other", predictions=moved)])
    renamed = replace(first, name="other", labels=("x", *first.labels[1:]))
    with pytest.raises(DataError, match="expected labels "):
        side_by_side([first, renamed])


def test_labels_in_another_order_are_the_same_labels(run: Path) -> None:
    first = read_run(run)
    count = len(first.labels)
    turned = replace(
        first.predictions,
        labels=(count - 1 - first.predictions.labels).astype(np.int32),
        predicted=(count - 1 - first.predictions.predicted).astype(np.int32),
    )
    (pair,) = side_by_side([first, replace(first, labels=first.labels[::-1], predictions=turned)]).pairs
    assert (pair.only_first, pair.only_second, pair.second) == (0, 0, "first (2)")


def test_one_run_or_an_unfinished_one_is_no_comparison(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comparing takes at least two runs; received 1"):
        side_by_side([read_run(run)])
    with pytest.raises(ArtifactError, match="not a saved classifier"):
        read_run(tmp_path)


def test_dominated_runs_are_off_the_frontier(run: Path) -> None:
    first = read_run(run)

    def like(name: str, accuracy: float, trainable: int) -> Run:
        return replace(first, name=name, trainable=trainable, metrics=replace(first.metrics, accuracy=accuracy))

    runs = [like("a", 0.8, 100), like("b", 0.9, 1000), like("c", 0.7, 500), like("d", 0.9, 2000)]
    found = side_by_side(runs)
    assert found.frontier == ("a", "b")
    assert [point.best for point in found.points()] == [True, True, False, False]
    # Their predictions are the same, so that no test tells them apart, whatever figures they were given.
    assert found.dominated == ()
    assert not any(one["dominated"] for one in found.to_json()["runs"])
    assert "corrected for 6 pairs" in str(found)


def test_a_run_is_dominated_only_where_the_paired_test_says_so(run: Path) -> None:
    first = read_run(run)
    right = first.predictions.labels
    wrong = ((right + 1) % len(first.labels)).astype(np.int32)

    def like(name: str, errors: int, trainable: int) -> Run:
        predicted = np.where(np.arange(len(right)) < errors, wrong, right).astype(np.int32)
        return replace(
            first,
            name=name,
            trainable=trainable,
            predictions=replace(first.predictions, predicted=predicted),
            metrics=replace(first.metrics, accuracy=1 - errors / len(right)),
        )

    found = side_by_side([like("good", 0, 1000), like("nearly", 2, 2000), like("bad", 40, 2000), like("small", 40, 10)])
    assert found.frontier == ("good", "small")
    assert found.dominated == ("bad",)  # `nearly` is not shown to be worse, and `small` is cheaper than what beats it
    lines = str(found).splitlines()[1:5]
    assert [line.split()[1] in ("best", "dominated") and line.split()[1] for line in lines] == [
        "best", False, "dominated", "best",
    ]  # fmt: skip
    tables = str(found).split("\n\n")[:2]  # what does not fit 80 columns stands in a second table
    assert [[line.split()[0] for line in table.splitlines()] for table in tables] == [
        ["run", "good", "nearly", "bad", "small"]
    ] * 2
    assert max(len(line) for table in tables for line in table.splitlines()) <= 80


def test_holm_agrees_with_statsmodels() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_rows_are_known_by_letters_and_digits_not_by_markup() -> None:
    kept = identities(["The AT&amp;T <b>deal</b> #39;s off.", "Another"])
    stripped = identities(["The AT&T deal 's off", "Another!"])
    assert kept.tolist() == stripped.tolist()
    assert fingerprint(kept) == fingerprint(kept[::-1])
    assert fingerprint(kept) != fingerprint(identities(["Another", "one"]))
    assert identities(["!?"]).tolist() != identities(["..."]).tolist()


def test_repeated_texts_stand_for_each_other_label_by_label() -> None:
    def rows(ids: list[int], labels: list[int]) -> RowPredictions:
        many = np.array(labels, dtype=np.int32)
        return RowPredictions(np.array(ids), many, many, np.ones(len(ids), dtype=np.float32))

    order = aligned(rows([5, 5, 7], [0, 1, 2]), rows([7, 5, 5], [2, 1, 0]))
    assert order is not None
    assert order.tolist() == [2, 1, 0]
    assert aligned(rows([5, 5], [0, 1]), rows([5, 7], [0, 1])) is None
    assert aligned(rows([5, 5], [0, 1]), rows([5], [0])) is None


def test_half_kept_predictions_are_refused() -> None:
    whole = RowPredictions(np.arange(3), np.zeros(3), np.zeros(3), np.ones(3)).to_arrays("test")
    assert RowPredictions.from_arrays(whole, "validation") is None
    del whole["test.labels"]
    with pytest.raises(DataError, match="test: the saved predictions are damaged; train again"):
        RowPredictions.from_arrays(whole, "test")
