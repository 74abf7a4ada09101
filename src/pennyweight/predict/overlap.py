"""Stages of a job that overlap: reading ahead and writing behind, in threads with bounded queues.

The tokenizer, the products, checksums and the disk leave Python's lock to others while they work.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

# Seconds between looks at whether the other side has given up.
_PAUSE = 0.1


def read_ahead(items: Iterator[Item], most: int = 1) -> Generator[Item, None, None]:
    """The same items, the next ones made in a thread while one is used.

    An error comes in its place, after the items before it. When the iterator is closed, the thread ends with the item
    that it is making.

    Args:
        most: items that wait; one more is being made.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=most)
    left = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not left.is_set():
            try:
                waiting.put((kind, value), timeout=_PAUSE)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # raised again where the items are used
            put("error", error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        left.set()
        thread.join()


class WriteBehind(Generic[Item]):
    """Uses items in a thread, in order, while the next ones are made. As a context manager it waits for all of them.

    Args:
        use: called with each item. After an error no more items are used, and it is raised by the next `put`, or at the
            end of the block.
        most: items that wait; one more is being used.
    """

    def __init__(self, use: Callable[[Item], object], most: int = 1) -> None:
        self._use = use
        self._waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=most)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> WriteBehind[Item]:
        self._thread.start()
        return self

    def put(self, item: Item) -> None:
        """Hand over an item; waits while too many do."""
        if self._error is not None:
            raise self._error
        self._waiting.put((True, item))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put((False, None))
        self._thread.join()
        if self._error is not None and error is not self._error:
            raise self._error

    def _run(self) -> None:
        while True:
            more, item = self._waiting.get()
            if not more:
                return
            if self._error is None:  # else the queue is emptied, so that `put` never waits for nobody
                try:
                    self._use(item)
                except BaseException as failure:  # raised again where the items are made
                    self._error = failure
