"""The manifest of many classifiers: a table with a row for each, whose columns are a recipe's fields."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.columns import is_null
from ..data.file_options import MAX_BYTES, FileOptions
from ..data.provenance import RUNS, SOURCES
from ..data.sources import read_columns
from ..data.table import Columns
from ..errors import InputError, RecipeError
from ..recipe.loading import resolve_recipe
from ..recipe.schema import SECTION_OF, Recipe

NAME, DATA = "name", "data"
# The other contents of the classifiers' folder.
SUMMARIES = ("summary.html", "summary.csv", "summary.json")
LONGEST_NAME = 200  # bytes; file systems take 255, and what is written aside has a longer name
# Fields whose values are files or folders, in addition to the sources of texts.
_PLACES = ("backbone", "cache_dir", *RUNS)
_MOST_SHOWN = 10


@dataclass(frozen=True)
class Tenant:
    """One row of a manifest.

    Attributes:
        name: name of the classifier and its folder.
        where: the row, for messages: `manifest.csv:17`.
        recipe: complete, with its sources of texts as absolute paths.
    """

    name: str
    where: str
    recipe: Recipe


def read_manifest(manifest: str | Path, recipe: Recipe) -> list[Tenant]:
    """Read a manifest and check all of it.

    Args:
        manifest: a table in any of the forms that texts come in (CSV, JSON lines, Parquet...), with the columns `name`
            and `data`, and any field of a recipe; an empty cell leaves the field as it is in `recipe`. Relative paths
            start at its folder.
        recipe: recipe of all classifiers, where their rows do not say otherwise.

    Raises:
        InputError: naming what is wrong, each with its line: an unknown column, a name twice, a file that is not
            there, a value that a field does not take.
        DataError: it cannot be read.
    """
    if not os.path.isfile(manifest):  # nor is it looked for on the hub
        raise InputError("no such file", where=manifest, expected="a table with a row for each classifier")
    columns = read_columns(manifest, "train", MAX_BYTES, FileOptions(header=True))
    columns = _trimmed(columns)
    _check_columns(columns)
    folder = Path(manifest).resolve().parent
    tenants: list[Tenant] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for row in range(len(columns.lines)):
        where = columns.where(row)
        cells = {name: values[row] for name, values in columns.values.items() if not _is_empty(values[row])}
        found = [*_name_problems(cells.get(NAME), where, seen), *_place_problems(cells, folder)]
        try:
            resolved = resolve_recipe(recipe, _settings(cells, folder))
        except RecipeError as error:
            found.append(_without_count(error.problem))
        if found:
            problems.append(f"{where}: {'; '.join(found)}")
        else:
            tenants.append(Tenant(_name(cells[NAME]), where, resolved))
    _refuse(problems, manifest)
    if not tenants:
        raise InputError("the manifest has no rows", where=manifest, expected="a row for each classifier")
    return tenants


def _trimmed(columns: Columns) -> Columns:
    """The columns with their names as a recipe spells them: lower case, `_` for blanks and hyphens."""
    names: dict[str, list[Any]] = {}
    for name, values in columns.values.items():
        key = name.strip().lower().replace("-", "_").replace(" ", "_")
        if key in names:
            raise InputError(f"the column {key} appears twice", where=columns.source)
        names[key] = values
    return Columns(names, columns.lines, columns.source, columns.unit, unreadable=columns.unreadable)


def _check_columns(columns: Columns) -> None:
    """Raise `InputError` for a column that is missing, unknown or of a kind that no cell can be."""
    known = [NAME, DATA, *(key for key in SECTION_OF if key != "train")]
    names = [*columns.values, *columns.unreadable]
    problems = [f"no column {name}" for name in (NAME, DATA) if name not in names]
    for name in columns.values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            hint = ", the texts are named by the column data" if name == "train" else hint
            problems.append(f"unknown column {name}{hint}")
    problems += [f"column {name} holds {kind}: write its values as text" for name, kind in columns.unreadable.items()]
    if problems:
        raise InputError(
            "; ".join(problems),
            where=columns.source,
            expected="the columns name and data, and optionally recipe fields (see docs/recipes.md)",
        )


def _is_empty(value: object) -> bool:
    return is_null(value) or (isinstance(value, str) and not value.strip())


def _name(cell: object) -> str:
    whole = isinstance(cell, float) and cell.is_integer()  # how a column of numbers with gaps is read
    return unicodedata.normalize("NFC", str(int(cell) if whole and isinstance(cell, float) else cell).strip())


def _name_problems(cell: object, where: str, seen: dict[str, str]) -> Iterator[str]:
    """The problems of a name. It becomes a folder name, here and wherever the folder is copied to."""
    if cell is None:
        yield "no name"
        return
    name = _name(cell)
    key = name.casefold()
    if key in seen:
        yield f"the name {name} already occurs at {seen[key]}" + (", some file systems ignore case" * (key != name))
    seen.setdefault(key, where)
    acting = any(not char.isprintable() for char in name)
    if acting or name.startswith(".") or any(char in name for char in "/\\") or key in SUMMARIES:
        yield f"the name {name!r} cannot be a folder name; expected no slash, no leading dot, and no control character"
    elif len(os.fsencode(name)) > LONGEST_NAME:
        yield f"the name is longer than {LONGEST_NAME} bytes"


def _place_problems(cells: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Sources of texts that are not there."""
    if DATA not in cells:
        yield "no data"
    for key in (DATA, *SOURCES):
        if key in cells and not os.path.exists(folder / str(cells[key])):
            yield f"{key}: no such file: {cells[key]}"


def _settings(cells: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of a row, paths made absolute."""
    settings = {"train" if key == DATA else key: value for key, value in cells.items() if key != NAME}
    for key in (*SOURCES, *_PLACES):
        if key not in settings:
            continue
        place = folder / os.path.expanduser(str(settings[key]))
        if key in SOURCES or (key == "cache_dir" and str(settings[key]).lower() != "none") or os.path.exists(place):
            settings[key] = str(place)
    return settings


def _without_count(problem: str) -> str:
    """A recipe's problems without their number in front."""
    count, colon, rest = problem.partition(": ")
    return rest if colon and count.split(" ")[0].isdigit() else problem


def _refuse(problems: list[str], manifest: str | Path) -> None:
    if not problems:
        return
    shown = " | ".join(problems[:_MOST_SHOWN])
    more = len(problems) - _MOST_SHOWN
    if len(problems) == 1:
        raise InputError(shown, remedy="nothing was trained")
    raise InputError(
        f"{len(problems)} rows of the manifest cannot be used: {shown}" + (f" | and {more} more" if more > 0 else ""),
        where=manifest,
        remedy="nothing was trained",
    )
