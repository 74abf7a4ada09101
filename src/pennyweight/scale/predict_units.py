"""Predicting files of any size by several processes or machines: `pennyweight predict --ray`.

Ray schedules units (see `units`); rows never pass through it. A worker reads its rows, predicts them by the code of
`pennyweight predict` and writes a part. So the values are those of one process with a worker's threads, in order.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.cut_tokens import CutTally
from ..data.file_options import AS_NAMED, FileOptions
from ..data.formats.columnar import ParquetRows
from ..data.input_spec import InputSpec
from ..data.row_blocks import BLOCK, SHOWN, EmptyTexts, RowBlocks
from ..errors import InputError, Interrupted
from ..predict.bulk import OutputOptions
from ..predict.journal import lock_unfinished, unfinished_folder
from ..predict.writers import output_form
from ..storage.durability import fsync_folder
from ..storage.folders import make_folder
from ..storage.system_errors import storage_errors
from ..train.signals import stopped_at_once
from .file_systems import find_files, is_uri
from .parts import FinishedUnit
from .ray_cluster import RayWorkers, ray_cluster
from .unit_run import UnitRun
from .unit_worker import ResidentModel, Traits, UnitJob, UnitWorker, open_ranges, refuse_other_versions
from .units import Unit, has_row_ranges, plan_units

FORMS = ("csv", "jsonl", "parquet")


@dataclass(frozen=True)
class Cluster:
    """Where to compute.

    Attributes:
        address: `local`, `auto` or `HOST:PORT`, see `ray_cluster`.
        workers: how many; None for as many as there are free CPUs for.
    """

    address: str = "local"
    workers: int | None = None


@dataclass
class Predicted:
    """The result of a run.

    Attributes:
        rows: rows of the output, including those of earlier runs.
        answered: those of them that got a label.
        empty: rows without a text, by their file's name.
        cut: the tokens of all rows.
        why: where the threshold of abstention comes from, in words; None for no threshold.
        lost: workers that died, and were replaced.
        notes: remarks for people.
    """

    rows: int = 0
    answered: int = 0
    empty: dict[str, EmptyTexts] = field(default_factory=dict)
    cut: CutTally = field(default_factory=CutTally)
    why: str | None = None
    lost: int = 0
    notes: list[str] = field(default_factory=list)


def output_place(out: str, form: str | None, sources: int) -> tuple[str, bool]:
    """The form of the output, and whether it is one file: by its ending; otherwise a folder, of Parquet unless asked.

    Args:
        sources: how many files are read.

    Raises:
        InputError: one file on remote storage or of several sources.
    """
    if Path(out.partition("?")[0]).suffix.removeprefix(".") not in FORMS:
        return form or "parquet", False
    if is_uri(out) or sources > 1:
        what = "several files" if sources > 1 else "remote storage"
        raise InputError(
            f"{what} can only be predicted into a folder of parts" if sources > 1 else
            f"on {what} the output is a folder of parts",
            where=out, expected="a name without a suffix", remedy="give --format csv, jsonl or parquet",
        )  # fmt: skip
    return output_form(out, form), True


def plan_job(
    model: ResidentModel,
    source: str,
    out: str,
    input_spec: InputSpec,
    output: Callable[[str], OutputOptions],
    *,
    form: str | None = None,
    options: FileOptions = AS_NAMED,
    split: str = "test",
) -> tuple[UnitJob, tuple[Unit, ...], RowBlocks | None]:
    """Find the files and deal their rows into units, before any worker is started.

    With them comes the first file's content, if it is of Parquet, for what is to be said of its columns.

    Args:
        source: a file, a folder of files or a pattern, see `find_files`.
        out: a file ending in .csv, .jsonl or .parquet, or else a folder.
        output: gives the options of the output of a form.
        form: form of the output; otherwise by its name.

    Raises:
        DataError: no file, a damaged one, one without rows or without texts.
        InputError: as `output_place`, and what is in the output's folder is no unfinished job.
    """
    files = tuple(find_files(source))
    form, one_file = output_place(out, form, len(files))
    if one_file and files[0].local and os.path.exists(out) and os.path.samefile(out, files[0].uri):
        raise InputError("the output would overwrite the input", where=out, remedy="give --out another name")
    units = plan_units(files, BLOCK, options.format)
    first = None
    if has_row_ranges(files[0], options.format):
        with files[0].open() as handle:
            first = open_ranges(ParquetRows(handle, files[0].name), input_spec)
    absolute = replace(model, folder=os.path.abspath(model.folder))
    place = Path(os.path.abspath(out))
    folder = str(_parts_folder(place)) if one_file else out if is_uri(out) else str(place)
    job = UnitJob(absolute, files, input_spec, output(form), folder, one_file, options, split)
    if not one_file:
        job.store().refuse_foreign()
    return job, units, first


def predict_units(
    job: UnitJob,
    units: Sequence[Unit],
    out: str,
    cluster: Cluster,
    *,
    resume: bool = False,
    progress: Callable[[int], object] = lambda rows: None,
) -> Predicted:
    """Predict all units, each by one of several processes, into a file or a folder that is sealed at the end.

    Args:
        job, units: from `plan_job`.
        out: the output.
        resume: continue with the parts of an earlier run of the same job; start if there are none.
        progress: called with the rows done so far.

    Raises:
        InputError: what Ray lacks (see `ray_cluster`), workers that differ, an unfinished run as for `predict_file`.
        DataError: a row that cannot be read or predicted.
        StorageError: a disk is full, here or on a worker's machine, which the message names.
        ResourceError: a unit ended two workers.
        Interrupted: a signal came. In every case finished parts stay for `resume`.
    """
    run = _Run(job, units, out, resume, progress)
    try:
        with (
            stopped_at_once(),
            _locked(job, out),
            run.cleared_if_vain(),
            ray_cluster(cluster.address, job.model.threads, cluster.workers) as places,
            stopped_at_once(),  # again, behind Ray, which has a handler of its own
        ):
            workers = RayWorkers(UnitWorker, [job], job.model.threads)
            dealing = UnitRun(workers, lambda unit: unit.named(job.files), run.accept, run.add)
            dealing.run(min(places, len(units)), lambda: run.facts)
            run.predicted.lost = dealing.lost
            run.finish()
    except KeyboardInterrupt:
        remedy = "run the same command again"
        if run.finished:
            remedy = f"{run.predicted.rows:,} rows are done; continue with the same command and --resume"
        raise Interrupted("stopped by a signal", where=out, remedy=remedy) from None
    return run.predicted


class _Run:
    """The driver's side of a job: what is finished, and who may take part."""

    def __init__(
        self, job: UnitJob, units: Sequence[Unit], out: str, resume: bool, progress: Callable[[int], object]
    ) -> None:
        self.predicted = Predicted()
        self.finished: dict[int, FinishedUnit] = {}
        self.facts: dict[str, Any] = {}
        self._job, self._units, self._out, self._resume, self._progress = job, units, out, resume, progress
        self._store = job.store()
        self._first: Traits | None = None
        self._begun = False

    def accept(self, traits: Traits) -> list[Unit] | None:
        """Refuse a worker whose numbers may differ; by the first one, begin the job and say what is left to do.

        Raises:
            InputError: another version, classifier or number format; an unfinished run, see `PartStore.begin`.
        """
        first = self._first or traits
        refuse_other_versions(traits.node, traits.versions, first.versions | {"pennyweight": __version__})
        if traits.identity != first.identity:
            precisions = traits.identity[-1] != first.identity[-1]
            raise InputError(
                f"{traits.node} computes in a different number format from {first.node}" if precisions
                else f"{traits.node} has a different classifier from {first.node}",
                expected=first.identity[-1] if precisions else str(first.identity[0])[:12],
                received=traits.identity[-1] if precisions else str(traits.identity[0])[:12],
                where=self._job.model.folder,
                remedy="give --precision" if precisions else "give every machine the same folder",
            )  # fmt: skip
        if traits.processor != first.processor:
            self._note(
                f"{traits.node} computes with {traits.processor}, {first.node} with {first.processor}: the same rows "
                "may get other last digits"
            )
        if self._first is not None:
            return None
        self._first = traits
        self.predicted.why = traits.why
        self.facts = _job_facts(self._job, self._units, traits)
        for unit in self._store.begin(self.facts, self._out, resume=self._resume).values():
            self._count(unit)
        self._begun = True
        self._progress(self.predicted.rows)
        return [unit for unit in self._units if unit.number not in self.finished]

    def add(self, unit: FinishedUnit) -> None:
        """Count a unit that a worker has finished."""
        self._count(unit)
        self._progress(self.predicted.rows)

    def _count(self, unit: FinishedUnit) -> None:
        self.finished[unit.number] = unit
        self.predicted.rows += unit.rows
        self.predicted.answered += unit.answered
        self.predicted.cut.add_counts(*unit.cut)
        if unit.empty:
            file = self._job.files[self._units[unit.number].file]
            seen = self.predicted.empty.setdefault(file.name, EmptyTexts())
            seen.count += unit.empty
            seen.lines = sorted([*seen.lines, *unit.empty_lines])[:SHOWN]

    @contextmanager
    def cleared_if_vain(self) -> Iterator[None]:
        """Nothing is left of a job that this run began and that ends without a finished unit."""
        try:
            yield
        except BaseException:
            if self._begun and not self.finished:
                self._store.clear()
            raise

    def finish(self) -> None:
        """Put the output in its place."""
        units = [self.finished[unit.number] for unit in self._units]
        if not self._job.one_file:
            self._store.seal(self.facts, units, [unit.named(self._job.files) for unit in self._units])
            return
        out, folder = Path(self._out), Path(self._job.parts)
        with storage_errors(out):
            whole = folder / "whole"
            self._store.merge(units, whole)
            whole.replace(out)
            fsync_folder(out.absolute().parent)
            shutil.rmtree(folder, ignore_errors=True)

    def _note(self, words: str) -> None:
        if words not in self.predicted.notes:
            self.predicted.notes.append(words)


def _job_facts(job: UnitJob, units: Sequence[Unit], traits: Traits) -> dict[str, Any]:
    """All that the parts' bytes depend on; of the files, their names, sizes and times."""
    files = hashlib.sha256(repr([(file.name, file.size, file.modified) for file in job.files]).encode())
    return {
        "classifier": [traits.identity, job.model.threads],
        "source": [
            files.hexdigest(), len(job.files), len(units), max(unit.rows or 0 for unit in units), job.split,
            asdict(job.options), job.input_spec.to_json(),
        ],
        "options": [asdict(job.output), job.one_file, job.model.abstain_below, job.model.target_accuracy],
        "version of Pennyweight": __version__,
    }  # fmt: skip


@contextmanager
def _held(folder: Path, out: str) -> Iterator[None]:
    """A local folder of parts, which no other run writes meanwhile; it goes if it stays empty."""
    with storage_errors(out):
        make_folder(folder.parent)
        descriptor = lock_unfinished(folder, Path(out))
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()
        os.close(descriptor)


def _parts_folder(out: Path) -> Path:
    """Where the parts of one file lie until it is whole; plain `predict` has another place."""
    return unfinished_folder(out).with_suffix(".parts")


def _locked(job: UnitJob, out: str) -> Any:
    return nullcontext() if is_uri(job.parts) else _held(Path(job.parts), out)
