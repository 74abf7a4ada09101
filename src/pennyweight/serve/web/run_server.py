"""The server's process: its socket, its signals, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from starlette.routing import Route

from ...errors import InputError
from ..page.static_files import static_files
from ..server_settings import ServerSettings
from .auth import HEALTH_PATHS, BearerAuth
from .connection import limited_protocol
from .lifecycle import Lifecycle
from .prometheus import ServerMetrics
from .refusals import Refusal, send_refusal
from .request_log import RequestLog
from .route_table import RouteTable

_log = logging.getLogger("pennyweight.serve")

# How often a draining server looks whether all is answered, in seconds.
_LOOK = 0.02
_FILES = 65_536
# Of an address that the machine does not have.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

#: Loads classifiers and returns the ASGI application, and what ends its threads.
MakeApp = Callable[[Lifecycle], tuple[Any, Callable[[], Awaitable[None]]]]


def bind(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of a host; made before anything is loaded, so that a wrong one shows at once.

    A name may have several addresses, such as localhost one of IPv4 and one of IPv6. All get the same port.

    Raises:
        InputError: the port is in use, may not be used, or the host is none of this machine's addresses.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError("not an address of this machine", received=host, remedy="see --host") from error
    made: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            used = made[0].getsockname()[1] if made else port
            try:
                made.append(_listening(family, kind, protocol, (address[0], used, *address[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error  # the name has an IPv6 address, too, but the machine has none
        if missing is not None and not made:
            raise missing
    except OSError as error:
        for one in made:
            one.close()
        raise InputError(
            f"cannot listen: {(error.strerror or str(error)).lower()}", received=f"--host {host} --port {port}",
            remedy="choose another with --port or --host",
        ) from error  # fmt: skip
    return made


def _listening(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        # An earlier server's closed connections do not keep its port, but a running server does.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(2048)
    except OSError:
        made.close()
        raise
    return made


async def _nothing() -> None:
    """There is nothing to close yet."""


def _no_route() -> None:
    """Routes of an application that is not loaded have names alone."""


class _Swapped:
    """An ASGI application that answers "loading" until the real one is there."""

    def __init__(self, token: str | None, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        open_paths = HEALTH_PATHS | frozenset(static_files())
        routes = RouteTable(Route(path, _no_route) for path in open_paths)
        self.app: Any = RequestLog(BearerAuth(self._loading, token, open_paths), ServerMetrics(), routes)
        self.close: Callable[[], Awaitable[None]] = _nothing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def _loading(self, scope: Any, receive: Any, send: Any) -> None:
        state = str(self.lifecycle)
        if scope["path"] == "/livez":
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"state":"%s"}' % state.encode()})
        else:
            await send_refusal(Refusal(503, "unhealthy", f"the server is {state}", headers={"Retry-After": "2"}), send)


class _Server(uvicorn.Server):
    """uvicorn's server with signals that drain before they stop, and end the process with exit code 0."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Under nohup a hang-up is ignored, and stays so.
        hung_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
        numbers = (signal.SIGINT, signal.SIGTERM, *hung_up)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_signal(sig)


def run_server(
    listening: Sequence[socket.socket],
    settings: ServerSettings,
    token: str | None,
    make_app: MakeApp,
    started: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until a signal, then answer what was accepted and return.

    SIGTERM, SIGINT and SIGHUP: `/readyz` says 503 at once, new requests are refused, accepted ones are answered, at
    most for `settings.drain_seconds`. A second SIGINT ends at once.

    Args:
        listening: from `bind`.
        make_app: called in a thread, while `/livez` answers already.
        started: called when requests are taken.

    Returns:
        Whether `make_app` ended. If not, its thread still runs, and would abort the process if Python ended normally.

    Raises:
        PennyweightError: what `make_app` raises.
    """
    swapped = _Swapped(token, Lifecycle())
    config = _config(swapped, settings)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(_serve(config, listening, settings, make_app, started))


async def _serve(
    config: uvicorn.Config,
    listening: Sequence[socket.socket],
    settings: ServerSettings,
    make_app: MakeApp,
    started: Callable[[], None],
) -> bool:
    swapped: _Swapped = config.app  # type: ignore[assignment]
    lifecycle = swapped.lifecycle
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal(number: int) -> None:
        if lifecycle.draining and number == signal.SIGINT:
            server.force_exit = server.should_exit = True
        lifecycle.drain()
        loop.call_soon_threadsafe(asked.set)

    server = _Server(config, on_signal)
    serving = asyncio.ensure_future(server.serve(sockets=list(listening)))
    try:
        loaded = await _load(swapped, lifecycle, make_app, asked)
        if not lifecycle.draining:
            lifecycle.begin()
            started()
        await _until(asked, serving)
        await _drain(server, lifecycle, settings)
    finally:
        server.should_exit = True
        await serving
        await swapped.close()
    return loaded


async def _load(swapped: _Swapped, lifecycle: Lifecycle, make_app: MakeApp, asked: asyncio.Event) -> bool:
    """Load in a thread; a signal meanwhile does not wait for the end of it. Whether it came to the end."""
    loading = asyncio.ensure_future(_in_daemon(lambda: make_app(lifecycle)))
    await _until(asked, loading)
    if loading.done():
        swapped.app, swapped.close = loading.result()
        return True
    loading.cancel()
    return False


async def _in_daemon(work: Callable[[], Any]) -> Any:
    """The result of work in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def finish(value: Any, error: BaseException | None) -> None:
        if not result.done():
            result.set_result(value) if error is None else result.set_exception(error)

    def run() -> None:
        value, failed = None, None
        try:
            value = work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, value, failed)

    threading.Thread(target=run, name="loading", daemon=True).start()
    return await result


async def _until(event: asyncio.Event, other: asyncio.Future[Any]) -> None:
    """Wait for the event, or for the end of something else."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiting, other), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _drain(server: _Server, lifecycle: Lifecycle, settings: ServerSettings) -> None:
    """Wait until what was accepted is answered, but no longer than the settings say."""
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.drain_seconds
    while lifecycle.in_flight and loop.time() < end and not server.force_exit:
        await asyncio.sleep(_LOOK)
    if lifecycle.in_flight:
        _log.warning("%d requests were not answered within %g s", lifecycle.in_flight, settings.drain_seconds)


def _config(app: Any, settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="auto",
        http=limited_protocol(settings),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(settings.idle_seconds),
        # By then all is answered, or was given up.
        timeout_graceful_shutdown=1,
    )


def raise_file_limit() -> None:
    """Let the process have as many open connections as it may: many systems allow 1,024 files unless asked."""
    try:
        import resource
    except ImportError:  # not a Unix
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
