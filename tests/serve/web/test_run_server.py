"""The server's socket, signals and end, in this process. In one of its own: `test_serve_process.py`."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import threading
from typing import Any

import pytest

from pennyweight.errors import InputError
from pennyweight.serve.server_settings import ServerSettings
from pennyweight.serve.web.lifecycle import Lifecycle
from pennyweight.serve.web.request_log import LogWriter
from pennyweight.serve.web.run_server import bind, raise_file_limit, run_server

TOKEN = "a-token-of-enough-characters"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def nothing() -> None:
    """Nothing to close."""


def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value) == (
        f"cannot listen: address already in use; received --host 127.0.0.1 --port {port}; "
        "choose another with --port or --host"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "a" * 300])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(InputError, match=r"cannot listen|not an address of this machine"):
        bind(host, 0)


def test_what_loading_raises_comes_out() -> None:
    def fail(_: Lifecycle) -> Any:
        raise InputError("no classifiers here")

    with pytest.raises(InputError, match="no classifiers here"):
        run_server(bind("127.0.0.1", 0), ServerSettings(), TOKEN, fail)


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_answers_from_loading_to_a_signal(number: int) -> None:
    listening = bind("127.0.0.1", 0)
    port = listening[0].getsockname()[1]
    seen: list[int] = []
    closed: list[bool] = []

    def status(path: str) -> int:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        link.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"} if path == "/v1/classifiers" else {})
        answer = link.getresponse()
        answer.read()
        link.close()
        return answer.status

    def load(lifecycle: Lifecycle) -> Any:
        assert not lifecycle.ready
        seen.extend([status("/livez"), status("/readyz"), status("/nope"), status("/v1/classifiers"), status("/docs")])

        async def close() -> None:
            closed.append(True)

        return app, close

    def started() -> None:
        def stop() -> None:
            seen.append(status("/anything"))
            os.kill(os.getpid(), number)

        threading.Thread(target=stop).start()

    assert run_server(listening, ServerSettings(), TOKEN, load, started)
    assert seen == [200, 503, 401, 503, 503, 200]
    assert closed == [True]


def test_what_is_answered_while_loading_has_its_headers_and_a_line_in_the_log() -> None:
    listening = bind("127.0.0.1", 0)
    port = listening[0].getsockname()[1]
    stream = io.StringIO()
    paths = ["/livez", "/readyz", "/", "/v1/classifiers/secret/predict"]

    def load(_: Lifecycle) -> Any:
        for path in paths:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            link.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "mine"})
            answer = link.getresponse()
            answer.read()
            link.close()
            for name in ("x-content-type-options", "content-security-policy", "cache-control", "referrer-policy"):
                assert answer.headers[name]
            assert answer.headers["x-request-id"] == "mine"
        raise InputError("no classifiers here")

    with LogWriter(stream), pytest.raises(InputError, match="no classifiers here"):
        run_server(listening, ServerSettings(), TOKEN, load)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["route"], line["status"], line["request_id"]) for line in lines] == [
        ("/livez", 200, "mine"), ("/readyz", 503, "mine"), ("/", 503, "mine"), ("other", 503, "mine"),
    ]  # fmt: skip


def test_a_name_of_several_addresses_is_listened_on_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost often is 127.0.0.1 and ::1; one that the machine does not have is left out."""

    def both(_: str, port: int, **more: Any) -> list[Any]:
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET, *kind, ("192.0.2.1", port)),
            (socket.AF_INET, *kind, ("127.0.0.1", port)),
            (socket.AF_INET, *kind, ("127.0.0.1", port)),
            (socket.AF_INET, *kind, ("127.0.0.2", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    found = bind("a-name", 0)
    (first, port), (second, same) = [one.getsockname() for one in found]
    assert (first, second, port) == ("127.0.0.1", "127.0.0.2", same)
    with pytest.raises(InputError, match="address already in use"):
        bind("a-name", port)
    for one in found:
        one.close()


@pytest.mark.usefixtures("default_signals")
def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:

        def started() -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)

        async def close() -> None:
            """Nothing to close."""

        assert run_server(bind("127.0.0.1", 0), ServerSettings(), TOKEN, lambda _: (app, close), started)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("default_signals")
def test_a_signal_while_loading_does_not_wait_for_its_end() -> None:
    end = threading.Event()

    def load(_: Lifecycle) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        assert end.wait(60)
        return app, nothing

    loaded = run_server(bind("127.0.0.1", 0), ServerSettings(), TOKEN, load, lambda: pytest.fail("it did not start"))
    assert not loaded
    end.set()


def test_the_limit_of_files_is_not_lowered() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_file_limit()
    after = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert after[1] == before[1]
    assert after[0] == resource.RLIM_INFINITY or after[0] >= before[0] > 0 or before[0] == resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
