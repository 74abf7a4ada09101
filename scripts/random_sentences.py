"""Draw sentences that a user reads, for a person to read: `python scripts/random_sentences.py [N] [--seed SEED]`.

As many from each of five sources: README, docs (and the other Markdown files), help of the commands, messages (what is
raised or logged), and the report. A sentence that has to be read twice is to be written again; its place is printed
with it. The seed is fixed before sentences are rewritten, and named in docs/log.md with what came of it.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "pennyweight"
SEED = 20_261_127
LEAST_WORDS = 5
# Calls whose first text is read by a user, beside what is raised.
SPOKEN = {"info", "warning", "error", "say", "note", "echo", "warn", "secho"}

Sentence = tuple[str, str]  # (place, text)


def sentences(text: str) -> Iterator[str]:
    """Sentences of a paragraph that have enough words; what an f-string or a template fills in counts for none."""
    if re.search(r"</|/>", text):
        return  # code of a page, not a sentence
    for one in re.split(r"(?<=[.!?])[\"')*]*\s+(?=[A-Z`*\[(“\"])", " ".join(text.split())):
        if len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\{+[^{}]*\}+", "", one))) >= LEAST_WORDS:
            yield one


def markdown(file: Path) -> Iterator[Sentence]:
    """Sentences of a page, list items and table cells included, code and generated parts left out."""
    text = file.read_text("utf-8")
    text = re.sub(r"<!-- generated: .*?<!-- end -->|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=#)|(?<=\|)\n", text):
        cells = block.split("|") if block.lstrip().startswith("|") else [re.sub(r"^\s*(?:[-*]|\d+\.|#+) ", "", block)]
        for cell in cells:
            for one in sentences(cell):
                yield file.relative_to(ROOT).as_posix(), one


def readme() -> Iterator[Sentence]:
    yield from markdown(ROOT / "README.md")


def docs() -> Iterator[Sentence]:
    pages = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")}
    for file in sorted(pages - {ROOT / "README.md"}):
        yield from markdown(file)


def command_help() -> Iterator[Sentence]:
    from typer.main import get_command

    from pennyweight.cli.app import app

    program = get_command(app)
    context = program.make_context("pennyweight", ["--help"], resilient_parsing=True)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        texts = [command.help or "", *(getattr(one, "help", "") or "" for one in command.params)]
        for text in texts:
            for one in sentences(text):
                yield f"pennyweight {name} --help-all", one


def literal(node: ast.AST) -> str | None:
    """A string or f-string of the source, its values as {expressions}; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (
            one.value if isinstance(one, ast.Constant) else f"{{{ast.unparse(getattr(one, 'value', one))}}}"
            for one in node.values
        )
        return "".join(map(str, parts))
    return None


def literals(node: ast.AST, *, docstrings: bool = False) -> Iterator[tuple[int, str]]:
    """(line, text) of every string in the tree, an f-string as one, docstrings left out."""
    text = literal(node)
    if text is not None:
        yield getattr(node, "lineno", 0), text
        return
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and literal(child.value) is not None
        if docstrings or not is_docstring:
            yield from literals(child, docstrings=docstrings)


def messages() -> Iterator[Sentence]:
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if isinstance(node, ast.Raise) or name in SPOKEN:
                for line, text in literals(call):
                    for one in sentences(text):
                        yield f"{file.relative_to(ROOT).as_posix()}:{line}", one


def report() -> Iterator[Sentence]:
    folder = PACKAGE / "evaluate" / "report"
    for file in sorted(folder.rglob("*.html")):
        text = re.sub(r"\{%.*?%\}|\{#.*?#\}|<(style|script).*?</\1>", "", file.read_text("utf-8"), flags=re.DOTALL)
        for block in re.split(
            r"</?(?:p|h\d|li|td|th|div|section|summary|dt|dd|figcaption|tr|table|details)[^>]*>", text
        ):
            for one in sentences(re.sub(r"<[^>]+>", "", block)):
                yield file.relative_to(ROOT).as_posix(), one
    for file in sorted({*folder.rglob("*.py"), *(PACKAGE / "evaluate").glob("*.py"), PACKAGE / "runs" / "reports.py"}):
        for line, text in literals(ast.parse(file.read_text("utf-8"))):
            for one in sentences(text):
                yield f"{file.relative_to(ROOT).as_posix()}:{line}", one


SOURCES: dict[str, Callable[[], Iterator[Sentence]]] = {
    "README": readme,
    "docs": docs,
    "help": command_help,
    "messages": messages,
    "report": report,
}


def draw(count: int, seed: int) -> dict[str, list[Sentence]]:
    """For each source its share of `count` sentences, none twice."""
    generator = random.Random(seed)
    shares = [count // len(SOURCES) + (place < count % len(SOURCES)) for place in range(len(SOURCES))]
    drawn = {}
    for (name, source), share in zip(SOURCES.items(), shares, strict=True):
        found = sorted({text: place for place, text in source()}.items())
        drawn[name] = [(place, text) for text, place in generator.sample(found, min(share, len(found)))]
    return drawn


def main() -> None:
    """Print the sentences under the names of their sources."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=30)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    for name, found in draw(options.count, options.seed).items():
        print(f"\n{name}")
        for place, text in found:
            print(f"  {text}\n      {place}")


if __name__ == "__main__":
    main()
