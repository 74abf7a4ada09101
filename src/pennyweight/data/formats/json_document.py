"""One JSON document as columns: rows, pairs, columns, splits, lists by label, and what tools export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from ..columns import is_label_name, is_text_name
from ..table import Columns, listed, shown
from .split_names import SPLIT_NAMES, of_split

EXPECTED = 'rows ({"text": ..., "label": ...}), pairs (["text", "label"]), columns, or lists of texts by label'

ColumnsOf = Callable[[Iterable[dict[str, Any]], str], dict[str, list[Any]]]
Reader = Callable[[dict[str, Any], "Place", str], "tuple[Any, Place] | None"]

# Under these, a document keeps its rows next to other entries.
_ROWS = ("data", "rows", "items", "examples", "records", "instances", "documents", "samples", "results", "entries",
         "common_examples", "intents", "utterances", "sentences")  # fmt: skip
# Under these, an intent keeps its texts.
_PATTERNS = ("patterns", "utterances", "examples", "texts", "samples", "queries", "questions", "phrases", "sentences")
_TAGS = ("tag", "intent", "label", "name", "class", "category", "topic")
_DEPTH = 8


@dataclass(frozen=True)
class Place:
    """Where in a document one is, for messages: the source, and the keys on the way."""

    source: str
    keys: tuple[str, ...] = ()

    def under(self, key: str) -> Place:
        """The place under a key."""
        return Place(self.source, (*self.keys, key))

    def __str__(self) -> str:
        return self.source + (f" -> {' -> '.join(shown(key) for key in self.keys)}" if self.keys else "")

    def row(self, number: int) -> str:
        """Row `number` here, from 1."""
        return f"{self.source} row {number}" if not self.keys else f"{self}, row {number}"


def describe_shape(value: object) -> str:
    """A description of a JSON value, for a message."""
    if isinstance(value, dict):
        return f"an object with keys {listed(value, 6)}" if value else "an empty object"
    if isinstance(value, list):
        kinds = sorted({_kind(each) for each in value[:1000]})
        return f"an array of {len(value):,} ({', '.join(kinds)})" if value else "an empty array"
    return f"{_kind(value)} ({shown(value)})"


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    return "null" if value is None else "number"


def columns_of_document(value: Any, source: str, split: str, columns_of: ColumnsOf) -> Columns:
    """The rows of a JSON document, whatever its shape.

    Args:
        value: what `json.loads` gave.
        split: which one is read where the document holds several.
        columns_of: makes columns of objects.

    Raises:
        DataError: a shape that is not known, with what it is.
    """
    rows, place = _rows(value, Place(source), split)
    if isinstance(rows, Columns):
        return rows
    kinds = {_kind(row) for row in rows[:1]}
    for number, row in enumerate(rows, start=1):
        if _kind(row) not in kinds:
            if "object" in kinds:
                raise DataError(
                    "the array contains something other than objects",
                    expected='{"text": ..., "label": ...}',
                    received=shown(row),
                    where=place.row(number),
                )
            raise DataError(
                "the array contains values of several kinds",
                expected=f"one kind, as in its first value ({next(iter(kinds))})",
                received=f"{_kind(row)} ({shown(row)})",
                where=place.row(number),
            )
    if kinds == {"object"}:
        return number_rows(_of_objects(rows, place, columns_of), source, named=True)
    if kinds == {"array"}:
        return number_rows(columns_of_arrays(rows, place.row), source, named=False)
    if kinds == {"string"}:
        return number_rows({"text": rows}, source, named=False)
    raise DataError("the JSON contains no rows", expected=EXPECTED, received=describe_shape(rows), where=str(place))


def number_rows(values: dict[str, list[Any]], source: str, *, named: bool) -> Columns:
    """Columns whose rows are counted from 1."""
    rows = len(next(iter(values.values()), ()))
    return Columns(values, list(range(1, rows + 1)), source, unit="row", named=named)


def flatten(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose text is one level down (`{"data": {"text": ...}}`), with both levels' fields."""
    if any(is_text_name(name) and isinstance(value, str) for name, value in row.items()):
        return row
    inner = [
        name
        for name, value in row.items()
        if isinstance(value, dict) and any(is_text_name(key) and isinstance(text, str) for key, text in value.items())
    ]
    if len(inner) != 1:
        return row
    held = row[inner[0]]
    others = {name: value for name, value in row.items() if name != inner[0]}
    return {(key if key not in others else f"{inner[0]}.{key}"): value for key, value in held.items()} | others


def columns_of_arrays(rows: Sequence[Sequence[Any]], where: Callable[[int], str]) -> dict[str, list[Any]]:
    """Rows without names as columns: two are text and label, in either order; more are numbered.

    Raises:
        DataError: rows of different lengths; `where` says which.
    """
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width or not width:
            raise DataError(
                "the rows differ in length" if width else "the row is empty",
                expected=f"{width} values, as in the first row" if width else '["text", "label"]',
                received=f"{len(row)}: {shown(row)}",
                where=where(number),
            )
    columns = [list(column) for column in zip(*rows, strict=True)]
    if width == 1:
        return {"text": columns[0]}
    if width == 2:
        label_first = label_comes_first(rows[:1000])
        return {"text": columns[int(label_first)], "label": columns[1 - int(label_first)]}
    return {f"column {number}": column for number, column in enumerate(columns, start=1)}


def label_comes_first(pairs: Sequence[Sequence[Any]]) -> bool:
    """Whether the first of two columns is the label and the second the text; not, where nothing tells."""
    first, second = ([pair[place] for pair in pairs] for place in range(2))
    if not all(isinstance(value, str) for value in second):
        return False
    if not all(isinstance(value, str) for value in first):
        return True
    few = len(set(first)) <= len(first) / 2 < len(set(second))
    return few and sum(map(len, first)) < sum(map(len, second))


# --- from the outermost value down to the rows -------------------------------------------------------------------


def _rows(value: Any, place: Place, split: str) -> tuple[Any, Place]:
    """The list of rows, or columns that are already such, and where they stand."""
    if len(place.keys) > _DEPTH:
        raise DataError("the JSON is nested too deeply", expected=EXPECTED, where=str(place))
    if isinstance(value, list):
        if not value:
            raise DataError("the array is empty", expected="an array of objects", where=str(place))
        return value, place
    if not isinstance(value, dict) or not value:
        raise DataError(
            "the JSON contains no rows", expected=EXPECTED, received=describe_shape(value), where=str(place)
        )
    readers: tuple[Reader, ...] = (_of_frame, _of_splits, _of_lists, _of_dicts)
    for read in readers:
        found = read(value, place, split)
        if found is not None:
            return found
    if _is_row(value):
        return [value], place
    return _wrapped(value, place, split)


def _is_row(value: dict[str, Any]) -> bool:
    """Whether an object is one row: no lists and objects in it, or a text next to them and no rows."""
    nested = [each for each in value.values() if isinstance(each, (dict, list))]
    rows = any(isinstance(each, list) and each and isinstance(each[0], (dict, list)) for each in nested)
    return not nested or (not rows and any(is_text_name(key) and isinstance(value[key], str) for key in value))


def _of_frame(value: dict[str, Any], place: Place, split: str) -> tuple[Any, Place] | None:
    """pandas' `split` form: the names of the columns, and rows without names."""
    names, rows = value.get("columns"), value.get("data")
    if not (isinstance(names, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        return None
    if not rows:
        raise DataError("the array is empty", expected="rows", where=str(place.under("data")))
    words = [str(name) for name in names]
    if len(set(words)) < len(words):
        raise DataError("a column is named twice", received=listed(words), where=str(place.under("columns")))
    for number, row in enumerate(rows, start=1):
        if len(row) != len(words):
            raise DataError(
                "the row does not fit the columns",
                expected=f"{len(words)} values ({listed(words, 6)})",
                received=f"{len(row)}: {shown(row)}",
                where=place.under("data").row(number),
            )
    values = {name: list(column) for name, column in zip(words, zip(*rows, strict=True), strict=True)}
    return number_rows(values, place.source, named=True), place


def _of_splits(value: dict[str, Any], place: Place, split: str) -> tuple[Any, Place] | None:
    """Lists of rows by split; where the keys hold only texts, all of them must be names of splits."""
    lists = {key: rows for key, rows in value.items() if isinstance(rows, (list, dict)) and rows}
    known = [key for key in lists if key.lower() in SPLIT_NAMES]
    whole = [key for key in known if isinstance(lists[key], dict) or isinstance(lists[key][0], (dict, list))]
    if len(value) < 2 or not known or (len(whole) < len(known) and len(known) < len(value)):
        return None
    if any(is_text_name(key) or is_label_name(key) for key in value):
        return None  # columns, of which one is called as a split is
    key = of_split(lists, split)
    if key is None:
        raise DataError(
            f"no split named {split}", expected=f"one of {listed(lists)}", remedy="name the split", where=str(place)
        )
    return _rows(lists[key], place.under(key), split)


def _of_lists(value: dict[str, Any], place: Place, split: str) -> tuple[Any, Place] | None:
    """Columns, or lists of texts by label."""
    if not all(isinstance(held, list) and held and not isinstance(held[0], dict) for held in value.values()):
        return None
    if len(value) == 1 and not _is_text_list(next(iter(value.values()))):
        return None  # pairs under one key
    lengths = {key: len(held) for key, held in value.items()}
    equal = len(set(lengths.values())) == 1
    texts = all(_is_text_list(held) for held in value.values())
    by_name = any(is_text_name(key) or is_label_name(key) for key in value)
    repeated = any(len(set(map(str, held))) <= len(held) / 2 for held in value.values())
    if texts and len(value) > 1 and not (equal and (by_name or repeated)) and not {"text", "label"} & value.keys():
        return _by_label(value), place
    if len(value) == 1 and not by_name:
        return next(iter(value.values())), place.under(next(iter(value)))
    if not equal:
        if not by_name:
            return None
        raise DataError(
            "the columns differ in length",
            received=", ".join(f"{shown(key)} {length:,}" for key, length in lengths.items()),
            where=str(place),
        )
    return number_rows(dict(value), place.source, named=True), place


def _by_label(value: dict[str, list[str]]) -> list[list[str]]:
    return [[text, label] for label, texts in value.items() for text in texts]


def _is_text_list(held: list[Any]) -> bool:
    return all(isinstance(each, str) for each in held)


def _of_dicts(value: dict[str, Any], place: Place, split: str) -> tuple[Any, Place] | None:
    """pandas' `columns` form (column, then row) and its `index` form (row, then column)."""
    if not all(isinstance(held, dict) and held for held in value.values()):
        return None
    inner: dict[str, None] = {key: None for held in value.values() for key in held}
    cells = [cell for held in value.values() for cell in held.values()]
    scalars = not any(isinstance(cell, dict) for cell in cells) and not all(isinstance(cell, list) for cell in cells)
    if not scalars or (len(value) == 1 and not _names_columns(value) and not _names_columns(inner)):
        return None
    if _names_columns(value) or (not _names_columns(inner) and all(key.isdigit() for key in inner)):
        values = {name: [held.get(row) for row in inner] for name, held in value.items()}
        return number_rows(values, place.source, named=True), place
    if not _names_columns(inner) and not all(key.isdigit() for key in value):
        return None
    plain = list(value) == [str(number) for number in range(len(value))]
    return [held if plain or "id" in held else {"id": key} | held for key, held in value.items()], place


def _names_columns(keys: Iterable[str]) -> bool:
    return any(is_text_name(key) or is_label_name(key) for key in keys)


def _wrapped(value: dict[str, Any], place: Place, split: str) -> tuple[Any, Place]:
    """Rows under one key, next to any other entries."""
    held = {key: each for key, each in value.items() if isinstance(each, (list, dict)) and each}
    lists = [key for key, each in held.items() if isinstance(each, list) and isinstance(each[0], (dict, list, str))]
    named = [key for key in held if key.lower() in _ROWS]
    asked = [key for key in held if key == split]
    for keys in (asked, named, lists, list(held)):
        if len(keys) == 1:
            return _rows(held[keys[0]], place.under(keys[0]), split)
    raise DataError(
        "the JSON contains rows under several keys" if len(lists) > 1 else "the JSON contains no rows",
        expected=EXPECTED,
        received=describe_shape(value),
        remedy="keep one of them" if len(lists) > 1 else None,
        where=str(place),
    )


# --- rows that are objects ---------------------------------------------------------------------------------------


def _of_objects(rows: list[dict[str, Any]], place: Place, columns_of: ColumnsOf) -> dict[str, list[Any]]:
    refuse_exports(rows[0], place.row(1))
    exploded = _exploded(rows)
    return columns_of(exploded if exploded is not None else (flatten(row) for row in rows), place.source)


def refuse_exports(row: dict[str, Any], where: str) -> None:
    """Refuse annotation tools' own exports, whose labels are nested deep inside.

    Raises:
        DataError: naming the export that can be read.
    """
    if isinstance(row.get("annotations"), list) and isinstance(row.get("data"), dict):
        raise DataError(
            "the rows are Label Studio's full export",
            expected='{"text": ..., "label": ...}',
            remedy="export the project as JSON-MIN or CSV",
            where=where,
        )


def _exploded(rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Intents with a list of texts each as one row per text; None if the rows are something else."""
    first = {key.lower(): key for key in rows[0]}
    texts = next((first[key] for key in _PATTERNS if key in first and isinstance(rows[0][first[key]], list)), None)
    tag = next((first[key] for key in _TAGS if key in first and isinstance(rows[0][first[key]], str)), None)
    if texts is None or tag is None or any(is_text_name(key) and isinstance(rows[0][key], str) for key in rows[0]):
        return None
    found = []
    for row in rows:
        held = row.get(texts)
        if not isinstance(held, list):
            return None
        # An intent's texts are strings, or objects with a text.
        each = [text.get("text") if isinstance(text, dict) else text for text in held]
        if not all(isinstance(text, str) for text in each):
            return None
        found += [{"text": text, "label": row.get(tag)} for text in each]
    return found or None
