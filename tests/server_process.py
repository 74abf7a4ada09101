"""`pennyweight serve` in a process of its own, asked over real sockets, and classifiers for it to serve."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import psutil
import torch

from pennyweight.artifact.artifact import Artifact
from pennyweight.artifact.save_artifact import save_artifact
from pennyweight.data.labels import LabelSet
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.tokenizer import load_tokenizer
from pennyweight.model.trainable import trainable
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

ROOT = Path(__file__).parent.parent
TOKEN = "correct-horse-battery-staple"
PATIENCE = 120.0  # seconds for what takes one or two


# --- what is served


def save_random(
    backbone: Path | str, folder: Path, names: Sequence[str] = ("Sports", "World"), seed: int = 1, **more: Any
) -> Path:
    """Save a classifier with random weights everywhere training would have put some; `multi`, and a recipe's fields."""
    multi = more.pop("multi", False)
    wanted = recipe.load(
        **{"backbone": str(backbone), "r": 2, "target_modules": "query,value", "budget": "none"} | more
    )
    found = resolve(str(backbone))
    plan = plan_for(wanted, found.config, len(names))
    model = build(
        found, plan, len(names), Runtime(torch.device("cpu"), "fp32"), ModelSettings(**wanted.model.settings())
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    labels = LabelSet(tuple(names), multi=multi)
    metrics = {"task": "multi", "thresholds": {"values": [0.5] * len(names)}} if multi else {}
    artifact = Artifact.of_model(
        model.eval(), load_tokenizer(found.folder), found, labels, wanted, plan, metrics
    )  # fmt: skip
    if wanted.data.pair:
        artifact = replace(artifact, input_spec=replace(artifact.input_spec, pair=True))
    return save_artifact(artifact, folder)


def save_three(backbone: Path, folder: Path) -> Path:
    """A folder with the classifiers `news` (single-label), `topics` (multi-label) and `pairs`."""
    save_random(backbone, folder / "news", ("Business", "Sports", "World"), 1)
    save_random(backbone, folder / "topics", ("money", "sport", "world", "other"), 2, multi=True, pooling="mean", r=4)
    save_random(backbone, folder / "pairs", ("no", "yes"), 3, pair="true")
    return folder


# --- who serves


@dataclass(frozen=True)
class Answer:
    """One HTTP response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _OneReader:
    """What HTTPResponse takes for a socket: several responses come out of one buffer."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream

    def makefile(self, mode: str) -> io.BufferedReader:
        return self.stream


class _KeptOpen(HTTPResponse):
    """A response that leaves the buffer open for the next one."""

    def _close_conn(self) -> None:
        self.fp = None  # type: ignore[assignment]


def read_answer(stream: io.BufferedReader, method: str = "GET") -> Answer | None:
    """The next response of a connection; None where it ended instead."""
    response = _KeptOpen(_OneReader(stream), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except (HTTPException, OSError):
        return None
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def message(method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """A request's bytes; `Content_Length` and the like are headers, an empty one is left out."""
    given: dict[str, str] = {"host": "localhost", "authorization": f"Bearer {TOKEN}"}
    if body is not None:
        given |= {"content-type": "application/json", "content-length": str(len(body))}
    given |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


class ServerProcess:
    """`pennyweight serve FOLDERS... FLAGS` in its own process; as a context, from its first answer to its end.

    `under` is a command that runs another one, which is appended to it.
    """

    def __init__(
        self,
        *arguments: object,
        log: Path,
        token: str | None = TOKEN,
        port: int | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self.arguments, self.log, self.token, self.under = arguments, log, token, under
        self.port = free_port() if port is None else port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> ServerProcess:
        """Start it, without waiting for anything."""
        environment = {name: value for name, value in os.environ.items() if name != "PENNYWEIGHT_TOKEN"}
        environment |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        if self.token is not None:
            environment["PENNYWEIGHT_TOKEN"] = self.token
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self.under, sys.executable, "-m", "pennyweight", "serve", *map(str, self.arguments),
                    "--port", str(self.port),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )  # fmt: skip
        return self

    def __enter__(self) -> ServerProcess:
        self.start()
        try:
            self.wait_until(lambda: self.get("/readyz").status == 200)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def output(self) -> str:
        """All that it printed and logged."""
        return self.log.read_text("utf-8", "replace")

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for a condition; what cannot be asked yet does not hold."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}: {self.output}"
            with suppress(OSError, AssertionError):
                if holds():
                    return
            time.sleep(0.05)
        raise TimeoutError(self.output)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it ended."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    @property
    def facts(self) -> psutil.Process:
        """Its memory, threads and file descriptors."""
        assert self.process is not None
        return psutil.Process(self.process.pid)

    # --- asking

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def exchange(self, sent: bytes, *, finish: bool = False, method: str = "GET") -> list[Answer]:
        """All responses to these bytes until the server closes the connection: after the last, if it is told so, or
        after what it cannot read. To the server, a client that finishes sending has hung up."""
        with self.connect() as link, link.makefile("rb") as stream:
            with suppress(OSError):  # it may answer and close before it has read all
                link.sendall(sent)
                if finish:
                    link.shutdown(socket.SHUT_WR)
            answers = []
            while (answer := read_answer(stream, method)) is not None:
                answers.append(answer)
            return answers

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with self.connect() as link, link.makefile("rb") as stream:
            with suppress(OSError):
                link.sendall(message(method, path, content, **{"connection": "close"} | headers))
            answer = read_answer(stream, method)
            assert answer is not None, f"no answer to {method} {path[:80]}"
            return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def predict(self, name: str, *texts: Any) -> Answer:
        return self.post(f"/v1/classifiers/{name}/predict", {"texts": list(texts)})


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
