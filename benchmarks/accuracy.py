"""Does speed cost accuracy? The fast encoder against transformers', and grouped batches against plain ones.

    python benchmarks/accuracy.py --agnews FOLDER [--seeds 3] [--epochs 1] [--json]

Each pair trains the same plan on the same texts with the same seeds and is measured on the same test file. The plan is
r=16 on query, key and value of all layers, unless --layers says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pennyweight as pw

VARIANTS: dict[str, dict[str, Any]] = {
    "fast, grouped": {"encoder": "fast", "group_by_length": True},
    "reference, grouped": {"encoder": "reference", "group_by_length": True},
    "fast, not grouped": {"encoder": "fast", "group_by_length": False},
}


def measure(name: str, seeds: int, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Test accuracy of one variant for each seed."""
    accuracies, seconds = [], []
    for seed in range(seeds):
        began = time.perf_counter()
        trained = pw.train(
            folder / "train.csv", test=folder / "test.csv", seed=seed, budget="none", **settings, **VARIANTS[name]
        )
        accuracies.append(trained.metrics["test"]["accuracy"])
        seconds.append(time.perf_counter() - began)
        print(f"{name}, seed {seed}: {accuracies[-1]:.4f} in {seconds[-1]:.0f} s", file=sys.stderr, flush=True)
    return {
        "variant": name,
        "mean": statistics.mean(accuracies),
        "spread": statistics.stdev(accuracies) if seeds > 1 else None,
        "accuracies": accuracies,
        "seconds": [round(value, 1) for value in seconds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agnews", type=Path, required=True, help="folder with train.csv and test.csv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    settings = {
        "epochs": chosen.epochs,
        "lp_ft": False,  # as the kept figures were made
        "learning_rate": chosen.learning_rate,
        "r": 16,
        "lora_alpha": 32,
        "target_modules": "query,key,value",
        "layers": chosen.layers,
    }
    rows = [measure(name, chosen.seeds, chosen.agnews, settings) for name in chosen.variants]
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        spread = "" if row["spread"] is None else f" ± {row['spread']:.2%}"
        print(f"{row['variant']:<20} {row['mean']:.2%}{spread}   {row['accuracies']}")


if __name__ == "__main__":
    main()
