"""Limits of a connection, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from pennyweight.serve.server_settings import ServerSettings
from pennyweight.serve.web.connection import limited_protocol

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """50 MB at /large; what was sent at /read, and the names of its headers; one byte elsewhere."""
    body = b"a" * (50_000_000 if scope["path"] == "/large" else 1)
    if scope["path"] == "/read":
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        body += b" " + b" ".join(sorted(name for name, _ in scope["headers"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


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
            link.sendall(GET[:-2] + b"X: " + b"a" * 1000 + b"\r\n\r\n")  # all at once
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


def send_on(link: socket.socket, piece: bytes) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        link.sendall(piece)
        time.sleep(0.01)


def test_who_takes_nothing_of_an_answer_is_hung_up_on() -> None:
    with serving(write_seconds=0.05) as connect, connect() as link:
        link.sendall(GET.replace(b"/a", b"/large"))
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_on(link, b"\r\n")


# --- bodies of requests that are refused

POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def test_a_body_that_arrives_after_its_answer_is_dropped_and_the_connection_kept() -> None:
    with serving() as connect, connect() as link:
        link.sendall(POST % 300_000)
        assert link.recv(12) == b"HTTP/1.1 200"  # before any of the body
        link.sendall(b"a" * 300_000 + GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_all(link).count(b"HTTP/1.1 200") == 1  # the second answer


def test_a_client_that_wants_the_connection_closed_may_write_its_whole_body_before_it_reads() -> None:
    """As Python's urllib does."""
    with serving() as connect, connect() as link:
        link.sendall((POST % 5_000_000).replace(b"Host", b"Connection: close\r\nHost"))
        link.sendall(b"a" * 5_000_000)
        assert read_all(link).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("piece", [b"", b"a", b"a" * 100_000], ids=["nothing", "a little", "as much as it takes"])
def test_a_body_without_end_keeps_its_connection_for_a_moment_only(piece: bytes) -> None:
    with serving(drop_seconds=0.2, header_seconds=600, max_body_bytes=1000) as connect, connect() as link:
        link.sendall(POST % 10**12)
        link.settimeout(0.01)
        sent, end, closed = 0, time.monotonic() + 60, False
        while not closed and time.monotonic() < end:
            with suppress(TimeoutError):
                sent += link.send(piece)
            try:
                closed = not link.recv(1000)
            except TimeoutError:
                pass
            except OSError:
                closed = True
        assert closed
        assert sent < 100_000_000  # what the sockets' buffers take, not what a client can send in this time


# --- trailers


def test_trailers_are_not_taken_for_headers() -> None:
    with serving() as connect, connect() as link:
        link.sendall(CHUNKED + b"2\r\nab\r\n0\r\nAuthorization: Bearer a\r\nX: b\r\n\r\n")
        link.sendall(GET.replace(b"Host", b"Connection: close\r\nHost"))
        found = read_all(link)
    assert b"\r\n\r\nab host transfer-encodingHTTP/1.1 200" in found


@pytest.mark.parametrize("path", [b"/read", b"/a"], ids=["awaited", "answered"])
@pytest.mark.parametrize("piece", [b"X: a\r\n" * 100, b"a" * 600], ids=["many", "one"])
def test_trailers_are_bounded(path: bytes, piece: bytes) -> None:
    """Even those of a request that is answered already: nobody keeps the server's memory full with them."""
    with serving(max_header_bytes=1000) as connect, connect() as link:
        link.sendall(CHUNKED.replace(b"/read", path) + b"0\r\n" + (b"" if b"\n" in piece else b"X: "))
        if path == b"/a":
            assert link.recv(1000).startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_on(link, piece)


def test_chunks_may_be_small_and_many() -> None:
    with serving(max_header_bytes=1000) as connect, connect() as link:
        link.sendall(CHUNKED)
        for _ in range(100):
            link.sendall(b"1;a=b\r\nc\r\n" * 50)
        link.sendall(b"0\r\n\r\n" + GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_all(link).count(b"HTTP/1.1 200") == 2


# --- offers of another protocol

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@pytest.mark.parametrize("cut", [1, 20, 60, 150, 10_000])
def test_an_offer_of_http_2_is_passed_over(cut: int) -> None:
    """Java's HttpClient and `curl --http2` make it with their first request, whatever its method."""
    post = b"POST /read HTTP/1.1\r\nHost: a\r\n" + OFFER + b"Content-Length: 5\r\n\r\nhello"
    get = b"GET /a HTTP/1.1\r\nHost: a\r\n" + OFFER + b"\r\n"
    sent = post * 3 + get * 2 + GET.replace(b"Host", b"Connection: close\r\nHost")
    with serving() as connect, connect() as link:
        for start in range(0, len(sent), cut):
            link.sendall(sent[start : start + cut])
            if cut < 10_000:
                time.sleep(0.001)
        found = read_all(link)
    assert found.count(b"HTTP/1.1 200") == 6
    assert found.count(b"\r\n\r\nhello connection content-length host http2-settings") == 3


def test_very_many_offers_at_once_are_no_fault() -> None:
    get = b"GET /a HTTP/1.1\r\nHost: a\r\n" + OFFER + b"\r\n"
    with serving(max_pipelined=5000) as connect, connect() as link:
        link.sendall(get * 2000 + GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert read_all(link).count(b"HTTP/1.1 200") == 2001


# --- what RFC 9112 and 9110 ask of a server


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_no_server_may_answer_is_refused(sent: bytes) -> None:
    with serving() as connect, connect() as link:
        link.sendall(sent)
        assert error_of(read_all(link))[0] == 400


def test_an_old_client_needs_no_host_and_is_not_told_to_continue() -> None:
    with serving() as connect, connect() as link:
        link.sendall(b"POST /read HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab")
        assert read_all(link).startswith(b"HTTP/1.1 200")
