"""The Dockerfile, the systemd unit and what they promise. No image is built: that needs a daemon and a network."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pennyweight.serve.server_settings import ServerSettings

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "deploy" / "pennyweight.service"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def settings() -> list[tuple[str, str]]:
    """The unit's settings, in order; a name may come more than once."""
    lines = UNIT.read_text("utf-8").splitlines()
    return [
        (name, value)
        for name, equals, value in (line.partition("=") for line in lines if not line.startswith(("#", "[")))
        if equals
    ]


def flags_of_serve() -> set[str]:
    """What docs/commands.md, which is generated, lists."""
    reference = (ROOT / "docs" / "commands.md").read_text("utf-8")
    return set(re.findall(r"--[\w-]+", reference.split("## pennyweight serve\n")[1].split("\n## ")[0]))


def test_the_commands_of_image_and_unit_exist() -> None:
    (started,) = (value for name, value in settings() if name == "ExecStart")
    for command in (last("CMD"), started):
        used = re.findall(r"--[\w-]+", command)
        assert used
        assert set(used) - flags_of_serve() == set()


# --- the image


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000


def test_nothing_in_the_image_belongs_to_its_user_or_is_made_as_root_at_run_time() -> None:
    stages = [number for number, (word, _) in enumerate(instructions()) if word == "FROM"]
    final = instructions()[stages[-1] :]
    assert [rest for word, rest in final if word == "RUN"] == []
    assert [rest for word, rest in final if "chown" in rest] == []


def test_what_libraries_write_goes_to_the_temporary_folder() -> None:
    variables = dict(re.findall(r"(\w+)=(\S+)", last("ENV")))
    assert variables["HOME"] == variables["XDG_CACHE_HOME"] == "/tmp"
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert variables["HF_HUB_OFFLINE"] == "1"


def test_packages_are_pinned_by_the_lock() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "uv pip install" in rest]
    assert len(installs) == 2
    for install in installs:
        assert re.search(r"--(build-)?constraint requirements\.lock", install), install
    assert "--constraint requirements-torch.txt" in installs[0]
    (uv,) = re.findall(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert f"uv=={uv} " in next(rest for word, rest in instructions() if word == "RUN")


def test_the_build_sees_only_what_it_copies() -> None:
    wanted = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(line.removeprefix("!") for line in wanted)
    assert [source for source in copied if not (ROOT / source).exists()] == []


class Probe(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Probe) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_asks_livez(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch, status: int | None, healthy: bool
) -> None:
    """As it stands in the Dockerfile, but for the port; None: nobody listens."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    port = str(server.server_port if status else silent.getsockname()[1])
    monkeypatch.setattr(Probe, "status", status)
    assert command[:2] == ["python", "-c"]
    code = command[2].replace("8000", port)
    assert code != command[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    silent.close()
    assert (done.returncode == 0) is healthy


def test_the_image_serves_on_the_port_that_it_exposes_and_checks() -> None:
    port = last("EXPOSE")
    assert json.loads(last("CMD"))[-2:] == ["--port", port]
    assert f", {port}, " in last("HEALTHCHECK")
    assert json.loads(last("ENTRYPOINT")) == ["pennyweight", "serve"]


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0)


# --- the service


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictNamespaces", "yes"),
        ("SystemCallArchitectures", "native"),
        ("UMask", "0077"),
    ],
)
def test_the_service_is_confined(setting: str, value: str) -> None:
    assert [held for name, held in settings() if name == setting] == [value]


def test_the_service_may_write_kernels_and_read_the_memory() -> None:
    """oneDNN writes code at run time; psutil reads /proc/meminfo."""
    assert {name for name, _ in settings()} & {"MemoryDenyWriteExecute", "ProcSubset"} == set()


def test_the_token_reaches_the_service_as_a_credential() -> None:
    """Neither on the command line nor in the environment, where other processes could read it."""
    assert ("LoadCredential", "token:/etc/pennyweight/token") in settings()
    (command,) = (value for name, value in settings() if name == "ExecStart")
    assert "--token-file ${CREDENTIALS_DIRECTORY}/token" in command
    assert not any("TOKEN" in value for name, value in settings() if name == "Environment")


def test_the_unit_leaves_room_for_the_limits_of_the_server() -> None:
    limits = ServerSettings()
    given = dict(settings())
    assert int(given["TimeoutStopSec"]) > limits.drain_seconds + limits.deadline_seconds
    assert int(given["LimitNOFILE"]) > limits.max_connections + 256
    assert f"--time {int(limits.drain_seconds) + 10}" in (ROOT / "Dockerfile").read_text("utf-8")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists."""
    text = UNIT.read_text("utf-8").replace("/opt/pennyweight/bin/pennyweight", "/bin/true")
    (tmp_path / UNIT.name).write_text(text, "utf-8")
    return tmp_path / UNIT.name


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    "check", [["verify"], ["security", "--offline=true", "--threshold=20"]], ids=["verify", "exposure below 2 of 10"]
)
def test_systemd_accepts_the_unit(unit: Path, check: list[str]) -> None:
    done = subprocess.run(["systemd-analyze", *check, unit], capture_output=True, text=True, timeout=60)
    if "unrecognized option" in done.stderr:
        pytest.skip("an older systemd-analyze")
    assert done.returncode == 0, done.stdout + done.stderr
