"""The server as a process: how it begins and ends. Loads and memory: tests/faults/test_serve_process.py."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..server_process import ServerProcess, message, read_answer

pytestmark = pytest.mark.usefixtures("default_signals")
DRAINED = {0, 128 + signal.SIGTERM, -signal.SIGTERM}


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


def test_sigterm_answers_what_was_accepted_and_nothing_new(served_folder: Path, tmp_path: Path) -> None:
    """Twenty requests wait for company when the signal comes; kept connections are told and closed."""
    with ServerProcess(served_folder, "--max-wait-ms", 2_000, log=tmp_path / "log") as server:
        sent = json.dumps({"texts": ["a bank", "a cup"]}).encode()
        with ThreadPoolExecutor(20) as pool, server.connect() as idle, idle.makefile("rb") as stream:
            idle.sendall(message("GET", "/livez"))
            assert read_answer(stream)
            waiting = [pool.submit(server.post, "/v1/classifiers/news/predict", sent) for _ in range(20)]
            server.wait_until(lambda: b"pennyweight_queued_texts 40.0" in server.get("/metrics").body)
            server.signal(signal.SIGTERM)
            answers = [one.result() for one in waiting]
            assert [answer.status for answer in answers] == [200] * 20
            assert len({json.dumps(answer.json["predictions"]) for answer in answers}) == 1
            assert stream.read(1) == b""
        assert server.wait() in DRAINED
    assert "Traceback" not in server.output
