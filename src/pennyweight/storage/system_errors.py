"""The operating system's refusals to write, as errors of ours."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
# The path itself is wrong: bad input.
OF_A_PATH = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one-line `StorageError`s."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        number = _error_number(error)
        if number in _FULL:
            problem, remedy = "the disk is full", "free some space and run again; what was saved before is intact"
        elif number in _FORBIDDEN:
            problem, remedy = "the folder is not writable", "choose another folder with --out or change its permissions"
        elif number in OF_A_PATH:
            problem, remedy = f"cannot write here ({os.strerror(number)})", "choose another path"
        elif number in NO_LOCKS:
            problem, remedy = "this file system has no locks", "choose a folder on another file system"
        elif number == errno.EIO:
            problem, remedy = "the disk reports an error", "choose a folder on another disk"
        else:
            raise
        found = StorageError(problem, where=path, remedy=remedy)
        if number in OF_A_PATH:
            found.exit_code = InputError.exit_code
        raise found from error


def _error_number(error: Exception) -> int:
    """The system's error number, 0 for none. Libraries written in Rust have it in the text."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0
