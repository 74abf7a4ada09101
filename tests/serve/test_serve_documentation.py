"""The examples of docs/serving.md, as they stand there, but for the address and the classifier's name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..server_process import TOKEN, ServerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def examples(language: str, word: str, server: ServerProcess) -> str:
    """The one code block of a language that holds a word."""
    (found,) = (code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if word in code)
    return str(found).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("topics", "news")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("word", ["/predict", "/reload"])
def test_curl(healthy: ServerProcess, word: str) -> None:
    command = examples("sh", f"{word} " if word == "/reload" else f"{word} \\\n", healthy)
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PENNYWEIGHT_TOKEN": TOKEN, "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    answer = json.loads(done.stdout)
    assert answer.get("error") is None, answer
    if word == "/predict":
        assert answer["classifier"] == "news"
        (shown,) = (json.loads(code) for code in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
        assert form(answer) == form(shown)


def form(answer: Any) -> Any:
    """The names of an answer's fields, and their types; a label may be null, probabilities are by any labels."""
    first = answer["predictions"][0]
    return sorted(answer), sorted(first), {type(value) for value in first["probabilities"].values()}


def test_httpx(healthy: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx2")  # the client that our own dependencies bring, with httpx's interface
    monkeypatch.setitem(sys.modules, "httpx", httpx)
    monkeypatch.setenv("PENNYWEIGHT_TOKEN", TOKEN)
    names: dict[str, Any] = {}
    exec(examples("python", "import httpx", healthy), names)
    names["client"].close()
    assert len(names["labels"]) == 2
    assert set(names["labels"]) <= {"Business", "Sports", "World"}


def test_the_statuses_that_the_page_lists_are_those_of_the_description(healthy: ServerProcess) -> None:
    listed = set(re.findall(r"\d{3}", " ".join(re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE))))
    paths = healthy.get("/openapi.json").json["paths"]
    described = {status for path in paths.values() for method in path.values() for status in method["responses"]}
    assert described - {"200"} <= listed
