"""Thousands of requests that schemathesis makes from /openapi.json: no fault, and each answer as described."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..openapi_requests import try_requests
from ..server_process import ServerProcess, save_three

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("name", [None, "news", "topics", "pairs"])
def test_answers_are_as_described(
    tiny_backbone: Callable[..., Path], tmp_path: Path, name: str | None, figure: Callable[[str], None]
) -> None:
    save_three(tiny_backbone("bert"), tmp_path / "served")
    with ServerProcess(tmp_path / "served", "--allow-admin", log=tmp_path / "log") as server:
        found = try_requests(server, tmp_path, "--max-examples", 200, name=name, deterministic=False)
        sent = server.output.count('"route"')
    figure(f"schemathesis, {name or 'names made up'}: {sent:,} requests")
    assert found == ""
    assert "Traceback" not in server.output
