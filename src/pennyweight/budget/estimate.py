"""The estimated seconds, cache and memory of a plan, before anything is loaded. The arithmetic is `budget.cost`'s."""

from __future__ import annotations

from dataclasses import dataclass

from .architecture import describe
from .config_fields import Config
from .cost import Pooling, cache_bytes, memory, seconds_per_epoch, work
from .plan import Plan

LEAST_SECONDS = 30.0  # a shorter training says nothing about a machine's speed


@dataclass(frozen=True)
class Workload:
    """The training texts, and how they are computed.

    Attributes:
        texts: training texts.
        tokens: their mean length.
        batch_size: texts in one forward pass.
        pooling: cls or mean.
        caches_prefix: whether what frozen lower layers compute is kept.
        bytes_per_number: bytes per number of frozen weights and of hidden states, kept ones included.
        gradient_checkpointing: whether layers are computed again in the backward pass; None if that is decided when
            training begins.
        cpu: whether it is computed on a CPU.
        quantization: of the frozen matrices in the steps, `none`, `int8` or `nf4`.
    """

    texts: int
    tokens: int
    batch_size: int
    pooling: Pooling
    caches_prefix: bool
    bytes_per_number: int
    gradient_checkpointing: bool | None = None
    cpu: bool = True
    quantization: str = "none"


@dataclass(frozen=True)
class Speed:
    """How fast a machine computes.

    Attributes:
        operations_per_second: see `cost.work`.
        measured: how it computed in the training this was measured in, such as `cpu, bf16, fast encoder`; None for a
            guess.
    """

    operations_per_second: float
    measured: str | None


@dataclass(frozen=True)
class Estimate:
    """Rough by nature; the benchmark prints it next to the true value.

    Attributes:
        seconds_per_epoch: for `texts` texts of `tokens` tokens, once a cached prefix is filled.
        first_epoch_seconds: with the filling.
        cache_bytes: size of the prefix cache; 0 where nothing can be cached.
        memory_bytes: most memory held while training, interpreter and libraries aside; where activation checkpointing
            is not decided yet, without it.
        checkpointed_bytes: the same with it; None if it is switched off.
        measured: as in `Speed`.
    """

    texts: int
    tokens: int
    seconds_per_epoch: float
    first_epoch_seconds: float
    cache_bytes: int
    memory_bytes: int
    measured: str | None
    checkpointed_bytes: int | None = None

    def __str__(self) -> str:
        basis = (
            f"as fast as the last training run here on {self.measured}"
            if self.measured
            else f"a guess, because no training run here has taken {LEAST_SECONDS:.0f} s or more yet"
        )
        cache = f", {self.cache_bytes / 1e6:,.0f} MB prefix cache" if self.cache_bytes else ""
        less = self.checkpointed_bytes
        checkpointed = (
            "" if less is None or less == self.memory_bytes else f" ({less / 1e6:,.0f} MB with gradient checkpointing)"
        )
        return (
            f"about {self.seconds_per_epoch:,.0f} s per epoch of {self.texts:,} texts of {self.tokens} tokens ({basis})"
            f"{cache}, {self.memory_bytes / 1e6:,.0f} MB of memory{checkpointed}"
        )


def estimate(config: Config, plan: Plan, workload: Workload, speed: Speed) -> Estimate:
    """Estimate training `plan` on `workload` at `speed`.

    Args:
        config: fields of the backbone's `config.json`.
    """
    texts, tokens, size = workload.texts, workload.tokens, workload.bytes_per_number
    operations = work(config, plan, length=tokens, pooling=workload.pooling)
    cached = workload.caches_prefix and operations.first_layer > 0
    # Below a head alone there is one pooled vector a text to keep.
    vectors = texts if operations.first_layer == describe(config).layers else texts * tokens
    rate = speed.operations_per_second
    recomputed = workload.gradient_checkpointing is True
    each = seconds_per_epoch(operations, texts=texts, operations_per_second=rate, cached=cached, recomputed=recomputed)
    held = memory(
        config, plan, batch_size=workload.batch_size, length=tokens, bytes_per_number=size, pooling=workload.pooling,
        cpu=workload.cpu, quantization=workload.quantization,
    )  # fmt: skip
    return Estimate(
        texts=texts,
        tokens=tokens,
        seconds_per_epoch=each,
        first_epoch_seconds=each + (texts * operations.prefix / rate if cached else 0.0),
        cache_bytes=cache_bytes(config, vectors=vectors, bytes_per_number=size) if cached else 0,
        memory_bytes=held.checkpointed_total if recomputed else held.total,
        measured=speed.measured,
        checkpointed_bytes=None if workload.gradient_checkpointing is False else held.checkpointed_total,
    )
