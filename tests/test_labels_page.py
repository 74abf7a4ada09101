"""docs/labels.md: its commands have these flags, its Python runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pennyweight import pipeline

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "labels.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_exists_with_its_flags() -> None:
    reference = (ROOT / "docs" / "commands.md").read_text("utf-8")
    shown = re.findall(r"^pennyweight (\w+) (.*)$", PAGE, re.MULTILINE)
    assert len(shown) > 6
    for verb, arguments in shown:
        section = re.search(rf"^## pennyweight {verb}\n.*?(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL)
        assert section, verb
        assert [flag for flag in re.findall(r"--[\w-]+", arguments) if flag not in section[0]] == [], arguments


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_python_runs(
    code: str, tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As it stands there, on a tiny backbone and for two steps."""
    train = pipeline.train
    quick = {"backbone": str(tiny_backbone("bert")), "budget": "5k", "max_steps": 2, "precision": "fp32"}
    monkeypatch.setattr(pipeline, "train", lambda *given, **settings: train(*given, **quick | settings))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["classifier"].metrics["train"]["steps"] == 2
