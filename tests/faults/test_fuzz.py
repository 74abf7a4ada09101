"""Whatever a file holds, its reader gives a value or one of our own one-line errors."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pennyweight.artifact.file_contents import parse_arrays, parse_json, parse_tensors, parse_yaml
from pennyweight.artifact.saved_files import read_files
from pennyweight.data.labels import LabelSet
from pennyweight.data.sources import read
from pennyweight.errors import ArtifactError, DataError, RecipeError
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.schema import SECTIONS
from pennyweight.train import checkpoint

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
VALUES = st.recursive(
    LEAVES, lambda held: st.lists(held, max_size=4) | st.dictionaries(st.text(max_size=8), held, max_size=4)
)
HEADS = [b"text,label\n", b"PAR1", b"ARROW1", b"\x80\x04", b"[", b"\x1f\x8b"]
KEYS = st.sampled_from(sorted({key for section in SECTIONS.values() for key in section.model_fields}))


def one_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert str(error)


@quick
@given(st.dictionaries(st.sampled_from([*SECTIONS, "name", "x"]), st.dictionaries(KEYS, VALUES, max_size=5) | VALUES))
def test_recipes(values: dict[str, Any]) -> None:
    try:
        made = recipe.parse(values)
    except RecipeError as error:
        one_line(error)
    else:
        assert recipe.parse(made.model_dump()) == made


@quick
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda content: content.decode("latin-1")))
def test_recipe_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        recipe.load(tmp_path / "r.yaml")
    except RecipeError as error:
        one_line(error)


@quick
@given(VALUES)
def test_label_sets(value: Any) -> None:
    try:
        assert LabelSet.from_json(value).to_json() == {"names": value["names"]}
    except DataError as error:
        one_line(error)


@quick
@given(
    st.sampled_from(["csv", "tsv", "jsonl", "json", "pkl", "parquet", "arrow", "jsonl.gz"]),
    st.binary(max_size=200)
    | st.tuples(st.sampled_from(HEADS), st.binary(max_size=200)).map(b"".join)
    | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_data_files(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"data.{ending}"
    path.write_bytes(content)
    try:
        table = read(path, labelled=None)
    except DataError as error:
        one_line(error)
    else:
        assert all(isinstance(text, str) for text in table.texts)


@quick
@given(st.binary(max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_artifact_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    for reader in (parse_json, parse_yaml, parse_tensors, parse_arrays):
        try:
            reader(content, path)
        except ArtifactError as error:
            one_line(error)
    for folder in (tmp_path / "checkpoints" / "step-1", tmp_path / "classifier"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ("manifest.json" if folder.name == "step-1" else "pennyweight.json")).write_bytes(content)
    assert checkpoint.latest(tmp_path / "checkpoints") is None
    with pytest.raises(ArtifactError):
        read_files(tmp_path / "classifier")


@pytest.mark.faults
def test_coverage_guided(tmp_path: Path, figure: Callable[[str], None]) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install atheris")
    seconds = 60
    root = Path(__file__).parents[2]
    options = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "faults" / "fuzz_readers.py"), *options],
        env=os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=10 * seconds,
    )
    ran = re.findall(r"Done (\d+) runs", done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    figure(f"coverage-guided fuzzing of the readers for {seconds} s: {int(ran[0]):,} inputs, 0 tracebacks")
