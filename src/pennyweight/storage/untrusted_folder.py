"""Reading files of a folder that somebody else may have made, or may be changing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder(folder: str | Path) -> Iterator[int]:
    """A folder's descriptor, for `read_inside`: it stays this folder even if another takes its name meanwhile.

    Raises:
        OSError: as `os.open`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_inside(root: int, name: str, largest: int) -> bytes:
    """Read a whole regular file in an opened folder. No link is followed, and no pipe is waited for.

    Args:
        name: relative, its parts separated by `/`, none of them `..`.
        largest: the most bytes it may have.

    Raises:
        OSError: as `os.open`: ELOOP or ENOTDIR for a link, EINVAL for anything but a regular file, EFBIG for a larger
            one.
    """
    *folders, last = name.split("/")
    opened = [root]
    try:
        for part in folders:
            opened.append(os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened[-1])
    finally:
        for one in opened[1:]:
            os.close(one)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        if facts.st_size > largest:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
        with open(descriptor, "rb", closefd=False) as handle:
            return handle.read(facts.st_size)  # what is written to it meanwhile is not in it
    finally:
        os.close(descriptor)
