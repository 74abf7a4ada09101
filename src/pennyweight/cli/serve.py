"""`pennyweight serve`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import InputError
from ..serve.server_settings import ServerSettings
from .command_help import short_help
from .flags import BACKBONE, DEVICE, Device, Precision
from .output import note

if TYPE_CHECKING:
    from ..serve.web.lifecycle import Lifecycle

_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40, "": 1}
_WEB = ("fastapi", "uvicorn", "httptools", "prometheus_client")


@short_help(
    "--host", "--port", "--token-file", "--no-auth", "--allow-admin", "--memory", "--max-texts", "--max-characters",
    "--deadline", "--threads", "--precision",
    examples=("serve runs/first", "serve classifiers --host 0.0.0.0 --token-file token"),
)  # fmt: skip
def serve(
    sources: list[str] = typer.Argument(
        ..., metavar="DIR|RUN...", help="Folders of classifiers, run folders, saved classifiers, or NAME=FOLDER."
    ),
    host: str = typer.Option(
        "127.0.0.1", "--host", help="Address to listen on; 0.0.0.0 for all addresses of this machine."
    ),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="Port to listen on; 0 for a free one."),
    token_file: Path = typer.Option(
        None,
        "--token-file",
        help="File with the token. If not given, PENNYWEIGHT_TOKEN, or a new token that is printed.",
    ),
    auth: bool = typer.Option(
        True, "--auth/--no-auth", help="Require the token; --no-auth works only on a loopback address."
    ),
    allow_admin: bool = typer.Option(
        False, "--allow-admin", help="Allow requests to load, unload and reload classifiers."
    ),
    memory: str = typer.Option(
        "2GB", "--memory", help="Memory for loaded classifiers; the least recently used are unloaded first."
    ),
    max_wait_ms: float = typer.Option(
        ServerSettings.max_wait_ms,
        "--max-wait-ms",
        min=0,
        max=1000,
        help="Milliseconds that an idle server waits for further requests to batch.",
    ),
    max_body: str = typer.Option("8MiB", "--max-body", help="Maximum size of a request."),
    max_texts: int = typer.Option(ServerSettings.max_texts, "--max-texts", min=1, help="Maximum texts per request."),
    max_characters: int = typer.Option(
        ServerSettings.max_characters, "--max-characters", min=1, help="Maximum characters per text."
    ),
    deadline: float = typer.Option(
        ServerSettings.deadline_seconds,
        "--deadline",
        min=0.1,
        help="Seconds within which a request is answered or refused.",
    ),
    max_queue_seconds: float = typer.Option(
        ServerSettings.max_queue_seconds,
        "--max-queue-seconds",
        min=0,
        help="Seconds in the queue; a request that would wait longer is refused at once (429).",
    ),
    drain_seconds: float = typer.Option(
        ServerSettings.drain_seconds,
        "--drain-seconds",
        min=0,
        help="Seconds after SIGTERM in which accepted requests are still answered.",
    ),
    log_texts: bool = typer.Option(ServerSettings.log_texts, "--log-texts", help="Show texts in the log."),
    threads: int = typer.Option(
        None, "--threads", min=1, max=1024, help="Compute threads; one per physical core if not given."
    ),
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = typer.Option(
        None,
        "--precision",
        help="Number format of matrix products; if not given, a single classifier keeps its own.",
    ),
) -> None:
    """Serve classifiers over HTTP.

    One classifier, or thousands over one frozen backbone.

    The page is at /, the API's documentation at /docs. The log goes to standard error, one JSON object per line.
    """
    missing = [name for name in _WEB if find_spec(name) is None]
    if missing:
        raise InputError(
            "serving needs packages that are not installed", received=f"no {', '.join(missing)}",
            remedy="install pennyweight[serve]",
        )  # fmt: skip
    from ..serve.web.auth import VARIABLE, is_loopback, make_token, read_token
    from ..serve.web.request_log import LogWriter
    from ..serve.web.run_server import bind, raise_file_limit, run_server

    settings = ServerSettings(
        memory=_bytes(memory, "--memory"), admin=allow_admin, max_body_bytes=_bytes(max_body, "--max-body"),
        max_texts=max_texts, max_characters=max_characters, max_wait_ms=max_wait_ms, deadline_seconds=deadline,
        max_queue_seconds=max_queue_seconds, drain_seconds=drain_seconds, log_texts=log_texts,
    )  # fmt: skip
    if not auth and not is_loopback(host):
        raise InputError(
            "--no-auth would give everybody access", expected="a loopback address such as 127.0.0.1",
            received=f"--host {host}", remedy="leave out --no-auth",
        )  # fmt: skip
    if not auth and token_file is not None:
        raise InputError("--no-auth and --token-file contradict each other", remedy="give one of them")
    token = read_token(token_file) if auth else None
    made = auth and token is None
    token = make_token() if made else token
    listening = bind(host, port)
    address = _url(host, listening[0].getsockname()[1])
    raise_file_limit()

    def started() -> None:
        note(f"serving at {address} (page {address}/, API {address}/docs); stop with Ctrl-C")
        if made:
            note(f"token for this run ({VARIABLE} or --token-file set a permanent one): {token}")

    def make_app(lifecycle: Lifecycle) -> Any:
        return _load(sources, settings, token, lifecycle, backbone=backbone, device=device, precision=precision,
                     threads=threads)  # fmt: skip

    with LogWriter(sys.stderr):
        loaded = run_server(listening, settings, token, make_app, started)
    if not loaded:  # its thread is in C++ code, which aborts the process when Python, ending, stops the thread
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _load(sources: list[str], settings: ServerSettings, token: str | None, lifecycle: Lifecycle, **engine: Any) -> Any:
    """The application over the classifiers, and what ends its threads."""
    from ..serve.batching.batcher import Batcher
    from ..serve.classifiers.open_registry import open_registry
    from ..serve.web.app import create_app
    from ..serve.web.prometheus import ServerMetrics

    registry = open_registry(sources, memory=settings.memory, admin=settings.admin, **engine)
    count = registry.preload()
    names = registry.names()
    for name in names:
        described = registry.describe(name)
        if described["state"] == "unusable":
            note(f"{name} is left out: {described['problem']}")
    noun = "classifier" if len(names) == 1 else "classifiers"
    note(f"{len(names):,} {noun}, {count:,} in memory with {registry.loaded_bytes / 1e6:,.1f} MB")
    metrics = ServerMetrics()
    batcher = Batcher(registry.engine, settings, on_round=metrics.round_done)
    first = next(iter(filter(None, map(registry.loaded, names))), None)
    if first is not None:
        batcher.warm_up(first)
    batcher.start()
    app = create_app(registry, batcher, settings, token=token, lifecycle=lifecycle, metrics=metrics)
    return app, batcher.drain


def _bytes(words: str, flag: str) -> int:
    """`2GB`, `512MiB` or a number of bytes.

    Raises:
        InputError: for anything else.
    """
    text = words.strip().lower().removesuffix("b")
    digits = text.rstrip("kmgti")
    try:
        size = int(float(digits) * _UNITS[text[len(digits) :]])
    except (KeyError, ValueError, OverflowError):
        size = 0
    if size < 1:
        raise InputError("not a size", expected="such as 2GB or 512MiB", received=words, where=flag)
    return size


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
