from __future__ import annotations

import json
from pathlib import Path

import pytest

from pennyweight.budget.backbone_config import EMBEDDED, full_id, known_names, load_config
from pennyweight.errors import BackboneError


@pytest.mark.parametrize("name", ["roberta-base", "FacebookAI/roberta-base", "facebookai/ROBERTA-base"])
def test_short_and_full_ids_mean_the_same(name: str) -> None:
    assert load_config(name)["vocab_size"] == 50265
    assert full_id(name) == "FacebookAI/roberta-base"


def test_embedded_is_minilm() -> None:
    assert load_config("embedded") == load_config("all-MiniLM-L6-v2") == load_config(EMBEDDED)
    assert load_config("embedded")["hidden_size"] == 384


def test_a_config_can_be_changed_without_changing_the_facts() -> None:
    load_config("deberta-v3-base")["pos_att_type"].append("other")
    assert load_config("deberta-v3-base")["pos_att_type"] == ["p2c", "c2p"]


def test_the_checkpoints_that_must_be_known() -> None:
    needed = """roberta-base roberta-large distilroberta-base bert-base-uncased bert-base-cased bert-large-uncased
        bert-large-cased bert-base-multilingual-cased distilbert-base-uncased distilbert-base-cased xlm-roberta-base
        xlm-roberta-large deberta-v3-xsmall deberta-v3-small deberta-v3-base deberta-v3-large deberta-v2-xlarge
        ModernBERT-base ModernBERT-large electra-small-discriminator electra-base-discriminator
        electra-large-discriminator all-MiniLM-L6-v2 all-MiniLM-L12-v2 e5-small-v2 e5-base-v2 multilingual-e5-small
        multilingual-e5-base bge-small-en-v1.5 bge-base-en-v1.5 bge-large-en-v1.5 mpnet-base all-mpnet-base-v2"""
    assert set(needed.split()) == set(known_names())


def test_a_folder_wins_over_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "roberta-base"
    folder.mkdir()
    config = {**load_config("roberta-base"), "vocab_size": 7}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_config(folder) == config
    monkeypatch.chdir(tmp_path)
    assert load_config("roberta-base") == config


def test_an_unknown_name_says_what_is_known_and_what_to_do() -> None:
    with pytest.raises(BackboneError) as error:
        load_config("acme/secret-bert")
    assert str(error.value) == (
        "unknown backbone; expected embedded, a folder with a config.json, or one of "
        + ", ".join(known_names())
        + "; received 'acme/secret-bert'; download it once on a machine with network access and give the folder"
    )


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(BackboneError) as error:
        load_config(tmp_path)
    assert (
        str(error.value) == f"{tmp_path}: the folder has no config.json; give the folder in which a backbone was saved"
    )


def test_a_config_that_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BackboneError) as error:
        load_config(tmp_path)
    assert str(error.value) == (
        f"{path}: the config cannot be read (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1))"
    )


def test_a_config_that_is_not_an_object(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(BackboneError) as error:
        load_config(tmp_path)
    assert str(error.value) == f"{path}: the config cannot be used; expected a JSON object; received list"


def test_a_config_that_lacks_a_field_names_the_file_and_the_field(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "bert", "hidden_size": 8}), encoding="utf-8")
    with pytest.raises(BackboneError) as error:
        load_config(tmp_path)
    assert str(error.value) == (
        f"{path}: config -> num_hidden_layers: the backbone's config lacks a required field; "
        "expected a positive whole number"
    )
