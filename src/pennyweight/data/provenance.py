"""Where a run's texts came from, fit to share: names without folders, rows, checksums."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..recipe.loading import parse
from ..recipe.schema import DataRecipe, Recipe
from ..storage.checksums import sha256
from .load import Data, hash_rows
from .table import Table

SOURCES = ("train", "test", "validation", "mix", "ood", "unlabelled", "label_descriptions")
# Fields that name other runs.
RUNS = ("teacher", "start_from")
# What tells a file's name from a hub name, which has one stroke as well.
ENDINGS = (
    ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".pkl", ".pickle", ".gz", ".zip",
    ".bz2", ".xz", ".zst",
)  # fmt: skip
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?")


def source_name(name: str) -> str:
    """A source's name as it is handed on: of a file or folder its last part, a hub name as it is."""
    hub = _HUB_NAME.fullmatch(name) and not name.lower().endswith(ENDINGS) and not os.path.exists(name)
    return name if hub else os.path.basename(os.path.normpath(name))


def provenance(wanted: DataRecipe, given: Mapping[str, Any], data: Data) -> dict[str, dict[str, Any]]:
    """Of each source its name, the rows it held and a SHA-256.

    Args:
        wanted: names the sources.
        given: what the caller gave instead, by the recipe's key; None if there is nothing.

    Returns:
        By the recipe's key: `name` ("data" for Python objects), `rows` before cleaning, `sha256` and `sha256_of`: the
        `file`, or the `rows` as they were used, where there is no file (None if they are mixed into others).
    """
    found = {}
    for key in SOURCES:
        source = given.get(key) if given.get(key) is not None else getattr(wanted, key)
        if source is None:
            continue
        named = isinstance(source, (str, Path))
        report = data.cleaning.get(key, {})
        file = named and (os.path.isfile(source) or os.path.isdir(source))
        found[key] = {
            "name": source_name(str(source)) if named else "data",
            "rows": report.get("kept", 0) + sum(report.get("dropped", {}).values()),
            "sha256": _of_path(Path(source)) if file else _of_rows(key, data),
            "sha256_of": "file" if file else "rows",
        }
    return found


def _of_path(path: Path) -> str:
    """A file's digest; a folder's is over the names and digests of its files."""
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = "".join(f"{file.relative_to(path).as_posix()}:{sha256(file)};" for file in files)
    return hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest()


def _of_rows(key: str, data: Data) -> str | None:
    split_off = "validation" not in data.cleaning
    tables: dict[str, tuple[Table | None, ...]] = {
        "train": (data.train, data.validation) if split_off else (data.train,),
        "validation": (data.validation,),
        "test": (data.test,),
        "ood": (data.ood,),
    }
    held = [table for table in tables.get(key, ()) if table is not None]
    return hash_rows(held) if held else None


def absolute_recipe(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """A recipe with the paths of its files and folders absolute, so that it trains from any working directory.

    Args:
        given: paths that take the place of the recipe's, by key (`train`, `test`); what is no path is left out.
    """
    values = recipe.model_dump()
    values["data"] |= {key: str(source) for key, source in given.items() if isinstance(source, (str, Path))}
    for key in SOURCES:
        name = values["data"][key]
        if name is not None and os.path.exists(name):
            values["data"][key] = str(Path(name).resolve())
    for key in RUNS:
        name = getattr(recipe.train, key)
        if name is not None and os.path.exists(name):
            values["train"][key] = str(Path(name).resolve())
    if os.path.isdir(os.path.expanduser(recipe.model.backbone)):
        values["model"]["backbone"] = str(Path(recipe.model.backbone).expanduser().resolve())
    return parse(values)


def check_sources_exist(recipe: Recipe, source: str | Path | Recipe, given: Mapping[str, Any]) -> None:
    """Refuse a recipe file whose data files are not there: a saved classifier's recipe names them without folders.

    Args:
        source: the recipe as it was given.
        given: sources that take the place of the recipe's, by key.

    Raises:
        DataError: naming the files to give.
    """
    if isinstance(source, Recipe) or not os.path.isfile(source):
        return
    named = {key: getattr(recipe.data, key) for key in SOURCES if given.get(key) is None}
    missing = {
        key: name
        for key, name in named.items()
        if name is not None and name == os.path.basename(name) and name.lower().endswith(ENDINGS)
        and not os.path.exists(name)
    }  # fmt: skip
    if missing:
        flags = [f"FOLDER/{name}" if key == "train" else f"--{key} FOLDER/{name}" for key, name in missing.items()]
        raise DataError(
            f"the recipe names {' and '.join(missing.values())}, which {'is' if len(missing) == 1 else 'are'} not "
            "available here",
            where=source,
            remedy=f"give their location: `pennyweight train {' '.join(flags)} --recipe {source}`",
        )


def shareable_recipe(recipe: Recipe) -> Recipe:
    """A recipe without this machine's folders, as it is saved: others cannot use them, and should not see them.

    Data files keep their names. The backbone's folder stays, since loading needs it; see `export.hub.push`.
    """
    values = recipe.model_dump()
    for key in SOURCES:
        if values["data"][key] is not None:
            values["data"][key] = source_name(values["data"][key])
    values["train"]["cache_dir"] = None
    for key in RUNS:
        if values["train"][key] is not None:
            values["train"][key] = source_name(values["train"][key])
    return parse(values)
