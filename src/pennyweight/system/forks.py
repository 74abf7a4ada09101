"""Whether this process was forked, and the thread that it began with. `pennyweight` itself imports this."""

from __future__ import annotations

import os
import threading


class _Forked:
    """The thread that this process began with, if it was forked since `pennyweight` was imported; otherwise None."""

    thread: int | None = None


def may_wait_forever() -> bool:
    """Whether this is the thread that a forked process began with.

    It may have computed before the fork: on more than one thread OpenMP would then wait in it forever for threads that
    the process lacks.
    """
    return _Forked.thread == threading.get_ident()


def _begin_child() -> None:
    _Forked.thread = threading.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
