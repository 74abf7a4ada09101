"""Several processes write what one would: the same bytes, in order, also when workers and drivers are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pennyweight.data import row_blocks
from pennyweight.errors import InputError, Interrupted, StorageError
from pennyweight.scale import predict_units as driver
from pennyweight.scale import unit_worker
from pennyweight.scale.file_systems import FileStore
from pennyweight.scale.parts import PartStore
from pennyweight.scale.unit_run import WorkerLost
from pennyweight.scale.unit_worker import Answer, Traits, UnitWorker
from pennyweight.storage.checksums import unseal

ROOT = Path(__file__).parents[2]
WORDS = ["bank", "shares", "rate", "cup", "striker", "match", "polls", "valley", "ceasefire", ""]
FORMS = ("csv", "jsonl", "parquet")
Command = Callable[..., Any]


def source_of(path: Path, rows: int = 100, *, start: int = 0) -> Path:
    chance = random.Random(start)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 9))).strip() or None for _ in range(rows)]
    columns = {"id": list(range(start, start + rows)), "text": texts, "n": [number / 7 for number in range(rows)]}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=30)
    else:
        each = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in each))
    return path


class InThisProcess:
    """Workers without processes, in Ray's place: they compute when they are asked what came of a call."""

    broken: ClassVar[list[str]] = []  # names of methods whose next call loses the worker

    def __init__(self, kind: type[UnitWorker], given: Sequence[Any], threads: int) -> None:
        self._make = lambda: kind(*given)
        self._calls: list[tuple[Any, str, tuple[Any, ...]]] = []

    def start(self) -> list[UnitWorker]:
        return [self._make()]

    def call(self, worker: list[UnitWorker], name: str, *given: Any) -> int:
        self._calls.append((worker, name, given))
        return len(self._calls) - 1

    def first(self, calls: Sequence[int], seconds: float) -> int:
        return min(calls)

    def answer(self, call: int) -> Answer:
        worker, name, given = self._calls[call]
        if not worker or name in self.broken:
            if worker:
                self.broken.remove(name)
            worker.clear()
            raise WorkerLost("killed")
        found: Answer = getattr(worker[0], name)(*given)
        return found

    def stop(self, worker: list[UnitWorker]) -> None:
        worker.clear()


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers in this process, and blocks of 16 rows."""

    @contextmanager
    def cluster(address: str, threads: int, workers: int | None) -> Iterator[int]:
        yield workers or 2

    monkeypatch.setattr(driver, "ray_cluster", cluster)
    monkeypatch.setattr(driver, "RayWorkers", InThisProcess)
    monkeypatch.setattr(driver, "BLOCK", 16)
    monkeypatch.setattr(row_blocks, "BLOCK", 16)
    monkeypatch.setattr(unit_worker, "BLOCK", 16)
    monkeypatch.setattr(InThisProcess, "broken", [])


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("form", FORMS)
def test_one_file_has_the_bytes_that_one_process_writes(
    form: str, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    for source in (source_of(tmp_path / "in.parquet"), source_of(tmp_path / "in.jsonl")):
        plain, out = tmp_path / f"plain.{form}", tmp_path / f"out.{form}"
        flags = ("--abstain-below", "0.4", "--no-text")
        alone = command("predict", tiny_run, source, "--out", plain, *flags)
        shared = command("predict", tiny_run, source, "--out", out, *flags, "--ray", "local")
        assert out.read_bytes() == plain.read_bytes()
        assert sorted(shared.err.replace("out.", "plain.").splitlines()) == sorted(alone.err.splitlines())
    assert {item.name for item in tmp_path.iterdir()} == {"in.parquet", "in.jsonl", plain.name, out.name}


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("form", FORMS)
def test_several_files_become_a_sealed_folder_of_parts(
    form: str, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "in").mkdir()
    source_of(tmp_path / "in" / "1.parquet", 40)
    source_of(tmp_path / "in" / "2.jsonl", 20, start=40)
    out = tmp_path / "out"
    done = command("predict", tiny_run, tmp_path / "in", "--out", out, "--format", form, "--ray", "local")
    assert (done.code, done.err.splitlines()[0]) == (0, f"60 texts labelled: {out}")
    found = unseal((out / "manifest.json").read_text("utf-8"))
    names = [part["name"] for part in found["parts"]]
    assert sorted(os.listdir(out)) == sorted(["manifest.json", *names])
    assert [part["rows"] for part in found["parts"]] == [16, 16, 8, 20]
    assert found["parts"][3]["source"] == str(tmp_path / "in" / "2.jsonl")
    ids: list[int] = []
    for name in names:  # each part is a file of its own
        rows = driver.find_files(str(out / name))
        assert len(rows) == 1
        read = row_blocks.read_in_blocks(out / name, check=False)
        ids += [int(value) for block in read.blocks() for value in block.values["id"]]
    assert ids == list(range(60))
    again = command("predict", tiny_run, tmp_path / "in", "--out", out, "--ray", "local")
    assert again.error == f"{out}: the folder contains a finished prediction; choose another --out"


@pytest.mark.usefixtures("without_ray")
def test_cut_tokens_of_all_units_are_warned_of_as_by_one_process(
    tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.csv"
    pq.write_table(pa.table({"text": ["bank " * 900, *["The cup."] * 39]}), source)
    alone = command("predict", tiny_run, source, "--out", out)
    shared = command("predict", tiny_run, source, "--out", out, "--ray", "local")
    (line,) = [line for line in alone.err.splitlines() if "are cut" in line]
    assert line.startswith(f"warning: {source}: ")
    assert " of the tokens of 40 texts are cut off and not read; " in line
    assert line in shared.err.splitlines()


@pytest.mark.usefixtures("without_ray")
def test_lost_workers_are_replaced_and_counted(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    source, out = source_of(tmp_path / "in.parquet"), tmp_path / "out.csv"
    command("predict", tiny_run, source, "--out", tmp_path / "plain.csv")
    InThisProcess.broken[:] = ["predict", "traits"]
    done = command("predict", tiny_run, source, "--out", out, "--ray", "local")
    assert done.err.splitlines()[0] == "2 workers that died were replaced"
    assert out.read_bytes() == (tmp_path / "plain.csv").read_bytes()
    InThisProcess.broken[:] = ["predict", "predict", "predict"]
    out.unlink()
    done = command("predict", tiny_run, source, "--out", out, "--ray", "local", "--workers", 1)
    assert done.code == 1
    assert done.error.startswith(f"{source} rows 1 to 16: a worker ended 2 times while it predicted these rows; ")


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")], ids=["signal", "disk"])
def test_what_is_finished_is_kept_and_gone_on_with(
    stop: Any, tiny_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = source_of(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    command("predict", tiny_run, source, "--out", tmp_path / "plain.parquet")
    write, names = FileStore.write, []

    def breaking(store: FileStore, name: str, chunks: Any) -> None:
        if name == "part-0000003.arrows":
            with store._errors():
                raise stop
        names.append(name)
        write(store, name, chunks)

    monkeypatch.setattr(FileStore, "write", breaking)
    flags = ("--out", out, "--ray", "local")
    ended = command("predict", tiny_run, source, *flags)
    rows = 16 * len([name for name in names if name.startswith("part-")])
    assert rows == 48
    if stop is KeyboardInterrupt:
        assert ended.code == Interrupted.exit_code
        said = f"{out}: stopped by a signal; 48 rows are done; continue with the same command and --resume"
        assert ended.error == said
    else:
        assert ended.code == StorageError.exit_code
        assert "the disk is full; free some space and run again" in ended.error
    monkeypatch.setattr(FileStore, "write", write)
    assert not out.exists()
    said = command("predict", tiny_run, source, *flags).error
    assert said.startswith(
        f"{out}: an interrupted run of this job has already finished 48 rows; continue with --resume"
    )
    other = command("predict", tiny_run, source, *flags, "--resume", "--no-text").error
    assert other.endswith("received another options; leave out --resume to start again")
    names.clear()
    monkeypatch.setattr(
        FileStore, "write", lambda store, name, chunks: (names.append(name), write(store, name, chunks))
    )
    assert command("predict", tiny_run, source, *flags, "--resume").code == 0
    assert len([name for name in names if name.startswith("part-")]) == 4  # of 7
    assert out.read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    assert {item.name for item in tmp_path.iterdir()} == {"in.parquet", "plain.parquet", "out.parquet"}


@pytest.mark.usefixtures("without_ray")
def test_a_broken_row_ends_the_job_by_its_place(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    long = ["x" * 1_000_001 if number == 60 else "a" for number in range(100)]
    pq.write_table(pa.table({"text": long}), tmp_path / "in.parquet")
    done = command("predict", tiny_run, tmp_path / "in.parquet", "--out", tmp_path / "out.csv", "--ray", "local")
    assert done.code == 2
    assert done.error.startswith(f"{tmp_path / 'in.parquet'} row 61: one text has 1,000,001 characters")


@pytest.mark.usefixtures("without_ray")
def test_nothing_is_left_of_a_job_without_a_finished_unit(
    tiny_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FileStore.write

    def full(store: FileStore, name: str, chunks: Any) -> None:
        if name.startswith("part-"):
            raise StorageError("the disk is full")
        write(store, name, chunks)

    monkeypatch.setattr(FileStore, "write", full)
    source = source_of(tmp_path / "in.parquet")
    for out in ("out.csv", "out"):
        done = command("predict", tiny_run, source, "--out", tmp_path / out, "--ray", "local")
        assert (done.code, done.error.startswith("the disk is full (on ")) == (1, True)
        assert {item.name for item in tmp_path.iterdir()} == {"in.parquet"}


@pytest.mark.usefixtures("without_ray")
def test_a_full_disk_for_temporary_files_is_named(
    tiny_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = source_of(tmp_path / "in.parquet"), tmp_path / "out.csv"

    def full(*given: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    files = SimpleNamespace(gettempdir=lambda: "/scratch", TemporaryDirectory=full)
    monkeypatch.setattr(unit_worker, "tempfile", files)
    done = command("predict", tiny_run, source, "--out", out, "--ray", "local")
    assert (done.code, done.error.startswith("/scratch: the disk is full; free some space and run again; ")) == (
        1,
        True,
    )

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    files.gettempdir = nowhere
    done = command("predict", tiny_run, source, "--out", out, "--ray", "local")
    assert done.code == 1
    assert done.error.startswith("there is no folder for temporary files; received [Errno 2] No usable temporary ")


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": {"pennyweight": "9.9"}}, "there has other versions; expected pennyweight "),
        ({"identity": ["z", None, "cpu", "fp32"]}, "there has a different classifier from "),
        (
            {"identity": ["a", None, "cpu", "int8"]},
            "there computes in a different number format from here; expected fp32",
        ),
    ],
)
def test_workers_that_differ_are_refused(
    change: dict[str, Any], said: str, tiny_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pennyweight import __version__

    plain: dict[str, Any] = {"node": "here", "identity": ["a", None, "cpu", "fp32"], "processor": "AVX2"}
    plain["versions"] = {"pennyweight": __version__}
    found = iter([Answer(Traits(**plain)), Answer(Traits(**(plain | {"node": "there"} | change)))])
    monkeypatch.setattr(UnitWorker, "traits", lambda worker: next(found))
    source = source_of(tmp_path / "in.parquet")
    done = command("predict", tiny_run, source, "--out", tmp_path / "out.csv", "--ray", "local")
    assert (done.code, said in done.error) == (2, True), done.error


@pytest.mark.usefixtures("without_ray")
def test_a_worker_that_sees_another_folder_is_refused(
    tiny_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PartStore, "holds", lambda store, job: False)
    source = source_of(tmp_path / "in.parquet")
    done = command("predict", tiny_run, source, "--out", tmp_path / "out", "--ray", "local")
    assert done.code == 2
    assert (
        "does not see this job's folder; choose --out on storage that all machines of the cluster share" in done.error
    )


def test_what_several_processes_cannot_do_says_so(tiny_run: Path, tmp_path: Path, command: Command) -> None:
    source, out = source_of(tmp_path / "in.parquet"), tmp_path / "out.csv"
    for flags, said in {
        ("--ray", "local"): "with --ray, files are predicted into a file or a folder; give FILE and --out",
        ("--out", out, "--workers", 2): "--workers and --worker-threads are for several processes; add --ray local",
        ("--out", out, "--ray", "local", "--device", "cuda"): "with --ray, workers compute on CPUs; received --device "
        "cuda; leave it out",
        ("--out", out, "--ray", "local", "--submission"): "a submission is one small file; leave out --ray",
        ("--out", source, "--ray", "local"): f"{source}: the output would overwrite the input; give --out another name",
        ("--out", "s3://b/out.csv", "--ray", "local"): "s3://b/out.csv: on remote storage the output is a folder of "
        "parts; expected a name without a suffix; give --format csv, jsonl or parquet",
    }.items():
        assert command("predict", tiny_run, source, *flags).error == said
    done = command("predict", tiny_run, source, "--out", out, "--ray", "local", "--prior", "em").error
    assert done.startswith("em estimates the shares from all texts, but each worker sees only some")
    with pytest.raises(InputError, match="several files can only be predicted into a folder of parts"):
        driver.output_place("out.csv", None, 2)


@pytest.mark.usefixtures("without_ray")
def test_object_storage_is_predicted_from_and_to(bucket: str, tiny_run: Path, tmp_path: Path, command: Command) -> None:
    for name in ("1.parquet", "2.jsonl"):
        FileStore(bucket.format("in")).write(name, [source_of(tmp_path / name, 40).read_bytes()])
    source, out = bucket.format("in/*"), bucket.format("out")
    done = command("predict", tiny_run, source, "--out", out, "--format", "jsonl", "--ray", "local")
    assert (done.code, done.err.splitlines()[0]) == (0, f"80 texts labelled: {out}")
    store = FileStore(out)
    names = [f"part-{number:07d}.jsonl" for number in range(4)]
    assert sorted(store.sizes()) == ["manifest.json", *names]
    for name, parts in (("1.parquet", names[:3]), ("2.jsonl", names[3:])):
        command("predict", tiny_run, tmp_path / name, "--out", tmp_path / "plain.jsonl")
        assert b"".join(map(store.read, parts)) == (tmp_path / "plain.jsonl").read_bytes()


# --- with Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that uses Ray: a home of its own, for the token."""
    pytest.importorskip("ray", reason="Ray is not installed")
    home = tmp_path / "home"
    home.mkdir()
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HOME": str(home), "RAY_TMPDIR": "/tmp"}


def begin(environment: dict[str, str], *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pennyweight", *map(str, words)], env=environment, stderr=subprocess.PIPE, text=True
    )


def test_ray_writes_the_bytes_of_one_process(
    with_ray: dict[str, str], tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    source, out = source_of(tmp_path / "in.parquet", 20_000), tmp_path / "out.csv"
    command("predict", tiny_run, source, "--out", tmp_path / "plain.csv")
    process = begin(with_ray, "predict", tiny_run, source, "--out", out, "--ray", "local", "--workers", 2)
    said = process.communicate(timeout=300)[1]
    assert said.splitlines()[0] == f"20,000 texts labelled: {out}"
    assert out.read_bytes() == (tmp_path / "plain.csv").read_bytes()
    token = tmp_path / "home" / ".ray" / "auth_token"
    assert (token.stat().st_mode & 0o777, len(token.read_text())) == (0o600, 64)


@pytest.mark.acceptance
def test_workers_and_drivers_killed_at_random(
    with_ray: dict[str, str], tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    """Twenty kills; every job that they interrupt ends with the bytes of one process.

    A job that ends before the twentieth is compared and begun anew, so that a fast machine sees as many as a slow one.
    """
    source, out = source_of(tmp_path / "in.parquet", 200_000), tmp_path / "out.csv"
    command("predict", tiny_run, source, "--out", tmp_path / "plain.csv")
    whole = (tmp_path / "plain.csv").read_bytes()
    records = tmp_path / ".out.csv.parts" / ".units"
    chance, kills, midway, code = random.Random(0), {"worker": 0, "driver": 0}, 0, -1
    while sum(kills.values()) < 20 or code:
        if out.exists():  # what was killed last had done all but end
            out.unlink()
        process = begin(with_ray, "predict", tiny_run, source, "--out", out, "--ray", "local", "--resume")
        while process.poll() is None and sum(kills.values()) < 20:
            time.sleep(chance.uniform(1, 5))  # Ray begins within four seconds, a worker within three to five
            kind = chance.choice(["worker", "worker", "worker", "driver"])
            with suppress(psutil.NoSuchProcess, IndexError):
                victim = psutil.Process(process.pid) if kind == "driver" else chance.choice(workers_of(process.pid))
                finished = len(list(records.glob("*[0-9].json")))
                victim.send_signal(signal.SIGKILL)
                kills[kind] += 1
                midway += finished > 0
        said, code = process.communicate(timeout=200)[1], process.returncode
        # Two kills during one unit, or before a worker has begun, end the job by name; the next run goes on.
        assert code in (0, -signal.SIGKILL) or "a worker ended 2 times" in said, said
        assert not out.exists() or out.read_bytes() == whole
    assert (out.read_bytes() == whole, records.parent.exists()) == (True, False)
    assert min(kills.values()) > 3
    assert midway > 5


def workers_of(driver: int) -> list[psutil.Process]:
    """The processes below a driver that hold a worker, in Ray's words for them."""
    below = psutil.Process(driver).children(recursive=True)
    return [each for each in below if "".join(each.cmdline()[:1]).startswith("ray::UnitWorker")]
