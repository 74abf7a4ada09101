"""What a plan will take on this machine: seconds, cache and memory, before anything is loaded.

The arithmetic is `budget.cost`'s. How fast this machine does it is remembered from its last training; on a machine that
has never trained, a tenth of a second of NumPy products stands in, and the estimate says so.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .budget.cost import cache_bytes, memory, seconds_per_epoch, work
from .budget.plan import Plan
from .errors import StorageError
from .files import cache_folder, write_json
from .recipe import Recipe

# Of NumPy's fp32 peak, what training in bf16 on the same processor was seen to reach, roughly: a stand-in, not a claim.
GUESSED_SHARE = 0.8


@dataclass(frozen=True)
class Estimate:
    """Rough by nature; the benchmark prints it beside the truth.

    Attributes:
        seconds_per_epoch: for `texts` texts of `tokens` tokens, once a cached prefix is filled.
        first_epoch_seconds: with the filling.
        cache_bytes: of the prefix cache; 0 where nothing can be cached.
        memory_bytes: most memory held while training, interpreter and libraries aside.
        measured: whether this machine's speed was measured in a training.
    """

    texts: int
    tokens: int
    seconds_per_epoch: float
    first_epoch_seconds: float
    cache_bytes: int
    memory_bytes: int
    measured: bool

    def __str__(self) -> str:
        basis = "as fast as the last training here" if self.measured else "a guess: nothing was trained here yet"
        cache = f", {self.cache_bytes / 1e6:,.0f} MB prefix cache" if self.cache_bytes else ""
        return (
            f"about {self.seconds_per_epoch:,.0f} s an epoch of {self.texts:,} texts of {self.tokens} tokens ({basis})"
            f"{cache}, {self.memory_bytes / 1e6:,.0f} MB of memory"
        )


def estimate(config: dict[str, Any], plan: Plan, recipe: Recipe, *, texts: int, tokens: int) -> Estimate:
    """Estimate training `plan` with `recipe` on `texts` texts of `tokens` tokens each."""
    operations = work(config, plan, length=tokens, pooling=recipe.model.pooling)
    cached = recipe.train.prefix_cache != "off" and operations.first_layer > 0
    remembered = _remembered()
    speed = remembered or guessed_speed()
    each = seconds_per_epoch(operations, texts=texts, operations_per_second=speed, cached=cached)
    held = memory(config, plan, batch_size=recipe.train.batch_size, length=tokens, pooling=recipe.model.pooling)
    return Estimate(
        texts=texts,
        tokens=tokens,
        seconds_per_epoch=each,
        first_epoch_seconds=each + (texts * operations.prefix / speed if cached else 0.0),
        cache_bytes=cache_bytes(config, tokens=texts * tokens) if cached else 0,
        memory_bytes=held.total,
        measured=remembered is not None,
    )


def remember(operations: float, seconds: float) -> None:
    """Keep a training's speed, in operations a second, for later estimates; a place that cannot be written is fine."""
    if seconds < 1.0:
        return  # too short to mean anything
    try:
        write_json(_file(), {"operations_per_second": operations / seconds})
    except StorageError:
        return


def guessed_speed() -> float:
    """Operations a second, from a few NumPy products."""
    import numpy as np

    left = np.ones((512, 512), dtype=np.float32)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - began)
    return float(GUESSED_SHARE * 2 * 512**3 / min(times))


def _remembered() -> float | None:
    try:
        value = float(json.loads(_file().read_text("utf-8"))["operations_per_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if value > 0 else None


def _file() -> Path:
    return cache_folder() / "speed.json"
