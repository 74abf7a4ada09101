"""The audit itself: every check over one source and perhaps a test set, in bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..data.columns import choose_label_column
from ..data.file_options import AS_NAMED, FileOptions
from ..data.input_spec import InputSpec
from ..data.label_cells import class_name_of, is_list, is_multi_label, read_label_cells
from ..data.label_format import LabelFormat
from ..data.label_lists import parse_label_lists
from ..data.row_blocks import BLOCK, RowBlocks, read_in_blocks
from ..data.sampling import sample_rows
from ..data.table import Columns, shown
from ..errors import DataError
from .duplicates import find_duplicates
from .findings import EXCERPTS, Audit, AuditedPart, Finding, balance, look_alikes, unknown_share
from .scan import LabelName, Scan
from .shortcut_features import find_shortcut_features

#: Above so many rows of a part, lengths in tokens and shortcut features are measured on so many drawn at random.
LENGTHS_ON, SHORTCUTS_ON = 200_000, 50_000
MAX_LENGTHS = (64, 128, 256, 512)
IMBALANCED, RARE = 3.0, 10
EXCERPT = 66  # characters: a line of a terminal with 80 columns, indented

#: Above this share of tokens unknown to the tokenizer the backbone cannot read the texts.
MUCH_UNKNOWN = 0.05

#: No column is named: all are inferred.
INFERRED = InputSpec()

#: Gives two arrays (N,) of N texts: their lengths in tokens, and how many of these the tokenizer does not know.
CountTokens = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]


def audit(
    source: str | Path,
    test: str | Path | None = None,
    *,
    input_spec: InputSpec = INFERRED,
    count_tokens: CountTokens | None = None,
    max_length: int = 128,
    options: FileOptions = AS_NAMED,
) -> Audit:
    """Audit a source of texts, labelled or not.

    Args:
        source, test: as `data.sources.read` takes them. Leaks are told of `test`'s rows.
        input_spec: which columns are the text and the label, and what separates the labels in one cell; what it does
            not say is inferred.
        count_tokens: by the tokenizer; None leaves lengths in tokens and unknown tokens out.
        max_length: the recipe's own; its share of truncated texts is told too.
        options: encoding and header of the sources, where their content does not say.

    Raises:
        DataError: a source that cannot be read.
    """
    began = time.perf_counter()
    left_out: list[str] = []
    with Scan() as scan:
        for name, given in (("data", source), ("test", test)):
            if given is not None:
                _scan(
                    scan,
                    name,
                    partial(open_source, given, input_spec, options=options),
                    input_spec.form,
                    left_out,
                )
        parts = scan.parts()
        found = scan.own_findings() + find_duplicates(scan, parts, scan.links())
        if count_tokens is None:
            left_out.append("lengths in tokens: no tokenizer")
        for name, part in parts.items():
            start = scan.slice(name).start
            if count_tokens is not None:
                rows = _left_out("lengths in tokens", name, len(part), LENGTHS_ON, left_out)
                blocks = [[scan.texts[start + row] for row in block] for block in _blocks(rows, BLOCK)]
                counted = [(np.empty(0, np.int64),) * 2, *map(count_tokens, blocks)]
                tokens, unknown = (np.concatenate(each) for each in zip(*counted, strict=True))
                parts[name] = part = replace(part, tokens=tokens, unknown=unknown)
                found += unknown_tokens(name, part, rows)
            if part.codes is not None:
                found += class_findings(name, part)
            if part.members is not None:
                left_out.append(f"{name} has several labels per row: shortcut features")
            elif part.codes is not None:
                chosen = _left_out("shortcut features", name, len(part), SHORTCUTS_ON, left_out)
                found += _shortcuts(name, part, scan, chosen)
        found = [with_excerpts(one, scan) for one in found]
    every = tuple(sorted({*MAX_LENGTHS, max_length}))
    return Audit(parts, found, left_out, max_length, every, time.perf_counter() - began)


def with_excerpts(one: Finding, scan: Scan) -> Finding:
    """The finding with the beginnings of its first texts, which are gone when the scan is closed."""
    own, other = scan.slice(one.part).start, scan.slice(one.partner_part or one.part).start
    pairs = []
    for number, row in enumerate(one.rows[:EXCERPTS].tolist()):
        partner = -1 if one.partners is None else int(one.partners[number])
        text = shown(scan.texts[own + row], EXCERPT)
        pairs.append((text, "" if partner < 0 else shown(scan.texts[other + partner], EXCERPT)))
    return replace(one, excerpts=tuple(pairs))


def _left_out(what: str, name: str, rows: int, most: int, left_out: list[str]) -> np.ndarray:
    """A sample for one check, and the note that it is one."""
    if rows > most:
        left_out.append(f"{what} of {name}: measured on {most:,} of {rows:,} rows, drawn at random")
    return sample_rows(rows, most)


def unknown_tokens(name: str, part: AuditedPart, rows: np.ndarray) -> list[Finding]:
    """Texts that the tokenizer mostly cannot read, such as emoji or a script that its vocabulary lacks.

    Args:
        rows: (M,) the rows whose tokens were counted.
    """
    share = unknown_share(part.tokens, part.unknown)
    mostly = 2 * part.unknown >= np.maximum(part.tokens - 2, 1)
    if not mostly.any() and share < MUCH_UNKNOWN:
        return []
    title = f"texts in which the tokenizer does not know half of the tokens ({100 * share:.1f}% of all tokens)"
    level = "problem" if share >= MUCH_UNKNOWN else "note"
    return [Finding("unknown-tokens", name, title, rows[mostly], level=level)]  # type: ignore[arg-type]


def class_findings(name: str, part: AuditedPart) -> list[Finding]:
    """Findings about labels: rows without one, imbalance, classes with very few rows."""
    codes = part.codes
    assert codes is not None
    found = []
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        found.append(Finding("missing-label", name, "rows without a label", missing))
    counts = part.counts()
    facts = balance(counts)
    if facts is not None and facts["ratio"] >= IMBALANCED:
        most = max(counts, key=lambda label: counts[label])
        title = (
            f"the largest class ({most}, {counts[most]:,} rows) is {facts['ratio']:.1f} times the smallest "
            f"({facts['smallest']}, {facts['smallest_rows']:,})"
        )
        level = "problem" if facts["ratio"] >= 10 else "note"
        found.append(Finding("imbalance", name, title, np.empty(0, np.int64), level=level))  # type: ignore[arg-type]
    for group in look_alikes(name for name, rows in counts.items() if rows):
        each = " and ".join(f"{one!r} ({counts[one]:,} rows)" for one in group)
        what = "rows whose class names look alike" if part.members is None else "class names that look alike"
        title = f"{what}: {each}; --merge-labels makes them one in the cleaned copy"
        numbers = [place for place, known in enumerate(part.classes) if known in group]
        rows = np.flatnonzero(np.isin(codes, numbers)) if part.members is None else np.empty(0, np.int64)
        found.append(Finding("similar-classes", name, title, rows, extra={"classes": group}))
    rare = {label: rows for label, rows in counts.items() if 0 < rows < RARE}
    if rare and part.members is None:
        rows = np.flatnonzero(np.isin(codes, [part.classes.index(label) for label in rare]))
        title = f"rows of {len(rare)} classes with fewer than {RARE} rows: {', '.join(sorted(rare)[:5])}"
        found.append(Finding("rare-class", name, title, rows))
    return found


def open_source(
    source: str | Path, input_spec: InputSpec, split: str, options: FileOptions = AS_NAMED
) -> tuple[RowBlocks, str | None]:
    """A source and its label column, None if it has none that can be told."""
    walked = read_in_blocks(source, input_spec=input_spec, split=split, options=options)
    first = next(walked.blocks())
    label = input_spec.columns_for(first)[1]
    if label is not None and not input_spec.named_by_user and label not in first.values:
        return walked, None  # texts without labels can be audited for a classifier, too
    return walked, choose_label_column(first, label, walked.text_columns, needed=False)


def read_labels(block: Columns, column: str, form: LabelFormat) -> tuple[list[LabelName], LabelFormat]:
    """A block's labels as class names, tuples of them where a row may have several; and the format of further blocks.

    Lists may be written as text, as in training.
    """
    block, _, vectors = parse_label_lists(block, column, form)
    form = replace(form, vectors=vectors)
    if is_multi_label(block, column, form) or any(map(is_list, block.values[column])):
        form = replace(form, task="multi", allow_unlabelled=True)
        sets = read_label_cells(block, column, form)
        return [tuple(map(str, each)) if isinstance(each, tuple) else str(each) for each in sets], form
    names = block.label_names.get(column)
    return [_label(value, names, block, row) for row, value in enumerate(block.values[column])], form


def _label(value: object, names: Sequence[str] | None, block: Columns, row: int) -> str | None:
    if block.headerless and names and isinstance(value, str):
        value = int(value) - 1
    if isinstance(value, dict):
        raise DataError("the label cannot be used", expected="one string or integer per row", where=block.where(row))
    return class_name_of(value, names)


def _scan(
    scan: Scan,
    name: str,
    opened: Callable[..., tuple[RowBlocks, str | None]],
    form: LabelFormat,
    left_out: list[str],
) -> None:
    walked, label = opened(split="train" if name == "data" else "test")
    first = next(walked.blocks())
    scan.part(name, walked.source, first.unit)
    if label is None:
        left_out.append(f"{name} has no label column: classes, conflicting labels and shortcut features")
    for block, table in walked.blocks_and_tables():
        labels = None
        if label is not None:
            labels, form = read_labels(block, label, form)
        scan.add(table.texts, labels, block.lines)


def _shortcuts(name: str, part: AuditedPart, scan: Scan, rows: np.ndarray) -> list[Finding]:
    codes, start = part.codes, scan.slice(name).start
    assert codes is not None

    def labelled() -> Iterator[tuple[int, str, str]]:
        for row in rows.tolist():
            if codes[row] >= 0:
                yield row, scan.texts[start + row], part.classes[codes[row]]

    tags = find_shortcut_features(labelled())
    if not tags:
        return []
    said = tuple(f"{tag.text!r} {tag.kind}: {tag.right:,} of {tag.rows:,} rows are {tag.label}" for tag in tags)
    listed = Counter(tag.label for tag in tags)
    title = "features that nearly give the label away (" + ", ".join(f"{n} for {label}" for label, n in
                                                                     listed.most_common(6)) + ")"  # fmt: skip
    each = [
        {"feature": tag.text, "kind": tag.kind, "label": tag.label, "rows": tag.rows, "right": tag.right,
         "low": round(tag.low, 4)} for tag in tags
    ]  # fmt: skip
    examples = np.array([tag.example for tag in tags], dtype=np.int64)
    return [Finding("tell-tale", name, title, examples, details=said, level="note", extra={"features": each})]


def _blocks(rows: np.ndarray, size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size].tolist()
