"""Whole columns become the text that rows become one by one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.predict.formula_guard import formula_guard, guard_nothing
from pennyweight.predict.output_blocks import arrow_block, csv_lines, json_lines, write_parquet
from pennyweight.predict.prediction_rows import rows_of
from pennyweight.predict.writers import write_file, write_lines

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(),
    st.text(alphabet='ab=+-@"\'|,;%\n\r\t {}[]\u00e9\ud800', max_size=6),
    st.lists(st.sampled_from(["a", "b|c", "=d"]), max_size=3),
    st.dictionaries(st.sampled_from(["x", "y"]), st.floats(), max_size=2),
)  # fmt: skip
KINDS = st.sampled_from([st.text(alphabet='a=,"\n', max_size=4), st.floats(), st.integers(), CELLS])


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, list[Any]]:
    rows = draw(st.integers(1, 4))
    names = draw(st.lists(st.sampled_from(["text", "id", "=x", "100%", "%s", 'q"', "label"]), min_size=1, unique=True))
    return {name: draw(st.lists(draw(KINDS), min_size=rows, max_size=rows)) for name in names}


@given(block=blocks(), guarded=st.booleans())
def test_a_block_is_written_as_its_rows_are(block: dict[str, list[Any]], guarded: bool) -> None:
    guard = formula_guard(["text"]) if guarded else guard_nothing
    for form, found in (
        ("csv", csv_lines(block, header=True, guard=guard)),
        ("jsonl", json_lines(block)),
    ):
        handle = io.StringIO(newline="")
        write_lines(rows_of(block), handle, form, guard=guard)
        assert found == handle.getvalue()


def test_the_header_comes_once() -> None:
    block = {"id": [1, 2], "text": ["a", "b"]}
    assert csv_lines(block, header=True) + csv_lines(block, header=False) == "id,text\n1,a\n2,b\n1,a\n2,b\n"


@pytest.mark.parametrize(
    ("early", "late", "kind"), [(None, 3, "int64"), (2, 0.5, "double"), (["a"], "b", "string"), (None, None, "string")]
)
def test_parts_become_one_parquet_file(early: Any, late: Any, kind: str, tmp_path: Path) -> None:
    parts = [arrow_block({"n": [1, 2], "x": [early, early]}, {}), arrow_block({"n": [3], "x": [late]}, {})]
    write_parquet(lambda: iter(parts), tmp_path / "out.parquet")
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert (file.num_row_groups, str(file.schema_arrow.field("x").type)) == (2, kind)
    assert file.read()["n"].to_pylist() == [1, 2, 3]


def test_no_rows_are_a_valid_parquet_file(tmp_path: Path) -> None:
    assert write_file([], tmp_path / "out.parquet") == 0
    assert pq.read_table(tmp_path / "out.parquet").shape == (0, 0)
