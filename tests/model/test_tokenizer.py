"""Saved tokenizers read without transformers: the same ids as transformers' own tokenizer gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pennyweight.data.table import PAIR
from pennyweight.model.tokenizer import FastTokenizer, encode, fast_tokenizer, load_tokenizer

from ..tiny_backbones import BACKBONES, SENTENCES

TEXTS = [*SENTENCES, "", " A  Mixed-CASE text, caf\u00e9 \u4e2d\u6587 \u0130 [SEP] <s> \U0001f600\n", "word " * 100]


def saved(tokenizer: object, folder: Path) -> dict[str, bytes]:
    tokenizer.save_pretrained(folder)  # type: ignore[attr-defined]
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_same_ids(kind: str, tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    ours = load_tokenizer(tiny_backbone(kind))
    found = fast_tokenizer(saved(ours, tmp_path))
    assert found is not None
    assert found.pad_token_id == ours.pad_token_id
    for pair, texts in ((False, TEXTS), (True, [PAIR.join((text, TEXTS[0])) for text in TEXTS])):
        mine, theirs = (encode(tokenizer, texts, 24, pair=pair) for tokenizer in (found, ours))
        assert mine.ids.tolist() == theirs.ids.tolist()
        assert mine.offsets.tolist() == theirs.offsets.tolist()
        assert mine.truncated == theirs.truncated > 0
        assert (mine.type_ids is None) == (theirs.type_ids is None) == (not pair)
        if mine.type_ids is not None and theirs.type_ids is not None:
            assert mine.type_ids.tolist() == theirs.type_ids.tolist()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ({"pad_token": "[PAD]"}, 0),
        ({"pad_token": {"content": "[PAD]", "lstrip": False}}, 0),
        ({}, None),
        ({"pad_token": None}, None),
        ({"pad_token": "<nowhere>"}, None),
    ],
)
def test_where_the_padding_token_is_named(
    written: dict[str, object], found: int | None, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    files = saved(load_tokenizer(tiny_backbone("bert")), tmp_path)
    config = json.loads(files["tokenizer_config.json"])
    config.pop("pad_token")
    bare = {"tokenizer.json": files["tokenizer.json"]}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        read = fast_tokenizer(bare | {name: json.dumps(config | written).encode()})
        assert (read.pad_token_id if isinstance(read, FastTokenizer) else None) == found
