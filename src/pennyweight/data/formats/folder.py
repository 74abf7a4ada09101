"""Folders: one that `datasets` saved, a folder of texts per class, and data files by split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ...errors import DataError
from ..file_options import FileOptions
from ..file_streams import list_folder, read_bytes, read_lines
from ..table import MAX_TEXT, Columns, listed
from .columnar import is_saved, read_saved
from .format_detection import TEXTS, ending, is_file_name
from .json_document import number_rows
from .split_names import SPLIT_NAMES, aliases, of_split, split_of_file

#: More files than this under one folder are not read.
MAX_FILES = 1_000_000

# Endings of files that hold one text each; 20 Newsgroups' have none.
_TEXTS = (".txt", ".text", "")
# IMDb's folder of texts without a label, among those of the classes.
_UNLABELLED = ("unsup", "unlabeled", "unlabelled")
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(\.\w+)+")


def file_of_split(folder: Path, split: str) -> Path | None:
    """The one data file that holds a split of a folder, such as `data/train-00000-of-00001.parquet`; None if none."""
    files = _split_files(folder, split)
    return files[0] if len(files) == 1 else None


def read_folder(
    folder: Path, split: str, max_bytes: int, options: FileOptions, read_file: Callable[[Path], Columns]
) -> Columns:
    """Read a folder as what it is.

    Args:
        split: which one is read where the folder holds several.
        read_file: reads one data file.

    Raises:
        DataError: a folder of another kind, no such split, or whatever is wrong with a file in it.
    """
    if is_saved(folder):
        return read_saved(folder, split, max_bytes)
    files = _split_files(folder, split)
    if len(files) == 1:
        return read_file(files[0])
    if files:
        return _joined(folder, [read_file(file) for file in files])
    root = _class_root(folder, split)
    if root is not None:
        return _read_classes(root, max_bytes, options)
    held = [name for name in list_folder(folder) if (folder / name).is_file()]
    others = [name for name in list_folder(folder) if (folder / name).is_dir()]
    data = [name for name in held if is_file_name(name)]
    received = listed([*held, *(f"{name}/" for name in others)], 6)
    raise DataError(
        "the folder has no readable data files",
        expected="a folder written by datasets.save_to_disk, a folder of .txt files per class, or data files named by "
        "split",
        received=f"a folder with {received}" if received else "an empty folder",
        remedy="name one of its files" if data else None,
        where=folder,
    )


# --- data files by split -----------------------------------------------------------------------------------------


def _split_files(folder: Path, split: str) -> list[Path]:
    """The data files of a split, shards in order, in the folder or in its `data`."""
    for place in (folder, folder / "data"):
        names = [name for name in list_folder(place) if is_file_name(name) and (place / name).is_file()]
        splits = {found for name in names if (found := split_of_file(name)) is not None}
        wanted = of_split(splits, split)
        files = [place / name for name in names if split_of_file(name) == wanted is not None]
        if len(files) > 1 and not all(_SHARD.fullmatch(file.name) for file in files):
            labels = [file for file in files if "label" in file.name.lower()]
            texts = [file for file in files if file not in labels]
            raise DataError(
                f"the folder contains several files of split {split}",
                received=listed((file.name for file in files), 6),
                remedy="name one of them"
                + (f", or texts and labels: {texts[0]},{labels[0]}" if len(labels) == len(texts) == 1 else ""),
                where=place,
            )
        if not files and splits and len(names) == len([name for name in names if split_of_file(name)]):
            raise DataError(
                f"no split named {split}", expected=f"one of {listed(sorted(splits))}", remedy="name the split",
                where=place,
            )  # fmt: skip
        if files:
            return files
    return []


def _joined(folder: Path, parts: list[Columns]) -> Columns:
    """The rows of several files one after another, counted on from file to file."""
    names = list(parts[0].values)
    for part in parts:
        if list(part.values) != names:
            raise DataError(
                "the files differ in their columns", expected=listed(names), received=listed(part.values),
                where=part.source,
            )  # fmt: skip
    values = {name: [cell for part in parts for cell in part.values[name]] for name in names}
    rows = sum(len(part.lines) for part in parts)
    return replace(parts[0], values=values, lines=list(range(1, rows + 1)), source=str(folder), unit="row")


# --- a folder a class --------------------------------------------------------------------------------------------


def _class_root(folder: Path, split: str) -> Path | None:
    """The folder whose folders are the classes: this one, or the one of the split in it. None if neither is."""
    inner = [name for name in list_folder(folder) if (folder / name).is_dir() and not name.startswith(".")]
    splits = [name for name in inner if name.lower() in SPLIT_NAMES]
    if splits and len(splits) < 4 and any(_classes(folder / name) for name in splits):
        found = of_split(splits, split)
        if found is None:
            raise DataError(
                f"no split named {split}",
                expected=f"a folder named {' or '.join(aliases(split))}",
                received=listed(splits),
                remedy="name the split, or its folder",
                where=folder,
            )
        return folder / found if _classes(folder / found) else None
    tables = [name for name in list_folder(folder) if ending(name) not in TEXTS and is_file_name(name)]
    return folder if len(_classes(folder)) > 1 and not tables else None


def _classes(folder: Path) -> list[str]:
    """The folders in a folder that hold texts."""
    return [name for name in list_folder(folder) if not name.startswith(".") and next(_texts(folder / name), None)]


def _texts(folder: Path) -> Iterator[str]:
    """Names of the files that hold one text each."""
    if folder.is_dir():
        for name in sorted(list_folder(folder), key=_natural):
            if not name.startswith(".") and Path(name).suffix.lower() in _TEXTS and (folder / name).is_file():
                yield name


def _natural(name: str) -> list[tuple[int, str]]:
    """`9.txt` before `10.txt`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _read_classes(root: Path, max_bytes: int, options: FileOptions) -> Columns:
    classes = _classes(root)
    left = [name for name in classes if name.lower() in _UNLABELLED]
    texts: list[str] = []
    labels: list[str] = []
    files: list[str] = []
    size, inside = 0, root.resolve()
    for label in (name for name in classes if name not in left):
        for name in _texts(root / label):
            path = root / label / name
            if not path.resolve().is_relative_to(inside):
                raise DataError(
                    "a link that leads out of the folder", remedy="put the file itself in its place", where=path
                )
            text = _text(path, options)
            size += len(text)
            if len(texts) == MAX_FILES or size > max_bytes:
                raise DataError(
                    "the folder is too large",
                    expected=f"at most {MAX_FILES:,} files and {max_bytes:,} characters",
                    remedy="write the texts into one file, such as CSV or JSONL",
                    where=root,
                )
            texts.append(text)
            labels.append(label)
            files.append(f"{label}/{name}")
    notes = tuple(f"folder {name} is left out: its texts have no label" for name in left)
    return replace(number_rows({"text": texts, "label": labels, "id": files}, str(root), named=False), notes=notes)


def _text(path: Path, options: FileOptions) -> str:
    """The text of a file, without its last line end."""
    content = read_bytes(path, 4 * MAX_TEXT)
    try:
        text = content.decode(options.encoding or "utf-8-sig")
    except (UnicodeDecodeError, LookupError):
        text = "".join(read_lines(path, 4 * MAX_TEXT, options.encoding))  # says which byte it is
    if "\0" in text:
        "".join(read_lines(path, 4 * MAX_TEXT, options.encoding))  # says on which line
    return text.removesuffix("\n").removesuffix("\r")
