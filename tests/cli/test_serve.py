"""`pennyweight serve`: what it refuses. What it serves: tests/serve."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENNYWEIGHT_TOKEN", raising=False)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--no-auth", "--host", "0.0.0.0"],
         "--no-auth would give everybody access; expected a loopback address such as 127.0.0.1; received --host "
         "0.0.0.0; leave out --no-auth"),
        (["--no-auth", "--token-file", "token"], "--no-auth and --token-file contradict each other; give one of them"),
        (["--memory", "much"], "--memory: not a size; expected such as 2GB or 512MiB; received much"),
        (["--memory", "0"], "--memory: not a size; expected such as 2GB or 512MiB; received 0"),
        (["--max-body", "-1MB"], "--max-body: not a size; expected such as 2GB or 512MiB; received -1MB"),
        (["--threads", "100000"],
         "Invalid value for '--threads': less than or equal to 1024; see --help"),
        (["--token-file", "nowhere"],
         "nowhere: the token's file cannot be read; received No such file or directory; see --token-file"),
    ],
)  # fmt: skip
def test_flags_that_cannot_be_used_are_refused(command: Command, tmp_path: Path, flags: list[str], error: str) -> None:
    done = command("serve", tmp_path, *flags)
    assert (done.code, done.error) == (2, error)


def test_a_folder_without_classifiers_is_refused(command: Command, tmp_path: Path) -> None:
    done = command("serve", tmp_path, "--port", "0")
    assert done.code == 2
    assert str(tmp_path) in done.error


def test_what_is_not_installed_is_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = util.find_spec
    monkeypatch.setattr(
        "pennyweight.cli.serve.find_spec", lambda name: None if name in ("fastapi", "uvicorn") else found(name)
    )
    done = command("serve", tmp_path)
    assert (done.code, done.error) == (
        2,
        "serving needs packages that are not installed; received no fastapi, uvicorn; install pennyweight[serve]",
    )


@pytest.mark.parametrize(
    ("words", "size"),
    [("2GB", 2 * 10**9), ("512MiB", 512 * 2**20), ("1.5k", 1500), ("100", 100), ("1 g", 10**9), ("3B", 3)],
)
def test_sizes(words: str, size: int) -> None:
    from pennyweight.cli.serve import _bytes

    assert _bytes(words, "--memory") == size
