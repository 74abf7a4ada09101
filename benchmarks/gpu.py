"""Training and prediction on a GPU, ours and peers in turn, in one process: `benchmarks/gpu.sh` calls it.

    python benchmarks/gpu.py                 one JSON object, with the card's name
    python benchmarks/gpu.py --rehearsal     the whole on a CPU with tiny shapes, so that it keeps working

Weights are random and shapes real, roberta-base and ModernBERT-base; texts are made of a few words and have the lengths
of AG News (mean 53 tokens, cut at 128). Nothing is downloaded. The second epoch is timed, when compilers and caches are
warm. What fails, or does not fit into the time left, is named and left out: all that was measured is printed in any
case, when the time is over or the process is told to stop, too.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
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


GRACE = 20  # seconds past the end, in which what is running may still finish


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearsal", action="store_true", help="on a CPU, with tiny shapes and few texts")
    parser.add_argument("--seconds", type=float, default=310.0, help="time for all of it (default 310)")
    parser.add_argument("--missing", nargs="*", metavar="PACKAGE", help="only say which of these and ours are missing")
    options = parser.parse_args()
    lacking = missing(options.missing or [])
    if lacking:
        print(f"missing packages, whose wheels WHEELS may hold: {', '.join(lacking)}", file=sys.stderr)
    if options.missing is not None:
        sys.exit(1 if set(options.missing) & set(lacking) else 0)
    if "torch" in lacking:
        sys.exit("nothing can be measured without torch")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    device = "cpu" if options.rehearsal else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device on this machine; --rehearsal runs the same on a CPU with tiny shapes")
    result: dict[str, Any] = {"rehearsal": options.rehearsal}
    end = partial(give_up, result)
    signal.signal(signal.SIGTERM, lambda *_: end("stopped by a signal"))
    timer = threading.Timer(options.seconds + GRACE, end, ("time is over",))
    timer.daemon = True
    timer.start()
    ends = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        measure_all(result, Path(folder), device, lambda: ends - time.monotonic())
    timer.cancel()
    print(json.dumps(result, indent=2))


def missing(more: Sequence[str]) -> list[str]:
    """Packages that ours depends on and these, as far as they are not installed."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in wanted if "sys_platform" not in each]
    found = []
    for name in dict.fromkeys([*names, *more]):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(name)
    return found


def give_up(result: dict[str, Any], why: str) -> None:
    """Print what was measured so far and end the process, whatever it is doing."""
    result["ended"] = why
    for _ in range(10):
        try:
            text = json.dumps(result, indent=2)
            break
        except RuntimeError:  # a figure was being added
            time.sleep(0.05)
    else:
        text = json.dumps({"ended": why})
    print(text, flush=True)
    os._exit(3)


def measure_all(result: dict[str, Any], folder: Path, device: str, left: Callable[[], float]) -> None:
    """Fill in the figures of every shape and batch size; what is compiled comes last, since it may take minutes."""
    attempt(result, "machine", lambda: described(device))
    attempt(result, "bf16_peak_tflops", lambda: round(matmul_peak(device) / 1e12, 2))
    peak = result["bf16_peak_tflops"] if isinstance(result["bf16_peak_tflops"], float) else 0.0
    sections = [
        Section(result.setdefault(f"{name}, batch {batch}", {}), folder / name, name, batch, device, peak, left)
        for name in SHAPES
        for batch in ((8,) if device == "cpu" else (32, 256))
    ]
    for compiled in (False, True):
        for section in sections:
            attempt(section.result, "failed", partial(section.measure, compiled))
            key = f"{section.name}, batch {section.batch}"
            print(f"{key}: {json.dumps(section.result)}", file=sys.stderr, flush=True)


def attempt(result: dict[str, Any], key: str, call: Callable[[], Any]) -> None:
    """Put what a call gives into the result, or why it failed: one that fails must not take the others with it."""
    try:
        found = call()
    except Exception as error:
        traceback.print_exc()
        found = failure(error)
    if found is not None:
        result[key] = found


def failure(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).splitlines()
    return f"failed: {type(error).__name__}: {lines[0] if lines else ''}"


def described(device: str) -> dict[str, Any]:
    """The machine and the packages."""
    from inputs import machine, versions

    return machine(device) | versions("transformers", "peft", "accelerate")


@dataclass
class Section:
    """Texts a second of ours and of every peer, in training and in prediction, and their ratios.

    Attributes:
        result: where the figures go, as soon as they are known.
        folder: of the backbone; made where it is not there.
        left: seconds that are left.
    """

    result: dict[str, Any]
    folder: Path
    name: str
    batch: int
    device: str
    peak: float
    left: Callable[[], float]
    operations: dict[str, float] = field(default_factory=dict)

    def measure(self, compiled: bool) -> None:
        """All but what is compiled, or that alone."""
        kind, config = SHAPES[self.name]
        config = config | TINY if self.device == "cpu" else config
        if not self.folder.exists():
            from tiny_backbones import save_backbone

            save_backbone(self.folder, kind, config)
        texts = made_texts(4 * self.batch if self.device == "cpu" else max(512, 4 * self.batch))
        shared: dict[str, Any] = {"classes": 4, "max_length": 128, "device": self.device, "batch_size": self.batch}
        if not compiled:
            for label, top in (("ours_all_layers", None), ("ours_prefix", config["num_hidden_layers"] // 2)):
                self.run(label, texts, lambda top=top: _ours()(self.folder, *texts, top=top, **shared))
        for label, settings in PEERS.items():
            # On a CPU compiling takes minutes for a shape that says nothing.
            if settings["compiled"] == compiled and not (compiled and self.device == "cpu"):
                self.run(label, texts, lambda settings=settings: _peer()(self.folder, *texts, **settings, **shared))
        speeds = self.result["texts_per_second"]
        if not compiled and self.left() > 20:
            attempt(speeds, "pipeline_best", lambda: pipeline_speed(self.folder, texts[0], self.device))
        self.result |= ratios(speeds, self.operations, self.peak)

    def run(self, label: str, texts: Texts, make: Callable[[], Any]) -> None:
        """The figures of one contender."""
        speeds = self.result.setdefault("texts_per_second", {})
        if self.left() < 20:
            speeds[label] = "not run: no time left"
            return
        speeds[label] = "not finished"
        attempt(speeds, label, lambda: self._run(label, texts, make))
        gc.collect()

    def _run(self, label: str, texts: Texts, make: Callable[[], Any]) -> float:
        _reset(self.device)
        contender = make()
        contender.epoch()
        speed = round(len(texts[0]) / timed(contender.epoch, self.device), 1)
        self.result.setdefault("peak_memory_mb", {})[label] = _peak_memory(self.device)
        self.operations[label] = getattr(contender, "operations", 0.0) / len(texts[0])
        if label.startswith("ours") and self.left() > 20:
            host = self.result.setdefault("host", {})
            attempt(host, label, lambda: host_figures(contender, self.device))
        if label == "ours_all_layers":

            def predict() -> float:
                contender.predict(texts[0])  # kernels are tried
                return round(len(texts[0]) / timed(lambda: contender.predict(texts[0]), self.device), 1)

            attempt(self.result["texts_per_second"], "ours_predict", predict)
        return speed


def _ours() -> Any:
    from ours import Ours

    return Ours


def _peer() -> Any:
    from peers.hf_trainer import HfTrainer

    return HfTrainer


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

    dtype = torch.bfloat16 if device == "cuda" else torch.float32  # a pipeline leaves a loaded model's as it is
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4, dtype=dtype)
    pipe = pipeline(
        "text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder), device=device
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
