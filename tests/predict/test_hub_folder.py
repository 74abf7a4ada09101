"""A classifier by the name of its repository; the hub is a stand-in on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from pennyweight.errors import StorageError
from pennyweight.predict.hub_folder import local_folder

from ..local_server import local_server

COMMIT = "a" * 40
SCRIPT = """
import sys
import pennyweight as pw
try:
    classifier = pw.load("me/news")
    print(classifier("bank rate cut"))
except pw.PennyweightError as error:
    print(f"{type(error).__name__}: {error}")
"""


class _Handler(BaseHTTPRequestHandler):
    """As much of the hub's API as a snapshot takes."""

    folder: Path

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/me/news"):
            files = {
                item.relative_to(self.folder).as_posix(): item for item in self.folder.rglob("*") if item.is_file()
            }
            if "/tree/" in self.path:
                oids = {name: hashlib.sha1(item.read_bytes()).hexdigest() for name, item in files.items()}
                entry = {"type": "file", "lastCommit": None, "security": None}
                sizes = {name: item.stat().st_size for name, item in files.items()}
                return self._json(200, [entry | {"path": n, "oid": oids[n], "size": sizes[n]} for n in files])
            return self._json(200, {"id": "me/news", "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]})
        if self.path.startswith("/me/news/resolve/"):
            return self._file(body=True)
        return self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def _file(self, *, body: bool) -> None:
        content = (self.folder / self.path.split(f"/{COMMIT}/")[1]).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Nothing: the test's output is its own."""


@pytest.fixture
def hub(tiny_run: Path) -> Iterator[str]:
    """The address of a hub that holds `tiny_run` as me/news."""
    handler = type("Handler", (_Handler,), {"folder": tiny_run})
    with local_server(handler) as address:
        yield address


def load_in_a_process(home: Path, address: str, **more: str) -> str:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    source = str(Path(__file__).parents[2] / "src")
    environment |= {"PYTHONPATH": source, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=home, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_repository_is_downloaded_once_and_works_without_the_network(tmp_path: Path, hub: str) -> None:
    label = load_in_a_process(tmp_path, hub, HF_HUB_OFFLINE="0")
    assert "Error" not in label
    kept = tmp_path / "pennyweight" / "me--news"
    assert (kept / "pennyweight.json").is_file()
    assert not (kept / "report.html").exists()
    assert not (kept / "checkpoints").exists()
    assert load_in_a_process(tmp_path, hub, HF_HUB_OFFLINE="1") == label


def test_no_such_repository_is_one_line(tmp_path: Path, hub: str) -> None:
    script_hub = load_in_a_process(tmp_path, hub.replace("127.0.0.1", "localhost") + "/elsewhere", HF_HUB_OFFLINE="0")
    assert script_hub.startswith("ArtifactError: neither a folder nor a repository on the hub: me/news")


def test_folders_win_and_what_is_no_name_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "news").mkdir(parents=True)
    for name in ("me/news", "me/slip", "me", "./me/other", "/abs/path", "a/b/c"):
        assert local_folder(name) == Path(name)


def test_offline_a_name_that_was_never_downloaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="no folder nobody/nothing, and the hub cannot be reached"):
        local_folder("nobody/nothing")
