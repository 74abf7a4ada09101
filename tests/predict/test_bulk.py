"""Whole files, block by block: the bytes of a run that was killed and resumed are those of one that was not."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pennyweight as pw
from pennyweight.data import row_blocks
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.errors import DataError, InputError, Interrupted, StorageError
from pennyweight.predict import bulk
from pennyweight.predict import journal as journal_module
from pennyweight.predict.abstention import Abstainer
from pennyweight.predict.bulk import OutputOptions, predict_blocks, predict_file
from pennyweight.predict.journal import BlockJournal, unfinished_folder
from pennyweight.predict.prediction_rows import KeptColumns

from ..forked_python import ForkedPython

ROOT = Path(__file__).parents[2]
WORDS = ["bank", "shares", "rate", "cup", "striker", "match", "polls", "valley", "ceasefire", ""]
OURS = ["label", "probability", "p_Business", "p_Sports", "p_World"]
FORMS = ("csv", "jsonl", "parquet")
Command = Callable[..., Any]

# Runs the job with blocks of 16 rows and kills itself at the nth step of appending a block.
KILLED = """
import os, signal, sys
import pennyweight as pw
from pennyweight.data import row_blocks
from pennyweight.predict import journal
row_blocks.BLOCK = 16
run, source, out, at = *sys.argv[1:4], int(sys.argv[4])
steps = 0
flush = journal._flush
def step(handle):
    global steps
    steps += 1
    if steps == at:
        os.kill(os.getpid(), signal.SIGKILL)  # before these bytes are durable
    flush(handle)
    steps += 1
    if steps == at:
        os.kill(os.getpid(), signal.SIGKILL)  # after
journal._flush = step
if at == 0:
    journal.BlockJournal.publish = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
pw.load(run).predict_file(source, out)
"""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "BLOCK", 16)


@pytest.fixture
def classifier(tiny_run: Path) -> pw.Classifier:
    return pw.load(tiny_run)


def texts(rows: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 9))).strip() or "the" for _ in range(rows)]


def source_of(path: Path, rows: int = 100) -> Path:
    columns = {"id": list(range(rows)), "text": texts(rows), "n": [number / 7 for number in range(rows)]}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=30)
    elif path.suffix == ".jsonl":
        each = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in each))
    else:
        with path.open("w", newline="") as handle:
            csv.writer(handle).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def rows_in(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_in_blocks_gets_the_answers_of_its_texts(form: str, classifier: pw.Classifier, tmp_path: Path) -> None:
    source = source_of(tmp_path / f"in.{form}")
    assert classifier.predict_file(source, tmp_path / f"out.{form}") == 100
    found = rows_in(tmp_path / f"out.{form}")
    assert [str(row["id"]) for row in found] == [str(number) for number in range(100)]
    assert [row["text"] for row in found] == texts(100)
    assert [row["label"] for row in found] == classifier.predict(texts(100))
    expected = classifier.predict_proba(texts(100))
    for row, probabilities in zip(found, expected, strict=True):
        assert [float(row[name]) for name in OURS[2:]] == pytest.approx(probabilities.tolist(), abs=2e-6)
    assert {item.name for item in tmp_path.iterdir()} == {source.name, f"out.{form}"}


def test_what_is_cut_is_counted(classifier: pw.Classifier, tmp_path: Path) -> None:
    file = read_in_blocks(source_of(tmp_path / "in.csv"), input_spec=classifier.input_spec)
    assert len(list(predict_blocks(classifier, file, KeptColumns(True, True, None)))) > 0
    assert (file.cut.texts, file.cut.lost, file.cut.warning()) == (100, 0, None)
    (tmp_path / "long.csv").write_text("text\n" + "bank " * 900 + "\n", "utf-8")
    long = read_in_blocks(tmp_path / "long.csv", input_spec=classifier.input_spec)
    list(predict_blocks(classifier, long, KeptColumns(True, True, None)))
    assert long.cut.lost > 700
    assert "% of the tokens of 1 text are cut" in str(long.cut.warning())


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_is_killed_anywhere_and_resumed_writes_the_same_bytes(
    form: str, tiny_run: Path, classifier: pw.Classifier, tmp_path: Path
) -> None:
    source, out = source_of(tmp_path / f"in.{form}"), tmp_path / f"out.{form}"
    classifier.predict_file(source, tmp_path / f"whole.{form}")
    # A block takes four steps: its bytes flushed, and its line, before and after. 0 is the last rename.
    for at in {"csv": (2, 9, 10, 11, 12, 0), "jsonl": (11,), "parquet": (11, 0)}[form]:
        killed = ForkedPython(KILLED, tiny_run, source, out, at).wait()
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not out.exists()
        seen: list[int] = []
        options = OutputOptions(form)
        file = read_in_blocks(source, input_spec=classifier.input_spec, split="test", check=False)
        assert predict_file(classifier, file, out, options, resume=True, progress=seen.append) == 100
        assert seen[0] == {2: 0, 9: 32, 10: 32, 11: 32, 12: 48, 0: 100}[at]
        assert out.read_bytes() == (tmp_path / f"whole.{form}").read_bytes()
        out.unlink()
    assert {item.name for item in tmp_path.iterdir()} == {source.name, f"whole.{form}"}


@pytest.mark.parametrize("form", [*FORMS, "arrow"])
def test_a_file_whose_name_is_no_utf8(form: str, classifier: pw.Classifier, tmp_path: Path) -> None:
    source, named = tmp_path / f"in.{form}", tmp_path / os.fsdecode(f"i\xff.{form}".encode("latin-1"))
    if form == "arrow":
        with pa.OSFile(str(source), "wb") as file:
            table = pa.table({"text": texts(100)})
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
    else:
        source_of(source)
    source.rename(named)
    kind = "parquet" if form == "arrow" else form
    out = tmp_path / os.fsdecode(f"o\xff.{kind}".encode("latin-1"))
    assert classifier.predict_file(named, out) == 100
    out.rename(tmp_path / f"out.{kind}")
    assert [row["text"] for row in rows_in(tmp_path / f"out.{kind}")] == texts(100)


@pytest.mark.parametrize("out", ["{}/", "/dev/fd/1", "/dev/stdout"])
def test_what_is_no_name_of_a_file_is_refused(out: str, classifier: pw.Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"this is the name of a folder; add|not a regular file; to write to standard"):
        classifier.predict_file(source_of(tmp_path / "in.csv"), out.format(tmp_path / "new"), form="csv")
    assert os.listdir(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_and_keeps_what_is_finished(
    number: signal.Signals, classifier: pw.Classifier, tmp_path: Path, default_signals: None
) -> None:
    source, out = source_of(tmp_path / "in.csv"), tmp_path / "out.csv"
    file = read_in_blocks(source, input_spec=classifier.input_spec, split="test")

    def stop(done: int) -> None:
        if done > 48:
            signal.raise_signal(number)

    with pytest.raises(Interrupted) as caught:
        predict_file(classifier, file, out, OutputOptions("csv"), progress=stop)
    assert str(caught.value) == (
        f"{out}: stopped by a signal; 48 rows are done; continue with the same command and --resume"
    )
    assert (caught.value.exit_code, out.exists()) == (130, False)
    before = signal.getsignal(number)
    assert classifier.predict_file(source, out, resume=True) == 100
    assert signal.getsignal(number) == before
    assert [row["text"] for row in rows_in(out)] == texts(100)
    with pytest.raises(Interrupted, match="stopped by a signal; nothing was written; run the same command again"):
        predict_file(classifier, file, tmp_path / "b.csv", OutputOptions("csv"), progress=lambda _: stop(99))
    assert {item.name for item in tmp_path.iterdir()} == {"in.csv", "out.csv"}


def test_the_counts_of_an_abstainer_include_former_runs(classifier: pw.Classifier, tmp_path: Path) -> None:
    file = read_in_blocks(source_of(tmp_path / "in.csv"), input_spec=classifier.input_spec)
    whole, resumed = Abstainer(0.5), Abstainer(0.5)
    predict_file(classifier, file, tmp_path / "whole.csv", OutputOptions("csv"), abstainer=whole)

    def stop(done: int) -> None:
        if done > 48:
            raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        predict_file(
            classifier, file, tmp_path / "out.csv", OutputOptions("csv"), abstainer=Abstainer(0.5), progress=stop
        )
    predict_file(classifier, file, tmp_path / "out.csv", OutputOptions("csv"), abstainer=resumed, resume=True)
    assert (resumed.asked, resumed.answered) == (whole.asked, whole.answered)
    assert whole.asked == 100
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def stopped(classifier: pw.Classifier, source: Path, out: Path) -> None:
    file = read_in_blocks(source, input_spec=classifier.input_spec, split="test", check=False)

    def stop(done: int) -> None:
        if done > 48:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        predict_file(classifier, file, out, OutputOptions("csv"), progress=stop)


def test_only_the_same_job_is_resumed(
    classifier: pw.Classifier, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    source, out = source_of(tmp_path / "in.csv"), tmp_path / "out.csv"
    stopped(classifier, source, out)
    for other, what in (
        (("--no-text",), "options"),
        (("--abstain-below", "0.5"), "options"),
        (("--adapter-scale", "0.5"), "classifier"),
        (("--prior", "balanced"), "classifier"),
        (("--header",), "source"),
    ):
        done = command("predict", tiny_run, source, "--out", out, "--resume", *other)
        assert (done.code, done.error) == (
            2, f"{out}: the unfinished run belongs to another job; expected the same classifier, source, options, "
            f"version of Pennyweight; received another {what}; leave out --resume to start again",
        )  # fmt: skip
    done = command("predict", tiny_run, source, "--out", out)
    assert (done.code, done.error) == (
        2, f"{out}: an interrupted run of this job has already finished 48 rows; continue with --resume, or remove "
        f"{unfinished_folder(out)} to start again",
    )  # fmt: skip
    done = command("predict", tiny_run, source, "--out", out, "--resume")
    assert (done.code, done.err) == (0, f"100 texts labelled: {out}\n")
    assert [row["id"] for row in rows_in(out)] == [str(number) for number in range(100)]
    # A source that changed in between is another job, and is begun anew without a word.
    out.unlink()
    stopped(classifier, source, out)
    source_of(source, 40)
    assert "received another source;" in command("predict", tiny_run, source, "--out", out, "--resume").error
    assert command("predict", tiny_run, source, "--out", out).code == 0
    assert len(rows_in(out)) == 40


def test_what_cannot_be_resumed_says_so(tiny_run: Path, news: Path, tmp_path: Path, command: Command) -> None:
    said = "only predictions that go to a file can be resumed; give --out FILE, without --submission"
    assert command("predict", tiny_run, news / "test.csv", "--resume").error == said
    flags = ("--out", tmp_path / "s.csv", "--submission", "--label-order", "World,Sports,Business")
    assert command("predict", tiny_run, news / "test.csv", "--resume", *flags).error == said
    done = command("predict", tiny_run, "-", "--out", tmp_path / "o.csv", "--resume", stdin="a text\n")
    assert done.error == "a pipe can be read only once; write the texts to a file first, or leave out --resume"
    loaded = pw.load(tiny_run)
    unsaved = pw.Classifier(loaded.artifact, loaded.runtime)
    with pytest.raises(InputError, match=r"^only a saved classifier can resume; save it and load it again: pw\.load"):
        unsaved.predict_file(news / "test.csv", tmp_path / "o.csv", resume=True)
    assert unsaved.predict_file(news / "test.csv", tmp_path / "o.csv") == 15


@pytest.mark.parametrize("form", FORMS)
def test_the_text_stands_in_the_output_unless_it_is_left_out(
    form: str, tiny_run: Path, tmp_path: Path, command: Command
) -> None:
    source = source_of(tmp_path / "in.csv")
    for flags, kept in (
        ((), ["id", "text", "n"]),
        (("--no-input-columns",), ["id", "text"]),
        (("--no-text",), ["id", "n"]),
        (("--no-input-columns", "--no-text"), ["id"]),
        (("--no-input-columns", "--no-text", "--id-column", "n"), ["n"]),
    ):
        out = tmp_path / f"out.{form}"
        assert command("predict", tiny_run, source, "--out", out, *flags).code == 0
        assert list(rows_in(out)[0]) == [*kept, *OURS]
    line = json.dumps({"n": 7, "text": "The bank."}) + "\n"
    done = command("predict", tiny_run, "-", "--no-text", stdin=line)
    assert list(json.loads(done.out)) == ["n", *OURS]


def test_parquet_is_read_once_and_an_error_comes_when_it_is_met(
    classifier: pw.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, tiny_run: Path
) -> None:
    source = source_of(tmp_path / "in.parquet")
    file = read_in_blocks(source, input_spec=classifier.input_spec, check=False)
    assert (file.rows, file.names, file.unread) == (100, ("id", "text", "n"), True)
    assert not read_in_blocks(source_of(tmp_path / "in.csv"), input_spec=classifier.input_spec, check=False).unread
    rows = [f"text {number}" if number != 60 else None for number in range(100)]
    pq.write_table(pa.table({"text": rows}), source)
    done = command("predict", tiny_run, source, "--out", tmp_path / "out.csv")
    assert done.err == (
        f"100 texts labelled: {tmp_path / 'out.csv'}\n{source}: 1 empty text, labelled like any other: 61\n"
    )
    long = ["x" * 1_000_001 if number == 60 else "a" for number in range(100)]
    pq.write_table(pa.table({"text": long}), source)
    file = read_in_blocks(source, input_spec=classifier.input_spec, check=False)
    blocks = predict_blocks(classifier, file, KeptColumns())
    assert [len(next(blocks)[1]["label"]) for _ in range(3)] == [16, 16, 16]
    with pytest.raises(DataError, match=r"in\.parquet row 61: one text has 1,000,001 characters"):
        next(blocks)
    with pytest.raises(DataError):
        classifier.predict_file(source, tmp_path / "new.csv")
    assert {item.name for item in tmp_path.iterdir()} == {"in.parquet", "in.csv", "out.csv"}


def test_arrow_files_are_read_in_blocks_of_one_size_whatever_they_hold(
    classifier: pw.Classifier, tmp_path: Path
) -> None:
    table = pa.table({"text": texts(100)})
    with pa.OSFile(str(tmp_path / "in.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    file = read_in_blocks(tmp_path / "in.arrow", input_spec=classifier.input_spec, check=False)
    assert (file.rows, file.unread) == (100, True)
    assert [len(block.lines) for block in file.blocks()] == [16] * 6 + [4]
    assert classifier.predict_file(tmp_path / "in.arrow", tmp_path / "out.jsonl") == 100
    assert [row["text"] for row in rows_in(tmp_path / "out.jsonl")] == texts(100)


def test_a_full_disk_is_said_and_what_is_finished_is_kept(
    classifier: pw.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = source_of(tmp_path / "in.csv"), tmp_path / "out.csv"
    append = BlockJournal.append

    def full(journal: BlockJournal, content: bytes, rows: int, answered: int) -> None:
        if journal.rows == 32:
            raise OSError(28, "No space left on device")
        append(journal, content, rows, answered)

    monkeypatch.setattr(BlockJournal, "append", full)
    with pytest.raises(StorageError, match="the disk is full; free some space and run again"):
        classifier.predict_file(source, out)
    monkeypatch.setattr(BlockJournal, "append", append)
    assert not out.exists()
    assert classifier.predict_file(source, out, resume=True) == 100


def append_a_row(source: Path) -> None:
    with source.open("a") as handle:
        handle.write("100,the bank,1\n")


def cut_off(source: Path) -> None:
    os.truncate(source, source.stat().st_size // 2)


def edit_in_place(source: Path) -> None:
    content = source.read_bytes()
    with source.open("r+b") as handle:
        handle.write(content.replace(b"bank", b"polls", 1)[: len(content)])
    os.utime(source, ns=(0, 0))  # a clock that ticks between any two tests of one size


def replace_it(source: Path) -> None:
    other = source_of(source.with_name("other.csv"), 50)
    other.replace(source)


@pytest.mark.parametrize("change", [append_a_row, cut_off, edit_in_place, replace_it])
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_source_that_changes_while_it_is_read_is_refused(
    change: Callable[[Path], None], when: str, classifier: pw.Classifier, tmp_path: Path
) -> None:
    source, out = source_of(tmp_path / "in.csv", 100), tmp_path / "out.csv"
    file = read_in_blocks(source, input_spec=classifier.input_spec, split="test", check=False)

    def progress(done: int) -> None:
        if when == "during" and done == 48:
            change(source)

    if when == "before":
        change(source)
    elif change is replace_it:  # the old file is read to its end
        assert predict_file(classifier, file, out, OutputOptions("csv"), progress=progress) == 100
        assert [row["text"] for row in rows_in(out)] == texts(100)
        return
    with pytest.raises(DataError) as refused:
        predict_file(classifier, file, out, OutputOptions("csv"), progress=progress)
    said = "the file changed while it was read; run again when nothing writes to it, or give a copy"
    assert str(refused.value) == f"{source}: {said}"
    assert [item.name for item in tmp_path.iterdir()] == ["in.csv"]
    with pytest.raises(DataError, match="the file changed while it was read"):
        list(predict_blocks(classifier, file, KeptColumns()))


def test_a_source_that_is_only_touched_costs_no_finished_block(classifier: pw.Classifier, tmp_path: Path) -> None:
    source, out = source_of(tmp_path / "in.csv"), tmp_path / "out.csv"
    classifier.predict_file(source, tmp_path / "whole.csv")
    file = read_in_blocks(source, input_spec=classifier.input_spec, split="test", check=False)
    with pytest.raises(DataError) as refused:
        predict_file(
            classifier, file, out, OutputOptions("csv"),
            progress=lambda done: os.utime(source, ns=(0, 0)) if done == 48 else None,
        )  # fmt: skip
    rows = int(str(refused.value).split(";")[2].split()[0])
    assert str(refused.value) == (
        f"{source}: the file was touched while it was read; its content is the same; {rows} rows are done; continue "
        "with the same command and --resume"
    )
    assert rows >= 48
    assert not out.exists()
    os.utime(source, ns=(10**9, 10**9))
    seen: list[int] = []
    again = read_in_blocks(source, input_spec=classifier.input_spec, split="test", check=False)
    assert predict_file(classifier, again, out, OutputOptions("csv"), resume=True, progress=seen.append) == 100
    assert seen[0] == rows
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_signal_after_the_last_rename_finds_the_work_done(
    form: str, classifier: pw.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = source_of(tmp_path / "in.csv"), tmp_path / f"out.{form}"

    def stop(folder: Path) -> None:
        if out.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(journal_module, "fsync_folder", stop)
    with pytest.raises(Interrupted) as caught:
        classifier.predict_file(source, out)
    assert str(caught.value) == f"{out}: stopped by a signal; all 100 rows are written"
    assert {item.name for item in tmp_path.iterdir()} == {"in.csv", out.name}
    assert len(rows_in(out)) == 100


def test_a_parquet_file_that_cannot_be_put_together_leaves_only_its_blocks(
    classifier: pw.Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = source_of(tmp_path / "in.csv"), tmp_path / "out.parquet"

    def full(parts: object, path: Path) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bulk, "write_parquet", full)
        with pytest.raises(StorageError, match="the disk is full"):
            classifier.predict_file(source, out)
    assert {item.name for item in unfinished_folder(out).iterdir()} == {"job.json", "journal", "blocks"}
    assert classifier.predict_file(source, out, resume=True) == 100


@pytest.mark.parametrize("form", FORMS)
def test_a_column_whose_name_is_no_utf8(form: str, classifier: pw.Classifier, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / f"out.{form}"
    source.write_text('{"text": "The bank.", "\\ud800": 1}\n')
    assert classifier.predict_file(source, out) == 1
    names = list(rows_in(out)[0])
    assert names[1] == ("\ud800" if form == "jsonl" else "\\ud800")
    assert names[2:] == OURS


CUT_OFF = """
import os, sys
import pyarrow as pa
import pennyweight as pw
from pennyweight.data import row_blocks
from pennyweight.data.row_blocks import read_in_blocks
from pennyweight.predict.bulk import OutputOptions, predict_file
row_blocks.BLOCK = 1024
run, source, out = sys.argv[1:4]
classifier = pw.load(run)
file = read_in_blocks(source, input_spec=classifier.input_spec, split="test", check=False)
try:
    predict_file(
        classifier, file, out, OutputOptions("csv"),
        progress=lambda done: os.truncate(source, 2000) if done == 1024 else None,
    )
except pw.errors.DataError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["one batch", "many batches", "stream"])
def test_an_arrow_file_that_is_cut_off_meanwhile_is_refused(kind: str, tiny_run: Path, tmp_path: Path) -> None:
    """Mapped into memory, its pages would be gone: SIGBUS."""
    source = tmp_path / "in.arrow"
    table = pa.table({"text": ["the bank " * 9] * 10_000})
    begin = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with pa.OSFile(str(source), "wb") as sink, begin(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=20_000 if kind == "one batch" else 500)
    done = ForkedPython(CUT_OFF, tiny_run, source, tmp_path / "out.csv").wait()
    said = "the file changed while it was read; run again when nothing writes to it, or give a copy"
    assert (done.returncode, done.stdout) == (0, f"{source}: {said}\n"), done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["in.arrow"]


def test_a_source_that_is_a_folder_changes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "1.txt").write_text("one")
    before = bulk._source_digest(str(tmp_path / "d"))
    assert bulk._source_digest(str(tmp_path / "d")) == before
    (tmp_path / "d" / "a" / "2.txt").write_text("two")
    assert bulk._source_digest(str(tmp_path / "d")) != before


@pytest.mark.acceptance
@pytest.mark.parametrize("form", FORMS)
def test_two_hundred_thousand_rows_killed_and_resumed(form: str, tiny_run: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments of the command itself; in the end every id once, and the bytes of an unkilled run."""
    rows = 200_000
    source = source_of(tmp_path / "in.csv", rows)

    def begin(out: Path, *flags: str) -> subprocess.Popen[str]:
        words = ["-m", "pennyweight", "predict", str(tiny_run), str(source), "--out", str(out), *flags]
        return subprocess.Popen([sys.executable, *words], env=environment(), stderr=subprocess.PIPE, text=True)

    began = time.monotonic()
    process = begin(tmp_path / f"whole.{form}")
    assert process.communicate(timeout=3600)[1].startswith("200,000 texts labelled")
    seconds = time.monotonic() - began
    chance, kills, out = random.Random(form), 0, tmp_path / f"out.{form}"
    for number in range(4):
        process = begin(out, "--resume")
        try:
            process.communicate(timeout=seconds * chance.uniform(0.3, 0.5) if number < 3 else 3600)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        else:
            break
    assert kills > 0
    assert process.returncode == 0
    assert out.read_bytes() == (tmp_path / f"whole.{form}").read_bytes()
    assert [int(row["id"]) for row in rows_in(out)] == list(range(rows))
