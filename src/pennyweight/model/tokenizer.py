"""The backbone's tokenizer: loaded from a folder, checked against the backbone's positions, run over texts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..budget.architecture import describe
from ..data.batching import Encoded, Windows, pack
from ..data.table import parts_of
from ..errors import BackboneError, RecipeError
from .long_texts import LongTexts, sequences_of

TRUNCATION = {"stride": 0, "strategy": "longest_first", "direction": "right"}
# Any of these holds a vocabulary.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "sentencepiece.bpe.model", "tokenizer.model")


@dataclass(frozen=True)
class FastTokenizer:
    """The parts of a tokenizer that prediction needs, under transformers' names.

    Attributes:
        backend_tokenizer: the `tokenizers.Tokenizer` that a fast tokenizer of transformers wraps.
        pad_token_id: the padding id.
    """

    backend_tokenizer: Any
    pad_token_id: int

    @classmethod
    def of(cls, tokenizer: Any) -> FastTokenizer:
        """The same parts of a transformers tokenizer."""
        return cls(tokenizer.backend_tokenizer, tokenizer.pad_token_id)


def fast_tokenizer(files: Mapping[str, bytes]) -> FastTokenizer | None:
    """A saved tokenizer, without transformers, which takes seconds to import.

    `tokenizer.json` is all that transformers' tokenizer computed with when it was saved.

    Args:
        files: those that transformers saves, by name; `tokenizer.json` among them.

    Returns:
        None if the files do not name a padding token of the vocabulary.
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_buffer(files["tokenizer.json"])
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = json.loads(files[name]).get("pad_token") if name in files else None
        token = token.get("content") if isinstance(token, dict) else token
        pad_id = backend.token_to_id(token) if isinstance(token, str) else None
        if pad_id is not None:
            return FastTokenizer(backend, pad_id)
    return None


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer in a folder.

    Raises:
        BackboneError: when there is none.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in VOCABULARIES):
        # transformers would make an empty tokenizer of the right class, to which every word is unknown.
        raise BackboneError(
            "no tokenizer", where=folder, expected="tokenizer.json", remedy="copy it next to config.json"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackboneError(
            "no usable tokenizer", where=folder, expected="tokenizer.json", received=str(error)
        ) from error
    if tokenizer.pad_token_id is None:
        raise BackboneError("the tokenizer has no padding token", where=folder)
    return tokenizer


def longest_input(config: dict[str, Any]) -> int:
    """The most tokens that the backbone has positions for."""
    return int(config.get("max_position_embeddings", 512)) - describe(config).reserved_positions


def check_max_length(max_length: int, config: dict[str, Any]) -> None:
    """Refuse to keep more tokens than the backbone has positions for.

    Raises:
        RecipeError: naming the most that is possible.
    """
    most = longest_input(config)
    if max_length > most:
        raise RecipeError(
            "more tokens than the backbone has positions for",
            where="data -> max_length",
            expected=f"at most {most}",
            received=max_length,
        )


@cache
def _spare_forked_processes() -> None:
    """Have processes that are forked from now on tokenize in their own thread.

    They lack the threads that tokenize in this one, and would wait for them forever. The library sees to that only
    where `TOKENIZERS_PARALLELISM` is not set.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))


def encode(
    tokenizer: Any, texts: list[str], max_length: int, *, pair: bool = False, long_texts: LongTexts = "truncate"
) -> Encoded:
    """Tokenize once, in parallel, in sequences of at most `max_length` tokens, without padding.

    Args:
        tokenizer: transformers' own fast one, or a `FastTokenizer`.
        pair: the texts are pairs, joined by `PAIR`; of the two the longer loses tokens first, as in transformers.
        long_texts: what becomes of a text that is longer, see `model.long_texts`; pairs are truncated.

    Returns:
        N ragged rows of token ids, of pairs with their segments; `truncated` counts the texts that lost tokens, and
        `lost` says how many.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    _spare_forked_processes()
    backend = tokenizer.backend_tokenizer
    # Switched only where it has to be: a switch waits until no other thread is using the tokenizer.
    if backend.padding is not None:
        backend.no_padding()
    if (backend.truncation or {}) != {"max_length": max_length, **TRUNCATION}:
        backend.enable_truncation(max_length, **TRUNCATION)
    # Blocks keep the Rust side's Encoding objects (offsets, masks) from piling up over a large file.
    rows: list[list[int]] = []
    types: list[list[int]] = []
    lost: list[int] = []
    windows: list[list[int]] = []
    truncated = 0
    for start in range(0, len(texts), 4096):
        block: list[Any] = list(texts[start : start + 4096])
        for encoding in backend.encode_batch_fast([parts_of(text) for text in block] if pair else block):
            if pair:
                rows.append(encoding.ids)
                types.append(encoding.type_ids)
                truncated += bool(encoding.overflowing)
                continue
            found, gone = sequences_of(encoding, long_texts)
            rows.append(found[0] if len(found) == 1 else list(chain.from_iterable(found)))
            windows.append([len(each) for each in found])
            lost.append(gone)
            truncated += gone > 0
    return replace(
        pack(rows, type_ids=types if pair else None, truncated=truncated),
        lost=np.array(lost, dtype=np.int64) if any(lost) else None,
        windows=Windows.of_lengths(windows) if long_texts == "windows" and not pair else None,
    )
