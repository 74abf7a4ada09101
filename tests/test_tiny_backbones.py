"""The tiny backbones are real ones: stock transformers loads them, and they behave like their big relatives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

KINDS = ["bert", "minilm", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet"]
TEXTS = ["The bank cut its rate.", "A striker who scored twice in Galle, again!"]


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_backbone_loads_in_stock_transformers(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tiny_backbone(kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state

    assert batch["input_ids"][:, 0].tolist() == [tokenizer.cls_token_id] * 2
    assert batch["input_ids"][0, -1] == tokenizer.pad_token_id == model.config.pad_token_id
    assert tokenizer.unk_token_id not in batch["input_ids"]
    assert hidden.shape == (2, batch["input_ids"].shape[1], 32)
    assert (hidden[0, 0] - hidden[1, 0]).abs().max() > 0.1, "two texts must not look alike to it"
    assert sorted(file.name for file in folder.glob("*.safetensors")) == ["model.safetensors"]


def test_tiny_backbone_is_made_once_and_takes_config_overrides(tiny_backbone: Callable[..., Path]) -> None:
    assert tiny_backbone("bert") == tiny_backbone("bert")
    short = tiny_backbone("bert", num_hidden_layers=2)
    assert short != tiny_backbone("bert")
    assert json.loads((short / "config.json").read_text())["num_hidden_layers"] == 2


def test_tiny_backbone_has_the_same_weights_and_tokens_when_made_again(tiny_backbone: Callable[..., Path]) -> None:
    first, again = tiny_backbone("roberta"), tiny_backbone("roberta", max_position_embeddings=162)
    assert first != again
    for name in ("model.safetensors", "tokenizer.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_tiny_backbone_refuses_an_unknown_kind(tiny_backbone: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="no tiny backbone of kind 'gpt2': one of bert, "):
        tiny_backbone("gpt2")
