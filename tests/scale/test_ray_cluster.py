"""Joining or starting a cluster: what is refused, in one line, before anything waits in silence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pennyweight.errors import InputError, ResourceError
from pennyweight.scale import ray_cluster as cluster


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"^--ray needs Ray; run `pip install 'pennyweight\[ray\]'`$"),
        cluster.ray_cluster("local", 1, None),
    ):
        pass


def test_too_few_cpus_are_refused_before_workers_wait() -> None:
    assert cluster._places([4, 4], 8, 1, None) == 8
    assert cluster._places([4, 4], 5, 1, 3) == 3
    assert cluster._places([3, 3], 6, 2, None) == 2  # a worker's threads are of one machine
    with pytest.raises(InputError) as caught:
        cluster._places([3, 3], 6, 2, 3)
    assert str(caught.value) == (
        "too few CPUs; expected 6 for 3 workers of 2 threads; received 6 free on 2 machines, enough for 2 workers; "
        "lower --workers or --worker-threads, or wait for other jobs"
    )
    with pytest.raises(InputError, match="too few CPUs; expected 1 for 1 workers of 1 threads; received 0 free"):
        cluster._places([4], 0, 1, None)


def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError) as caught:
            cluster._check_address(address)
    assert str(caught.value) == (
        f"--ray {address}: no Ray cluster answers there; received Connection refused; start one with "
        "`ray start --head`, or use --ray local"
    )
    for other in ("ray://head:10001", "head", "head:x", ":6379", "head:65536"):
        with pytest.raises(InputError, match="not the address of a cluster; expected local, auto or HOST:PORT"):
            cluster._check_address(other)
    cluster._check_address("auto")


def test_a_head_that_is_gone_is_noticed_before_ray_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_LOOK", 0.0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        head = cluster._Head(address)
        monkeypatch.setattr(cluster, "_reach", lambda address, seconds, reach=cluster._reach: reach(address, 10.0))
        for _ in range(5):
            head.look()
    for _ in range(2):
        head.look()  # a pause of the network is not the end
    with pytest.raises(ResourceError) as caught:
        head.look()
    assert str(caught.value) == (
        f"{address}: the cluster's head node is gone; received Connection refused; start the cluster and run the same "
        "command again (predict: with --resume)"
    )


def test_only_its_owner_may_read_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    path = tmp_path / ".ray" / "auth_token"
    with pytest.raises(InputError) as caught:
        cluster._protect_token(make=False)
    assert str(caught.value) == (
        f"{path}: the cluster's token is missing; received No such file or directory; copy it from the cluster's head "
        "(chmod 600), set RAY_AUTH_TOKEN, or, for a cluster without authentication, RAY_AUTH_MODE=disabled"
    )
    cluster._protect_token(make=True)
    token = path.read_text()
    assert (path.stat().st_mode & 0o777, len(token)) == (0o600, 64)
    os.chmod(path, 0o644)  # as Ray leaves it
    cluster._protect_token(make=True)
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, token)
    assert [item.name for item in path.parent.iterdir()] == ["auth_token"]
    path.write_text("\n")
    with pytest.raises(InputError, match="auth_token: the cluster's token is empty; remove the file, or copy the head"):
        cluster._protect_token(make=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path / "below"))
    with pytest.raises(InputError) as caught:
        cluster._protect_token(make=True)
    assert str(caught.value) == (
        f"{path}/below: the cluster's token cannot be read or written here; received {caught.value.received}; set "
        "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file of yours"
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    path.unlink()
    cluster._protect_token(make=True)
    assert not path.exists()


def test_a_signal_while_ray_starts_is_a_signal() -> None:
    def init(**given: Any) -> None:
        raise SystemExit(15)  # as Ray's handler of SIGTERM does

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(RayError=NodeDied))
    with pytest.raises(KeyboardInterrupt):
        cluster._connect(ray, "local", 1, 1)


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("h:1", RuntimeError("the authentication token is invalid"), "--ray h:1: the cluster refuses the token; "),
        (
            "h:1",
            RuntimeError("Version mismatch: The cluster\nwas started with:"),
            "--ray h:1: the cluster runs another ",
        ),
        ("auto", ConnectionError("Could not find any running Ray instance."), "--ray auto: no Ray cluster answers "),
        ("local", ValueError("no space"), "Ray could not start on this machine; received ValueError: no space"),
    ],
)
def test_what_ray_says_is_one_line(address: str, error: Exception, said: str) -> None:
    found = str(cluster._refused(address, error))
    assert found.startswith(said)
    assert "\n" not in found


class OutOfMemory(Exception):
    pass


class NodeDied(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            Exception("The actor died.\nThe actor never ran - it was cancelled."),
            "it never started; the cluster may have ",
        ),
        (
            OutOfMemory("Memory on the node was 120 of 125 GB..."),
            "Ray ended its process because its machine's memory was ",
        ),
        (NodeDied("The node is dead."), "its machine left the cluster"),
        (
            Exception("Worker exit type: SYSTEM_ERROR Worker exit detail: connection error code 2. Some common causes"),
            "its process was killed, perhaps for lack of memory",
        ),
        (Exception("At first.\nModuleNotFoundError: No module named 'x'."), "ModuleNotFoundError: No module named 'x'"),
    ],
)
def test_why_a_worker_ended_is_said_in_few_words(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    known = SimpleNamespace(OutOfMemoryError=OutOfMemory, NodeDiedError=NodeDied)
    assert cluster._how_it_ended(error, known).startswith(said)


# --- with Ray: a cluster of this machine that a command joins ---------------------------------------------------------


@contextmanager
def cluster_head(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a cluster with two CPUs, and the process that ends when a part of it does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "head.log"
    words = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
    words += [f"--port={port}", "--include-dashboard=false", "--object-store-memory=80000000"]
    with log.open("wb") as said:
        head = subprocess.Popen(
            [sys.executable, *words], env=environment, stdout=said, stderr=said, start_new_session=True
        )  # fmt: skip
    try:
        for _ in range(600):
            if b"Ray runtime started" in log.read_bytes():
                break
            assert head.poll() is None, log.read_text("utf-8")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", head
    finally:
        below = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
        for each in below:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()


class Joined(NamedTuple):
    """A cluster of this machine."""

    address: str
    head: psutil.Process
    predict: Callable[..., subprocess.Popen[str]]  # given flags, and by name what its environment has besides


@pytest.fixture
def joined(tmp_path: Path, tiny_run: Path) -> Iterator[Joined]:
    """A cluster, and the command that predicts 200,000 rows on it into out.csv."""
    pytest.importorskip("ray", reason="Ray is not installed")
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray" / "auth_token"
    token.write_text("a" * 64)
    token.chmod(0o600)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOME": str(home), "RAY_AUTH_MODE": "token",
        "RAY_TMPDIR": "/tmp",
    }  # fmt: skip
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["bank shares", "cup match"] * 100_000}), source)

    def predict(*flags: str, **more: str) -> subprocess.Popen[str]:
        words = ["predict", str(tiny_run), str(source), "--out", str(tmp_path / "out.csv"), "--ray", address, *flags]
        return subprocess.Popen(
            [sys.executable, "-m", "pennyweight", *words], env=environment | more, stderr=subprocess.PIPE, text=True
        )

    with cluster_head(environment, tmp_path) as (address, head):
        yield Joined(address, psutil.Process(head.pid), predict)


@pytest.mark.acceptance
def test_a_cluster_takes_its_token_alone(joined: Joined, tmp_path: Path) -> None:
    wrong = joined.predict(RAY_AUTH_TOKEN="b" * 64)
    assert wrong.communicate(timeout=120)[1] == (
        f"error: --ray {joined.address}: the cluster refuses the token; expected the token of the cluster's head; copy "
        "its ~/.ray/auth_token here, or set RAY_AUTH_TOKEN\n"
    )
    assert wrong.returncode == 2
    many = joined.predict("--workers", "3")
    assert many.communicate(timeout=120)[1].startswith("error: too few CPUs; expected 3 for 3 workers of 1 threads; ")
    right = joined.predict()
    assert right.communicate(timeout=120)[1] == f"200,000 texts labelled: {tmp_path / 'out.csv'}\n"


@pytest.mark.acceptance
def test_a_head_killed_at_work_ends_the_command_in_one_line(joined: Joined, tmp_path: Path) -> None:
    command = joined.predict()
    records = tmp_path / ".out.csv.parts" / ".units"
    for _ in range(600):
        if list(records.glob("*[0-9].json")):
            break
        time.sleep(0.1)
    joined.head.suspend()  # else it ends the workers at once
    leads = [each for each in joined.head.children() if "gcs_server" in each.name()]
    leads[0].kill()
    said = command.communicate(timeout=120)[1]
    assert (command.returncode, said.count("\n")) == (1, 1), said
    assert "the cluster's head node is gone; received " in said
    assert list(records.glob("*[0-9].json"))  # what is finished stays
    joined.head.resume()
