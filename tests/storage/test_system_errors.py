"""The system's refusals to write, each as one line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pennyweight.errors import StorageError
from pennyweight.storage.system_errors import storage_errors

FULL = "the disk is full; free some space and run again; what was saved before is intact"


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
    with pytest.raises(StorageError) as caught, storage_errors(Path("x")):
        raise error
    assert str(caught.value) == f"x: {message}"


def test_a_path_that_cannot_be_is_bad_input_and_a_full_disk_is_not() -> None:
    for number, code in ((errno.ENAMETOOLONG, 2), (errno.ENOTDIR, 2), (errno.ENOSPC, 1)):
        with pytest.raises(StorageError) as caught, storage_errors(Path("x")):
            raise OSError(number, "x")
        assert caught.value.exit_code == code


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), storage_errors(Path("x")):
        raise ZeroDivisionError
    with pytest.raises(BrokenPipeError), storage_errors(Path("x")):
        raise BrokenPipeError(errno.EPIPE, "x")
