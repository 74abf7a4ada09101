"""Files that are whole or absent: also when the disk is full, when the writer is killed, when two write at once."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.errors import StorageError
from pennyweight.storage import files

FULL = "the disk is full; free some space and run again; what was saved before is intact"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(work: Callable[[], None]) -> None:
    """Do `work` in a child process, which must kill itself on the way."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_folder(path: Path, text: str) -> None:
    with files.atomic_folder(path) as aside:
        (aside / "deep").mkdir()
        (aside / "deep" / "file").write_text(text)


def test_a_file_appears_whole_and_with_the_usual_permissions(tmp_path: Path) -> None:
    files.write_text(tmp_path / "new" / "a.txt", "hällo")
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


@pytest.mark.parametrize("kind", [files.atomic_file, files.atomic_folder])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, kind: Callable[..., object]) -> None:
    files.write_text(tmp_path / "a", "before")
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
    files.recover(tmp_path)
    assert (tmp_path / "a" / "deep" / "file").read_text() == "one"
    assert names(tmp_path) == ["a"]


def test_a_killed_writers_leavings_go_with_the_next_write_and_a_living_ones_stay(tmp_path: Path) -> None:
    def work() -> None:
        with files.atomic_file(tmp_path / "a") as aside:
            aside.write_text("half")
            die()

    killed(work)
    assert len(names(tmp_path)) == 1
    with files.atomic_file(tmp_path / "a") as aside:
        aside.write_text("first")
        files.write_text(tmp_path / "a", "second, meanwhile")
        assert aside.read_text() == "first"
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_recover_leaves_everything_else_alone(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a.part").mkdir()
    (tmp_path / ".b.part").touch()
    files.recover(tmp_path)
    files.recover(tmp_path / "missing")
    assert names(tmp_path) == [".b.part", ".hidden", "a.part"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x"), FULL),
        (OSError(errno.EDQUOT, "x"), FULL),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FULL),
        (OSError(errno.EROFS, "x"), "the folder is not writable; choose another folder with --out or change its "
         "permissions"),
        (OSError(errno.EIO, "x"), "the disk reports an error; choose a folder on another disk"),
        (OSError(errno.ENOTDIR, "x"), "cannot write here (Not a directory); choose another path"),
        (OSError(errno.ENOLCK, "x"), "this file system has no locks; choose a folder on another file system"),
    ],
)  # fmt: skip
def test_refusals_of_the_system_are_one_line(error: Exception, message: str) -> None:
    with pytest.raises(StorageError) as caught, files.storage_errors(Path("x")):
        raise error
    assert str(caught.value) == f"x: {message}"


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), files.storage_errors(Path("x")):
        raise ZeroDivisionError
    with pytest.raises(BrokenPipeError), files.storage_errors(Path("x")):
        raise BrokenPipeError(errno.EPIPE, "x")


def test_a_file_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(StorageError, match=r"cannot write here \(File exists\); choose another path"):
        files.write_text(tmp_path / "a" / "b", "x")


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    with files.lock_folder(tmp_path / "run"):
        with pytest.raises(StorageError) as caught, files.lock_folder(tmp_path / "run"):
            pass
        assert str(caught.value) == (
            f"{tmp_path}/run: another run is writing to this folder; wait for it, or choose another --out"
        )
    with files.lock_folder(tmp_path / "run"):
        pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    def work() -> None:
        with files.lock_folder(tmp_path):
            die()

    killed(work)
    with files.lock_folder(tmp_path):
        pass


def test_sealed_json_comes_back_and_nan_is_refused() -> None:
    value = {"b": [1, 0.1, None, True], "a": "ä\u2028", "1": {"x": 1e-12}}
    assert files.unsealed(files.sealed(value)) == value
    with pytest.raises(ValueError, match="Out of range float"):
        files.sealed({"a": float("nan")})


def test_a_seal_notices_every_single_byte() -> None:
    text = files.sealed({"name": "x", "numbers": [1, 2.5], "nested": {"a": None}}).encode()
    for place in range(len(text)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytearray(text)
            changed[place] ^= mask
            with pytest.raises(ValueError):  # noqa: PT011 (UnicodeDecodeError, JSONDecodeError, our own)
                files.unsealed(changed.decode())


@pytest.mark.parametrize("text", ["", "null", "[]", '"seal"', "{}", '{"seal": "x"}', "[" * 100_000, '"\\ud800"'])
def test_what_was_never_sealed_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        files.unsealed(text)


# --- several items at once ----------------------------------------------------------------------------------------


def write_items(folder: Path, text: str, names: tuple[str, ...], retired: tuple[str, ...] = ()) -> None:
    with files.atomic_items(folder, "set", "commit", retired=retired) as aside:
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
            again = dying_at(second, lambda: files.recover(folder))
            files.recover(folder)
            assert held(folder) == before, (number, second)
            assert names(folder) == ["both", "commit", "mine", "old"]
            if not again:
                break


def test_what_a_writer_replaces_is_found_while_he_writes(tmp_path: Path) -> None:
    write_items(tmp_path, "one", ("a",))
    assert files.formers(tmp_path, "set") == []
    assert not files.being_written(tmp_path, "set")
    with files.atomic_items(tmp_path, "set", "commit") as aside:
        assert files.being_written(tmp_path, "set")
        assert [str(tmp_path / place) for place in files.formers(tmp_path, "set")] == [str(aside.parent / ".former")]
        (aside / "commit").write_text("two")
    assert held(tmp_path) == {"a/file": "one", "commit": "two"}


# --- permissions, names, and files that are none ------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_what_libraries_write_has_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    """safetensors writes files that nobody else may read."""
    former = os.umask(mask)
    try:
        with files.atomic_file(tmp_path / "file") as aside:
            aside.unlink()
            os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
        with files.atomic_folder(tmp_path / "folder") as aside:
            (aside / "deep").mkdir(mode=0o700)
            os.close(os.open(aside / "deep" / "file", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(former)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"file": 0o666 & ~mask, "folder": 0o777 & ~mask, "deep": 0o777 & ~mask}


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    name = "ä" * 127 + "x"
    files.write_text(tmp_path / name, "a")
    files.write_text(tmp_path / name, "b")
    assert (tmp_path / name).read_text() == "b"
    assert names(tmp_path) == [name]
    files.must_be_new("n" * 5000)  # nothing is there, and nothing can be
    with pytest.raises(StorageError, match=r"cannot write here \(File name too long\); choose another path"):
        files.write_text(tmp_path / ("n" * 5000), "x")
    with pytest.raises(StorageError, match="File name too long"), files.lock_folder(tmp_path / ("n" * 5000)):
        pass
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("name", "number"),
    [("link", errno.ELOOP), ("loop", errno.ELOOP), ("pipe", errno.EINVAL), ("folder", errno.EINVAL),
     ("linked/file", errno.ENOTDIR), ("large", errno.EFBIG), ("gone", errno.ENOENT), ("n" * 5000, errno.ENAMETOOLONG)],
)  # fmt: skip
def test_only_regular_files_are_read_and_no_link_is_followed(tmp_path: Path, name: str, number: int) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("here")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "linked").symlink_to("folder")
    (tmp_path / "large").write_bytes(bytes(11))
    os.mkfifo(tmp_path / "pipe")
    with files.opened_folder(tmp_path) as root:
        assert files.read_inside(root, "folder/file", 10) == b"here"
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the number is compared)
            files.read_inside(root, name, 10)
    assert caught.value.errno == number
