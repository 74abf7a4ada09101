"""What native code writes to the process's own streams, past Python's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sent_to(stream: int, target: int) -> Iterator[None]:
    """Everything written to one open file descriptor goes to another, in the whole process, until the block ends."""
    kept = os.dup(stream)
    try:
        os.dup2(target, stream)
        yield
    finally:
        os.dup2(kept, stream)
        os.close(kept)
