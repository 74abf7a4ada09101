from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from pennyweight.errors import InputError
from pennyweight.recipe.loading import load
from pennyweight.scale.tenants import read_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two data files."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\nA good day,x\nA bad night,y\n", "utf-8")
    return tmp_path


def manifest(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text, "utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    path = manifest(folder, text)
    with pytest.raises(InputError) as caught:
        read_manifest(path, load("default"))
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_rows_are_recipes_with_the_row_over_the_base(folder: Path) -> None:
    path = manifest(folder, "name,data,budget,Learning-Rate\nfirst,a.csv,5k,\nsecond,b.csv,,2e-4\n")
    first, second = read_manifest(path, load("default", budget="20k", epochs=7))
    assert (first.name, first.where, first.recipe.plan.budget) == ("first", f"{path}:2", "5k")
    assert (second.recipe.plan.budget, second.recipe.train.learning_rate) == ("20k", 2e-4)
    assert first.recipe.train.learning_rate == load("default").train.learning_rate
    assert first.recipe.train.epochs == second.recipe.train.epochs == 7


def test_paths_start_at_the_manifest_and_not_at_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    path = manifest(folder, f"name,data,test\nfirst,a.csv,b.csv\nsecond,{folder / 'b.csv'},\n")
    first, second = read_manifest(path, load("default"))
    assert (first.recipe.data.train, first.recipe.data.test) == (str(folder / "a.csv"), str(folder / "b.csv"))
    assert (second.recipe.data.train, second.recipe.data.test) == (str(folder / "b.csv"), None)


def test_one_row_is_a_manifest_too(folder: Path) -> None:
    path = folder / "manifest.jsonl"
    path.write_text('{"name": "x", "data": "a.csv"}\n', "utf-8")
    assert [tenant.name for tenant in read_manifest(path, load("default"))] == ["x"]
    assert [tenant.name for tenant in read_manifest(manifest(folder, "name,data\ny,b.csv\n"), load("default"))] == ["y"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_other_tables_are_manifests_too(folder: Path, form: str) -> None:
    rows = [{"name": 17, "data": "a.csv", "epochs": 2}, {"name": 18, "data": "b.csv", "epochs": None}]
    path = folder / f"manifest.{form}"
    if form == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tenants = read_manifest(path, load("default"))
    assert [tenant.name for tenant in tenants] == ["17", "18"]
    assert [tenant.recipe.train.epochs for tenant in tenants] == [2, "auto"]


KNOWN = "expected the columns name and data, and optionally recipe fields (see docs/recipes.md)"
FOLDER = "cannot be a folder name; expected no slash, no leading dot, and no control character"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,data,budgt\nx,a.csv,5k\n", f": unknown column budgt, did you mean budget?; {KNOWN}"),
        ("name,budget\nx,5k\n", f": no column data; {KNOWN}"),
        ("name,data,train\nx,a.csv,b.csv\n",
         f": unknown column train, the texts are named by the column data; {KNOWN}"),
        ("name,data\nx,c.csv\ny,a.csv\n", ":2: data: no such file: c.csv; nothing was trained"),
        ("name,data\nx,\ny,a.csv\n", ":2: no data; nothing was trained"),
        ("name,data\nx,a.csv\n,a.csv\n", ":3: no name; nothing was trained"),
        ("name,data\nx,a.csv\ny,a.csv\nx,b.csv\n",
         ":4: the name x already occurs at manifest.csv:2; nothing was trained"),
        ("name,data\nx,a.csv\nX,b.csv\n",
         ":3: the name X already occurs at manifest.csv:2, some file systems ignore case; nothing was trained"),
        ("name,data\n../x,a.csv\ny,a.csv\n", f":2: the name '../x' {FOLDER}; nothing was trained"),
        ("name,data\nsummary.csv,a.csv\ny,a.csv\n", f":2: the name 'summary.csv' {FOLDER}; nothing was trained"),
        ("name,data,epochs\nx,a.csv,many\ny,a.csv,3\n",
         ":2: train -> epochs: expected auto or at least 1, received many; nothing was trained"),
        ("name,data,epochs\nx,c.csv,0\ny,a.csv,3\nx,a.csv,3\n",
         ": 2 rows of the manifest cannot be used: manifest.csv:2: data: no such file: c.csv; train -> epochs: "
         "expected auto or at least 1, received 0 | manifest.csv:4: the name x already occurs at manifest.csv:2; "
         "nothing was trained"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, message: str) -> None:
    assert refusal(folder, text) == f"manifest.csv{message}"


def test_a_name_that_no_file_system_takes_is_refused(folder: Path) -> None:
    assert "the name is longer than 200 bytes" in refusal(folder, f"name,data\n{'ä' * 101},a.csv\ny,a.csv\n")


def test_a_list_is_one_as_in_a_recipe(folder: Path) -> None:
    path = folder / "manifest.jsonl"
    rows = [{"name": name, "data": "a.csv", "target_modules": ["query", "value"]} for name in "xy"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for tenant in read_manifest(path, load("default")):
        assert (tenant.recipe.plan.target_modules, tenant.recipe.plan.strategy) == (["query", "value"], "manual")
