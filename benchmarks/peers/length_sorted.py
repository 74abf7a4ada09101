"""What every batching peer does for its best speed: all texts tokenized at once, sorted by length, padded by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

BATCH_SIZES = (8, 16, 32)  # those tried
Feed = dict[str, np.ndarray]


def load_tokenizer(folder: str | Path, max_length: int) -> Tokenizer:
    """The tokenizer of a transformers folder, without transformers: texts cut at `max_length` tokens, none padded."""
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer


def feed(rows: Sequence[Any], names: Sequence[str]) -> Feed:
    """Inputs of a batch of encodings, each (N, widest), padded with 0, which is the padding id of all benchmarks."""
    widest = max(len(row.ids) for row in rows)
    inputs = {name: np.zeros((len(rows), widest), dtype=np.int64) for name in names}
    for at, row in enumerate(rows):
        inputs["input_ids"][at, : len(row.ids)] = row.ids
        inputs["attention_mask"][at, : len(row.ids)] = 1
    return inputs  # token types are all 0


def batches(
    tokenizer: Tokenizer, texts: Sequence[str], batch_size: int, names: Sequence[str]
) -> Iterator[tuple[np.ndarray, Feed]]:
    """Row numbers and inputs of each batch, longest texts first."""
    rows = tokenizer.encode_batch_fast(list(texts))
    order = np.argsort([-len(row.ids) for row in rows], kind="stable")
    for at in range(0, len(order), batch_size):
        chosen = order[at : at + batch_size]
        yield chosen, feed([rows[row] for row in chosen], names)


def fastest(candidates: Sequence[dict[str, Any]], label: Callable[..., Any], texts: Sequence[str]) -> dict[str, Any]:
    """The settings with which `label(texts, **settings)` takes the least time, the second of two tries."""
    seconds = []
    for settings in candidates:
        label(texts, **settings)
        began = time.perf_counter()
        label(texts, **settings)
        seconds.append(time.perf_counter() - began)
    return candidates[int(np.argmin(seconds))]


def in_order(parts: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """(N,) class numbers from the rows and logits of each batch."""
    classes = np.empty(count, dtype=np.int64)
    for rows, logits in parts:
        classes[rows] = logits.argmax(1)
    return classes
