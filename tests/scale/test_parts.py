"""Parts: a record says that one is done; another job's are not gone on with; a manifest seals them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pennyweight.errors import InputError, StorageError
from pennyweight.scale.parts import FinishedUnit, PartStore
from pennyweight.storage.checksums import unseal

JOB = {"classifier": "a", "source": ["b", None]}


def unit(number: int, *blocks: bytes) -> FinishedUnit:
    ends = tuple(sum(map(len, blocks[: at + 1])) for at in range(len(blocks)))
    return FinishedUnit(number, 10, 9, ends, hashlib.sha256(b"".join(blocks)).hexdigest(), 1, (3,))


def stores(tmp_path: Path) -> PartStore:
    return PartStore(str(tmp_path / "out"), "csv")


def leave(store: PartStore) -> list[FinishedUnit]:
    """What a run leaves that ends after two of three units."""
    assert store.begin(JOB, "out", resume=False) == {}
    units = [unit(0, b"x,y\n", b"1,2\n"), unit(1, b"3,4\n")]
    for each, blocks in zip(units, ([b"x,y\n", b"1,2\n"], [b"3,4\n"]), strict=True):
        store.add(each, iter(blocks))
    return units


def test_parts_with_a_record_are_gone_on_with(tmp_path: Path) -> None:
    units = leave(stores(tmp_path))
    assert stores(tmp_path).holds(JOB)
    assert stores(tmp_path).begin(JOB, "out", resume=True) == {each.number: each for each in units}
    folder = tmp_path / "out"
    (folder / "part-0000000.csv").write_text("torn")
    record = folder / ".units" / "0000001.json"
    record.write_text(record.read_text().replace('"rows": 10', '"rows": 11'))
    assert stores(tmp_path).begin(JOB, "out", resume=True) == {}


def test_another_job_is_not_gone_on_with_and_the_same_not_begun_anew(tmp_path: Path) -> None:
    leave(stores(tmp_path))
    with pytest.raises(InputError, match=r"out: the unfinished run belongs to another job; .* received another source"):
        stores(tmp_path).begin(JOB | {"source": "c"}, "out", resume=True)
    with pytest.raises(InputError, match="run of this job has already finished 20 rows; continue with --resume"):
        stores(tmp_path).begin(JOB, "out", resume=False)
    assert len(stores(tmp_path).begin(JOB, "out", resume=True)) == 2  # neither refusal lost a part
    assert stores(tmp_path).begin(JOB | {"source": "c"}, "out", resume=False) == {}
    assert not stores(tmp_path).holds(JOB)
    assert os.listdir(tmp_path / "out") == [".units"]


def test_a_manifest_names_all_parts_and_nothing_else_stays(tmp_path: Path) -> None:
    store = stores(tmp_path)
    units = leave(store)
    (tmp_path / "out" / ".part-0000001.csv.1234.part").write_text("what a killed worker left")
    store.seal(JOB, units, ["a", "b"])
    assert sorted(os.listdir(tmp_path / "out")) == ["manifest.json", "part-0000000.csv", "part-0000001.csv"]
    found = unseal((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert (found["rows"], found["job"], len(found["parts"])) == (20, JOB, 2)
    assert found["parts"][1] == {
        "name": "part-0000001.csv", "source": "b", "rows": 10, "answered": 9, "bytes": 4,
        "sha256": hashlib.sha256(b"3,4\n").hexdigest(),
    }  # fmt: skip
    with pytest.raises(InputError, match="out: the folder contains a finished prediction; choose another --out"):
        stores(tmp_path).refuse_foreign()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    stores(tmp_path).refuse_foreign()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out: the folder is not empty; received notes\.txt; choose another --out"):
        stores(tmp_path).refuse_foreign()


def test_parts_become_one_file(tmp_path: Path) -> None:
    store = stores(tmp_path)
    store.merge(leave(store), tmp_path / "whole")
    assert (tmp_path / "whole").read_text() == "x,y\n1,2\n3,4\n"


def test_a_part_that_is_not_as_it_was_written_is_computed_again(tmp_path: Path) -> None:
    store = stores(tmp_path)
    units = leave(store)
    (tmp_path / "out" / "part-0000001.csv").write_bytes(b"3,5\n")
    with pytest.raises(StorageError, match=r"part-0000001\.csv: a finished part is damaged; continue with .* --resume"):
        store.merge(units, tmp_path / "whole")
    assert stores(tmp_path).begin(JOB, "out", resume=True) == {0: units[0]}


def test_records_are_plain_json(tmp_path: Path) -> None:
    leave(stores(tmp_path))
    record = json.loads((tmp_path / "out" / ".units" / "0000001.json").read_text())
    assert {name: record[name] for name in ("number", "rows", "ends", "empty_lines")} == {
        "number": 1, "rows": 10, "ends": [4], "empty_lines": [3],
    }  # fmt: skip
