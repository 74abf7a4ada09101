"""Clients that are slow, silent, rude or many: the others are served, and what they held is given back."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ..server_process import ServerProcess, message, save_three

pytestmark = pytest.mark.faults
BODY = b'{"texts": ["a bank"]}'
PREDICT = "/v1/classifiers/news/predict"
LAZY = 8  # threads that pools start only when several requests are there at once


@pytest.fixture(scope="module")
def server(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("served")
    save_three(tiny_backbone("bert"), folder)
    with ServerProcess(folder, log=tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running
    assert "Traceback" not in running.output


def held(server: ServerProcess) -> tuple[int, int]:
    """Open files and threads."""
    return server.facts.num_fds(), server.facts.num_threads()


@pytest.fixture
def settled(server: ServerProcess) -> Iterator[ServerProcess]:
    """The server, which in the end must hold what it held before, and answer."""
    for _ in range(4):
        assert server.predict("news", "a bank").status == 200
    files, threads = held(server)
    yield server
    server.wait_until(lambda: server.predict("news", "a bank").status == 200)
    server.wait_until(lambda: held(server)[0] <= files + 1 and held(server)[1] <= threads + LAZY)


class Others:
    """A well-behaved client that goes on asking in its own thread; every answer must be 200."""

    def __init__(self, server: ServerProcess) -> None:
        self.server, self.wrong, self.right = server, [], 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                answer = self.server.predict("news", "a bank")
                self.right += answer.status == 200
                self.wrong += [] if answer.status == 200 else [(answer.status, answer.body[:200])]
            except (OSError, AssertionError) as error:
                self.wrong.append(repr(error))
            time.sleep(0.02)

    def __enter__(self) -> Others:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
        if error[0] is None:
            assert self.wrong == []
            assert self.right > 0


def trickle(links: list[socket.socket], sent: bytes, seconds: float) -> int:
    """Send a byte a second on every connection until the server has closed all; how many are open at the end."""
    open_links, end = dict(enumerate(links)), time.monotonic() + seconds
    for place in range(len(sent)):
        for number, link in list(open_links.items()):
            try:
                link.send(sent[place : place + 1])
                link.setblocking(False)
                with suppress(BlockingIOError):
                    if link.recv(65_536) == b"":
                        raise ConnectionError
            except OSError:
                del open_links[number]
        if not open_links or time.monotonic() > end:
            break
        time.sleep(1)
    return len(open_links)


@pytest.mark.parametrize("part", ["first line", "headers", "body"])
def test_slow_clients_are_hung_up_on_and_delay_nobody(settled: ServerProcess, part: str) -> None:
    whole = message("POST", PREDICT, BODY + b" " * 500)
    begin = {"first line": 0, "headers": whole.index(b"\r\n") + 2, "body": whole.index(b"\r\n\r\n") + 4}[part]
    with ExitStack() as stack, Others(settled):
        links = [stack.enter_context(settled.connect()) for _ in range(200)]
        for link in links:
            link.sendall(whole[:begin])
        left = trickle(links, whole[begin : begin + 120] if part != "body" else whole[begin:], 90)
    assert left == 0


@pytest.mark.parametrize("stray", ["the rest of a body that was refused", "line breaks"])
def test_stray_bytes_do_not_keep_a_connection(settled: ServerProcess, stray: str) -> None:
    """Without a token: the request is answered, and what is sent behind it never becomes another."""
    if stray == "line breaks":
        first, more = message("GET", "/livez"), b"\r\n" * 60
    else:
        first, more = message("POST", PREDICT, b"", authorization="", content_length="1000000"), b" " * 120
    with ExitStack() as stack, Others(settled):
        links = [stack.enter_context(settled.connect()) for _ in range(50)]
        for link in links:
            link.sendall(first)
            assert link.recv(65_536).startswith(b"HTTP/1.1 ")
        assert trickle(links, more, 60) == 0


def test_a_client_that_reads_slowly_delays_nobody(settled: ServerProcess) -> None:
    """Answers of megabytes that nobody takes: the server must not hold them all, nor wait for the reader."""
    with ExitStack() as stack, Others(settled):
        for _ in range(50):
            link = stack.enter_context(socket.socket())
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            link.connect(("127.0.0.1", settled.port))
            link.settimeout(5)
            with suppress(OSError):
                link.sendall(message("GET", "/openapi.json") * 200)
        time.sleep(5)
        assert settled.facts.memory_info().rss < 2 << 30


def test_clients_that_hang_up_leave_nothing_behind(settled: ServerProcess) -> None:
    whole = message("POST", PREDICT, BODY)
    with Others(settled):
        for number in range(1_000):
            with settled.connect() as link:
                link.sendall(whole[: number % (len(whole) + 1)])
                if number % 2:  # with a reset rather than an end
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_clients_that_hang_up_in_the_middle_of_an_answer_leave_nothing_behind(settled: ServerProcess) -> None:
    with Others(settled):
        for number in range(200):
            with settled.connect() as link:
                link.sendall(message("GET", "/openapi.json"))
                link.recv(1 + number)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_work_that_nobody_waits_for_is_given_up(settled: ServerProcess) -> None:
    """Clients send much and go: who comes next does not wait for it all to be computed."""
    much = message("POST", PREDICT, b'{"texts": [' + b",".join([b'"' + b"bank " * 100 + b'"'] * 1_000) + b"]}")
    for _ in range(30):
        with settled.connect() as link:
            link.sendall(much)
    settled.wait_until(lambda: settled.predict("news", "a bank").status == 200)


def test_thousands_of_idle_connections_are_bounded(settled: ServerProcess, figure: Callable[[str], None]) -> None:
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 500:
        pytest.skip(f"only {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    links, most = [], 0
    try:
        for number in range(wanted):
            link = socket.socket()
            link.settimeout(5)
            with suppress(OSError):
                link.connect(("127.0.0.1", settled.port))
            links.append(link)
            if number % 500 == 0:
                most = max(most, settled.facts.num_fds())
        most = max(most, settled.facts.num_fds())
        answered = None
        with suppress(OSError, AssertionError):
            answered = settled.predict("news", "a bank").status
        figure(f"{wanted:,} idle connections: {most:,} open at once in the server; a request meanwhile: {answered}")
        assert answered in (None, 200, 503)
        # They do not keep the server from others for ever.
        settled.wait_until(lambda: settled.predict("news", "a bank").status == 200)
    finally:
        for link in links:
            link.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert most < 5_000
