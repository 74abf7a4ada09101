"""Files that are whole or absent: also when the disk is full, when the writer is killed, when two write at once."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.errors import StorageError
from pennyweight.storage.atomic import (
    atomic_file,
    atomic_folder,
    atomic_items,
    being_written,
    former_places,
    recover,
    write_text,
)
from pennyweight.storage.folders import refuse_nonempty_folder
from pennyweight.storage.locks import lock_folder

from .killing import die, killed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(path: Path, text: str) -> None:
    with atomic_folder(path) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "file").write_text(text)


def test_a_file_appears_whole_and_with_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "hällo")
    (tmp_path / "plain").touch()
    assert (tmp_path / "new" / "a.txt").read_bytes() == "hällo".encode()
    assert (tmp_path / "new" / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert names(tmp_path / "new") == ["a.txt"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "one")
    (tmp_path / "a" / "stale").touch()
    write_folder(tmp_path / "a", "two")
    assert (tmp_path / "a" / "deep" / "file").read_text() == "two"
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["deep"]


@pytest.mark.parametrize("kind", [atomic_file, atomic_folder])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, kind: Callable[..., object]) -> None:
    write_text(tmp_path / "a", "before")
    with pytest.raises(RuntimeError), kind(tmp_path / "a"):  # type: ignore[attr-defined]
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "before"
    assert names(tmp_path) == ["a"]


def test_a_rename_that_fails_puts_the_former_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "a", "one")
    replace, calls = Path.replace, []

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    with pytest.raises(StorageError, match="the disk is full"):
        write_folder(tmp_path / "a", "two")
    assert (tmp_path / "a" / "deep" / "file").read_text() == "one"
    assert names(tmp_path) == ["a"]


def test_a_writer_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", "one")

    def work() -> None:
        replace = Path.replace

        def first_only(self: Path, target: Path) -> Path:
            return die() if target == tmp_path / "a" else replace(self, target)  # type: ignore[return-value]

        Path.replace = first_only  # type: ignore[method-assign, assignment]
        write_folder(tmp_path / "a", "two")

    killed(work)
    assert not (tmp_path / "a").exists()
    recover(tmp_path)
    assert (tmp_path / "a" / "deep" / "file").read_text() == "one"
    assert names(tmp_path) == ["a"]


def test_a_killed_writers_leavings_go_with_the_next_write_and_a_living_ones_stay(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_file(tmp_path / "a") as aside:
            aside.write_text("half")
            die()

    killed(work)
    assert len(names(tmp_path)) == 1
    with atomic_file(tmp_path / "a") as aside:
        aside.write_text("first")
        write_text(tmp_path / "a", "second, meanwhile")
        assert aside.read_text() == "first"
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_recover_leaves_everything_else_alone(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a.part").mkdir()
    (tmp_path / ".b.part").touch()
    recover(tmp_path)
    recover(tmp_path / "missing")
    assert names(tmp_path) == [".b.part", ".hidden", "a.part"]


def test_a_file_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(StorageError, match=r"cannot write here \(File exists\); choose another path"):
        write_text(tmp_path / "a" / "b", "x")


def write_items(folder: Path, text: str, names: tuple[str, ...], retired: tuple[str, ...] = ()) -> None:
    with atomic_items(folder, "set", "commit", retired=retired) as aside:
        for name in names:
            (aside / name).mkdir()
            (aside / name / "file").write_text(text)
        (aside / "commit").write_text(text)


def held(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def dying_at(number: int, work: Callable[[], None]) -> bool:
    """Do `work` in a child process that kills itself at its `number`th rename; whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            replace, left = Path.replace, iter(range(number, -1, -1))
            Path.replace = lambda self, target: die() if next(left) == 0 else replace(self, target)  # type: ignore
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_items_replace_each_other_all_or_none_whoever_is_killed(tmp_path: Path) -> None:
    """One item is replaced, one goes, one is new; the writer is killed at each rename, and so is who cleans up."""
    folder = tmp_path / "x"
    for number in range(10):
        for second in range(10):
            write_items(folder, "one", ("both", "old"), retired=("new",))
            (folder / "mine").write_text("mine")
            before = held(folder)
            if not dying_at(number, lambda: write_items(folder, "two", ("both", "new"), retired=("old",))):
                after = {"both/file": "two", "commit": "two", "mine": "mine", "new/file": "two"}
                assert held(folder) == after
                assert number == 5
                return
            again = dying_at(second, lambda: recover(folder))
            recover(folder)
            assert held(folder) == before, (number, second)
            assert names(folder) == ["both", "commit", "mine", "old"]
            if not again:
                break


def test_what_a_writer_replaces_is_found_while_he_writes(tmp_path: Path) -> None:
    write_items(tmp_path, "one", ("a",))
    assert former_places(tmp_path, "set") == []
    assert not being_written(tmp_path, "set")
    with atomic_items(tmp_path, "set", "commit") as aside:
        assert being_written(tmp_path, "set")
        assert [str(tmp_path / place) for place in former_places(tmp_path, "set")] == [str(aside.parent / ".former")]
        (aside / "commit").write_text("two")
    assert held(tmp_path) == {"a/file": "one", "commit": "two"}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_what_libraries_write_has_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    """safetensors writes files that nobody else may read."""
    former = os.umask(mask)
    try:
        with atomic_file(tmp_path / "file") as aside:
            aside.unlink()
            os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic_folder(tmp_path / "folder") as aside:
            (aside / "deep").mkdir(mode=0o700)
            os.close(os.open(aside / "deep" / "file", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(former)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"file": 0o666 & ~mask, "folder": 0o777 & ~mask, "deep": 0o777 & ~mask}


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    name = "ä" * 127 + "x"
    write_text(tmp_path / name, "a")
    write_text(tmp_path / name, "b")
    assert (tmp_path / name).read_text() == "b"
    assert names(tmp_path) == [name]
    refuse_nonempty_folder("n" * 5000)  # nothing is there, and nothing can be
    with pytest.raises(StorageError, match=r"cannot write here \(File name too long\); choose another path"):
        write_text(tmp_path / ("n" * 5000), "x")
    with pytest.raises(StorageError, match="File name too long"), lock_folder(tmp_path / ("n" * 5000)):
        pass
    assert names(tmp_path) == [name]
