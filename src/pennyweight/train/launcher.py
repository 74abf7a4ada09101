"""The environment variables that torchrun and similar launchers set for their processes. No torch in here.

https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InputError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class ProcessPlace:
    """A process among those of a training.

    Attributes:
        rank: its number of `size`, from 0.
        local_rank: its number of the `local_size` on its machine, whose ranks follow each other.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched_place() -> ProcessPlace:
    """Where a launcher put this process; alone where there is none.

    Raises:
        InputError: some of what torchrun sets is missing, or is no number.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ProcessPlace()
    numbers = [os.environ.get(name, "") for name in VARIABLES]
    if any(not number.isdecimal() for number in (*numbers[:4], numbers[5])) or not numbers[4]:
        received = ", ".join(f"{name} {number or 'unset'}" for name, number in zip(VARIABLES, numbers, strict=True))
        raise InputError(
            "the processes cannot find each other", expected="the variables that torchrun sets",
            received=received, remedy="start them with torchrun, or unset WORLD_SIZE to train in one process",
        )  # fmt: skip
    return ProcessPlace(*map(int, numbers[:4]))


def is_follower() -> bool:
    """Whether a launcher started this process as another than the first: that one decides, saves and reports."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def refuse_launcher(what: str) -> None:
    """Refuse the processes of a launcher where each would do all of it.

    Args:
        what: of the message, such as `a search`.

    Raises:
        InputError: there are several processes.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError(
            f"{what} starts its own processes", expected="WORLD_SIZE 1 or unset",
            received=f"WORLD_SIZE {os.environ['WORLD_SIZE']}", remedy="start it without torchrun or accelerate launch",
        )  # fmt: skip


@contextmanager
def hidden_launcher() -> Iterator[None]:
    """Inside, nothing of the launcher is seen: Accelerate would make, and destroy, a process group of its own."""
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
