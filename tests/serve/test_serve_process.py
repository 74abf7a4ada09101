"""The server as a process: how it begins and ends. Loads and memory: tests/faults/test_serve_process.py."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..server_process import PATIENCE, ROOT, TOKEN, ServerProcess, message, read_answer

pytestmark = pytest.mark.usefixtures("default_signals")
PREDICT, BODY = "/v1/classifiers/news/predict", b'{"texts": ["a bank"]}'


def test_a_port_in_use_is_said_in_one_line(served_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ServerProcess(served_folder, log=tmp_path / "log", port=port).start()
        assert server.wait() in (1, 2)
    assert "Traceback" not in server.output
    (line,) = [line for line in server.output.splitlines() if line.startswith("error: ")]
    assert str(port) in line


def begin(server: ServerProcess, stack: ExitStack) -> tuple[socket.socket, io.BufferedReader]:
    """A request whose headers the server has read and whose body it waits for."""
    link = stack.enter_context(server.connect())
    stream = stack.enter_context(link.makefile("rb"))
    link.sendall(message("POST", PREDICT, BODY, expect="100-continue").removesuffix(BODY))
    assert stream.readline().startswith(b"HTTP/1.1 100")
    assert stream.readline().strip() == b""
    return link, stream


def test_sigterm_answers_what_was_accepted_and_nothing_new(served_folder: Path, tmp_path: Path) -> None:
    with ServerProcess(served_folder, log=tmp_path / "log") as server, ExitStack() as stack:
        expected = server.predict("news", "a bank").json
        accepted = [begin(server, stack) for _ in range(20)]
        idle, waiting = server.connect(), server.connect()
        with idle, waiting, waiting.makefile("rb") as stream:
            server.signal(signal.SIGTERM)
            server.wait_until(lambda: server.get("/readyz").status == 503)
            server.signal(signal.SIGTERM)  # whoever is impatient changes nothing
            assert server.get("/livez").status == 200
            waiting.sendall(message("POST", PREDICT, BODY))
            refused = read_answer(stream)
            assert refused is not None
            assert refused.status == 503
            assert refused.headers["connection"] == "close"
            assert stream.read(1) == b""
            for link, answer in accepted:
                link.sendall(BODY)
                found = read_answer(answer)
                assert found is not None
                assert (found.status, found.json) == (200, expected)
            assert server.wait() == 0
            assert idle.recv(1) == b""
    assert "Traceback" not in server.output


def test_a_second_sigint_does_not_wait(served_folder: Path, tmp_path: Path) -> None:
    with ServerProcess(served_folder, log=tmp_path / "log") as server, ExitStack() as stack:
        begin(server, stack)
        server.signal(signal.SIGINT)
        server.wait_until(lambda: server.get("/readyz").status == 503)
        server.signal(signal.SIGINT)
        server.wait()
    assert "Traceback" not in server.output


# Loading that never leaves C++ code for long, and gets a signal.
LOADING = """
import os, signal, sys, threading, time
import torch
from pennyweight.cli import app, serve

def load(*_, **__):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    table = torch.rand(300, 300)
    while True:
        table @ table

serve._load = load
sys.argv = ["pennyweight", "serve", "nothing", "--port", "0"]
app.main()
"""


def test_a_signal_while_a_thread_computes_ends_it_without_a_core_dump() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PENNYWEIGHT_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", LOADING], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
