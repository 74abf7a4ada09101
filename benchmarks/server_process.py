"""`pennyweight serve` in a process of its own, as the benchmarks and the acceptance test start it."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

SRC = Path(__file__).resolve().parent.parent / "src"
PATIENCE = 180.0  # seconds until a server must be ready, or have ended


class ServerProcess:
    """A running server on this machine; ended at the latest when the block ends.

    Args:
        folders: what to serve.
        *options: more of the command's options.
        threads: that it computes with.
        cores: processors to run on; None for all.

    Attributes:
        port: where it listens.
        token: that it asks for.
        start_seconds: from the start of the process until it was ready.
        log: file with what it wrote.

    Raises:
        RuntimeError: it did not become ready; with the end of its log.
    """

    def __init__(
        self, folders: Sequence[Path], *options: str, threads: int | None = None, cores: Sequence[int] | None = None
    ) -> None:
        self.port, self.token = free_port(), secrets.token_urlsafe(16)
        self._scratch = tempfile.TemporaryDirectory(prefix="pennyweight-serve-")
        self.log = Path(self._scratch.name) / "log"
        paths = [str(SRC), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PENNYWEIGHT_TOKEN": self.token, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        command = [
            sys.executable, "-m", "pennyweight", "serve", *map(str, folders), "--host", "127.0.0.1", "--port",
            str(self.port), *options,
        ]  # fmt: skip
        began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self._facts = psutil.Process(self.process.pid)
        if cores is not None:  # every thread it starts inherits them
            self._facts.cpu_affinity(list(cores))
        try:
            self._wait(began + PATIENCE)
        except BaseException:
            self.close()
            raise
        self.start_seconds = round(time.monotonic() - began, 2)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of an answer; (0, b"") when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def memory_mb(self) -> float:
        """The memory it holds now, in MB."""
        held: int = self._facts.memory_info().rss
        return held / (1 << 20)

    def cpu_seconds(self) -> float:
        """Processor time that it took so far."""
        times: Any = self._facts.cpu_times()
        return float(times.user + times.system)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Send a signal and wait: the exit status."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._scratch.cleanup()

    def _wait(self, until: float) -> None:
        while self.get("/readyz")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > until:
                said = self.log.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"the server did not become ready (exit {self.process.poll()}):\n{said}")
            time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
