"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from pennyweight import pipeline

ROOT = Path(__file__).parent.parent
PAGES = sorted([file for folder in (".", "docs", "examples", "benchmarks") for file in (ROOT / folder).glob("*.md")])
LABELS_CODE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "labels.md").read_text("utf-8"), re.DOTALL)


def test_generated_parts_are_up_to_date() -> None:
    (locked,) = re.findall(r"^typer==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    if version("typer") != locked:
        pytest.skip(f"the commands' help is generated as Typer {locked} prints it")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize(("page", "least"), [("README.md", 6), ("docs/labels.md", 7)])
def test_every_command_shown_exists_with_its_flags(page: str, least: int) -> None:
    reference = (ROOT / "docs" / "commands.md").read_text("utf-8")
    shown = re.findall(r"^(?:.*\| )?pennyweight (\w+) ?(.*)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert len(shown) >= least
    for command, arguments in shown:
        section = re.search(rf"^## pennyweight {command}\n.*?(?=^## |\Z)", reference, re.MULTILINE | re.DOTALL)
        assert section, command
        assert [flag for flag in re.findall(r"--[\w-]+", arguments) if flag not in section[0]] == [], arguments


@pytest.mark.parametrize("code", LABELS_CODE, ids=range(len(LABELS_CODE)))
def test_the_python_in_the_page_on_labels_runs(
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


def test_sentences_are_drawn_from_each_source_and_the_same_by_the_same_seed() -> None:
    command = [sys.executable, ROOT / "scripts" / "random_sentences.py", "10", "--seed", "7"]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    first, again = (
        subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment) for _ in range(2)
    )
    assert (first.stderr, first.returncode) == ("", 0)
    assert first.stdout == again.stdout
    parts = re.split(r"^(\w+)$", first.stdout, flags=re.MULTILINE)
    assert parts[1::2] == ["README", "docs", "help", "messages", "report"]
    assert [len(re.findall(r"^  \S", part, re.MULTILINE)) for part in parts[2::2]] == [2] * 5


def test_every_source_file_that_a_page_names_exists() -> None:
    roots = [ROOT, ROOT / "src" / "pennyweight", ROOT / "benchmarks"]
    named = [
        (page.name, path) for page in PAGES for path in re.findall(r"`([\w./]+\.py|\w+/)`", page.read_text("utf-8"))
    ]
    assert len(named) > 20
    assert [(page, path) for page, path in named if not any((root / path).exists() for root in roots)] == []


def test_every_test_that_a_page_names_exists() -> None:
    named = [(page.name, path) for page in PAGES for path in re.findall(r"\btests/[\w/.]*\w", page.read_text("utf-8"))]
    assert len(named) > 20
    assert [(page, path) for page, path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("trainable", "total", "settings"),
    [
        (3_330_820, 127_896_584, {"recipe": "notebook", "budget": "none"}),
        (1_478_404, 126_127_112, {"recipe": "paper", "budget": "none", "head": "full"}),
        (1_036_036, 125_684_744, {"recipe": "paper", "budget": "none", "head": "full", "r": 8}),
        (888_580, 125_537_288, {"recipe": "paper", "head": "full", "r": 8, "target_modules": "query,value"}),
        (593_668, None, {"recipe": "paper", "head": "full", "strategy": "head-only"}),
        (3_076, None, {"recipe": "paper", "strategy": "head-only"}),
        (998_404, None, {"recipe": "paper", "r": 6, "target_modules": "all-linear"}),
        (998_404, None, {"recipe": "paper", "r": 12, "target_modules": "all-linear", "layers": "top:6"}),
    ],
)
def test_the_readme_table_of_counts_is_what_plan_says(
    trainable: int, total: int | None, settings: dict[str, object]
) -> None:
    import pennyweight as pw

    plan = pw.plan(labels=4, **settings)
    assert plan.count.trainable == trainable
    assert total in (None, plan.count.total)
    row = f"| {trainable:,} | {'' if total is None else f'{total:,} '}|"
    assert row in (ROOT / "README.md").read_text("utf-8")
