"""One server for the tests that ask over real sockets, which leave it as they found it, and its application alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pennyweight.serve.batching.batcher import Batcher
from pennyweight.serve.classifiers.open_registry import open_registry
from pennyweight.serve.classifiers.registry import Registry
from pennyweight.serve.server_settings import ServerSettings
from pennyweight.serve.web.app import create_app
from pennyweight.serve.web.prometheus import ServerMetrics

from ..server_process import TOKEN, ServerProcess, save_random, save_three

# Their words must never come out of the server.
CANARY = "a canary that sang"


@pytest.fixture(scope="session")
def served_folder(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `news`, `topics` and `pairs`; beside it `outside`, a classifier not served, and canaries."""
    root = tmp_path_factory.mktemp("serving")
    backbone = tiny_backbone("bert")
    save_random(backbone, root / "outside")
    save_three(backbone, root / "served")
    for folder in (root, root / "outside", root / "served"):
        for name in ("canary.txt", "canary.json", "canary.html"):
            (folder / name).write_text(f'"{CANARY}"', "utf-8")
    return root / "served"


@pytest.fixture(scope="session")
def server(served_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of `served_folder` with the admin's routes."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with ServerProcess(served_folder, "--allow-admin", log=log) as running:
        yield running
    assert "Traceback" not in running.output


@pytest.fixture
def healthy(server: ServerProcess) -> Iterator[ServerProcess]:
    """The server, which must answer as before when the test is done."""
    before = server.predict("news", "a bank")
    assert before.status == 200, before.body
    yield server
    assert server.predict("news", "a bank").body == before.body


# --- the application in this process


@pytest.fixture(scope="session")
def registry(served_folder: Path) -> Registry:
    found = open_registry([str(served_folder)], threads=1, precision="fp32")
    assert found.preload() == 3
    return found


@pytest.fixture(scope="session")
def make_client(registry: Registry) -> Iterator[Callable[..., TestClient]]:
    """A function `(token=TOKEN, **settings) -> client` of an application over `registry`; the client has the token.

    An exception that the application does not answer is raised in the test.
    """
    with ExitStack() as stack:

        def make(token: str | None = TOKEN, **settings: Any) -> TestClient:
            limits = ServerSettings(**settings)
            metrics = ServerMetrics()
            batcher = Batcher(registry.engine, limits, on_round=metrics.round_done)
            batcher.start()
            app = create_app(registry, batcher, limits, token=token, metrics=metrics)
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            client = TestClient(app, base_url="http://localhost", headers=headers, follow_redirects=False)
            stack.enter_context(client)
            stack.callback(lambda: asyncio.run(batcher.drain()))
            return client

        yield make


@pytest.fixture(scope="session")
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()
