"""Limits of a connection, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from pennyweight.serve.server_settings import ServerSettings
from pennyweight.serve.web.connection import limited_protocol

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    size = 50_000_000 if scope["path"] == "/large" else 1
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"a" * size})


@contextmanager
def serving(**settings: Any) -> Iterator[Callable[[], socket.socket]]:
    """A server with these settings; the function connects to it."""
    config = uvicorn.Config(
        app, http=limited_protocol(ServerSettings(**settings)), lifespan="off", log_config=None, ws="none",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield lambda: socket.create_connection(address, timeout=60)
    finally:
        server.should_exit = True
        thread.join()


def read_all(link: socket.socket) -> bytes:
    found = b""
    while chunk := link.recv(65_536):
        found += chunk
    return found


def error_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]


@pytest.mark.parametrize("begun", [b"", b"GET", GET[:-2]])
def test_headers_that_do_not_come_are_given_up(begun: bytes) -> None:
    with serving(header_seconds=0.05) as connect, connect() as link:
        link.sendall(begun)
        assert error_of(read_all(link)) == (408, "the request's headers did not arrive in time")


def test_a_connection_that_is_kept_open_gets_its_time_anew() -> None:
    with serving(header_seconds=0.2) as connect, connect() as link:
        link.sendall(GET)
        assert link.recv(1000).endswith(b"\r\n\r\na") or link.recv(1) == b"a"
        link.sendall(GET[:5])
        assert error_of(read_all(link))[0] == 408


def test_headers_are_bounded() -> None:
    with serving(max_header_bytes=1000) as connect:
        with connect() as link:
            link.sendall(GET[:-2] + b"X: " + b"a" * 1000)
            assert error_of(read_all(link)) == (431, "the request's headers are too large")
        with connect() as link:
            link.sendall(GET * 100)  # many small ones
            found = b""
            while found.count(b"HTTP/1.1 200") < 100:
                found += link.recv(65_536)


def test_connections_are_bounded() -> None:
    with serving(max_connections=2) as connect, connect() as one, connect() as two:
        for link in (one, two):
            link.sendall(GET)
            assert link.recv(1000).startswith(b"HTTP/1.1 200")
        with connect() as three:
            assert error_of(read_all(three)) == (503, "too many connections are open; try again later")
        one.close()
        for _ in range(1000):
            with connect() as again:
                again.sendall(GET)
                if again.recv(1000).startswith(b"HTTP/1.1 200"):
                    break
        else:
            pytest.fail("the place of a closed connection is not given back")


@pytest.mark.parametrize("sent", [b"GET /\r\n\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"HACK / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_refused_in_the_form_of_every_error(sent: bytes) -> None:
    with serving() as connect, connect() as link:
        link.sendall(sent)
        assert error_of(read_all(link)) == (
            400,
            "not a valid HTTP/1.1 request, or one whose parts contradict each other",
        )


def test_who_takes_nothing_of_an_answer_is_hung_up_on() -> None:
    def send_on() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            link.sendall(b"\r\n")
            time.sleep(0.01)

    with serving(write_seconds=0.05) as connect, connect() as link:
        link.sendall(GET.replace(b"/a", b"/large"))
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_on()
