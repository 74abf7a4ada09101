"""A contender in a process of its own, so that its memory is its own and no other's threads are in its way.

Contenders take turns: while one works, the others wait for a message and take no processor time.
"""

from __future__ import annotations

import gc
import importlib
import logging
import multiprocessing
import os
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psutil


class Contender:
    """Drives a contender class, named `module:Class`, in a child process.

    Attributes:
        facts: what the contender says of itself once it is made: `tokenize_seconds`, `prefix_seconds`, `operations`...
    """

    def __init__(self, kind: str, threads: int, /, *args: Any, **settings: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, kind, threads, args, settings), daemon=True)
        self._process.start()
        theirs.close()
        self.facts: dict[str, Any] = self._answer()

    def epoch(self) -> tuple[list[float], float]:
        """Train over all texts once: seconds of each step, and the most memory held so far, in MB."""
        steps, memory = self._ask("epoch")
        return steps, memory

    def seconds_to(self, goals: list[float], texts: list[str], truth: list[int], every: int) -> dict[float, float]:
        """Train up to 3 epochs, look each `every` steps: seconds of training until each share of `texts` is right."""
        found: dict[float, float] = self._ask("seconds_to", goals, texts, truth, every)
        return found

    def tune(self, texts: list[str]) -> dict[str, Any]:
        """The settings with which a predicting contender labels these texts fastest."""
        found: dict[str, Any] = self._ask("tune", texts)
        return found

    def bulk(self, texts: list[str]) -> tuple[float, Any]:
        """Label texts: seconds, tokenization included, and (N,) class numbers."""
        seconds, classes = self._ask("bulk", texts)
        return seconds, classes

    def alone(self, texts: list[str]) -> list[float]:
        """Label texts one after another: seconds of each."""
        seconds: list[float] = self._ask("alone", texts)
        return seconds

    def load(self, count: int) -> float:
        """Hold the first `count` adapters: the memory held then, in MB."""
        memory: float = self._ask("load", count)
        return memory

    def mixed(self, texts: list[str], readers: list[int], size: int) -> tuple[float, list[int]]:
        """Label each text by its adapter, `size` texts per call: seconds with tokenization, and N class numbers."""
        seconds, classes = self._ask("mixed", texts, readers, size)
        return seconds, classes

    def fact(self, name: str) -> Any:
        """One of the contender's own attributes, as it is now."""
        return self._ask("fact", name)

    def peak(self) -> float:
        """The most memory held so far, in MB."""
        memory: float = self._ask("peak")
        return memory

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        self._process.join(10)

    def _ask(self, verb: str, *given: Any) -> Any:
        self._pipe.send((verb, given))
        return self._answer()

    def _answer(self) -> Any:
        fault, value = self._pipe.recv()
        if fault:
            raise RuntimeError(fault)
        return value


def prepare_process(threads: int | None) -> int:
    """Make ready to measure, here and in contenders' processes; returns the number of threads, `threads` if given."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    from pennyweight.model.device import set_threads

    set_threads(threads)
    count = torch.get_num_threads()
    # For the contenders' own processes: the tokenizers' threads count, too.
    paths = [*sys.path[:2], os.environ.get("PYTHONPATH", "")]
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)), "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(count),
    }  # fmt: skip
    return count


def in_child(kind: str, *args: Any) -> Any:
    """What a function, named `module:function`, returns in a process of its own, whose imports are not ours."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_hush) as pool:
        return pool.submit(_call, kind, args).result()


def _named(kind: str) -> Any:
    module, _, name = kind.partition(":")
    return getattr(importlib.import_module(module), name)


def _call(kind: str, args: Any) -> Any:
    return _named(kind)(*args)


def _hush() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.dup2(2, 1)  # standard output is the report's, for libraries that are not Python, too
    sys.stdout = sys.stderr


def _serve(pipe: Any, kind: str, threads: int, args: Any, settings: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _hush()
    try:
        contender = _named(kind)
        if "torch" in sys.modules:  # who computes without it is spared its memory
            sys.modules["torch"].set_num_threads(threads)
        made = contender(*args, **settings)
        facts = {key: value for key, value in vars(made).items() if isinstance(value, int | float)}
        pipe.send((None, facts))
        while True:
            verb, given = pipe.recv()
            pipe.send((None, VERBS[verb](made, *given)))
    except EOFError:
        return
    except BaseException:
        pipe.send((traceback.format_exc(), None))


def _seconds_to(made: Any, goals: list[float], texts: list[str], truth: list[int], every: int) -> dict[float, float]:
    import numpy as np

    right, reached = np.array(truth), dict[float, float]()
    before = made.tokenize_seconds + getattr(made, "prefix_seconds", 0.0)

    def watch(step: int, seconds: float) -> bool:
        if step % every == 0:
            accuracy = float((made.predict(texts) == right).mean())
            print(f"    step {step}: {accuracy:.3f} after {before + seconds:.1f} s", file=sys.stderr, flush=True)
            for goal in goals:
                if accuracy >= goal:
                    reached.setdefault(goal, round(before + seconds, 1))
        return len(reached) == len(goals)

    made.epoch(3, watch)
    return reached


def _bulk(made: Any, texts: list[str]) -> tuple[float, Any]:
    began = time.perf_counter()
    classes = made.classes(texts)
    return time.perf_counter() - began, classes


def _alone(made: Any, texts: list[str]) -> list[float]:
    seconds = []
    for text in texts:
        began = time.perf_counter()
        made.class_of(text)
        seconds.append(time.perf_counter() - began)
    return seconds


def _load(made: Any, count: int) -> float:
    made.load(count)
    gc.collect()
    held: int = psutil.Process().memory_info().rss
    return held / (1 << 20)


def _mixed(made: Any, texts: list[str], readers: list[int], size: int) -> tuple[float, list[int]]:
    began = time.perf_counter()
    classes = made.mixed(texts, readers, size)
    return time.perf_counter() - began, classes


def _peak(made: Any = None) -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


# What a contender may be asked. Those that train have `epoch` and `predict`; those that predict `tune`, `classes` and
# `class_of`; those with many adapters `load` and `mixed`.
VERBS: dict[str, Callable[..., Any]] = {
    "epoch": lambda made: (made.epoch(), _peak()),
    "seconds_to": _seconds_to,
    "tune": lambda made, texts: made.tune(texts),
    "bulk": _bulk,
    "alone": _alone,
    "load": _load,
    "mixed": _mixed,
    "fact": lambda made, name: getattr(made, name, None),
    "peak": _peak,
}
