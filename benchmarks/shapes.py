"""`train.py --shapes`: ours against the best-set Trainer + PEFT on shapes of other architectures, random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from best_peer import best_peer
from contender import Contender
from inputs import LABELS, Texts, shape

NAMES = ("distilbert_base", "modernbert_base")


def shapes(tokenizer: Path, near: Texts, options: Any) -> dict[str, Any]:
    """Texts a second of both, LoRA r=16 on query, key and value of all layers.

    Args:
        tokenizer: the backbone whose tokenizer is taken.
        near: texts that batches of similar length can be made of.
    """
    shared = {"classes": len(LABELS), "max_length": 256, "device": "cpu", "batch_size": options.batch_size}
    found: dict[str, Any] = {}
    for name in options.shapes or NAMES:
        folder = shape(name, tokenizer)
        peer, kind, steps, trial = best_peer(folder, near, options.threads, shared)
        ours = Contender("ours:Ours", options.threads, folder, *near, top=None, **shared)
        seconds = {"peer_best": steps, "ours_all_layers": [ours.epoch()[0]]}
        for turn in range(options.rounds):
            for each, contender in (("ours_all_layers", ours), ("peer_best", peer)):
                seconds[each].append(contender.epoch()[0])
                speed = len(near[0]) / sum(seconds[each][-1])
                print(f"  {name}, round {turn + 1}, {each}: {speed:.1f} texts/s", file=sys.stderr, flush=True)
        memory = {"ours_all_layers": round(ours.peak()), "peer_best": round(peer.peak())}
        ours.close()
        peer.close()
        # Of each step its best time over the rounds, as in the other figures.
        speeds = {each: len(near[0]) / sum(map(min, zip(*times, strict=True))) for each, times in seconds.items()}
        found[name] = {
            "texts": len(near[0]),
            "mean_tokens": round(ours.facts["mean_tokens"], 1),
            "peer_best_is": f"Trainer + PEFT, {kind}, grouped by length",
            "peer_trial": trial,
            "texts_per_second": {each: round(speed, 2) for each, speed in speeds.items()},
            "rounds": {each: [round(len(near[0]) / sum(one), 2) for one in times] for each, times in seconds.items()},
            "peak_memory_mb": memory,
            "gflops": round(ours.facts["operations"] / len(near[0]) * speeds["ours_all_layers"] / 1e9, 1),
            "ratio_all_layers": round(speeds["ours_all_layers"] / speeds["peer_best"], 2),
        }
    return found
