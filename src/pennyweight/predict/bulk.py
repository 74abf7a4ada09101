"""Predicting a whole file, of any size: block by block, its stages side by side, resumable.

Blocks have `data.row_blocks.BLOCK` rows and no batch crosses one, so that a run that was killed and resumed writes the
bytes of one that was not.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import __version__
from ..data.batching import Encoded
from ..data.formats.columnar import read_column_types
from ..data.formats.two_files import as_two_files
from ..data.row_blocks import RowBlocks, read_in_blocks
from ..data.table import Columns
from ..errors import ChangedFileError, DataError, InputError, Interrupted
from ..storage.checksums import sha256
from ..storage.system_errors import storage_errors
from ..train.signals import stopped_at_once
from .abstention import Abstainer
from .formula_guard import Guard, formula_guard, guard_nothing
from .journal import BlockJournal, open_journal
from .output_blocks import arrow_block, csv_lines, json_lines, write_parquet
from .overlap import WriteBehind, read_ahead
from .prediction_rows import KeptColumns, merge_columns, predicted_columns
from .writers import follow_links, output_form, overwrites_input

if TYPE_CHECKING:
    from .onnx_classifier import OnnxClassifier
    from .predictor import Classifier

    AnyClassifier: TypeAlias = Classifier | OnnxClassifier

# Is told the rows that are done.
Progress = Callable[[int], object]
Block = dict[str, list[Any]]
ALL_COLUMNS = KeptColumns()


@dataclass(frozen=True)
class OutputOptions:
    """The format of an output file.

    Attributes:
        form: csv, jsonl or parquet.
        kept: the columns of the input that it keeps.
        csv_guard: whether, in CSV, free text that a spreadsheet would run as a formula gets an apostrophe.
    """

    form: str
    kept: KeptColumns = field(default_factory=KeptColumns)
    csv_guard: bool = True

    def guard(self, classifier: AnyClassifier, file: RowBlocks) -> Guard:
        """The guard of its cells."""
        if not self.csv_guard:
            return guard_nothing
        exact = (self.kept.ids, classifier.input_spec.label_column)
        return formula_guard(file.text_columns, filter(None, exact))


def predict_blocks(
    classifier: AnyClassifier, file: RowBlocks, kept: KeptColumns, *, skip: int = 0, progress: Progress | None = None
) -> Generator[tuple[Block, Block], None, None]:
    """Predict the rows of a source in order, the next block read and tokenized while one is computed.

    Args:
        skip: rows that are left out, whole blocks.
        progress: called with the rows done so far, those left out included.

    Its `cut` counts the tokens of the rows.

    Yields:
        The columns that are kept of each block, and its predictions as `predicted_columns` gives them.

    Raises:
        DataError: whatever is wrong with the source, after the blocks before it; no column with the ids.
        InputError: `skip` ends within a block.
    """
    thresholds = classifier.thresholds if classifier.multi else None
    rows = skip
    if progress is not None:
        progress(rows)
    with closing(read_ahead(_tokenized(classifier, file, skip))) as blocks:
        for columns, tokens in blocks:
            names = kept.of(columns, file.text_columns)
            probabilities = classifier.probabilities_of(tokens)
            file.cut.add(tokens)
            rows += len(probabilities)
            if progress is not None:
                progress(rows)
            yield (
                {name: columns.values[name] for name in names},
                predicted_columns(classifier.labels, probabilities, thresholds),
            )


def predict_source(
    classifier: AnyClassifier,
    source: str | Path,
    out: str | Path,
    *,
    form: str | None = None,
    split: str = "test",
    kept: KeptColumns = ALL_COLUMNS,
    resume: bool = False,
) -> int:
    """Read a source and predict it into a file; arguments and errors as for `Classifier.predict_file`."""
    out = follow_links(out)
    options = OutputOptions(output_form(out, form, source), kept)
    file = read_in_blocks(source, split=split, input_spec=classifier.input_spec, check=False)
    return predict_file(classifier, file, out, options, resume=resume)


def predict_file(
    classifier: AnyClassifier,
    file: RowBlocks,
    out: str | Path,
    options: OutputOptions,
    *,
    abstainer: Abstainer | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> int:
    """Predict a source into a file that appears, whole, when the last row is done.

    Until then finished blocks are in a hidden folder next to it (see `journal`). A run that is killed, or stopped by a
    signal, leaves them there.

    Args:
        file: what `read_in_blocks` found.
        out: the file; `writers.output_form` says whether it may be written.
        abstainer: removes labels; its counts include the rows of former runs.
        resume: continue where an earlier run of the same job ended; start if there is none.
        progress: called with the rows done so far.

    Returns:
        The number of rows.

    Raises:
        InputError: the unfinished run is of another job, or of this one and `resume` is not given; or a classifier that
            was never saved is to resume, with nothing to compare.
        DataError, ArtifactError: a row that cannot be read or predicted; nothing is left of the run.
        StorageError: the disk is full, the folder read-only or another run is writing `out`.
        Interrupted: a signal came; finished blocks are kept.
    """
    out = Path(out)
    refuse_overwriting(file, out)
    abstainer = abstainer or Abstainer(None)
    if resume and classifier.identity is None:
        raise InputError("only a saved classifier can resume", remedy="save it and load it again: pw.load(folder)")
    job = _job(classifier, file, options, abstainer)
    journal: BlockJournal | None = None
    try:
        with stopped_at_once(), open_journal(out, job, resume=resume) as journal:
            abstainer.asked, abstainer.answered = journal.rows, journal.answered
            try:
                _write_blocks(classifier, file, out, options, abstainer, journal, progress)
            except ChangedFileError as error:
                if _source_digest(file.given) != job["source"][0]:
                    raise
                journal.useful = True
                remedy = _how_to_go_on(journal)
                raise DataError(
                    "the file was touched while it was read; its content is the same", remedy=remedy, where=error.where
                ) from None
            with storage_errors(out):
                journal.publish(out, _parquet(journal) if options.form == "parquet" else None)
    except KeyboardInterrupt:
        raise Interrupted("stopped by a signal", where=out, remedy=_how_to_go_on(journal)) from None
    return journal.rows


def _how_to_go_on(journal: BlockJournal | None) -> str:
    """What to do after a run that was stopped, as a message says it."""
    if journal is None or not journal.rows:
        return "nothing was written; run the same command again"
    if journal.published:
        return f"all {journal.rows:,} rows are written"
    return f"{journal.rows:,} rows are done; continue with the same command and --resume"


def refuse_overwriting(file: RowBlocks, out: Path) -> None:
    """Refuse an output that is one of the files of its source, or in a folder that is read: it would be read next time.

    Raises:
        InputError: naming it.
    """
    folder = Path(file.given)
    if os.path.isdir(folder) and folder.resolve() in out.resolve().parents:
        raise InputError(
            "the output would be in the folder that is read", where=out, remedy="give --out another folder"
        )
    for state in file.states:
        if os.path.exists(out) and os.path.exists(state.path) and out.samefile(state.path):
            raise overwrites_input(out)


def encode_blocks(
    predictions: Iterator[tuple[Block, Block]],
    encode: Callable[[Block, bool], bytes],
    abstainer: Abstainer,
    *,
    header: bool = True,
) -> Iterator[bytes]:
    """The blocks of `predict_blocks` as bytes of the output, from `block_encoder`.

    Args:
        header: whether the first of them begins the output.
    """
    for number, (kept, predicted) in enumerate(predictions):
        yield encode(merge_columns(kept, abstainer.decide_columns(predicted)), header and number == 0)


def _write_blocks(
    classifier: AnyClassifier,
    file: RowBlocks,
    out: Path,
    options: OutputOptions,
    abstainer: Abstainer,
    journal: BlockJournal,
    progress: Progress | None,
) -> None:
    """Append the blocks that the journal lacks, each encoded and written while the next one is computed."""
    encode = block_encoder(classifier, file, options)

    def write(item: tuple[Block, int, int]) -> None:
        block, rows, answered = item
        content = encode(block, not journal.rows)
        with storage_errors(out):
            journal.append(content, rows, answered)

    predictions = predict_blocks(classifier, file, options.kept, skip=journal.rows, progress=progress)
    with closing(predictions), WriteBehind(write) as writer:
        for kept, predicted in predictions:
            asked, answered = abstainer.asked, abstainer.answered
            block = merge_columns(kept, abstainer.decide_columns(predicted))
            writer.put((block, abstainer.asked - asked, abstainer.answered - answered))


def block_encoder(
    classifier: AnyClassifier, file: RowBlocks, options: OutputOptions, types: Mapping[str, Any] | None = None
) -> Callable[[Block, bool], bytes]:
    """The encoder from a block (and whether it is the first) to the output's bytes; for Parquet, to Arrow's.

    Args:
        types: Arrow types of the input's columns; None reads them from its file.
    """
    if options.form == "parquet":
        known = read_column_types(Path(file.given)) if types is None else types
        return lambda block, first: arrow_block(block, known)
    # A lone surrogate comes out as the escape that JSON has for it.
    if options.form == "jsonl":
        return lambda block, first: json_lines(block).encode("utf-8", "backslashreplace")
    delimiter, guard = classifier.delimiter, options.guard(classifier, file)
    return lambda block, first: csv_lines(block, header=first, delimiter=delimiter, guard=guard).encode(
        "utf-8", "backslashreplace"
    )


def _tokenized(classifier: AnyClassifier, file: RowBlocks, skip: int) -> Iterator[tuple[Columns, Encoded]]:
    """The blocks behind the first `skip` rows, their texts as token ids."""
    for columns, table in file.blocks_and_tables():
        if skip <= 0:
            yield columns, classifier.tokens(map(classifier.input_spec.cleaned, table.texts))
        skip -= len(table)
        if skip < 0 < skip + len(table):
            raise InputError("the number of rows to skip is not a whole number of blocks")


def _parquet(journal: BlockJournal) -> Path:
    """The journal's blocks as one Parquet file in its folder; nothing of it is left there if it cannot be written."""
    whole = journal.folder / "whole.parquet"
    try:
        write_parquet(journal.parts, whole)
    except BaseException:
        whole.unlink(missing_ok=True)
        raise
    return whole


def _job(classifier: AnyClassifier, file: RowBlocks, options: OutputOptions, abstainer: Abstainer) -> dict[str, Any]:
    """All that the output's bytes depend on. A classifier that was never saved is like no other.

    Raises:
        DataError: the source changed since it was read.
    """
    digest = _source_digest(file.given)
    file.refuse_changes()
    return {
        "classifier": classifier.identity or secrets.token_hex(8),
        "source": [
            digest, file.reading, list(file.names), list(file.text_columns), file.input_spec.to_json(),
        ],
        "options": [asdict(options), classifier.delimiter, abstainer.threshold],
        "version of Pennyweight": __version__,
    }  # fmt: skip


def _source_digest(source: str) -> str | list[str]:
    """A value that changes with a source: checksums of files; for a folder, its files' names, sizes and times."""
    path = Path(source)
    if two := as_two_files(source):
        return [sha256(each) for each in two]
    if os.path.isfile(path):
        return sha256(path)
    if not os.path.isdir(path):
        return source  # on the hub
    found = hashlib.sha256()
    for item in sorted(path.rglob("*")):
        facts = item.stat()
        found.update(f"{item.relative_to(path)!r} {facts.st_size} {facts.st_mtime_ns}\n".encode("utf-8", "replace"))
    return found.hexdigest()
