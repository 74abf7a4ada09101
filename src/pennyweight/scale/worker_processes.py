"""Tasks done by several processes of one machine, each with what it needs in memory; one that dies is replaced.

The standard library's pools lose all tasks when a process is killed (`ProcessPoolExecutor`) or wait for ever (`Pool`).
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# What libraries read their number of threads from when they are first imported.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TRIES = 2  # of a task whose process is killed


@dataclass(frozen=True)
class WorkerProcesses(Generic[Task, Result]):
    """How tasks are shared out.

    Attributes:
        count: processes.
        threads: of each.
        make: called once in each process; what it returns does the tasks. A module's function, as `arguments` are sent
            to another process.
        lost: the result of a task whose process was killed `TRIES` times, from the task and how it ended.
    """

    count: int
    threads: int
    make: Callable[..., Callable[[Task], Result]]
    arguments: tuple[Any, ...]
    lost: Callable[[Task, str], Result]

    def run(self, tasks: Sequence[Task]) -> Generator[Result, None, None]:
        """Do all tasks; results come as they are ready. Processes end with the iterator, however that ends."""
        waiting = deque((task, 1) for task in tasks)
        busy: dict[Connection, tuple[Any, Task, int]] = {}
        idle: list[tuple[Connection, Any]] = []
        try:
            while waiting or busy:
                while waiting and len(busy) < self.count:
                    connection, process = idle.pop() if idle else self._start()
                    task, tries = waiting.popleft()
                    busy[connection] = process, task, tries
                    with suppress(OSError):  # it was killed while it was idle: found out below
                        connection.send(task)
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    process, task, tries = busy.pop(ready)
                    try:
                        result: Result = ready.recv()
                    except (EOFError, OSError):
                        ready.close()
                        process.join()
                        if tries < TRIES:
                            waiting.append((task, tries + 1))
                            continue
                        result = self.lost(task, _how_it_ended(process.exitcode))
                    else:
                        idle.append((ready, process))
                    yield result
        finally:
            _end([*idle, *((connection, process) for connection, (process, _, _) in busy.items())])

    def _start(self) -> tuple[Connection, Any]:
        """A new process. It is spawned: a copy of a process with threads may stand still for ever."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.make, self.arguments), daemon=True)
        with _environment(self.threads):
            process.start()
        theirs.close()
        return ours, process


def _serve(connection: Connection, make: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    """Do tasks until the other side hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    threading.Thread(target=_die_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    work = make(*arguments)
    # The libraries' half million objects are never garbage: they are not searched for cycles.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            connection.send(work(connection.recv()))


def _die_with_parent() -> None:
    """End this process at once when its parent was killed: another run may want the same folder."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """The environment of processes started inside: the number of threads, and no tokenizer threads in addition."""
    wanted = dict.fromkeys(_THREADS, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _end(workers: Sequence[tuple[Connection, Any]]) -> None:
    for connection, process in workers:
        connection.close()
        process.terminate()
    for _, process in workers:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps for lack of memory"
    if code is not None and code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended with exit code {code}"
