"""Training speed, ours and peers side by side in one process tree, in turn, on the same texts.

    python benchmarks/train.py --quick          ratios and share of the matmul peak, minutes
    python benchmarks/train.py                  also a roberta-base shape and the three below
    python benchmarks/train.py --seconds        seconds to 85% and 90% accuracy, alone
    python benchmarks/train.py --shapes [NAME]  DistilBERT and ModernBERT-base shapes, or one of inputs.SHAPES, alone
    python benchmarks/train.py --whole          from command to saved classifier and report, against a script, alone
    python benchmarks/train.py --json           one JSON object on standard output

Every contender has a process of its own and trains one epoch on the same texts in each round. Its speed in later epochs
is counted from each step's best time over the rounds, so that a machine that was busy for a while does not decide; the
rounds' own speeds are given too, and first epochs with tokenization, prefix and warm-up. The matmul peak is the best
of those measured before each round, with the same threads; a second one, of products with a matrix that was laid out
beforehand, as the frozen ones are, is given beside it. The best-set peer groups texts by length and computes in bf16 or
fp32, whichever is faster here: both are tried first.

The share of the peak counts the network's operations, frozen prefix and unread rows left out, whatever the engine does
of them. It does fewer, since it computes no key or value in the last layer; what it does is `peak_share_executed`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from best_peer import PEER, best_peer
from contender import Contender
from inputs import LABELS, ROOT, Texts, embedded, machine, news, shape
from shapes import shapes
from whole import whole

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
OURS, FULL = "ours:Ours", "peers.full_finetune:FullFinetune"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ratios and share of the peak only")
    parser.add_argument("--seconds", action="store_true", help="the seconds to 85 and 90%% only")
    parser.add_argument("--shapes", nargs="*", metavar="NAME", help="shapes of other architectures only")
    parser.add_argument("--whole", action="store_true", help="the whole command only")
    parser.add_argument("--repeats", type=int, default=1, help="with --whole: runs of each (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--texts", type=int, default=256, help="texts per round, a multiple of the batch (default 256)")
    parser.add_argument("--rounds", type=int, default=16, help="rounds of ours and the best-set peer (default 16)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, help="CPU threads (default: OMP_NUM_THREADS, or physical cores)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # for the contenders' own processes
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch

    from pennyweight.model.device import set_threads

    set_threads(options.threads)
    options.threads = torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # for the programs that --whole starts
    train, test = news(options.data)
    folder, result = embedded(), {"machine": machine(options.device)}
    alone = options.seconds or options.whole or options.shapes is not None
    full = not alone and not options.quick
    if not alone:
        result |= ratios(folder, train, options)
    if full:
        result["roberta_base_shape"] = ratios(shape("roberta_base", folder), train, options, rounds=1, texts=64)
    if full or options.seconds:
        result |= seconds_to(folder, train, test, options)
    if full or options.shapes is not None:
        result["shapes"] = other_shapes(folder, train, options)
    if full or options.whole:
        result["whole"] = whole_command(folder, train, options)
    print(json.dumps(result, indent=2) if options.json or alone else report(result))


def other_shapes(folder: Path, train: Texts, options: Any) -> dict[str, Any]:
    """See shapes.py: few texts and rounds, since these models are large."""
    few = argparse.Namespace(**vars(options) | {"rounds": min(options.rounds, 3)})
    near, _ = samples(folder, train, min(options.texts, 2 * options.batch_size), options.batch_size)
    return shapes(folder, near, few)


def whole_command(folder: Path, train: Texts, options: Any) -> dict[str, Any]:
    """See whole.py; which number format is faster for the script is tried first."""
    shared = {"classes": len(LABELS), "max_length": 128, "device": "cpu", "batch_size": options.batch_size}
    near, _ = samples(folder, train, 4 * options.batch_size, options.batch_size)
    contender, kind, _, trial = best_peer(folder, near, options.threads, shared)
    contender.close()
    return whole(folder, train, options, bf16=kind == "bf16") | {"peer_trial": trial}


def ratios(
    folder: Path, train: Texts, options: Any, rounds: int | None = None, texts: int | None = None
) -> dict[str, Any]:
    """Texts a second of every contender, and what follows from them."""
    size = texts or options.texts
    shared = {"classes": len(LABELS), "max_length": 256, "device": options.device, "batch_size": options.batch_size}
    near, mixed = samples(folder, train, size, options.batch_size)
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    peer, best, trial, trials = best_peer(folder, near, options.threads, shared)
    setups: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "peer_best": (PEER, near, {"bf16": best == "bf16", "grouped": True}),
        "ours_all_layers": (OURS, near, {"top": None}),
        "ours_prefix": (OURS, near, {"top": layers // 2}),
        "peer_bf16": (PEER, mixed, {"bf16": True, "grouped": False}),
        "peer_docs": (PEER, mixed, {"bf16": False, "grouped": False}),
        "full_finetune": (FULL, near, {"bf16": best == "bf16", "grouped": True}),
    }
    if best == "fp32":  # emulated bf16 would only take its time
        del setups["peer_bf16"]
    contenders: dict[str, Contender] = {"peer_best": peer}
    seconds: dict[str, list[list[float]]] = {name: [] for name in setups} | {"peer_best": trial}
    memory: dict[str, float] = {}
    peaks, laid_out = [], []
    for turn in range(rounds or options.rounds):
        for name, (kind, given, settings) in setups.items():
            # The slow ones twice, the first time to warm up: compared closely are ours and the strongest peer.
            if turn > 1 and name in ("peer_bf16", "peer_docs", "full_finetune"):
                continue
            if name not in contenders:
                contenders[name] = Contender(kind, options.threads, folder, *given, **settings, **shared)
            peaks.append(matmul_peak(options.device))
            laid_out.append(matmul_peak(options.device, laid_out=True))
            steps, memory[name] = contenders[name].epoch()
            seconds[name].append(steps)
            print(f"  round {turn + 1} {name}: {size / sum(steps):.1f} texts/s", file=sys.stderr)
    for contender in contenders.values():
        contender.close()
    facts = {name: contender.facts for name, contender in contenders.items()}
    speed = {name: size / sum(map(min, zip(*each, strict=True))) for name, each in seconds.items()}
    # All of them tokenize once, so it is part of the first epoch, as warm-up and our prefix are.
    before = {name: known["tokenize_seconds"] + known.get("prefix_seconds", 0.0) for name, known in facts.items()}
    peak = max(peaks)
    work = {name: facts[name]["operations"] for name in ("ours_all_layers", "ours_prefix")}
    executed = facts["ours_prefix"]["executed"]
    return {
        "texts": size,
        "peer_best_is": f"Trainer + PEFT, {best}, grouped by length",
        "peer_trial": trials,
        "mean_tokens": round(facts["ours_prefix"]["mean_tokens"], 1),
        "texts_per_second": {name: round(value, 1) for name, value in speed.items()},
        "first_epoch": {name: round(size / (sum(each[0]) + before[name]), 1) for name, each in seconds.items()},
        "rounds": {name: [round(size / sum(steps), 1) for steps in each] for name, each in seconds.items()},
        "prefix_seconds": round(facts["ours_prefix"]["prefix_seconds"], 2),
        "peak_memory_mb": {name: round(value) for name, value in memory.items()},
        "matmul_peak_gflops": round(peak / 1e9, 1),
        "laid_out_peak_gflops": round(max(laid_out) / 1e9, 1),
        "necessary_gflop_per_text": {name: round(each / size / 1e9, 3) for name, each in work.items()},
        "estimated": {name: estimated(facts[name], true_speed=speed[name], true_memory=memory[name]) for name in work},
        "ratio_all_layers": round(speed["ours_all_layers"] / speed["peer_best"], 2),
        "ratio_all_layers_docs": round(speed["ours_all_layers"] / speed["peer_docs"], 2),
        "ratio_prefix": round(speed["ours_prefix"] / speed["peer_best"], 2),
        "ratio_prefix_docs": round(speed["ours_prefix"] / speed["peer_docs"], 2),
        "peak_share_all_layers": round(work["ours_all_layers"] * speed["ours_all_layers"] / size / peak, 3),
        "peak_share": round(work["ours_prefix"] * speed["ours_prefix"] / size / peak, 3),
        "peak_share_executed": round(executed * speed["ours_prefix"] / size / peak, 3),
        "peak_share_laid_out": round(work["ours_prefix"] * speed["ours_prefix"] / size / max(peak, *laid_out), 3),
    }


def estimated(facts: dict[str, Any], *, true_speed: float, true_memory: float) -> dict[str, list[float]]:
    """What `pennyweight plan` says beforehand, from this machine's last own training, then the truth."""
    return {
        "texts_per_second": [round(facts["estimated_texts_per_second"], 1), round(true_speed, 1)],
        "memory_mb": [round(facts["estimated_memory_mb"]), round(true_memory - facts["memory_before_mb"])],
        "cache_mb": [round(facts["estimated_cache_mb"], 1), round(facts["cache_mb"], 1)],
    }


def samples(folder: Path, train: Texts, size: int, batch_size: int) -> tuple[Texts, Texts]:
    """Few texts that behave like the whole set, for who groups by length and for who does not.

    Grouping a few hundred texts finds worse neighbours than grouping thousands, so the first sample is made of
    stretches of one batch of neighbouring lengths, at even quantiles of all lengths. The second is drawn at random,
    since random batches are padded to the tail of the distribution, which the stretches cut.
    """
    import numpy as np

    from pennyweight.model.tokenizer import encode, load_tokenizer

    lengths = encode(load_tokenizer(folder), train[0], 256).lengths
    order, count = np.argsort(lengths, kind="stable"), max(1, size // batch_size)
    middles = ((np.arange(count) + 0.5) / count * len(order)).astype(int)
    begins = np.clip(middles - batch_size // 2, 0, len(order) - batch_size)
    near = np.concatenate([order[begin : begin + batch_size] for begin in begins])
    random = np.random.default_rng(0)
    # Shuffled, so that no contender is handed its batches.
    chosen = random.permutation(near), random.choice(len(order), count * batch_size, replace=False)
    first, second = (([train[0][i] for i in rows], [train[1][i] for i in rows]) for rows in chosen)
    return first, second


def seconds_to(folder: Path, train: Texts, test: Texts, options: Any) -> dict[str, Any]:
    """Seconds of training, tokenization, prefix and warm-up included, until 85% and 90% of test texts are right.

    Every contender is tried on the same 1,000 test texts each 25 steps; looking costs no time on its clock. Ours is the
    faster of its two placements.
    """
    shared = {"classes": len(LABELS), "max_length": 256, "device": options.device, "batch_size": options.batch_size}
    near, _ = samples(folder, train, 4 * options.batch_size, options.batch_size)
    tried, best, _, _ = best_peer(folder, near, options.threads, shared)
    tried.close()
    found: dict[str, dict[float, float]] = {}
    for name, kind, settings in (
        ("ours_prefix", OURS, {"top": 3}),
        ("ours_all_layers", OURS, {"top": None}),
        ("peer_best", PEER, {"bf16": best == "bf16", "grouped": True}),
    ):
        print(f"  seconds to 85 and 90%, {name}:", file=sys.stderr)
        contender = Contender(kind, options.threads, folder, *train, **settings, **shared)
        found[name] = contender.seconds_to([0.85, 0.9], test[0][:1000], test[1][:1000], 25)
        contender.close()
    result: dict[str, Any] = {"seconds_to": found}
    for goal, key in ((0.85, "85"), (0.9, "90")):
        mine = min((each[goal] for name, each in found.items() if name != "peer_best" and goal in each), default=None)
        theirs = found["peer_best"].get(goal)
        result[f"seconds_to_{key}"] = mine
        result[f"ratio_seconds_to_{key}"] = round(theirs / mine, 2) if mine and theirs else None
    return result


def matmul_peak(device: str, laid_out: bool = False) -> float:
    """FLOP/s of the best of a few bf16 (or, where that is faster, fp32) products of 2048 x 2048 matrices.

    Args:
        laid_out: with the second matrix laid out beforehand, as frozen ones are where that can be had.
    """
    import torch

    from pennyweight.model.kernels.frozen_linear import FrozenMatrix

    size, best = 2048, 0.0
    for dtype in (torch.bfloat16, torch.float32):
        left = torch.randn(size, size, device=device).to(dtype)
        right = FrozenMatrix(left, prepack=laid_out)
        if laid_out:
            right.input_gradient(left)
        for _ in range(4):
            began = time.perf_counter()
            product = right.input_gradient(left)
            if device != "cpu":
                product.sum().item()
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def report(result: dict[str, Any]) -> str:
    """The same, for reading."""
    lines = [f"{key}: {value}" for key, value in result["machine"].items()]
    lines += ["", f"{'contender':<18}{'texts/s':>9}{'first epoch':>13}{'peak MB':>9}"]
    for name, speed in result["texts_per_second"].items():
        first, memory = result["first_epoch"][name], result["peak_memory_mb"][name]
        lines.append(f"{name:<18}{speed:>9}{first:>13}{memory:>9}")
    known = {"machine", "rounds", "texts_per_second", "first_epoch", "peak_memory_mb"}
    return "\n".join([*lines, "", *(f"{key}: {value}" for key, value in result.items() if key not in known)])


if __name__ == "__main__":
    main()
