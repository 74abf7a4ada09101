"""Memory of a training as `plan` estimates it, beside the measured peak of a few steps.

    python benchmarks/memory.py [roberta_large roberta_base ...] [--budget 1M] [--tokens 50] [--steps 2] [--recompute]
        [--json]

Random weights of real shapes; texts all of so many tokens, in batches of 32, and a batch of validation texts, on which
the classifier is compared with the frozen backbone as in any training. Measured is the most that a process held less
what it held after it had trained a small backbone, on Linux alone: so a shape should be much larger than that backbone.
A process for each shape.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from inputs import SHAPES, embedded, machine, shape

BATCH, LABELS = 32, 4


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["roberta_large"], metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--budget", default="1M")
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--recompute", action="store_true", help="with gradient checkpointing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        recompute = options.recompute
        print(json.dumps(measure(Path(options.shapes[0]), options.budget, options.tokens, options.steps, recompute)))
        return
    found = []
    for name in options.shapes:
        with tempfile.TemporaryDirectory() as place:
            folder = shape(name, embedded(), place) if name in SHAPES else embedded()
            words = [sys.executable, __file__, str(folder), "--child", "--budget", options.budget]
            words += ["--tokens", str(options.tokens), "--steps", str(options.steps)]
            words += ["--recompute"] if options.recompute else []
            told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
        found.append({"shape": name} | json.loads(told))
    if options.json:
        print(json.dumps({"machine": machine("cpu"), "shapes": found}, indent=2))
        return
    for each in found:
        print(
            f"{each['shape']}, {each['budget']}, {each['tokens']} tokens, {each['precision']}: estimated "
            f"{each['estimated_mb']:,} MB, measured {each['measured_mb']:,} MB, ratio {each['ratio']:.2f}"
        )


def measure(folder: Path, budget: str, tokens: int, steps: int, recompute: bool = False) -> dict[str, Any]:
    """Train a few steps: the estimate, the peak, and the first over the second."""
    import pennyweight as pw
    from pennyweight.budget.cost import memory
    from pennyweight.recipe.loading import load
    from pennyweight.recipe.planning import plan_for

    words = ("market", "match", "court", "river", "bank", "team", "storm", "price", "road", "king")
    chance = random.Random(0)  # each word is one token; two more are the special ones
    rows = [(" ".join(chance.choices(words, k=tokens - 2)), f"label {row % LABELS}") for row in range(2 * BATCH)]
    more = {"validation_size": 0.5, "audit": "off", "contrastive": "off", "prefix_cache": "off", "batch_size": BATCH}
    pw.train(rows, budget="5k", max_steps=1, **more)  # imports all, with a small backbone
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far
    wanted = "on" if recompute else "off"
    found = pw.train(
        rows, budget=budget, backbone=str(folder), max_steps=steps, gradient_checkpointing=wanted, **more
    )  # fmt: skip
    peak = held("VmHWM")
    precision = found.metrics["machine"]["precision"]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    # The plan that was trained: of random weights the frozen head may be what is left.
    plan = plan_for(load(backbone=str(folder), budget=budget), config, LABELS)
    held_by = memory(config, plan, batch_size=BATCH, length=tokens, bytes_per_number=4 if precision == "fp32" else 2)
    estimated = held_by.checkpointed_total if recompute else held_by.total
    return {
        "budget": budget, "gradient_checkpointing": recompute, "tokens": tokens,
        "precision": precision, "trainable": plan.count.trainable,
        "estimated_mb": round(estimated / 1e6), "measured_mb": round((peak - before) / 1e6),
        "ratio": round(estimated / (peak - before), 3),
    }  # fmt: skip


def held(what: str) -> int:
    """Bytes that this process holds (`VmRSS`), or has held at most (`VmHWM`)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[what].split()[0]) * 1024


if __name__ == "__main__":
    main()
