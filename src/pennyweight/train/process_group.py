"""The processes of a data-parallel training run and their communication: gloo between CPUs, NCCL between GPUs.

The first process reads, cleans, decides, saves and reports. Each step, every process computes its share of the step's
batch, and one all-reduce of one flat buffer sums gradients, loss and the wish to stop. So all of them hold the same
weights, and stop after the same step.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from math import prod
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError, OneLineError, PennyweightError, RecipeError, ResourceError
from ..model.device import Runtime, choose
from ..storage.descriptors import sent_to
from ..storage.system_errors import storage_errors
from .launcher import ProcessPlace, hidden_launcher, launched_place

Result = TypeVar("Result")
_MEETING = timedelta(minutes=10)  # until all processes have started
_SILENCE = timedelta(days=1)  # while the first one reads, or measures; one that dies is noticed at once
_SHARED = Path("/dev/shm")


class ProcessGroup:
    """The processes of a training, seen from one of them; without arguments one process alone.

    Args:
        place: place of this process.
        members: torch's group of all.
    """

    def __init__(self, place: ProcessPlace | None = None, members: Any = None) -> None:
        self.place = place or ProcessPlace()
        self.rank, self.size = self.place.rank, self.place.size
        self._members = members

    def first(self, make: Callable[[], Result]) -> Result:
        """The result of `make` in the first process, sent to all processes.

        Raises:
            OneLineError: what `make` raised, in all of them.
        """
        if self.size == 1:
            return make()
        answer: list[Any] = [None, None]
        failure: Exception | None = None
        if self.rank == 0:
            try:
                answer[0] = make()
            except Exception as error:
                failure = error
                answer[1] = error if isinstance(error, OneLineError) else PennyweightError("the first process failed")
        with self._together():
            dist.broadcast_object_list(answer, src=0, group=self._members, device=torch.device("cpu"))
        if failure is not None:
            raise failure
        if answer[1] is not None:
            answer[1].told = True
            raise answer[1]
        found: Result = answer[0]
        return found

    def gather(self, value: Result) -> list[Result]:
        """Every process's value, by rank, in all of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(found, value, group=self._members)
        return found

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum(torch.zeros(1))

    def sum(self, values: Tensor) -> None:
        """Sum a tensor over the processes, in place. Which is added to which is fixed, so the last bit is, too."""
        if self.size > 1:
            with self._together():
                dist.all_reduce(values, group=self._members)

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.size > 1:
            with self._together(), torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0, group=self._members)

    def deal(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """This process's share of a batch's rows, as long in sum as anyone's: sorted by length, then dealt in turn.

        Args:
            rows: (B,) row numbers.
            lengths: (N,) tokens of every row.
        """
        return rows if self.size == 1 else deal(rows, lengths, self.rank, self.size)

    def by_rows(self, lengths: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(N, ...) what `compute` gives for row numbers, each process computing its share of the N rows.

        Args:
            lengths: (N,) tokens of each row.
        """
        rows = np.arange(len(lengths))
        parts = self.gather(compute(self.deal(rows, lengths)))
        found = np.empty((len(rows), *parts[0].shape[1:]), parts[0].dtype)  # the first share is never the smaller one
        for rank, part in enumerate(parts):
            own = deal(rows, lengths, rank, self.size) if self.size > 1 else rows
            if len(own):
                found[own] = part
        return found

    def sum_step(self, parameters: Sequence[nn.Parameter], loss: float, stop: bool) -> tuple[float, bool]:
        """Sum gradients over the processes, in place, and the loss; and whether any of them was asked to stop.

        A process whose share of a small batch was empty has no gradients: it adds zeros.
        """
        if self.size == 1:
            return loss, stop
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        device = gradients[0].device
        rest = torch.tensor([loss, float(stop)], dtype=torch.float32, device=device)
        flat = torch.cat([*(gradient.reshape(-1).float() for gradient in gradients), rest])
        self.sum(flat)
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        loss_sum, stops = flat[at:].tolist()
        return loss_sum, stops > 0

    def seed_step(self, seed: int, step: int) -> None:
        """Seed the generators for a step, differently in each process: dropout masks need no state to resume from."""
        if self.size > 1:
            torch.manual_seed(int(np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)[0] >> 1))

    def shared_rows(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """A tensor that the processes of one machine share, to be filled by all of them.

        In a file that has no name any more, so that it ends with them: in memory where there is room, else on disk.

        Raises:
            StorageError: there is no room.
        """
        size = prod(shape) * dtype.itemsize
        if size == 0:
            return torch.empty(shape, dtype=dtype)
        path = _make_file(size) if self.place.local_rank == 0 else None
        try:
            name = self.gather(path)[self.rank - self.place.local_rank]
            assert name is not None
            values = np.memmap(name, dtype=np.uint8, mode="r+", shape=(size,))
            self.wait()
        finally:
            if path is not None:
                path.unlink()
        return torch.from_numpy(values).view(dtype).view(shape)

    @contextmanager
    def one_before_others(self) -> Iterator[None]:
        """One process of each machine does the block first, then the others do."""
        if self.place.local_rank:
            self.wait()
        try:
            yield
        finally:
            if not self.place.local_rank:
                self.wait()

    def runtime(self, decided: Runtime, threads: int | None) -> Runtime:
        """Where this process computes, in the number format that the first one decided on.

        Raises:
            InputError: there are more processes than GPUs on this machine.
            ResourceError: this machine lacks the device, or does not compute in the format.
        """
        if self.size == 1:
            return decided
        if decided.device.type == "cuda":
            if self.place.local_size > torch.cuda.device_count():
                raise InputError(
                    "there are more processes than GPUs",
                    expected=f"at most {torch.cuda.device_count()} processes a machine",
                    received=f"{self.place.local_size}", remedy="lower --nproc-per-node, or use --device cpu",
                )  # fmt: skip
            torch.cuda.set_device(self.place.local_rank)
        found = choose(decided.device.type, decided.precision, threads) if self.rank else decided
        return found if decided.device.type != "cuda" else replace(found, device=torch.device("cuda"))

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse batches that leave a process without texts.

        Raises:
            RecipeError: naming the remedy.
        """
        if batch_size < self.size:
            raise RecipeError(
                "a step's batch is shared by all processes", where="train -> batch_size",
                expected=f"at least {self.size}, one text for each process", received=batch_size,
                remedy="raise --batch-size or start fewer processes",
            )  # fmt: skip

    @contextmanager
    def _together(self) -> Iterator[None]:
        """A one-line error for torch's errors when another process is gone."""
        try:
            yield
        except RuntimeError as error:
            lost = ResourceError(
                "another process of this training ended, or cannot be reached",
                remedy="continue from the last checkpoint with the same number of processes and --resume",
            )
            lost.told = self.rank > 0
            raise lost from error


def deal(rows: np.ndarray, lengths: np.ndarray, rank: int, size: int) -> np.ndarray:
    """One process's share of a batch's rows, see `ProcessGroup.deal`; shares differ by one row at most."""
    order = np.argsort(-lengths[rows], kind="stable")
    return rows[order[rank::size]]


@contextmanager
def launched_group() -> Iterator[ProcessGroup]:
    """The processes that a launcher started, met; alone where there is none.

    Raises:
        InputError: see `launched_place`.
        ResourceError: they do not find each other.
    """
    place = launched_place()
    if place.size == 1:
        yield ProcessGroup()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with sent_to(1, 2):  # the gloo of torch 2.9 greets on standard output, which belongs to --json
            dist.init_process_group(backend, timeout=_MEETING)
            members = dist.new_group(timeout=_SILENCE, backend=backend)
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            "the processes of this training cannot find each other",
            where=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", received=str(error).splitlines()[0],
        ) from error  # fmt: skip
    try:
        with hidden_launcher():
            yield ProcessGroup(place, members)
    finally:
        with suppress(RuntimeError):  # of a group whose other processes are gone
            dist.destroy_process_group()


def _make_file(size: int) -> Path:
    """A file of so many bytes whose place is reserved: a mapping of one that finds none would kill its process."""
    roomy = _SHARED.is_dir() and os.access(_SHARED, os.W_OK) and disk_usage(_SHARED).free > 2 * size
    with storage_errors(_SHARED if roomy else Path(tempfile.gettempdir())):
        descriptor, name = tempfile.mkstemp(prefix="pennyweight-", dir=_SHARED if roomy else None)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            os.unlink(name)
            raise
        finally:
            os.close(descriptor)
    return Path(name)
