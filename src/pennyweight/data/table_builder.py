"""From columns to a table: texts joined and checked, labels brought to integers or strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import DataError
from .canonical_labels import canonical_label, parse_label, unify_labels
from .columns import choose_label_column, choose_text_columns, find_class_name_column, is_null, label_base, require
from .label_format import LabelFormat, is_multi_label, read_label_cells, read_label_columns
from .label_lists import parse_label_lists
from .pairs import join_pair, pair_columns
from .table import MAX_TEXT, PAIR, Columns, Label, Table, listed, shown


def build_table(
    columns: Columns,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    labelled: bool | None = True,
    separator: str = " ",
    allow_null: bool = False,
    form: LabelFormat | None = None,
    pair: bool = False,
) -> Table:
    """Make a `Table` of a source's columns.

    Args:
        columns: the source, N rows.
        text_columns: the columns to join as text; None infers them.
        label_column: the label's column; None infers it.
        labelled: True, labels are needed; False, they are left alone; None, they are taken if there.
        separator: what stands between joined texts (empty parts are left out).
        allow_null: take a missing text as an empty one instead of refusing it.
        form: how labels stand in the source; None, one label a row unless the column holds lists.
        pair: keep the texts of two columns (or of one column of pairs) apart, as one input of two segments.

    Raises:
        DataError: columns that cannot be told, missing or over-long texts, missing or unusable labels.
    """
    form = form or LabelFormat()
    if form.columns is not None and labelled is not False:
        return _with_label_columns(columns, form, text_columns, separator, allow_null=allow_null, pair=pair)
    if label_column is not None and labelled is not False:
        label_column = require(columns, label_column, "--label-column c")
    names = choose_text_columns(columns, text_columns, label_column, pair=pair)
    label = (
        choose_label_column(columns, label_column, names, needed=labelled is True) if labelled is not False else None
    )
    if pair:
        apart, parts = pair_columns(columns, names)
        texts = _texts(apart, parts, PAIR, allow_null=allow_null, pair=True)
    else:
        texts = _texts(columns, names, separator, allow_null=allow_null)
    labels: list[Label] | None = None
    notes: tuple[str, ...] = ()
    vectors = 0
    if label is not None:
        columns, notes, vectors = parse_label_lists(columns, label, form)
    if label is not None and is_multi_label(columns, label, form):
        labels = read_label_cells(columns, label, form)
    elif label is not None:
        labels = _labels(columns, label, optional=labelled is None and label_column is None)
    classes = columns.label_names.get(label) if label is not None and labels is not None else None
    numbers = [value for value in labels or () if isinstance(value, int)]
    table = Table(
        texts=texts,
        labels=labels,
        source=columns.source,
        lines=columns.lines,
        text_columns=names,
        label_column=None if labels is None else label,
        label_names=classes,
        label_base=label_base(label or "", numbers) if classes is None or columns.headerless else 0,
        extras={name: values for name, values in columns.values.items() if name not in names and name != label},
        unit=columns.unit,
        named=columns.named,
        vectors=vectors,
        notes=(*columns.notes, *notes),
    )
    return _with_names_beside(columns, table)


def _with_label_columns(
    columns: Columns,
    form: LabelFormat,
    text_columns: Sequence[str] | None,
    separator: str,
    *,
    allow_null: bool,
    pair: bool,
) -> Table:
    """A table whose labels are the columns that hold 1."""
    names = tuple(require(columns, name, "--label-columns a,b") for name in form.columns or ())
    if text_columns is not None:  # positions count the label columns too
        text_columns = [require(columns, name, "--text-columns a,b") for name in text_columns]
    others = replace(columns, values={name: held for name, held in columns.values.items() if name not in names})
    table = build_table(
        others, text_columns=text_columns, labelled=False, separator=separator, allow_null=allow_null, pair=pair
    )
    return replace(table, labels=read_label_columns(columns, names, form), label_names=names)


def check_text(value: object, where: str, *, allow_null: bool = False) -> str:
    """One text as a plain `str`.

    Raises:
        DataError: missing, not a string, or not encodable (half of a surrogate pair); `where` says which row.
    """
    if not isinstance(value, str):
        if not is_null(value):
            raise DataError("the text is not a string", expected="a string", received=shown(value), where=where)
        if not allow_null:
            raise DataError(
                "the text is missing (null or NaN)",
                expected="a string",
                remedy="remove the row or give it a text",
                where=where,
            )
        return ""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the text holds half of a surrogate pair ({shown(value[error.start])}) at character {error.start}",
                remedy="export the data again as UTF-8",
                where=where,
            ) from error
    return str(value)


def check_length(text: str, where: str) -> str:
    """`text`, if it has at most `MAX_TEXT` characters.

    Raises:
        DataError: it has more.
    """
    if len(text) > MAX_TEXT:
        raise DataError(
            f"one text has {len(text):,} characters",
            expected=f"at most {MAX_TEXT:,}",
            remedy="cut it or leave it out; if it holds several rows, look for an unclosed quote",
            where=where,
        )
    return text


def _texts(
    columns: Columns, names: Sequence[str], separator: str, *, allow_null: bool, pair: bool = False
) -> list[str]:
    parts = [
        [
            # The row's place is put together only for the few rows that need it.
            value
            if type(value) is str and value.isascii()
            else check_text(value, columns.where(row), allow_null=allow_null)
            for row, value in enumerate(columns.values[name])
        ]
        for name in names
    ]
    if pair:
        texts = [join_pair(row, columns.where(number)) for number, row in enumerate(zip(*parts, strict=True))]
    elif len(parts) == 1:
        texts = parts[0]
    else:
        texts = [separator.join(part for part in row if part) for row in zip(*parts, strict=True)]
    for row, text in enumerate(texts):
        if len(text) > MAX_TEXT:
            check_length(text, columns.where(row))
    return texts


def _labels(columns: Columns, name: str, *, optional: bool) -> list[Label] | None:
    """N labels, all integers or all strings; None when every one is missing and they are `optional`."""
    numbered = name in columns.label_names
    cells = columns.values[name]
    seen: dict[tuple[type, Any], str | int | None] = {}
    labels: list[str | int | None] = []
    for row, value in enumerate(cells):
        key = (type(value), value)
        try:
            labels.append(seen[key])
            continue
        except TypeError:  # a list or an object
            label = parse_label(value, columns.where(row))
        except KeyError:
            label = parse_label(value, columns.where(row))
            # Hub test sets write -1 where the answer is kept back.
            label = seen.setdefault(key, None if numbered and label == -1 else label)
        labels.append(label)
    missing = [row for row, label in enumerate(labels) if label is None]
    if missing and optional and len(missing) == len(labels):
        return None
    if missing:
        raise _missing(columns, name, missing)
    kinds = unify_labels(label for label in seen.values() if label is not None)
    return [kinds[label] for label in labels if label is not None]


def _missing(columns: Columns, name: str, rows: list[int]) -> DataError:
    cells = columns.values[name]
    cell = cells[rows[0]]
    empty = is_null(cell) or (isinstance(cell, str) and not cell.strip())
    said = "is empty" if empty else f"is missing ({shown(cell)})"
    if len(rows) == len(cells):
        return DataError(
            f"the rows seem to be unlabelled: in column {name} every label {said}",
            expected="a label a row",
            received=f"{len(rows)} rows without a label",
            remedy="name a labelled file or split, or another column with --label-column c",
            where=columns.source,
        )
    return DataError(
        f"the label in column {name} {said}",
        received=f"{len(rows)} of {len(cells)} rows without a label",
        remedy="fill it in or remove the row",
        where=columns.where(rows[0]),
    )


def _with_names_beside(columns: Columns, table: Table) -> Table:
    """Numbers in `label` named by the words in `label_text`, where each number has one name and each name one number.

    Numbers that count from 0 without a gap stay, and the source knows their names. Others become the names.
    """
    beside = None if table.label_column is None else find_class_name_column(columns, table.label_column)
    if beside is None or beside in table.text_columns or table.label_names is not None or table.labels is None:
        return table
    words = [word if isinstance(word, str) and word.strip() else None for word in columns.values[beside]]
    numbers = [label for label in table.labels if isinstance(label, int)]
    if len(numbers) < len(table.labels) or None in words:
        return table
    pairs = {(number, canonical_label(word)) for number, word in zip(numbers, words, strict=True)}
    names = dict(sorted(pairs))
    if not len(pairs) == len(names) == len(set(names.values())) or all(str(n) == word for n, word in names.items()):
        return table
    table = replace(
        table,
        label_names=tuple(names.values()),
        extras={name: values for name, values in table.extras.items() if name != beside},
    )
    if list(names) == list(range(len(names))):
        return table
    note = f"labels {listed(f'{number} = {name}' for number, name in names.items())} (column {beside})"
    return replace(table, labels=[names[number] for number in numbers], notes=(*table.notes, note))
