"""The states of torch's random generators: saved, set, and left as they were."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..model.device import usual_torch


class _Turn:
    """The lock of the training that draws random numbers; an observer may train within a training."""

    lock = threading.RLock()


def _begin_child() -> None:
    """A process that is forked while another thread trains has that thread's lock, but not the thread."""
    _Turn.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the CPU's generator and of the run's own device's, by the device's kind, as uint8 tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Set what `random_state` returned; a run that continues on another kind of device takes only the CPU's."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Afterwards the generators are as they were: what a caller draws does not depend on a training in between.

    Inside, torch's other settings are those of a new process (`usual_torch`).

    The generators are the process's own, so trainings in several threads take turns: side by side each would draw some
    of the other's numbers, and the same seed would give another classifier every time.

    Accelerators that nothing has been computed on yet are not woken up for it.
    """
    with _Turn.lock, usual_torch():
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(devices):
            yield
