"""One server for the tests of this folder that ask over real sockets; they leave it as they found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..server_process import ServerProcess, save_random, save_three

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
