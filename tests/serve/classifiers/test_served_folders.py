"""Which names of folders are served, and how requests spell them."""

from __future__ import annotations

import logging
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pennyweight.errors import InputError
from pennyweight.serve.classifiers.open_registry import open_registry

from ...server_process import ServerProcess, save_random

COMPOSED = "café"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
# Folders' names; all are served, by the name as it stands here or, of the second, composed.
NAMES = ["Case", "case", DECOMPOSED, "two words", " edge ", "a%20b", "a+b", "50%", "v1.2", "a..", "x?y#z&w", "n" * 200]
HIDDEN = ".hidden"
INVALID = ["n" * 201, "line\nbreak"]


@pytest.fixture(scope="module")
def folder(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = save_random(tiny_backbone("bert"), tmp_path_factory.mktemp("one") / "one")
    served = tmp_path_factory.mktemp("served")
    for name in [*NAMES, HIDDEN, *INVALID]:
        shutil.copytree(made, served / name)
    if len(list(served.iterdir())) < len(NAMES) + 1 + len(INVALID):
        pytest.skip("this file system takes names for one that differ in case alone")
    return served


@pytest.fixture(scope="module")
def named(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(folder, "--allow-admin", log=tmp_path_factory.mktemp("log") / "log") as running:
        yield running


def test_the_names_of_the_folders_are_served_composed(named: ServerProcess) -> None:
    listed = named.get("/v1/classifiers").json["classifiers"]
    assert {one["name"] for one in listed} == {*NAMES, COMPOSED} - {DECOMPOSED}


@pytest.mark.parametrize("name", [*NAMES, COMPOSED])
def test_every_route_takes_a_name_escaped_once_and_composed_or_not(named: ServerProcess, name: str) -> None:
    expected, escaped = COMPOSED if name == DECOMPOSED else name, quote(name, safe="")
    path, body = f"/v1/classifiers/{escaped}", {"texts": ["a bank"]}
    answers = [
        named.get(path).json["name"],
        named.post(f"{path}/predict", body).json["classifier"],
        named.post(f"{path}/explain", {"text": "a bank"}).json["classifier"],
        named.post("/v1/predict", body | {"classifiers": [name]}).json["results"][0]["classifier"],
        named.get(f"/info?model={escaped}").json["model_id"],
        named.post(f"{path}/reload", {}).json["name"],
        named.post(f"{path}/unload", {}).json["name"],
        named.post(f"{path}/load", {}).json["name"],  # found in the folder again
    ]
    assert answers == [expected] * len(answers)
    once = named.post(f"/predict?model={quote(expected, safe='')}", {"inputs": "a bank", "model": name})
    assert once.status == 200


@pytest.mark.parametrize(
    "name", ["CASE", "two%20words", "a b", "edge", "v1.2.", "cafe", "n" * 199, "...", HIDDEN, *INVALID]
)
def test_other_names_are_unknown(named: ServerProcess, name: str) -> None:
    for route in ("predict", "load"):
        answer = named.post(f"/v1/classifiers/{quote(name, safe='')}/{route}", {"texts": ["a bank"]})
        assert (answer.status, answer.json["error_type"]) == (404, "unknown_classifier")


def test_a_name_twice_is_refused_however_it_is_written(named: ServerProcess) -> None:
    answer = named.post("/v1/predict", {"classifiers": [COMPOSED, DECOMPOSED], "texts": ["a bank"]})
    assert (answer.status, answer.json["error"].partition(";")[0]) == (422, "classifiers: a name is repeated")


def test_folders_that_are_not_served_are_named_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pennyweight.serve"):
        open_registry([str(folder)], threads=1)
    warned = [record.getMessage() for record in caplog.records if "not served" in record.getMessage()]
    assert len(warned) == len(INVALID)
    for name in INVALID:
        assert any(repr(name) in line for line in warned)


def test_two_folders_whose_names_differ_in_nothing_but_their_form_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "case", tmp_path / COMPOSED)
    with pytest.raises(InputError, match="two classifiers are named 'café'"):
        open_registry([str(folder), str(tmp_path)], threads=1)


def test_a_hidden_folder_is_served_if_it_is_named_itself(folder: Path) -> None:
    assert open_registry([str(folder / HIDDEN)], threads=1).names() == (HIDDEN,)
    assert open_registry([f"{DECOMPOSED}={folder / HIDDEN}"], threads=1).names() == (COMPOSED,)
