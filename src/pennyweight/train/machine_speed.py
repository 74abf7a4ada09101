"""How fast this machine trains: remembered from its last training runs, or a guess.

Only trainings of at least `LEAST_SECONDS` are remembered: of shorter ones most is start-up. Device, number format and
engine differ by orders of magnitude, so each combination has its own speed. Where none is known a tenth of a second of
NumPy products stands in, and the estimate says so.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..budget.architecture import describe
from ..budget.cost import NARROWEST_INT8, Pooling, number_bytes, work
from ..budget.estimate import LEAST_SECONDS, Estimate, Speed, Workload, estimate
from ..budget.families import FAST_FAMILIES
from ..budget.plan import Plan
from ..errors import StorageError
from ..recipe.schema import Recipe, TrainRecipe
from ..storage.json_files import write_json
from ..storage.user_cache import cache_folder
from ..system.processor import processor_fact

if TYPE_CHECKING:  # which needs torch, and an estimate does not
    from .state import FitResult

# Of NumPy's fp32 peak, what training in bf16 on the same processor was seen to reach, roughly: a stand-in, not a claim.
GUESSED_SHARE = 0.8
FORMAT = 2
_BF16_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last as ARM's processors call it
_INT8_UNITS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

How = tuple[str, str, str]  # device (a GPU with its name), precision and engine, such as cpu, bf16, fast


def estimate_training(recipe: Recipe, config: Mapping[str, Any], plan: Plan, *, texts: int, tokens: int) -> Estimate:
    """Estimate what training a plan takes on this machine.

    Args:
        config: fields of the backbone's `config.json`.
        texts: training texts.
        tokens: their mean length.
    """
    train, wanted = recipe.train, _engine(recipe, config, plan)
    known = _known(train, wanted)
    how, rate = known or ((train.device, _guessed_format(train, config, wanted), wanted), guessed_speed())
    device, precision, engine = how
    workload = Workload(
        texts=texts,
        tokens=tokens,
        batch_size=train.batch_size,
        pooling=recipe.model.pooling,
        caches_prefix=train.prefix_cache != "off",
        bytes_per_number=number_bytes(engine, precision),
        gradient_checkpointing={"on": True, "off": False}.get(train.gradient_checkpointing),
        cpu=device.partition(":")[0] not in ("cuda", "mps"),
        quantization="int8" if precision == "int8" else "nf4" if train.quantization == "nf4" else "none",
    )
    measured = f"{', '.join(how)} encoder" if known else None
    return estimate(config, plan, workload, Speed(rate, measured))


def remember_speed(operations: float, seconds: float, *, device: str, precision: str, engine: str) -> None:
    """Keep a training's speed for later estimates; a place that cannot be written is fine.

    Args:
        operations: what was computed in `seconds`; a training of less than `LEAST_SECONDS` is left out.
        device, precision, engine: how: `cpu`, `bf16`, `fast`; the precision is `int8` where products were in it.
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


def remember_training(
    plan: Plan, config: Mapping[str, Any], result: FitResult, length: int, *, pooling: Pooling, cached: bool, how: How,
    processes: int = 1,
) -> None:  # fmt: skip
    """Keep the speed of a finished training; one of a head alone is too little work to tell.

    Args:
        config: fields of the backbone's `config.json`.
        length: mean tokens of its texts.
        cached: whether the frozen layers were computed once.
        how: device, precision and engine.
        processes: processes that trained together; the speed of several says nothing of one.
    """
    if plan.adapter is None or processes > 1:
        return
    counted = work(config, plan, length=length, pooling=pooling)
    operations = counted.per_text(cached=cached, recomputed=result.gradient_checkpointing)
    device, precision, engine = how
    remember_speed(operations * result.texts, result.seconds, device=device, precision=precision, engine=engine)


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


def _guessed_format(train: TrainRecipe, config: Mapping[str, Any], engine: str) -> str:
    """What `auto` probably is on this machine, told without torch: in training it is measured.

    See `model.device.choose` and `model.quantization.choose_quantization`.
    """
    gpu = train.device in ("cuda", "mps") or (train.device == "auto" and Path("/dev/nvidia0").exists())
    precision = train.precision
    if precision == "auto":
        if gpu:
            return "fp32" if train.device == "mps" else "auto"  # bf16 or fp16
        precision = "bf16" if _BF16_UNITS & processor_flags() else "fp32"
    if precision != "fp32" or gpu or engine == "reference" or train.quantization in ("none", "nf4"):
        return precision
    useful = describe(config).hidden >= NARROWEST_INT8 and _INT8_UNITS & processor_flags()
    return "int8" if train.quantization == "int8" or useful else precision


def processor_flags() -> frozenset[str]:
    """What the processor can do, in Linux's words; empty elsewhere."""
    return frozenset((processor_fact("flags", "Features") or "").split())


def _engine(recipe: Recipe, config: Mapping[str, Any], plan: Plan) -> str:
    """`reference` where there is no fast encoder or it lacks an option, else the recipe's own, which may be `auto`.

    Told without torch, which `model.encoders.choose_engine` takes.
    """
    slow = config["model_type"] not in FAST_FAMILIES or recipe.model.hidden_dropout or recipe.model.attention_dropout
    slow = slow or (plan.adapter is not None and plan.adapter.bias != "none")
    return "reference" if slow else recipe.model.encoder


def _known(train: TrainRecipe, engine: str) -> tuple[How, float] | None:
    """The newest speed that was measured as is wanted, where `auto` is any, and how it was measured."""
    for how, speed in reversed(_speeds().items()):
        kinds = ("auto", how[0].partition(":")[0])  # which card it will be is not known without torch
        if train.device in kinds and _is_wanted(how[1], train) and engine in ("auto", how[2]):
            return how, speed
    return None


def _is_wanted(precision: str, train: TrainRecipe) -> bool:
    if precision == "int8":  # fp32, and int8 in products
        return train.precision in ("auto", "fp32") and train.quantization in ("auto", "int8")
    return train.precision in ("auto", precision) and train.quantization != "int8"


def _speeds() -> dict[How, float]:
    """Operations a second, oldest first; empty if the file is missing or cannot be read as one of ours."""
    try:
        kept = json.loads(_file().read_text("utf-8"))
        rows = kept["speeds"] if kept["format"] == FORMAT else []
        found = {(str(row[0]), str(row[1]), str(row[2])): float(row[3]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return {}
    return {how: speed for how, speed in found.items() if 0 < speed < math.inf}


def _file() -> Path:
    return cache_folder() / "speed.json"
