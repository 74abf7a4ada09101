"""Joining or starting a cluster: what is refused, in one line, before anything waits in silence."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from pennyweight.errors import InputError
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
        "too few CPUs; expected 6 for 3 workers of 2 threads; received 6 free on 2 machines, room for 2 workers; lower "
        "--workers or --worker-threads, or wait for other jobs"
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
    for other in ("ray://head:10001", "head", "head:x", ":6379"):
        with pytest.raises(InputError, match="not the address of a cluster; expected local, auto or HOST:PORT"):
            cluster._check_address(other)
    cluster._check_address("auto")


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
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    path.unlink()
    cluster._protect_token(make=True)
    assert not path.exists()


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
