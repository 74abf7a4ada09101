"""A cleaned copy of an audited file, and the list of what was dropped or changed and why."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.cleaning import strip_markup
from ..data.file_options import AS_NAMED, FileOptions
from ..data.input_spec import InputSpec
from ..data.label_lists import parsed
from ..data.table import Columns
from ..errors import InputError
from ..predict.formula_guard import escape_formula
from ..storage.atomic import atomic_file
from .audit import open_source
from .audit_report import write_rows
from .findings import Audit
from .text_checks import repair

_FORMS = ("csv", "jsonl", "parquet")
DROPPED = ("row", "what", "why", "partner part", "partner row")
Reason = tuple[str, int | None, str | None]  # why, the partner's row from 0, and the partner's part


@dataclass(frozen=True)
class CleanedCopy:
    """How many rows a cleaned copy kept, dropped by reason, and changed; and the columns it left out."""

    kept: int
    dropped: dict[str, int]
    changed: int
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        gone = ", ".join(f"{rows:,} {why}" for why, rows in self.dropped.items())
        columns = f"; columns left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.kept:,} rows kept, {self.changed:,} of them cleaned; dropped: {gone or 'none'}{columns}"


def check_target(out: Path, *sources: str | Path | None) -> None:
    """Refuse a copy that would overwrite what it was made of, or whose form is unknown.

    Raises:
        InputError: either.
    """
    if out.suffix.lower().removeprefix(".") not in _FORMS:
        raise InputError(
            "unknown file format for the cleaned copy", where=out,
            expected="a name ending in .csv, .jsonl or .parquet", received=out.name,
        )  # fmt: skip
    for target in (out, dropped_name(out)):
        for source in sources:
            if (
                source is not None
                and os.path.exists(target)
                and os.path.exists(source)
                and os.path.samefile(target, source)
            ):
                raise InputError(
                    "the cleaned copy would overwrite the original", where=target, remedy="give --fix another name"
                )


def dropped_name(out: Path) -> Path:
    """Where the list of dropped and changed rows goes."""
    return out.with_name(f"{out.stem}.dropped.csv")


def reasons(audit: Audit) -> dict[int, Reason]:
    """The rows of `data` to drop, with reasons.

    Texts without letters; rows without a label among labelled ones; all rows of a text that occurs with different
    labels, since nothing says which is right; later copies, exact ones and near ones with the same label, of a row that
    stays; and rows that are also in the test set. Near copies with another label stay: either may be right, a person
    has to look.
    """
    found: dict[int, Reason] = {}
    part = audit.parts["data"]
    unlabelled = audit.of("missing-label")
    if unlabelled is not None and len(unlabelled.rows) < len(part):
        found |= {row: ("no label", None, None) for row in unlabelled.rows.tolist()}
    for name, why in (("empty-text", "empty"), ("conflicting-labels", "conflicting labels")):
        if one := audit.of(name):
            partners = one.partners if one.partners is not None else np.full(len(one.rows), -1)
            for row, partner in zip(one.rows.tolist(), partners.tolist(), strict=True):
                found.setdefault(row, (why, partner, "data") if partner >= 0 else (why, None, None))
    for name in ("exact-leak", "near-leak"):
        one = audit.of(name, "test")
        if one is not None and one.partners is not None:
            for row, partner in zip(one.rows.tolist(), one.partners.tolist(), strict=True):
                found.setdefault(partner, ("is also in the test set", row, "test"))
    # A row goes only for one that stays: else of three rows, each like the next, none might be left.
    later: list[tuple[int, int, str]] = []
    for name, why in (("exact-duplicate", "exact duplicate"), ("near-duplicate", "near-duplicate")):
        one = audit.of(name)
        if one is not None and one.partners is not None:
            later += [(row, other, why) for row, other in zip(one.rows.tolist(), one.partners.tolist(), strict=True)]
    leaked = {row for row, (why, _, _) in found.items() if why == "is also in the test set"}
    for row, other, why in sorted(later):
        same = part.codes is None or part.codes[row] == part.codes[other]
        exact = why == "exact duplicate"
        if exact and other in leaked:
            found.setdefault(row, found[other])  # the same text leaks too
        elif row not in found and other not in found and (same or (exact and part.codes is not None
                                                                   and part.codes[row] < 0)):  # fmt: skip
            found[row] = (why, other, "data")
    return found


def fix(
    audit: Audit,
    source: str | Path,
    out: Path,
    input_spec: InputSpec,
    options: FileOptions = AS_NAMED,
    *,
    merge_labels: bool = False,
    csv_guard: bool = True,
) -> CleanedCopy:
    """Write the cleaned copy of `data` and, next to it, `OUT.dropped.csv`.

    Kept rows lose markup, control characters and encoding damage that can be undone; every other cell stays.

    Args:
        merge_labels: write class names that look alike in the spelling that most rows have.
        csv_guard: in CSV, put an apostrophe before texts that a spreadsheet would run as a formula.

    Raises:
        StorageError: when either cannot be written.
    """
    gone = reasons(audit)
    opened, label = open_source(source, input_spec, "train", options)
    spelling = merged(audit) if merge_labels and label is not None else {}
    guarded = frozenset(opened.text_columns if csv_guard else ())
    changed: list[int] = []
    start = kept = 0
    with atomic_file(out) as aside, _writer(aside, out.suffix.lower(), opened.names, source, guarded) as write:
        for block in opened.blocks():
            stay = [place for place in range(len(block.lines)) if start + place not in gone]
            cleaned = {name: [block.values[name][place] for place in stay] for name in opened.names}
            touched = set().union(*(_clean_texts(cleaned[name]) for name in opened.text_columns))
            if label is not None and spelling:
                touched |= _respell(cleaned[label], spelling)
            changed += sorted(start + stay[place] for place in touched)
            start += len(block.lines)
            kept += len(stay)
            lines = [block.lines[place] for place in stay]
            write(Columns(cleaned, lines, block.source, block.unit, block.label_names))
        if not kept:
            raise InputError("the cleaned copy would have no rows", where=source, remedy="look at the findings first")
    what = "markup, encoding or label" if spelling else "markup or encoding"
    write_rows(dropped_name(out), DROPPED, _listed(audit, gone, changed, what))
    dropped = Counter(why for why, _, _ in gone.values())
    return CleanedCopy(kept, dict(dropped), len(changed), tuple(opened.unreadable))


def _clean_texts(cells: list[Any]) -> set[int]:
    """Take markup and encoding damage out of the cells; the places of those that changed."""
    touched = set()
    for place, cell in enumerate(cells):
        better = strip_markup(repair(cell)) if isinstance(cell, str) else cell
        if better != cell and better:
            cells[place] = better
            touched.add(place)
    return touched


def _respell(cells: list[Any], spelling: Mapping[str, str]) -> set[int]:
    """Give the labels in the cells the spelling that most rows have; the places of those that changed."""
    touched = set()
    for place, cell in enumerate(cells):
        better = _respelled(cell, spelling)
        if better != cell:
            cells[place] = better
            touched.add(place)
    return touched


def _listed(audit: Audit, gone: Mapping[int, Reason], changed: Sequence[int], what: str) -> Iterator[tuple[Any, ...]]:
    """The rows of the list, ascending: `DROPPED` says its columns."""
    lines = audit.parts["data"].lines
    for number in sorted({*gone, *changed}):
        if number not in gone:
            yield int(lines[number]), "changed", what, "", ""
            continue
        why, partner, where = gone[number]
        other = "" if partner is None else int(audit.parts[str(where)].lines[partner])
        yield int(lines[number]), "dropped", why, where or "", other


def merged(audit: Audit) -> dict[str, str]:
    """For each class name that looks like a more frequent one, that one."""
    counts = audit.parts["data"].counts()
    found: dict[str, str] = {}
    for one in audit.findings:
        if one.name == "similar-classes" and one.part == "data":
            group = one.extra["classes"]
            most = max(group, key=lambda name: counts[name])
            found |= {name: most for name in group if name != most}
    return found


def _respelled(cell: Any, spelling: Mapping[str, str]) -> Any:
    """A label cell with its names in the spelling that most rows have; a list written as text becomes one in JSON."""
    if isinstance(cell, (list, tuple)):
        return list(dict.fromkeys(_respelled(one, spelling) for one in cell))
    if not isinstance(cell, str):
        return cell
    bare = cell.strip()
    names = parsed(bare) if bare[:1] + bare[-1:] in ("[]", "()", "{}") else None
    if names is not None and any(_respelled(name, spelling) != name for name in names):
        return json.dumps(_respelled(names, spelling), ensure_ascii=False)
    return spelling.get(cell, spelling.get(bare, cell))


@contextmanager
def _writer(
    path: Path, form: str, names: tuple[str, ...], source: str | Path, guarded: frozenset[str]
) -> Iterator[Any]:
    """A function that appends a block of columns to a file of the form; Parquet keeps the types of Parquet.

    Args:
        guarded: columns whose cells must not start a formula where the form is CSV.
    """
    if form == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer: Any = None
        schema: Any = None
        if Path(source).suffix.lower() == ".parquet":
            whole = pq.read_schema(source)
            # Its metadata speak of all columns, class names among them.
            kept = whole.metadata if len(names) == len(whole.names) else None
            schema = pa.schema([whole.field(name) for name in names], metadata=kept)

        def parquet(block: Columns) -> None:
            nonlocal writer
            if not block.lines:
                return
            batch = pa.table(block.values, schema=schema if writer is None else writer.schema)
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema)
            writer.write_table(batch)

        try:
            yield parquet
        finally:
            if writer is not None:
                writer.close()
        return
    with path.open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        if form == ".csv":
            table.writerow(names)

        def lines(block: Columns) -> None:
            rows = zip(*(block.values[name] for name in names), strict=True)
            if form == ".csv":
                guards = [escape_formula if name in guarded else _cell for name in names]
                table.writerows([[guard(cell) for guard, cell in zip(guards, row, strict=True)] for row in rows])
            else:
                for row in rows:
                    handle.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")

        yield lines


def _cell(value: Any) -> Any:
    """A list of labels stands in a CSV file as JSON, as the reader of such labels takes it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, tuple)) else value
