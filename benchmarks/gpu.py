"""Training and prediction on a GPU, ours and peers in turn, in one process: `benchmarks/gpu.sh` calls it.

    python benchmarks/gpu.py                 one JSON object, with the card's name
    python benchmarks/gpu.py --rehearsal     the whole on a CPU with tiny shapes, so that it keeps working

Weights are random and shapes real, roberta-base and ModernBERT-base; texts are made of a few words and have the lengths
of AG News (mean 53 tokens, cut at 128). Nothing is downloaded. The second epoch is timed, when compilers and caches are
warm. What does not fit into the time left is named and left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inputs import ROOT, Texts

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks"), str(ROOT / "tests")]
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta_base": ("roberta", {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "max_position_embeddings": 514,
    }),
    "modernbert_base": ("modernbert", {
        "hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1152,
    }),
}  # fmt: skip
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
PEERS: dict[str, dict[str, bool]] = {
    "peer_fp32": {"bf16": False, "grouped": False, "compiled": False},
    "peer_bf16": {"bf16": True, "grouped": False, "compiled": False},
    "peer_bf16_grouped": {"bf16": True, "grouped": True, "compiled": False},
    "peer_bf16_compiled": {"bf16": True, "grouped": True, "compiled": True},
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearsal", action="store_true", help="on a CPU, with tiny shapes and few texts")
    parser.add_argument("--seconds", type=float, default=330.0, help="time for all of it (default 330)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from inputs import machine

    device = "cpu" if options.rehearsal else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device on this machine; --rehearsal runs the same on a CPU with tiny shapes")
    ends = time.monotonic() + options.seconds
    result: dict[str, Any] = {"machine": machine(device), "rehearsal": options.rehearsal}
    peak = result["bf16_peak_tflops"] = round(matmul_peak(device) / 1e12, 2)
    for name in SHAPES:
        for batch in (8,) if options.rehearsal else (32, 256):
            with tempfile.TemporaryDirectory() as folder:
                key = f"{name}, batch {batch}"
                result[key] = measure(Path(folder), name, batch, device, peak, lambda: ends - time.monotonic())
                print(f"{key}: {json.dumps(result[key])}", file=sys.stderr, flush=True)
    print(json.dumps(result, indent=2))


def measure(folder: Path, name: str, batch: int, device: str, peak: float, left: Callable[[], float]) -> dict[str, Any]:
    """Texts a second of ours and of every peer, in training and in prediction, and their ratios."""
    from tiny_backbones import save_backbone

    kind, config = SHAPES[name]
    if device == "cpu":
        config = config | TINY
    save_backbone(folder, kind, config)
    texts = made_texts(4 * batch if device == "cpu" else max(512, 4 * batch))
    shared: dict[str, Any] = {"classes": 4, "max_length": 128, "device": device, "batch_size": batch}
    speeds: dict[str, Any] = {}
    memory: dict[str, Any] = {}
    operations: dict[str, float] = {}
    host: dict[str, Any] = {}

    def run(label: str, make: Callable[[], Any]) -> None:
        if left() < 20:
            speeds[label] = "not run: no time left"
            return
        try:
            _reset(device)
            contender = make()
            contender.epoch()
            speeds[label] = round(len(texts[0]) / timed(contender.epoch, device), 1)
            memory[label] = _peak_memory(device)
            operations[label] = getattr(contender, "operations", 0.0) / len(texts[0])
            if label.startswith("ours") and left() > 20:
                host[label] = host_figures(contender, device)
            if label == "ours_all_layers":
                speeds["ours_predict"] = round(len(texts[0]) / timed(lambda: contender.predict(texts[0]), device), 1)
        except Exception as error:  # a peer, or ours, fails on this card: the others are measured still
            speeds[label] = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        finally:
            gc.collect()

    from ours import Ours
    from peers.hf_trainer import HfTrainer

    layers = config["num_hidden_layers"]
    run("ours_all_layers", lambda: Ours(folder, *texts, top=None, **shared))
    run("ours_prefix", lambda: Ours(folder, *texts, top=layers // 2, **shared))
    for label, settings in PEERS.items():
        if not (device == "cpu" and settings["compiled"]):  # minutes for a shape that says nothing
            run(label, lambda settings=settings: HfTrainer(folder, *texts, **settings, **shared))
    if left() > 20:
        speeds["pipeline_best"] = pipeline_speed(folder, texts[0], device)
    return {"texts_per_second": speeds, "peak_memory_mb": memory, "host": host} | ratios(speeds, operations, peak)


def host_figures(contender: Any, device: str) -> dict[str, Any]:
    """How often a step of ours makes the host wait for the GPU, and what share of its time the host takes to start it.

    The losses are read once in several steps, and at the end; both are counted. None on a CPU, where nothing waits.
    """
    import torch

    cuda = device == "cuda"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            steps = len(contender.epoch())
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchronizing CUDA operation" in str(each.message) for each in caught)
    share = round(contender.launch_share(), 3)
    return {"waits_per_step": round(waits / steps, 3) if cuda else None, "launch_share": share}


def ratios(speeds: dict[str, Any], operations: dict[str, float], peak: float) -> dict[str, Any]:
    """Ours by the best peer that ran, and the share of the card's peak that the necessary operations are."""
    numbers = {name: value for name, value in speeds.items() if isinstance(value, float)}
    best = max((value for name, value in numbers.items() if name in PEERS), default=0.0)
    found: dict[str, Any] = {}
    for name in ("ours_all_layers", "ours_prefix"):
        if name in numbers and best:
            found[f"ratio_{name.removeprefix('ours_')}"] = round(numbers[name] / best, 2)
        if name in numbers and peak:
            found[f"peak_share_{name.removeprefix('ours_')}"] = round(operations[name] * numbers[name] / peak / 1e12, 4)
    if {"ours_predict", "pipeline_best"} <= numbers.keys():
        found["ratio_predict"] = round(numbers["ours_predict"] / numbers["pipeline_best"], 2)
    return found


def pipeline_speed(folder: Path, texts: Sequence[str], device: str) -> float:
    """Texts a second of transformers' `pipeline` at the best of its batch sizes, texts sorted by length."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4)
    pipe = pipeline(
        "text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), device=device,
        dtype=torch.bfloat16 if device == "cuda" else torch.float32,
    )  # fmt: skip
    ordered = sorted(texts, key=len, reverse=True)
    found = []
    for size in (8,) if device == "cpu" else (32, 128, 256):

        def label(size: int = size) -> None:
            pipe(ordered, batch_size=size, truncation=True, max_length=128)

        found.append(len(texts) / min(timed(label, device) for _ in range(2)))
    return round(max(found), 1)


def made_texts(count: int) -> Texts:
    """Texts of known words whose lengths are spread as AG News', and their classes."""
    import numpy as np
    from tiny_backbones import SENTENCES

    words = " ".join(SENTENCES).split()
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(3.6, 0.3, count), 8, 100).astype(int)  # words; some are several tokens
    return [" ".join(random.choice(words, length)) for length in lengths], random.integers(0, 4, count).tolist()


def timed(call: Callable[[], Any], device: str) -> float:
    """Seconds of a call, the GPU's work included."""
    _wait(device)
    began = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - began


def matmul_peak(device: str) -> float:
    """Operations a second of a large bf16 product; on a CPU a small fp32 one."""
    import torch

    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = min(timed(lambda: left @ right, device) for _ in range(10))
    return 2 * size**3 / seconds


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _reset(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_memory(device: str) -> int | None:
    import torch

    return round(torch.cuda.max_memory_allocated() / (1 << 20)) if device == "cuda" else None


if __name__ == "__main__":
    main()
