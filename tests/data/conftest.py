"""What the tests of data share: files by name, and the message of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Call something that must raise `DataError`; return its one-line message, the temporary folder written as TMP."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(DataError) as caught:
            function(*args, **kwargs)
        message = str(caught.value)
        assert "\n" not in message
        return message.replace(str(tmp_path), "TMP")

    return call
