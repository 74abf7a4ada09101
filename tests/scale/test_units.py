"""Rows of several files are dealt into units in their order."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pennyweight.errors import DataError
from pennyweight.scale.file_systems import find_files
from pennyweight.scale.units import Unit, plan_units


def test_parquet_is_dealt_by_row_ranges_and_other_files_whole(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"] * 40}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "2.parquet")
    (tmp_path / "3.csv").write_text("text\na\n")
    files = find_files(str(tmp_path))
    units = plan_units(files, 16)
    assert units == (Unit(0, 0, 0, 16), Unit(1, 0, 16, 16), Unit(2, 0, 32, 8), Unit(3, 2, 0, None))
    assert units[1].named(files) == f"{tmp_path / '1.parquet'} rows 17 to 32"
    assert units[3].named(files) == str(tmp_path / "3.csv")


def test_no_rows_and_damage_are_said(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(DataError, match=r"1\.parquet: there are no rows"):
        plan_units(find_files(str(path)), 16)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"1\.parquet: cannot be read as Parquet"):
        plan_units(find_files(str(path)), 16)
