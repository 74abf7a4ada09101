"""A submission is checked before it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.data.sources import read_python
from pennyweight.errors import DataError
from pennyweight.predict.submission import check_submission, read_ids

IDS = ["7", "8", "9"]


def written(folder: Path, text: str) -> Path:
    path = folder / "submission.csv"
    path.write_text(text, "utf-8")
    return path


def test_a_whole_submission_may_leave_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path, "ID,Label\n9,0\n7,1\n8,1\n")
    found = check_submission(path, IDS, 3)
    assert found.counts == {0: 1, 1: 2, 2: 0}
    assert str(found) == f"{path}: 3 rows, every id once, labels in range (0: 1, 1: 2, 2: 0)"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("7,0\n8,0\n", "1 ids missing: 9"),
        ("7,0\n8,0\n9,0\n10,0\n", "1 ids unknown: 10 (line 5)"),
        ("7,0\n8,0\n9,0\n9,1\n", "1 ids repeated: 9"),
        ("7,0\n8,3\n9,World\n", "2 labels not a class number from 0 to 2: '3' (line 3), 'World' (line 4)"),
        ("7,0\n8,-1\n9,1.0\n", "2 labels not a class number from 0 to 2: '-1' (line 3), '1.0' (line 4)"),
        ("7,0\n8,9\n", "1 ids missing: 9 | 1 labels not a class number from 0 to 2: '9' (line 3)"),
    ],
)
def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, body: str, said: str) -> None:
    path = written(tmp_path, f"ID,Label\n{body}")
    with pytest.raises(DataError) as caught:
        check_submission(path, IDS, 3)
    assert str(caught.value) == f"{path}: the submission would be refused: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a submission; expected ID,Label; received"),
        ("id,label\n7,0\n", "not a submission; expected ID,Label; received id,label"),
        ("ID,Label\n7\n", "a row does not have two cells; received 1 such rows"),
    ],
)
def test_what_is_no_submission_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_submission(written(tmp_path, text), IDS, 3)
    with pytest.raises(DataError, match=r"no such submission"):
        check_submission(tmp_path / "none.csv", IDS, 3)


def test_ids_are_the_files_own_or_row_numbers() -> None:
    assert read_ids(read_python([{"id": 7, "text": "a", "label": "x"}, {"id": 9, "text": "b", "label": "y"}])) == [
        "7",
        "9",
    ]
    assert read_ids(read_python([("a", "x"), ("b", "y")])) == ["0", "1"]


def test_ids_of_a_submission_are_neither_made_up_nor_repeated(
    tiny_run: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    source, out = tmp_path / "test.csv", tmp_path / "out.csv"

    def refused(text: str) -> str:
        source.write_text(text, "utf-8")
        done = command(
            "predict", tiny_run, source, "--submission", "--label-order", "Sports,World,Business", "--out", out
        )
        assert done.code == 2
        assert not out.exists()
        return str(done.error)

    assert refused("PassengerId,text\n892,The bank\n893,The cup\n") == (
        "column PassengerId looks like the ids of the submission; confirm it with --id-column PassengerId, or rename "
        "the column if it is something else"
    )
    assert refused("id,text\n1,The bank\n2,The cup\n1,The polls\n") == (
        "texts 1 and 3 have the same id; expected different ids in a submission; received 1"
    )
    assert refused("id,text\n1,The bank\n,The cup\n") == (
        "text 2 has no id; expected an id for each text of a submission"
    )


def test_empty_texts_are_counted(tiny_run: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    source = tmp_path / "test.jsonl"
    source.write_text('{"text": "The bank"}\n{"txt": "a typo"}\n{"text": null}\n', "utf-8")
    done = command("predict", tiny_run, source, "--text-columns", "text")
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert f"{source}: 2 empty texts, labelled like any other: 2, 3" in done.err.splitlines()
