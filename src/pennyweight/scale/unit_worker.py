"""A worker: it reads a unit's rows, predicts them as `pennyweight predict` does, and writes them as a part.

It knows nothing of Ray. What it returns is plain values, so that an error of ours reaches the driver as one line.
"""

from __future__ import annotations

import hashlib
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .. import errors
from ..data.cut_tokens import CutTally
from ..data.file_options import AS_NAMED, FileOptions
from ..data.formats.columnar import ParquetRows, plain_types
from ..data.input_spec import InputSpec
from ..data.row_blocks import BLOCK, EmptyTexts, RowBlocks, open_row_blocks, read_in_blocks
from ..errors import DataError, InputError, PennyweightError, StorageError
from ..predict.abstention import Abstainer, make_abstainer
from ..predict.bulk import OutputOptions, block_encoder, encode_blocks, predict_blocks
from ..predict.output_blocks import write_parquet
from ..predict.writers import parts_of
from ..storage.system_errors import storage_errors
from .file_systems import SourceFile
from .parts import FinishedUnit, PartStore
from .units import Unit

if TYPE_CHECKING:
    from ..predict.bulk import AnyClassifier

_COPIED = 1 << 22


@dataclass(frozen=True)
class ResidentModel:
    """The classifier that a worker loads, and its number format.

    Attributes:
        folder: folder of the classifier, the same on every machine.
        backbone, precision, adapter_scale: as for `predict.load_classifier.load`.
        prior: the classes' shares, as for `Classifier.with_prior`; not `em`.
        abstain_below, target_accuracy: as for `make_abstainer`.
        threads: threads that compute in one worker.
    """

    folder: str
    backbone: str | None = None
    precision: str | None = None
    adapter_scale: float = 1.0
    prior: str | None = None
    abstain_below: float | None = None
    target_accuracy: float | None = None
    threads: int = 1


@dataclass(frozen=True)
class UnitJob:
    """All that a worker needs to know.

    Attributes:
        model: the classifier.
        files: the sources, by the numbers that units have.
        input_spec: how their texts are read.
        output: what a part looks like.
        parts: the folder of parts.
        one_file: whether the parts become one file; otherwise each is a file of its own.
        options, split: how the sources are read.
    """

    model: ResidentModel
    files: tuple[SourceFile, ...]
    input_spec: InputSpec
    output: OutputOptions
    parts: str
    one_file: bool
    options: FileOptions = AS_NAMED
    split: str = "test"

    def store(self) -> PartStore:
        """Where the parts go."""
        form = self.output.form
        return PartStore(self.parts, "arrows" if self.one_file and form == "parquet" else form)


@dataclass(frozen=True)
class Traits:
    """A worker and what its numbers depend on.

    Attributes:
        node: the name of its machine.
        identity: identity of its classifier, as `Classifier.identity`.
        versions: of what computes, by name.
        processor: the instructions that its kernels use.
        why: where the threshold of abstention comes from, in words; None for no threshold.
    """

    node: str
    identity: list[Any]
    versions: dict[str, str]
    processor: str
    why: str | None = None


@dataclass(frozen=True)
class Answer:
    """The result of a call: a value, or the error that ended it.

    Attributes:
        value: what the call gave.
        error: the name of an error of ours.
        message: its one line.
    """

    value: Any = None
    error: str | None = None
    message: str = ""

    def get(self) -> Any:
        """The value.

        Raises:
            PennyweightError: the error.
        """
        if self.error is not None:
            raise getattr(errors, self.error)(self.message)
        return self.value


class UnitWorker:
    """A resident classifier that predicts units of a job.

    Args:
        job: what to do.
    """

    def __init__(self, job: UnitJob) -> None:
        self._job = job
        self._classifier: AnyClassifier | None = None
        self._abstainer = Abstainer(None)
        self._opened: tuple[int, ParquetRows, RowBlocks] | None = None

    def ready(self) -> Answer:
        """Nothing; that it comes says that the worker has a place and has begun."""
        return Answer()

    def traits(self) -> Answer:
        """Load the classifier, every checksum compared, and say what it is: `Traits`."""
        return answer_of(self._traits)

    def predict(self, unit: Unit, job: dict[str, Any]) -> Answer:
        """Predict a unit and write its part: `FinishedUnit`.

        Args:
            job: what the folder of parts must say that the job is: another folder of the same name does not.
        """
        return answer_of(lambda: self._predict(unit, job))

    def _load(self) -> AnyClassifier:
        if self._classifier is None:
            from ..model.device import set_threads
            from ..predict.load_classifier import load

            model = self._job.model
            set_threads(model.threads)
            found = load(
                model.folder, backbone=model.backbone, device="cpu", precision=model.precision,
                adapter_scale=model.adapter_scale,
            )  # fmt: skip
            set_threads(model.threads)  # the recipe may have asked for another number, on the machine of the training
            if model.prior is not None:
                found = found.with_prior(model.prior)
            self._abstainer = make_abstainer(found, model.abstain_below, model.target_accuracy)  # type: ignore[arg-type]
            self._classifier = found
        return self._classifier

    def _traits(self) -> Traits:
        classifier = self._load()
        why = None if self._abstainer.threshold is None else self._abstainer.why
        identity = classifier.identity
        assert identity is not None  # it was loaded
        return Traits(socket.gethostname(), identity, versions_here(), processor_here(), why)

    def _predict(self, unit: Unit, job: dict[str, Any]) -> FinishedUnit:
        self._check_folder(job)
        classifier = self._load()
        with _scratch_folder() as scratch:
            file, types = self._rows_of(unit, Path(scratch))
            abstainer = Abstainer(self._abstainer.threshold)
            output, one = self._job.output, self._job.one_file
            encode = block_encoder(classifier, file, output, types)
            header = not one or unit.number == 0
            with (
                closing(predict_blocks(classifier, file, output.kept)) as predictions,
                (Path(scratch) / "blocks").open("w+b") as held,
            ):
                ends = [0]
                for content in encode_blocks(predictions, encode, abstainer, header=header):
                    held.write(content)
                    ends.append(ends[-1] + len(content))
                held.flush()
                self._check_folder(job)  # which another job may have taken, should this one's driver be dead
                if output.form == "parquet" and not one:
                    with _as_parquet(held, ends) as whole:
                        return self._add(unit, whole, file, abstainer, None)
                return self._add(unit, held, file, abstainer, ends)

    def _check_folder(self, job: dict[str, Any]) -> None:
        if not self._job.store().holds(job):
            raise InputError(
                f"{socket.gethostname()} does not see this job's folder", where=self._job.parts,
                remedy="choose --out on storage that all machines of the cluster share",
            )  # fmt: skip

    def _add(
        self, unit: Unit, held: IO[bytes], file: RowBlocks, abstainer: Abstainer, ends: list[int] | None
    ) -> FinishedUnit:
        """Write the part that lies in a file of this machine."""
        held.seek(0)
        digest = hashlib.file_digest(held, "sha256").hexdigest()  # type: ignore[arg-type]
        size = held.tell()
        held.seek(0)
        done = FinishedUnit(
            unit.number, abstainer.asked, abstainer.answered, tuple(ends[1:]) if ends else (size,), digest,
            file.empty.count, tuple(file.empty.lines), (file.cut.texts, file.cut.read, file.cut.lost),
        )  # fmt: skip
        self._job.store().add(done, iter(lambda: held.read(_COPIED), b""))
        return done

    def _rows_of(self, unit: Unit, scratch: Path) -> tuple[RowBlocks, dict[str, Any] | None]:
        """The rows of a unit, and the Arrow types of their columns where they are known."""
        job, source = self._job, self._job.files[unit.file]
        if unit.rows is None:
            path = source.uri if source.local else str(source.copy_to(scratch))
            found = read_in_blocks(path, split=job.split, input_spec=job.input_spec, options=job.options, check=False)
            return found, None
        if self._opened is None or self._opened[0] != unit.file:
            rows = ParquetRows(source.open(), source.name)
            self._opened = (unit.file, rows, open_ranges(rows, job.input_spec))
        _, rows, whole = self._opened
        columns = rows.read(unit.start, unit.rows)
        found = replace(whole, rows=unit.rows, blocks=lambda: iter([columns]), empty=EmptyTexts(), cut=CutTally())
        return found, plain_types(rows.schema, source.name) if source.name.lower().endswith(".parquet") else {}


def open_ranges(rows: ParquetRows, input_spec: InputSpec) -> RowBlocks:
    """The rows of a Parquet file, its columns chosen by its first block as for the file as a whole.

    Raises:
        DataError: there is no text column, or no row.
    """
    found = open_row_blocks(rows.source, lambda: iter([rows.read(0, BLOCK)]), rows.rows, input_spec)
    if found is None:
        raise DataError("there are no columns of texts or numbers", where=rows.source)
    return found


@contextmanager
def _scratch_folder() -> Iterator[str]:
    """A folder on this machine until a part is whole.

    Raises:
        StorageError: there is none that can be written, or its disk is full.
    """
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:  # a full disk, too: it tries to write
        raise StorageError(
            "there is no folder for temporary files", received=str(error), remedy="free some space or set TMPDIR"
        ) from error
    with storage_errors(place), tempfile.TemporaryDirectory(prefix="pennyweight-") as scratch:
        yield scratch


def _as_parquet(held: IO[bytes], ends: list[int]) -> IO[bytes]:
    """Blocks of Arrow as a Parquet file, open for reading."""
    path = Path(held.name).with_name("whole.parquet")
    write_parquet(lambda: parts_of(held, ends), path)
    return path.open("rb")


def answer_of(call: Callable[[], Any]) -> Answer:
    """The result of a call, including our own errors."""
    try:
        return Answer(call())
    except PennyweightError as error:
        # A row is wrong wherever it is read; for all else the machine matters.
        where = "" if isinstance(error, DataError) else f" (on {socket.gethostname()})"
        return Answer(error=type(error).__name__, message=f"{error}{where}")


def refuse_other_versions(node: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Refuse a machine whose numbers may differ for what it computes with.

    Args:
        node: the machine's name; `found`: its versions by name, as `versions_here`; `expected`: those of the others.

    Raises:
        InputError: naming what differs.
    """
    other = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if other:
        raise InputError(
            f"{node} has other versions",
            expected=", ".join(f"{name} {expected.get(name)}" for name in other),
            received=", ".join(f"{name} {found.get(name)}" for name in other),
            remedy="install the same versions on every machine",
        )


def versions_here() -> dict[str, str]:
    """Of what computes in this process, by name."""
    import importlib.metadata

    from .. import __version__

    packages = ("torch", "tokenizers", "numpy", "pyarrow")
    known = {"python": platform.python_version(), "pennyweight": __version__}
    return known | {name: importlib.metadata.version(name) for name in packages}


def processor_here() -> str:
    """The instructions that torch's kernels use on this machine."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())
