"""What a plan will take on this machine: seconds, cache and memory, before anything is loaded.

The arithmetic is `budget.cost`'s. How fast this machine does it is remembered from its trainings of at least
`LEAST_SECONDS`: of shorter ones most is start-up. Device, number format and engine differ by orders of magnitude, so
each combination has its own speed. Where none is known a tenth of a second of NumPy products stands in, and the
estimate says so.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StorageError
from ..recipe.loading import Recipe
from ..storage.json_files import write_json
from ..storage.user_cache import cache_folder
from .cost import cache_bytes, memory, seconds_per_epoch, work
from .plan import Plan

# Of NumPy's fp32 peak, what training in bf16 on the same processor was seen to reach, roughly: a stand-in, not a claim.
GUESSED_SHARE = 0.8
LEAST_SECONDS = 30.0
FORMAT = 2


@dataclass(frozen=True)
class Estimate:
    """Rough by nature; the benchmark prints it beside the truth.

    Attributes:
        seconds_per_epoch: for `texts` texts of `tokens` tokens, once a cached prefix is filled.
        first_epoch_seconds: with the filling.
        cache_bytes: of the prefix cache; 0 where nothing can be cached.
        memory_bytes: most memory held while training, interpreter and libraries aside.
        measured: how this machine computed in the training its speed is from, such as `cpu, bf16, fast encoder`; None
            for a guess.
    """

    texts: int
    tokens: int
    seconds_per_epoch: float
    first_epoch_seconds: float
    cache_bytes: int
    memory_bytes: int
    measured: str | None

    def __str__(self) -> str:
        basis = (
            f"as fast as the last training here on {self.measured}"
            if self.measured
            else f"a guess: no training of {LEAST_SECONDS:.0f} s or more was seen here yet"
        )
        cache = f", {self.cache_bytes / 1e6:,.0f} MB prefix cache" if self.cache_bytes else ""
        return (
            f"about {self.seconds_per_epoch:,.0f} s an epoch of {self.texts:,} texts of {self.tokens} tokens ({basis})"
            f"{cache}, {self.memory_bytes / 1e6:,.0f} MB of memory"
        )


def estimate(config: dict[str, Any], plan: Plan, recipe: Recipe, *, texts: int, tokens: int) -> Estimate:
    """Estimate training `plan` with `recipe` on `texts` texts of `tokens` tokens each."""
    operations = work(config, plan, length=tokens, pooling=recipe.model.pooling)
    cached = recipe.train.prefix_cache != "off" and operations.first_layer > 0
    known = _known(recipe, plan)
    speed = known[1] if known else guessed_speed()
    each = seconds_per_epoch(operations, texts=texts, operations_per_second=speed, cached=cached)
    held = memory(config, plan, batch_size=recipe.train.batch_size, length=tokens, pooling=recipe.model.pooling)
    return Estimate(
        texts=texts,
        tokens=tokens,
        seconds_per_epoch=each,
        first_epoch_seconds=each + (texts * operations.prefix / speed if cached else 0.0),
        cache_bytes=cache_bytes(config, tokens=texts * tokens) if cached else 0,
        memory_bytes=held.total,
        measured=known[0] if known else None,
    )


def remember(operations: float, seconds: float, *, device: str, precision: str, engine: str) -> None:
    """Keep a training's speed for later estimates; a place that cannot be written is fine.

    Args:
        operations: what was computed in `seconds`; a training of less than `LEAST_SECONDS` is left out.
        device, precision, engine: how: `cpu`, `bf16`, `fast`.
    """
    if seconds < LEAST_SECONDS:
        return
    speeds = _speeds()
    speeds.pop((device, precision, engine), None)
    speeds[device, precision, engine] = operations / seconds  # the last is the newest
    try:
        write_json(_file(), {"format": FORMAT, "speeds": [[*how, speed] for how, speed in speeds.items()]})
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


def _known(recipe: Recipe, plan: Plan) -> tuple[str, float] | None:
    """The newest speed that was measured as the recipe will compute, in words and in operations a second."""
    # What the fast encoder does not do; that there are architectures it does not know takes torch to see.
    slow = recipe.model.hidden_dropout or recipe.model.attention_dropout
    slow = slow or (plan.adapter is not None and plan.adapter.bias != "none")
    engine = "reference" if slow else recipe.model.encoder
    wanted = (recipe.train.device, recipe.train.precision, engine)
    for how, speed in reversed(_speeds().items()):
        if all(one in ("auto", other) for one, other in zip(wanted, how, strict=True)):
            device, precision, encoder = how
            return f"{device}, {precision}, {encoder} encoder", speed
    return None


def _speeds() -> dict[tuple[str, str, str], float]:
    """Operations a second by device, precision and engine, oldest first; a file that is none of ours is as none."""
    try:
        kept = json.loads(_file().read_text("utf-8"))
        rows = kept["speeds"] if kept["format"] == FORMAT else []
        found = {(str(row[0]), str(row[1]), str(row[2])): float(row[3]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return {}
    return {how: speed for how, speed in found.items() if 0 < speed < math.inf}


def _file() -> Path:
    return cache_folder() / "speed.json"
