"""Rewrite the generated parts of the documentation from the code they describe: `make docs`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. A test fails when one is out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from typer.main import get_command
from typer.testing import CliRunner

from pennyweight.artifact.metrics_file import schema
from pennyweight.cli.app import app
from pennyweight.cli.flags import choices, takes_number
from pennyweight.data.corruption import CORRUPTIONS
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.schema import SECTIONS
from pennyweight.serve.server_settings import ServerSettings

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fields(section: str) -> str:
    """A table of a recipe section: every key, its default, its meaning."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, field in SECTIONS[section].model_fields.items():
        default = getattr(getattr(recipe.load("default"), section), key)
        shown = "" if default is None else f"`{yaml.safe_dump(default, default_flow_style=True).splitlines()[0]}`"
        words = " ".join(f"`{word}`" for word in choices(field.annotation) if not takes_number(field.annotation))
        rows.append(f"| `{key}` | {shown} | {field.description}{words and f' One of {words}.'} |")
    return "\n".join(rows)


def shipped() -> str:
    """Every shipped recipe as it stands in its file, comments included."""
    folder = Path(recipe.__file__).parent / "shipped"
    parts = [f"### {name}\n\n```yaml\n{(folder / f'{name}.yaml').read_text('utf-8')}```" for name in recipe.shipped()]
    return "\n\n".join(parts)


def commands() -> str:
    """`--help` of the program and of every command."""
    program = get_command(app)
    names = program.list_commands(program.make_context("pennyweight", ["--help"], resilient_parsing=True))
    parts = []
    for call in ([], *([name] for name in names)):
        shown = " ".join(["pennyweight", *call])
        flag = "--help-all" if call and program.get_command(None, call[0]).callback.common_flags else "--help"
        result = CliRunner().invoke(app, [*call, flag], prog_name="pennyweight", terminal_width=80)
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"## {shown}\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def corruptions() -> str:
    """A table of the corruptions: family, effect, and the parameter at each severity."""
    rows = [
        "| name | family | what goes wrong | parameter | 1 | 2 | 3 | 4 | 5 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in CORRUPTIONS.values():
        levels = " | ".join(f"{level:g}" for level in one.levels)
        rows.append(f"| `{one.name}` | {one.family} | {one.what} | {one.parameter} | {levels} |")
    return "\n".join(rows)


# Of the server's settings those that a flag sets.
SERVER_FLAGS = {
    "memory": "--memory", "admin": "--allow-admin", "max_body_bytes": "--max-body", "max_texts": "--max-texts",
    "max_characters": "--max-characters", "max_wait_ms": "--max-wait-ms", "deadline_seconds": "--deadline",
    "max_queue_seconds": "--max-queue-seconds", "drain_seconds": "--drain-seconds", "log_texts": "--log-texts",
}  # fmt: skip


def server_limits() -> str:
    """A table of the server's settings: every limit, its default, its flag, and what its docstring says of it."""
    told = dict(re.findall(r"^ +(\w+): (.*(?:\n {8,}.*)*)", inspect.getdoc(ServerSettings) or "", re.MULTILINE))
    rows = ["| limit | default | flag | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(ServerSettings):
        default = f"{field.default:,}" if type(field.default) in (int, float) else str(field.default)
        flag = f"`{SERVER_FLAGS[field.name]}`" if field.name in SERVER_FLAGS else ""
        rows.append(f"| `{field.name}` | {default} | {flag} | {' '.join(told[field.name].split())} |")
    return "\n".join(rows)


def settings_module() -> str:
    """The module with the recipe's fields as types of keyword arguments, so that editors complete them."""
    lines = [
        '"""The fields of a recipe as keyword arguments, for editors and type checkers: written by `make docs`."""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Callable",
        "from typing import Any, Literal, TypedDict",
        "",
        "",
        "class RecipeSettings(TypedDict, total=False):",
        '    """Any field of `recipe.schema`, by its key; `test` is an argument of its own."""',
    ]
    for section, model in SECTIONS.items():
        lines += ["", f"    # {section}"]
        for key, field in model.model_fields.items():
            if key != "test":  # an argument of its own
                either = key in ("budget", "max_length", "epochs")
                lines.append(f"    {key}: {'str | int' if either else _typed(field.annotation)}")
    return "\n".join(
        [
            *lines,
            "",
            "    # in addition to the recipe; `say` is deprecated",
            "    progress: bool | None",
            "    say: Callable[[str], None] | None",
            "",
        ]
    )


def _typed(annotation: Any) -> str:
    """A field's values as Python code, lists and mappings also as a flag writes them."""
    text, optional = str(annotation), type(None) in get_args(annotation)
    if get_origin(annotation) is Literal or (optional and choices(annotation)):
        words = ", ".join(f'"{word}"' for word in choices(annotation))
        found = f"Literal[{words}]"
        found = found if "list" not in text else "list[str] | str"
    elif "dict" in text:
        found = "dict[str, Any] | str"
    elif "list" in text or "LayerNumbers" in text:
        found = (
            "list[int] | str" if "LayerNumbers" in text or "list[typing.Annotated[int" in text else "list[str] | str"
        )
    elif bool in (annotation, *get_args(annotation)):
        found = "bool"
    elif "float" in text:
        found = "float"
    elif "int" in text:
        found = "int"
    else:
        found = "str"
    return found + (" | None" if optional else "")


PARTS: dict[str, Callable[[], str]] = {f"section {section}": partial(fields, section) for section in SECTIONS}
PARTS |= {"shipped recipes": shipped, "commands": commands, "corruptions": corruptions, "server limits": server_limits}


def rendered(page: Path) -> str:
    """The page with its generated parts made anew."""
    return PART.sub(
        lambda found: f"{found[1]}{PARTS[found['name']]()}\n{found[3]}",
        page.read_text("utf-8"),
    )


def main() -> int:
    """Rewrite what is out of date; with --check only name it, and exit 1."""
    check = "--check" in sys.argv[1:]
    pages = {page: rendered(page) for page in sorted(DOCS.glob("*.md"))}
    pages[DOCS / "metrics.schema.json"] = json.dumps(schema(), indent=2) + "\n"
    pages[Path(recipe.__file__).parent / "settings.py"] = settings_module()
    stale = {page: text for page, text in pages.items() if not page.exists() or text != page.read_text("utf-8")}
    for page, text in stale.items():
        print(f"{page.name} is out of date: run `make docs`" if check else f"{page.name} rewritten")
        if not check:
            page.write_text(text, "utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
