"""Requests that schemathesis makes from /openapi.json: no fault, and each answer as described. Few, always the same."""

from __future__ import annotations

from pathlib import Path

from ..openapi_requests import try_requests
from ..server_process import ServerProcess


def test_answers_are_as_described(healthy: ServerProcess, tmp_path: Path) -> None:
    assert try_requests(healthy, tmp_path, "--max-examples", 5, name="news") == ""
