"""A push lists what it would send; told to send, it speaks the hub's API, here a stand-in on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pennyweight.errors import ArtifactError, InputError
from pennyweight.export.hub import push
from pennyweight.storage.checksums import seal, sha256

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder that passes for a saved classifier as far as its manifest goes."""
    folder = tmp_path / "run"
    (folder / "tokenizer").mkdir(parents=True)
    contents = {"recipe.yaml": "a: 1\n", "plan.json": "{}", "metrics.json": "{}", "README.md": "# card\n"}
    contents |= {"head.safetensors": "tensors", "tokenizer/tokenizer.json": "{}"}
    for name, text in contents.items():
        (folder / name).write_text(text, "utf-8")
    manifest = {"format": 1, "backbone": {"name": "org/backbone"}}
    manifest["sha256"] = {name: sha256(folder / name) for name in contents}
    (folder / "pennyweight.json").write_text(seal(manifest), "utf-8")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "large").write_text("not to be sent", "utf-8")
    (folder / "report.html").write_text("quotes texts", "utf-8")
    return folder


class Hub(ThreadingHTTPServer):
    """As much of the hub's API as a commit of small files takes; remembers what it was sent."""

    def __init__(self, refuse: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse = refuse
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuse:
            return self._answer(403, {"error": "you may not"})
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self._answer(200, {"url": f"http://{self.headers['Host']}/me/news"})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if self.path.endswith("/commit/main"):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"http://{self.headers['Host']}/me/news/commit/1"
            return self._answer(200, {"commitUrl": url, "commitOid": "1", "success": True})
        return self._answer(404, {"error": self.path})

    def do_GET(self) -> None:
        self._answer(200, {"id": "me/news", "sha": "0", "siblings": [], "private": True, "tags": []})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Quiet."""


@pytest.fixture(params=[False], ids=["willing"])
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    server = Hub(refuse=request.param)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def send(folder: Path, server: Hub) -> str:
    """Push from a process of its own: the tests' own hub client is told to stay offline when first imported."""
    code = (
        "import sys; from pathlib import Path; from pennyweight.export.hub import push; "
        "from pennyweight.errors import PennyweightError\n"
        f"try: print(push(Path({str(folder)!r}), 'me/news', send=True, token='hf_x'))\n"
        "except PennyweightError as error: print('error:', error)"
    )
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(SOURCE),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dry_run_lists_the_manifests_files_and_sends_nothing(saved: Path) -> None:
    parcel = push(saved, "me/news")
    names = [name for name, _ in parcel.files]
    assert set(names) == {
        "recipe.yaml", "plan.json", "metrics.json", "README.md", "head.safetensors", "tokenizer/tokenizer.json",
        "pennyweight.json",
    }  # fmt: skip
    assert parcel.address is None
    assert str(parcel).endswith("would be sent to me/news (dry run)")
    assert "report.html" in [name for name, _ in push(saved, "me/news", report=True).files]


def test_what_is_sent_is_what_lies_there(saved: Path, hub: Hub) -> None:
    said = send(saved, hub)
    assert f"sent to http://127.0.0.1:{hub.server_port}/me/news/commit/1" in said
    assert hub.files == {name: (saved / name).read_bytes() for name, _ in push(saved, "me/news").files}
    assert hub.created[0]["name"] == "news"
    assert hub.created[0]["visibility"] == "private" if "visibility" in hub.created[0] else hub.created[0]["private"]


@pytest.mark.parametrize("hub", [True], indirect=True, ids=["refusing"])
def test_a_refusal_is_one_line(saved: Path, hub: Hub) -> None:
    said = send(saved, hub)
    assert said.startswith("error: me/news: the upload to the hub failed (")
    assert said.count("\n") == 1
    assert hub.files == {}


@pytest.mark.parametrize("name", ["news", "a/b/c", "/news", "me/"])
def test_a_name_that_is_no_repository_is_refused(saved: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a repository on the hub; expected owner/name; received"):
        push(saved, name)


def test_a_backbone_of_this_machine_is_of_no_use_elsewhere(saved: Path) -> None:
    manifest = json.loads((saved / "pennyweight.json").read_text("utf-8"))
    facts = {key: value for key, value in manifest.items() if key in ("format", "sha256")}
    (saved / "pennyweight.json").write_text(seal(facts | {"backbone": {"name": str(saved)}}), "utf-8")
    with pytest.raises(ArtifactError, match="the backbone is a folder on this machine, so others cannot load it"):
        push(saved, "me/news")


def test_a_damaged_file_is_not_sent(saved: Path) -> None:
    (saved / "head.safetensors").write_text("other", "utf-8")
    with pytest.raises(ArtifactError, match="checksum"):
        push(saved, "me/news")
