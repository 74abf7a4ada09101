"""The commands that repeat a run, as its report shows them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from ...data.provenance import source_name


def commands(sources: Mapping[str, str | None], folder: Path) -> list[str]:
    """The command that was typed, if one was, and the one that repeats the training from the resolved recipe.

    Reports are handed on: of absolute paths the last part is shown, of the run's folder what lies below the working
    directory.

    Args:
        sources: the recipe's data sources by flag: `train`, `validation`, `test`...
        folder: the run's folder.
    """
    files = {key: source_name(name) for key, name in sources.items() if name is not None}
    first = [files.pop("train")] if "train" in files else []
    others = [word for key, name in files.items() for word in (f"--{key.replace('_', '-')}", name)]
    repeat = [
        "pennyweight",
        "train",
        *first,
        *others,
        "--recipe",
        f"{shown_folder(folder)}/recipe.yaml",
        "--out",
        "AGAIN",
    ]
    program = Path(sys.argv[0])
    typed = program.name == "pennyweight" or (program.name == "__main__.py" and program.parent.name == "pennyweight")
    lines = [shlex.join(["pennyweight", *map(_without_folder, sys.argv[1:])])] if typed else []
    if not first:
        return [
            *lines,
            f"# trained on data passed in Python; if the same data is in a file: {shlex.join([*repeat, 'FILE'])}",
        ]
    return [*lines, f"# the same run from the resolved recipe:\n{shlex.join(repeat)}" if lines else shlex.join(repeat)]


def shown_folder(folder: Path) -> str:
    """A folder as commands name it, `runs/news`: from the working directory where it lies below that, else its name."""
    below = os.path.relpath(folder)
    return folder.resolve().name if below.split(os.sep)[0] in (os.pardir, os.curdir) else Path(below).as_posix()


def _without_folder(word: str) -> str:
    flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{os.path.basename(os.path.normpath(value))}" if os.path.isabs(value) else word
