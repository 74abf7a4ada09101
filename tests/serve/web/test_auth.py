"""Tokens: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pennyweight.errors import InputError
from pennyweight.serve.web.auth import SHORTEST, VARIABLE, is_loopback, make_token, read_token

TOKEN = "abcdefghijklmnop"


def write(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_a_token_comes_from_the_file_else_from_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path, f"{TOKEN}\n".encode())
    assert read_token(file, {VARIABLE: "another-token-of-16"}) == TOKEN
    assert read_token(None, {VARIABLE: f" {TOKEN} "}) == TOKEN
    assert read_token(None, {}) is None


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_of_the_owners_or_the_groups_is_read(tmp_path: Path, mode: int) -> None:
    assert read_token(write(tmp_path, TOKEN.encode(), mode), {}) == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o601])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = write(tmp_path, TOKEN.encode(), mode)
    with pytest.raises(InputError) as caught:
        read_token(file, {})
    assert str(caught.value) == (
        f"{file}: other users can read the token's file; expected mode 0600 or 0640; received {mode:04o}; chmod 600 "
        f"{file}"
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "the token is empty; expected 16 characters or more; received 0 characters; "
              "make one with: openssl rand -hex 32"),
        (b"\n \n", "the token is empty; expected 16 characters or more; received 0 characters; "
                   "make one with: openssl rand -hex 32"),
        (b"short", "the token is too short; expected 16 characters or more; received 5 characters; "
                   "make one with: openssl rand -hex 32"),
        (b"sixteen letters and more", "the token has characters that are not allowed in a header; expected letters, "
                                      "digits and -._~+/; make one with: openssl rand -hex 32"),
        (b"\xff" * 16, "the token has characters that are not allowed in a header; expected letters, digits and "
                       "-._~+/; make one with: openssl rand -hex 32"),
    ],
)  # fmt: skip
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: bytes, error: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_token(file, {})
    assert str(caught.value) == f"{file}: {error}"


def test_an_empty_variable_is_no_missing_one() -> None:
    with pytest.raises(InputError, match=f"^{VARIABLE}: the token is empty"):
        read_token(None, {VARIABLE: ""})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the token's file cannot be read; received No such file or directory"):
        read_token(tmp_path / "nothing", {})


def test_made_tokens_are_long_different_and_fit_a_header() -> None:
    made = {make_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        assert len(token) > 2 * SHORTEST
        assert read_token(None, {VARIABLE: token}) == token


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("LOCALHOST.", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False),
        ("localhost.example.org", False), ("127.0.0.1.example.org", False), ("", False), ("0x7f000001", False),
    ],
)  # fmt: skip
def test_loopback_addresses(host: str, found: bool) -> None:
    assert is_loopback(host) is found
