"""The server as a process: signals under load, memory and descriptors over thousands of requests."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..server_process import Answer, ServerProcess, message, read_answer, save_random, save_three

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("default_signals")]


@pytest.fixture(scope="module")
def folder(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_three(tiny_backbone("bert"), tmp_path_factory.mktemp("served"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", range(3))
def test_a_signal_under_load_loses_no_accepted_request(
    folder: Path, tmp_path: Path, number: int, moment: int, figure: Callable[[str], None]
) -> None:
    """Many clients, one request a connection: each is answered whole, refused with 503, or was never taken in."""
    chance = random.Random(moment)
    answers: list[Answer | None] = []
    guard = threading.Lock()
    with ServerProcess(folder, log=tmp_path / "log") as server:
        expected = server.predict("news", "a bank").json["predictions"]
        going = threading.Event()
        going.set()

        def client() -> None:
            while going.is_set():
                try:
                    link = server.connect()
                except OSError:
                    return  # it no longer listens
                with link, link.makefile("rb") as stream:
                    try:
                        link.sendall(message("POST", "/v1/classifiers/news/predict", b'{"texts": ["a bank"]}'))
                    except OSError:
                        return  # closed before it was sent: never taken in
                    answer = read_answer(stream)
                with guard:
                    answers.append(answer)

        clients = [threading.Thread(target=client) for _ in range(16)]
        for one in clients:
            one.start()
        server.wait_until(lambda: len(answers) > 100 + chance.randrange(400))
        before = len(answers)
        server.signal(number)
        code = server.wait()
        going.clear()
        for one in clients:
            one.join()
    statuses = [None if answer is None else answer.status for answer in answers]
    figure(f"signal {number} under load: {before} answered before, {len(answers) - before} after, exit code {code}; "
           f"{statuses.count(503)} refused, {statuses.count(None)} connections closed unanswered")  # fmt: skip
    assert code == 0
    assert set(statuses[:before]) == {200}
    assert set(statuses) <= {200, 503, None}
    assert all(answer.json["predictions"] == expected for answer in answers if answer and answer.status == 200)
    # A connection that the kernel took in but the server never saw ends without an answer: at most one a client.
    assert statuses.count(None) <= 16
    assert "Traceback" not in server.output


def test_what_waits_in_the_queue_is_answered_after_sigterm(folder: Path, tmp_path: Path) -> None:
    with ServerProcess(folder, "--max-wait-ms", 1_000, log=tmp_path / "log") as server:
        sent = json.dumps({"texts": ["a bank", "a cup"]}).encode()
        with ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(server.post, "/v1/classifiers/news/predict", sent) for _ in range(40)]
            server.wait_until(lambda: queued(server) >= 2)
            server.signal(signal.SIGTERM)
            statuses = [one.result().status if one.exception() is None else None for one in waiting]
        assert server.wait() == 0
    assert set(statuses) <= {200, 503, None}
    assert 200 in statuses
    assert "Traceback" not in server.output


def queued(server: ServerProcess) -> int:
    lines = server.get("/metrics").body.decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("pennyweight_queued_texts "))
    return int(float(value))


def test_a_half_sent_request_does_not_keep_it_from_stopping(folder: Path, tmp_path: Path) -> None:
    with ServerProcess(folder, log=tmp_path / "log") as server:
        whole = message("POST", "/v1/classifiers/news/predict", b'{"texts": ["a bank"]}')
        with server.connect() as in_body, server.connect() as in_headers, server.connect() as silent:
            in_body.sendall(whole[:-5])
            in_headers.sendall(whole[:40])
            server.wait_until(lambda: server.get("/livez").status == 200)
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert silent.recv(13) in (b"", b"HTTP/1.1 408 ")  # it waited for the body, as long as bodies may take
    assert "Traceback" not in server.output


def test_a_signal_while_it_starts_ends_it(folder: Path, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = ServerProcess(folder, log=tmp_path / "log").start()
        server.signal(number)
        assert server.wait() != 0
        server = ServerProcess(folder, log=tmp_path / "log").start()
        server.wait_until(lambda running=server: running.get("/livez").status in (200, 503))
        server.signal(number)
        assert server.wait() == 0
        assert "Traceback" not in server.output


def test_a_restart_takes_the_same_port_at_once(folder: Path, tmp_path: Path) -> None:
    with ServerProcess(folder, log=tmp_path / "log") as first, first.connect() as idle:
        assert first.predict("news", "a bank").status == 200
        first.signal(signal.SIGTERM)
        first.wait()
        with ServerProcess(folder, log=tmp_path / "again", port=first.port) as second:
            assert second.predict("news", "a bank").status == 200
        idle.close()


def test_it_writes_to_no_file_system_but_the_temporary_one(folder: Path, tmp_path: Path) -> None:
    """As in a container whose root is read-only."""
    script = (
        'mount --make-rprivate / && mount --bind / / && mount -o remount,ro,bind / && ! touch "$0" 2>/dev/null'
        ' && mount -t tmpfs tmpfs /var/tmp && export TMPDIR=/var/tmp && exec "$@"'
    )
    under = ["unshare", "--mount", "sh", "-c", script, str(tmp_path / "touched")]
    if not shutil.which("unshare") or subprocess.run([*under, "true"], capture_output=True).returncode:
        pytest.skip("no file system of its own: only root may mount")
    with ServerProcess(folder, "--memory", 1, log=tmp_path / "log", under=under) as server:
        for name, text in (("news", "a bank"), ("topics", "a cup"), ("pairs", ["a", "b"])):
            assert server.predict(name, text).status == 200
            assert server.get(f"/v1/classifiers/{name}").json["problem"] is None
        for path in ("/", "/metrics", "/openapi.json"):
            assert server.get(path).status == 200
    assert "Traceback" not in server.output


def test_nothing_grows_over_thousands_of_requests_with_eviction(
    tiny_backbone: Callable[..., Path], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Sixty classifiers, memory for a few: each request may read one from disk and push another out."""
    backbone = tiny_backbone("bert")
    names = [f"c{number:02}" for number in range(60)]
    for seed, name in enumerate(names):
        save_random(backbone, tmp_path / "served" / name, seed=seed)
    size = sum(file.stat().st_size for file in (tmp_path / "served" / "c00").rglob("*.safetensors"))
    with ServerProcess(tmp_path / "served", "--memory", 6 * size, log=tmp_path / "log") as server:
        first = {name: server.predict(name, "a bank", "the cup").json for name in names}
        chance = random.Random(0)

        def one(number: int) -> Any:
            name = names[chance.randrange(60)]
            answer = server.predict(name, "a bank", "the cup")
            return name if answer.status == 200 and answer.json != first[name] else answer.status

        def many(count: int) -> set[Any]:
            with ThreadPoolExecutor(4) as pool:
                return set(pool.map(one, range(count)))

        assert many(1_000) == {200}
        before = server.facts.memory_info().rss, server.facts.num_fds(), server.facts.num_threads()
        assert many(4_000) == {200}
        after = server.facts.memory_info().rss, server.facts.num_fds(), server.facts.num_threads()
        figure(f"4,000 requests to 60 classifiers with memory for about 6: {(after[0] - before[0]) / 2**20:+.1f} MiB, "
               f"{after[1] - before[1]:+} descriptors, {after[2] - before[2]:+} threads")  # fmt: skip
        assert after[0] - before[0] < 24 << 20
        assert after[1] <= before[1] + 2
        assert after[2] <= before[2] + 2
