"""A journal of finished blocks: what a killed run leaves is cut to its last whole block, or refused."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pennyweight.errors import DataError, InputError, StorageError
from pennyweight.predict.journal import open_journal, unfinished_folder

JOB = {"classifier": "a", "source": ["b", None], "options": {"form": "csv"}}


def leave(out: Path, blocks: int = 2, job: dict[str, Any] = JOB, *, resume: bool = False) -> None:
    """What a run leaves that is stopped after so many blocks."""
    with suppress(KeyboardInterrupt), open_journal(out, job, resume=resume) as journal:
        for number in range(blocks):
            journal.append(f"block {number}\n".encode(), 10, 9)
        raise KeyboardInterrupt


def test_a_whole_job_is_one_file(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.csv"
    with open_journal(out, JOB, resume=False) as journal:
        journal.append(b"a\n", 1, 1)
        journal.append(b"b\n", 1, 0)
        assert not out.exists()
        assert (journal.rows, journal.answered, list(journal.parts())) == (2, 1, [b"a\n", b"b\n"])
        journal.publish(out)
    assert out.read_bytes() == b"a\nb\n"
    assert os.listdir(out.parent) == ["out.csv"]


def test_what_is_finished_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    leave(out)
    assert out.read_text() == "old"
    with open_journal(out, JOB, resume=True) as journal:
        assert (journal.rows, journal.answered) == (20, 18)
        journal.append(b"block 2\n", 5, 5)
        journal.publish(out)
    assert out.read_bytes() == b"block 0\nblock 1\nblock 2\n"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize(
    "damage", ["torn line", "torn block", "zeros", "line without its block", "flipped byte", "flipped digit"]
)
def test_what_lies_behind_the_last_whole_block_is_cut_off(damage: str, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    leave(out)
    blocks, lines = unfinished_folder(out) / "blocks", unfinished_folder(out) / "journal"
    rows = 20
    if damage == "torn line":
        with lines.open("ab") as handle:
            handle.write(b"[30, 27, 2")
    elif damage == "torn block":
        with blocks.open("ab") as handle:
            handle.write(b"blo")
    elif damage == "zeros":
        with lines.open("ab") as handle:
            handle.write(b"\0" * 20)
    elif damage == "flipped byte":  # in the second block
        with blocks.open("r+b") as handle:
            handle.seek(10)
            handle.write(b"B")
        rows = 10
    elif damage == "flipped digit":  # of the second line's rows
        lines.write_bytes(lines.read_bytes().replace(b"[20, ", b"[21, "))
        rows = 10
    else:
        os.truncate(blocks, 12)
        rows = 10
    with open_journal(out, JOB, resume=True) as journal:
        assert journal.rows == rows
        for number in range(rows // 10, 3):
            journal.append(f"block {number}\n".encode(), 10, 9)
        journal.publish(out)
    assert out.read_bytes() == b"block 0\nblock 1\nblock 2\n"


def test_another_job_is_not_resumed_and_the_same_is_not_begun_anew(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    leave(out)
    other = JOB | {"classifier": "z", "options": {"form": "jsonl"}}
    with pytest.raises(InputError) as caught, open_journal(out, other, resume=True):
        pass
    assert str(caught.value) == (
        f"{out}: the unfinished run belongs to another job; expected the same classifier, source, options; "
        "received another classifier, options; leave out --resume to start again"
    )
    with pytest.raises(InputError) as caught, open_journal(out, JOB, resume=False):
        pass
    assert str(caught.value) == (
        f"{out}: an interrupted run of this job has already finished 20 rows; continue with --resume, or remove "
        f"{unfinished_folder(out)} to start again"
    )
    with open_journal(out, JOB, resume=True) as journal:
        assert journal.rows == 20  # neither refusal lost a row
    with open_journal(out, other, resume=False) as journal:
        assert journal.rows == 0


def test_nothing_is_left_of_a_job_that_came_to_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    leave(out, blocks=0)
    assert os.listdir(tmp_path) == []
    with suppress(DataError), open_journal(out, JOB, resume=False) as journal:
        journal.append(b"x", 1, 1)
        raise DataError("a broken row")
    assert os.listdir(tmp_path) == []
    with open_journal(out, JOB, resume=True) as journal:  # nothing to resume: begun
        journal.append(b"x", 1, 1)
        journal.publish(out)
    assert out.read_bytes() == b"x"


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with (
        open_journal(out, JOB, resume=False),
        pytest.raises(StorageError, match="another run is writing this file; wait for it, or choose another --out"),
        open_journal(out, JOB, resume=True),
    ):
        pass


def test_the_longest_name_has_a_folder_too(tmp_path: Path) -> None:
    out = tmp_path / ("x" * 251 + ".csv")
    leave(out, blocks=1)
    with open_journal(out, JOB, resume=True) as journal:
        journal.publish(out)
    assert out.read_bytes() == b"block 0\n"


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_only_has_the_folders_name_is_left_alone(kind: str, tmp_path: Path) -> None:
    out, mine = tmp_path / "out.csv", tmp_path / "mine"
    mine.mkdir()
    (mine / "notes").write_text("a year's work")
    folder = unfinished_folder(out)
    folder.symlink_to(mine) if kind == "link" else folder.write_text("a year's work")
    with pytest.raises(StorageError) as caught, open_journal(out, JOB, resume=False):
        pass
    assert str(caught.value) == (
        f"{folder}: finished rows are kept in a folder of this name, but it is something else; "
        "move it away, or choose another --out"
    )
    assert (mine / "notes").read_text() == "a year's work"
    assert folder.is_symlink() if kind == "link" else folder.read_text() == "a year's work"


def test_an_input_that_the_system_fails_to_read_costs_no_finished_block(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with suppress(DataError), open_journal(out, JOB, resume=False) as journal:
        journal.append(b"block 0\n", 10, 9)
        raise DataError("cannot read the file (Input/output error)") from OSError(errno.EIO, "Input/output error")
    with open_journal(out, JOB, resume=True) as journal:
        assert journal.rows == 10


def test_a_full_disk_is_said_of_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out.csv"
    with pytest.raises(StorageError) as caught, open_journal(out, JOB, resume=False):
        pass
    assert str(caught.value).startswith(f"{out}: the disk is full; ")
    assert os.listdir(tmp_path) == []


def test_of_runs_that_begin_and_end_together_each_writes_or_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def run(number: int) -> str:
        try:
            with open_journal(out, JOB, resume=False) as journal:
                journal.append(b"block", 1, 1)
                journal.publish(out)
        except StorageError as error:
            return error.problem
        return ""

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(run, range(400)))
    assert found <= {"", "another run is writing this file"}
    assert "" in found
    assert [item.name for item in tmp_path.iterdir()] == ["out.csv"]
