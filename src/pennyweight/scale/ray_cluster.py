"""Starting and watching workers with Ray, on an existing cluster or one that lives as long as the command.

Only what is needed of Ray: actors, and waiting for their answers. Whoever reaches a cluster's ports runs code on it, so
its token is asked for unless RAY_AUTH_MODE says otherwise (https://docs.ray.io/en/latest/ray-security/token-auth.html).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, ResourceError
from ..storage.descriptors import sent_to
from .unit_run import CallFailed, WorkerLost
from .unit_worker import Answer

LOCAL = "local"
_REACHABLE = 10.0  # seconds within which a cluster's port must answer
_LIVES = 100  # times that Ray restarts an actor; -1 would be for ever
#: Looks in a row at which the head did not answer. After 60 s of that Ray ends this process, past any `except`.
_HEAD_LOST = 3
_LOOK = 2.0  # seconds between looks
_STORE = 80 << 20  # bytes of the object store, which no row passes: the least that Ray takes is 75 MiB


class RayWorkers:
    """Workers as Ray's actors, one process each, of one class.

    Args:
        kind: the class; its instances are made by `start`.
        given: what its constructor takes.
        threads: CPUs that each takes.
    """

    def __init__(self, kind: type[Any], given: Sequence[Any], threads: int) -> None:
        import ray

        self._ray = ray
        # A worker that dies is not begun again by Ray, which would lose count of what it was doing.
        # The tokenizer's threads are counted, too: its default is one a core, in every worker.
        variables = {"env_vars": {name: str(threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}}
        self._kind = ray.remote(kind).options(
            num_cpus=threads, max_restarts=0, max_task_retries=0, runtime_env=variables
        )
        self._given = given
        self._head = _Head(ray.get_runtime_context().gcs_address)

    def start(self) -> Any:
        """A new worker, once it finds a place."""
        return self._kind.remote(*self._given)

    def call(self, worker: Any, name: str, *given: Any) -> Any:
        """Call a method, behind the calls before it; a handle on its answer."""
        return getattr(worker, name).remote(*given)

    def first(self, calls: Sequence[Any], seconds: float) -> Any:
        """A call that has ended, None if none has within so many seconds.

        Raises:
            ResourceError: the cluster's head node is gone.
        """
        self._head.look()
        done, _ = self._ray.wait(list(calls), num_returns=1, timeout=seconds)
        return done[0] if done else None

    def answer(self, call: Any) -> Answer:
        """The result of a call that has ended.

        Raises:
            WorkerLost: its process died.
            CallFailed: it ended with an error that is none of ours.
            ResourceError: Ray's object store is full, or its disk.
        """
        known = self._ray.exceptions
        try:
            found: Answer = self._ray.get(call)
            return found
        except (known.ObjectStoreFullError, known.OutOfDiskError) as error:
            raise ResourceError(
                "Ray's object store is full", received=_words(error),
                remedy="end other jobs on the cluster, or start it with a larger --object-store-memory",
            ) from error  # fmt: skip
        except known.RayTaskError as error:
            raise CallFailed(_last_words(error)) from error
        except known.RayError as error:  # the process died, its node did, or the system ended it for its memory
            raise WorkerLost(_how_it_ended(error, known)) from error

    def stop(self, worker: Any) -> None:
        """End a worker's process at once."""
        with suppress(Exception):  # it is dead already, or the cluster is gone
            self._ray.kill(worker)


class LastingActor:
    """An object in a process of this machine that Ray restarts when it dies; interrupted calls are repeated.

    So its methods have to do the same when they are called twice. It takes no CPU. Workers may be given a handle on it.

    Args:
        kind: the class; its methods return an `Answer`.
        given: the arguments of its constructor, used again at each restart.
    """

    def __init__(self, kind: type[Any], given: Sequence[Any]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": _LIVES, "max_task_retries": -1, "scheduling_strategy": here}
        self._actor = ray.remote(kind).options(**options).remote(*given)

    def call(self, name: str, *given: Any) -> Any:
        """The result of a method.

        Raises:
            PennyweightError: the error in its answer.
            ResourceError: the process died more often than Ray restarts it, or cannot start.
        """
        import ray

        try:
            answer: Answer = ray.get(getattr(self._actor, name).remote(*given))
        except ray.exceptions.RayError as error:
            raise ResourceError("processes of this job died too often", received=_last_words(error)) from error
        return answer.get()


class _Head:
    """Whether the process that leads the cluster still answers.

    Args:
        address: `HOST:PORT`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._missed = 0
        self._looked = time.monotonic()

    def look(self) -> None:
        """Look, if some seconds have passed.

        Raises:
            ResourceError: it has not answered several times in a row.
        """
        if time.monotonic() - self._looked < _LOOK:
            return
        try:
            _reach(self._address, _LOOK)
            self._missed = 0
        except OSError as error:
            self._missed += 1
            if self._missed >= _HEAD_LOST:
                raise ResourceError(
                    "the cluster's head node is gone", where=self._address, received=error.strerror or str(error),
                    remedy="start the cluster and run the same command again (predict: with --resume)",
                ) from error  # fmt: skip
        self._looked = time.monotonic()


@contextmanager
def ray_cluster(address: str, threads: int, workers: int | None) -> Iterator[int]:
    """Join the cluster at an address, or start one on this machine that ends with the block.

    Args:
        address: `local`, `auto` for the cluster that this machine belongs to, or `HOST:PORT` of its head.
        threads: CPUs of a worker.
        workers: how many are wanted; None for as many as there are CPUs for.

    Yields:
        How many workers there is a place for.

    Raises:
        InputError: Ray is not installed, nothing answers at the address, it wants another token or runs another
            version, or there are too few CPUs.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its coming default, which it warns about
    try:
        import ray
    except ImportError as error:
        raise InputError("--ray needs Ray", remedy="run `pip install 'pennyweight[ray]'`") from error
    if address != LOCAL:
        _check_address(address)
    if os.environ["RAY_AUTH_MODE"] == "token":
        _protect_token(make=address == LOCAL)
    try:
        yield _connect(ray, address, threads, workers)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, threads: int, workers: int | None) -> int:
    """Join or start a cluster; how many workers there is a place for."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address == LOCAL:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            places = _places([cores], cores, threads, workers)
            ray.init(
                address=LOCAL, num_cpus=places * threads, num_gpus=0, include_dashboard=False,
                object_store_memory=_STORE, **quiet,
            )  # fmt: skip
            return places
        with _native_output_dropped():
            ray.init(address=address, **quiet)
        nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        return _places(nodes, ray.available_resources().get("CPU", 0), threads, workers)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _refused(address, error) from error
    except BaseException as end:
        if isinstance(end, Exception | KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from end  # SIGTERM: until Ray has started, its own handler exits


@contextmanager
def _native_output_dropped() -> Iterator[None]:
    """Without what Ray's C++ writes to the standard error of a process whose token is refused, twenty lines of it."""
    with open(os.devnull, "wb") as nothing, sent_to(2, nothing.fileno()):
        yield


def _places(nodes: Sequence[float], free: float, threads: int, workers: int | None) -> int:
    """How many workers find a place; actors without one would wait in silence (ray#44687)."""
    room = min(sum(int(cpus // threads) for cpus in nodes), int(free // threads))
    if room < (workers or 1):
        raise InputError(
            "too few CPUs", expected=f"{(workers or 1) * threads:g} for {workers or 1} workers of {threads} threads",
            received=f"{free:g} free on {len(nodes)} machines, enough for {room} workers",
            remedy="lower --workers or --worker-threads, or wait for other jobs",
        )  # fmt: skip
    return workers or room


def _check_address(address: str) -> None:
    """Refuse what Ray would wait a minute for."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit() or int(port) > 65535:
        raise InputError("not the address of a cluster", expected="local, auto or HOST:PORT", received=address)
    try:
        _reach(address, _REACHABLE)
    except OSError as error:
        raise InputError(
            "no Ray cluster answers there", where=f"--ray {address}", received=error.strerror or str(error),
            remedy="start one with `ray start --head`, or use --ray local",
        ) from error  # fmt: skip


def _reach(address: str, seconds: float) -> None:
    """Raise `OSError` if nothing listens at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def _protect_token(*, make: bool) -> None:
    """See that there is a token and that only its owner may read its file, which Ray makes readable to all.

    Args:
        make: one, where there is none.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    try:
        if make and not path.exists():
            _write_token(path)
        facts = path.stat()
        if stat.S_IMODE(facts.st_mode) & 0o077 and facts.st_uid == os.getuid():
            path.chmod(0o600)
        empty = not path.read_bytes().strip()
    except FileNotFoundError as error:
        raise InputError(
            "the cluster's token is missing", where=path, received=error.strerror,
            remedy="copy it from the cluster's head (chmod 600), set RAY_AUTH_TOKEN, or, for a cluster without "
            "authentication, RAY_AUTH_MODE=disabled",
        ) from error  # fmt: skip
    except OSError as error:
        raise InputError(
            "the cluster's token cannot be read or written here", where=path, received=error.strerror,
            remedy="set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file of yours",
        ) from error  # fmt: skip
    if empty:
        raise InputError("the cluster's token is empty", where=path, remedy="remove the file, or copy the head's here")


def _write_token(path: Path) -> None:
    """Write a new token, readable to its owner alone; another process's that came first stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as held:
            held.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(aside, path)  # whole from the beginning: others may read it at once
    finally:
        aside.unlink()


def _refused(address: str, error: BaseException) -> InputError | ResourceError:
    """The reason why Ray cannot be joined or started, in one line."""
    words = _words(error)
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    if any("token" in str(each).lower() for each in chain):
        return InputError(
            "the cluster refuses the token", where=f"--ray {address}", expected="the token of the cluster's head",
            remedy="copy its ~/.ray/auth_token here, or set RAY_AUTH_TOKEN",
        )  # fmt: skip
    if "version" in words.lower():
        return InputError(
            "the cluster runs another version", where=f"--ray {address}", received=words,
            remedy="install the same Ray and Python on all machines",
        )  # fmt: skip
    if address == LOCAL:
        return ResourceError("Ray could not start on this machine", received=words)
    return InputError(
        "no Ray cluster answers there", where=f"--ray {address}", received=words,
        remedy="start one with `ray start --head`, or use --ray local",
    )  # fmt: skip


def _how_it_ended(error: BaseException, known: Any) -> str:
    """Why a worker's process is gone, where Ray's own words are a list of what might be."""
    words = str(error)
    if "never ran" in words:
        return f"it never started; the cluster may have another RAY_AUTH_MODE than {os.environ['RAY_AUTH_MODE']}"
    if isinstance(error, known.OutOfMemoryError):
        return "Ray ended its process because its machine's memory was nearly full"
    if isinstance(error, known.NodeDiedError) or "node died" in words.lower():
        return "its machine left the cluster"
    if "SYSTEM_ERROR" in words or "connection error" in words:
        return "its process was killed, perhaps for lack of memory"
    return _last_words(error)


def _last_words(error: BaseException) -> str:
    """The last line of an error that carries another one's traceback, or a list of facts, above it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300].rstrip(".") if lines else type(error).__name__


def _words(error: BaseException) -> str:
    """The type and the text of an error, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300].rstrip(".")
