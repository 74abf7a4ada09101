"""A contender in a process of its own, so that its memory is its own and no other's threads are in its way.

Contenders take turns: while one works, the others wait for a message and take no processor time.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import resource
import sys
import traceback
import warnings
from typing import Any


class Contender:
    """Drives a contender class, named `module:Class`, in a child process.

    Attributes:
        facts: what the contender says of itself once it is made: `tokenize_seconds`, `prefix_seconds`, `operations`...
    """

    def __init__(self, kind: str, threads: int, *args: Any, **settings: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, kind, threads, args, settings), daemon=True)
        self._process.start()
        theirs.close()
        self.facts: dict[str, Any] = self._answer()

    def epoch(self) -> tuple[list[float], float]:
        """Train over all texts once: seconds of each step, and the most memory held so far, in MB."""
        self._pipe.send(("epoch", ()))
        steps, memory = self._answer()
        return steps, memory

    def seconds_to(self, goals: list[float], texts: list[str], truth: list[int], every: int) -> dict[float, float]:
        """Train up to 3 epochs, look each `every` steps: seconds of training until each share of `texts` is right."""
        self._pipe.send(("seconds_to", (goals, texts, truth, every)))
        found: dict[float, float] = self._answer()
        return found

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        self._process.join(10)

    def _answer(self) -> Any:
        fault, value = self._pipe.recv()
        if fault:
            raise RuntimeError(fault)
        return value


def _serve(pipe: Any, kind: str, threads: int, args: Any, settings: Any) -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.stdout = sys.stderr  # standard output is the report's
    try:
        import torch

        torch.set_num_threads(threads)
        module, _, name = kind.partition(":")
        made = getattr(importlib.import_module(module), name)(*args, **settings)
        numbers = {key: value for key, value in vars(made).items() if isinstance(value, int | float)}
        pipe.send((None, numbers))
        while True:
            verb, given = pipe.recv()
            if verb == "epoch":
                pipe.send((None, (made.epoch(), _peak())))
            else:
                pipe.send((None, _seconds_to(made, *given)))
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


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
