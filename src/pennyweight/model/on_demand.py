"""Values that cost too much to make before somebody asks for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_ALIVE: WeakSet[OnDemand[Any]] = WeakSet()


class OnDemand(Generic[T]):
    """A value that is made when it is first asked for, once, whichever thread asks.

    Args:
        make: gives the value. What it raises is raised to who asks; the next one tries again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._made: list[T] = []
        self._lock = threading.Lock()
        _ALIVE.add(self)

    @classmethod
    def of(cls, value: T) -> OnDemand[T]:
        """A value that is there already."""
        return cls(lambda: value)

    def __getstate__(self) -> tuple[T]:
        """The state for pickles and copies: the value, created if necessary."""
        return (self.get(),)

    def __setstate__(self, held: tuple[T]) -> None:
        self._make, self._made, self._lock = None, [*held], threading.Lock()
        _ALIVE.add(self)

    def get(self) -> T:
        """The value."""
        if not self._made:
            with self._lock:
                if self._make is not None:
                    self._made.append(self._make())
                    self._make = None  # with all that it holds, such as the bytes of files
        return self._made[0]


def _renew_locks() -> None:
    """A child process has none of its parent's threads: what one of them was making is made again."""
    for value in list(_ALIVE):
        value._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
