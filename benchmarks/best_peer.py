"""The best-set Trainer + PEFT: batches of similar length, in the number format that is faster on this processor."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contender import Contender

PEER = "peers.hf_trainer:HfTrainer"
FORMATS = {"bf16": True, "fp32": False}


def best_peer(
    folder: Path, texts: tuple[Sequence[str], Sequence[int]], threads: int, shared: dict[str, Any]
) -> tuple[Contender, str, list[list[float]], dict[str, float]]:
    """Train two epochs in each number format and keep the faster contender.

    A processor without units for bf16 emulates it, several times slower than fp32: there bf16 is not tried.

    Returns:
        The contender; its format; seconds of each step of both epochs; and for each format the second epoch's texts a
        second.
    """
    from pennyweight.model.device import bf16_is_faster

    found: dict[str, tuple[Contender, list[list[float]]]] = {}
    for name, bf16 in FORMATS.items():
        if bf16 and not bf16_is_faster():
            continue
        contender = Contender(PEER, threads, folder, *texts, bf16=bf16, grouped=True, **shared)
        found[name] = contender, [contender.epoch()[0] for _ in range(2)]
    speeds = {name: round(len(texts[0]) / sum(steps[1]), 1) for name, (_, steps) in found.items()}
    best = max(speeds, key=lambda name: speeds[name])
    print(f"  peer, grouped by length: {speeds} texts/s, {best} is taken", file=sys.stderr, flush=True)
    for name, (contender, _) in found.items():
        if name != best:
            contender.close()
    return found[best][0], best, found[best][1], speeds
