"""The states of torch's random generators: saved, set, and left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def random_state() -> dict[str, Tensor]:
    """The states of the CPU's generator and of every accelerator's, as uint8 tensors."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, Tensor]) -> None:
    """Set what `random_state()` returned, as far as this machine has the same devices."""
    torch.set_rng_state(states["cpu"])
    for name, state in states.items():
        kind, _, number = name.partition(":")
        if kind == "cuda" and int(number) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(number))
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Afterwards the generators are as they were: what a caller draws does not depend on a training in between.

    Accelerators that nothing has been computed on yet are not woken up for it.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        yield
