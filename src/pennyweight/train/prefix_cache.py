"""The frozen prefix, computed once.

Layers below the lowest trained one give the same hidden states in every epoch. They are computed once, without dropout,
and kept without padding: in memory, or in a file that later runs with the same backbone, texts and layer read.
When nothing in the backbone is trained, one pooled vector a text is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from ..data.batching import Encoded, plan_batches
from ..errors import StorageError
from ..model.device import copy_rows, to_device
from ..model.encoders.encoder import Encoder
from ..model.inference import TokenFeed, evaluating
from ..model.inference.frozen_layers import FrozenLayers
from ..storage.atomic import atomic_file, recover
from ..storage.system_errors import storage_errors
from .process_group import ProcessGroup

MAGIC = b"pennyweight-prefix-1\n"
HEADER_BYTES = 1024  # fixed, so that the values after it stay aligned
SUFFIX = ".prefix"
CPU_TOKENS = 1536  # of a batch on a CPU, about
LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


class PrefixWarning(UserWarning):
    """The prefix cannot be kept where it was asked for. Training continues, with the same result."""


@dataclass(frozen=True)
class PrefixSpec:
    """The description of a cached prefix.

    Attributes:
        first: the lowest trained layer; with `num_layers` pooled vectors are kept instead of hidden states.
        pooling: `cls` or `mean`.
        dtype: what values are kept in. That of the encoder's hidden states loses nothing.
        backbone: fingerprint of the backbone's weights, and of the engine that computes them.
    """

    first: int
    pooling: str
    dtype: torch.dtype
    backbone: str


@dataclass(frozen=True)
class Prefix:
    """Hidden states before layer `first` of N texts, end to end.

    Attributes:
        hidden: (tokens, H) in memory, or mapped from a file; or on the device, see `prefix_placement`.
        starts: (N,) where each text begins in `hidden`.
        lengths: (N,) how many rows it has: its tokens, or 1 where pooled vectors are kept.
        first: the layer to continue at.
        bucket: batches are padded to a multiple of this many rows.
        device: where batches go.
        file: where it is kept, if it is.
        reused: whether an earlier run had computed it.
        seconds: what computing or checking it took.
    """

    hidden: Tensor
    starts: np.ndarray
    lengths: np.ndarray
    first: int
    bucket: int
    device: torch.device
    file: Path | None
    reused: bool
    seconds: float

    @property
    def bytes(self) -> int:
        """The size of what is kept."""
        return self.hidden.numel() * self.hidden.element_size()

    def __call__(self, indices: np.ndarray) -> dict[str, Tensor | int]:
        """A batch for `SequenceClassifier.forward`: hidden (B, T, H), attention_mask (B, T), tokens, first."""
        lengths = self.lengths[indices]
        longest = int(lengths.max(initial=1))
        width = 1 if longest == 1 else -(-longest // self.bucket) * self.bucket
        columns = np.arange(width)
        mask = columns < lengths[:, None]  # (B, T)
        # Padding reads the text's first row: any finite value will do, since the mask hides it.
        rows = self.starts[indices][:, None] + np.where(mask, columns, 0)  # (B, T)
        if self.hidden.device.type != "cpu":  # kept where it is read
            hidden = self.hidden.index_select(0, to_device(rows.ravel(), self.device))
        else:
            hidden = copy_rows(self.hidden, torch.from_numpy(rows.ravel()), self.device)
        return {
            "hidden": hidden.view(*mask.shape, -1),
            "attention_mask": to_device(mask.astype(np.int64), self.device),
            "tokens": int(mask.sum()),
            "first": self.first,
        }


def first_trained_layer(module: nn.Module, num_layers: int) -> int:
    """The lowest layer with a trained parameter: 0 if the embeddings are trained, `num_layers` if nothing is."""
    lowest = num_layers
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            found = LAYER.search(name)
            lowest = min(lowest, int(found[1]) if found else 0)
    return lowest


def estimate(lengths: np.ndarray, hidden_size: int, first: int, num_layers: int, dtype: torch.dtype) -> int:
    """Bytes a prefix will take, known before it is computed."""
    rows = len(lengths) if first >= num_layers else int(lengths.sum())
    return rows * hidden_size * dtype.itemsize


def prefix_key(spec: PrefixSpec, tokens: Encoded) -> str:
    """SHA-256 over all that the kept values depend on; the token ids say what texts, tokenizer and truncation were."""
    digest = hashlib.sha256(MAGIC)
    digest.update(json.dumps([spec.backbone, spec.first, spec.pooling, str(spec.dtype), torch.__version__]).encode())
    digest.update(np.ascontiguousarray(tokens.offsets, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(tokens.ids, dtype="<i4").tobytes())
    if tokens.type_ids is not None:
        digest.update(np.ascontiguousarray(tokens.type_ids, dtype="<i4").tobytes())
    return digest.hexdigest()


def prepare(
    encoder: Encoder,
    feed: TokenFeed,
    spec: PrefixSpec,
    *,
    folder: str | Path | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    group: ProcessGroup | None = None,
    layers: FrozenLayers | None = None,
) -> Prefix | None:
    """Compute the hidden states before layer `spec.first`, or read those of an earlier run.

    Args:
        feed: gives batches of token ids, and holds them all.
        folder: where to keep files. None: in memory.
        limit: most bytes to keep, all files of the folder together; of a disk never more than half of what is free
            without them. None: that half, of the memory or the disk.
        layers: compute the hidden states instead of the encoder, where there are layers left to train.
        group: processes that call this together. Those of one machine share what is kept: in memory each computes its
            share, a file is written by one.

    Returns:
        None when there is nothing to keep (`first` is 0), or, with one warning, when it would take more than the limit.
    """
    if spec.first == 0:
        return None
    began = time.perf_counter()
    group = group or ProcessGroup()
    work = _Computation(encoder, feed, spec, batch_size, layers)
    file, problem = None, ""
    if folder is not None:
        file = Path(folder) / f"{prefix_key(spec, feed.encoded)}{SUFFIX}"
        try:
            with group.one_before_others():
                hidden, reused = work.read_or_write(file, limit)
        except StorageError as error:
            problem = f"{error}; "
        if any(group.gather(bool(problem))):
            file = None
    if file is None:
        most = psutil.virtual_memory().available // 2 if limit is None or folder is not None else limit
        # All keep it or none: another machine may have less memory.
        if not all(group.gather(_fits_in_memory(work.bytes, most, problem))):
            return None
        hidden, reused = work.in_memory() if group.size == 1 else work.in_shared_memory(group), False
    seconds = time.perf_counter() - began
    return Prefix(hidden, work.starts, work.kept, spec.first, feed.bucket, feed.device, file, reused, seconds)


def _fits_in_memory(needed: int, most: int, problem: str) -> bool:
    """Whether bytes may be kept in memory; warns where not, or where the memory replaces a file after a `problem`."""
    if needed > most:
        warnings.warn(
            f"{problem}the frozen prefix takes {needed / 1e9:.1f} GB and {most / 1e9:.1f} GB of memory are allowed: "
            "lower layers are computed in every epoch; train on fewer or shorter texts, or raise the limit",
            PrefixWarning,
            stacklevel=3,
        )
        return False
    if problem:
        warnings.warn(f"{problem}the frozen prefix is kept in memory instead", PrefixWarning, stacklevel=3)
    return True


class _Computation:
    """The forward passes behind a prefix, and where each text's rows go.

    Attributes:
        kept: (N,) rows of each text.
        starts: (N,) where they begin; texts lie in the order in which they are computed.
        bytes: bytes of all rows.
    """

    def __init__(
        self, encoder: Encoder, feed: TokenFeed, spec: PrefixSpec, batch_size: int, layers: FrozenLayers | None
    ) -> None:
        self.encoder, self.feed, self.spec, self.layers = encoder, feed, spec, layers
        lengths = feed.encoded.lengths
        self.kept = np.ones_like(lengths) if spec.first >= encoder.num_layers else np.maximum(lengths, 1)
        if feed.device.type == "cpu" and len(lengths):
            # Hidden states of more tokens leave the processor's cache between two products.
            batch_size = min(batch_size, max(8, CPU_TOKENS // max(1, int(lengths.mean()))))
        self.batches = plan_batches(lengths, batch_size=batch_size, bucket=feed.bucket, seed=None)
        order = np.concatenate(self.batches) if self.batches else np.zeros(0, dtype=np.int64)
        self.starts = np.empty_like(self.kept)
        self.starts[order] = np.cumsum(self.kept[order]) - self.kept[order]
        self.shape = (int(self.kept.sum()), encoder.hidden_size)
        self.bytes = estimate(lengths, encoder.hidden_size, spec.first, encoder.num_layers, spec.dtype)

    def read_or_write(self, file: Path, limit: int | None) -> tuple[Tensor, bool]:
        """The rows mapped from a file, written first unless it is there; and whether it was.

        Raises:
            StorageError: it does not fit under the limit, or cannot be written.
        """
        key, dtype = file.name.removesuffix(SUFFIX), self.spec.dtype
        found = _open(file, key, self.shape, dtype)
        if found is not None:
            return found, True
        _make_room(file.parent, self.bytes, limit)
        _write(file, key, self.shape, dtype, self.chunks(self.batches))
        written = _open(file, key, self.shape, dtype)
        if written is None:
            raise StorageError("the written file cannot be read back", where=file)
        _make_room(file.parent, 0, limit)  # others may have written at the same time
        return written, False

    def in_memory(self) -> Tensor:
        """The rows, computed into memory."""
        hidden = torch.empty(self.shape, dtype=self.spec.dtype)
        at = 0
        for chunk in self.chunks(self.batches):
            hidden[at : at + len(chunk)] = chunk
            at += len(chunk)
        return hidden

    def in_shared_memory(self, group: ProcessGroup) -> Tensor:
        """The rows, computed into memory that the processes of a machine share, every one its share of the batches.

        The batches are those of one process, so the values are, too.
        """
        hidden = group.shared_rows(self.shape, self.spec.dtype)
        own = self.batches[group.place.local_rank :: group.place.local_size]
        for indices, chunk in zip(own, self.chunks(own), strict=True):
            at = int(self.starts[indices[0]])
            hidden[at : at + len(chunk)] = chunk
        group.wait()
        return hidden

    def chunks(self, batches: list[np.ndarray]) -> Iterator[Tensor]:
        """Batch after batch, rows (tokens, H) without padding."""
        encoder, first = self.encoder, self.spec.first
        if self.layers is not None and first < encoder.num_layers:
            for indices in batches:
                yield self.layers.hidden(self.feed.encoded, indices, first).to(self.spec.dtype)
            return
        with evaluating(encoder.module):
            for indices in batches:
                with torch.no_grad():
                    batch: dict[str, Any] = self.feed(indices)
                    ids, mask = batch["input_ids"], batch["attention_mask"]
                    hidden = encoder.embed(ids, mask, batch.get("token_type_ids"))  # (B, T, H)
                    if first >= encoder.num_layers:
                        rows = encoder.pooled(hidden, mask, 0, self.spec.pooling)  # (B, H)
                    else:
                        kept = mask.bool()
                        kept[:, 0] = True  # a text without tokens keeps one row, so that each text has a place
                        rows = encoder.run(hidden, mask, 0, first)[kept]  # (tokens, H)
                yield rows.to("cpu", self.spec.dtype)


def _write(file: Path, key: str, shape: tuple[int, int], dtype: torch.dtype, chunks: Iterator[Tensor]) -> None:
    """Values after a header of fixed size that names key, shape, type and the values' SHA-256; whole or absent."""
    digest = hashlib.sha256()
    with atomic_file(file) as aside, aside.open("r+b") as handle:
        handle.write(bytes(HEADER_BYTES))
        for chunk in chunks:
            raw = chunk.contiguous().view(torch.uint8).numpy().data
            handle.write(raw)
            digest.update(raw)
        handle.seek(0)
        handle.write(_header(key, shape, dtype, digest.hexdigest()))


def _header(key: str, shape: tuple[int, int], dtype: torch.dtype, digest: str) -> bytes:
    text = json.dumps({"key": key, "shape": shape, "dtype": str(dtype), "sha256": digest})
    return (MAGIC + text.encode() + b"\n").ljust(HEADER_BYTES, b" ")


def _open(file: Path, key: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """The values mapped from a file, or None when it is absent, stale or damaged; then it will be written again.

    As long as they are mapped the file is locked, shared: nobody makes room by removing it.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    try:
        with file.open("rb") as handle:
            with suppress(OSError):  # no locks here, or being removed this moment: what is open can still be read
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(handle.fileno()).st_size != HEADER_BYTES + size:
                return None
            digest = hashlib.sha256()
            header = handle.read(HEADER_BYTES)
            while block := handle.read(1 << 20):
                digest.update(block)
            if header != _header(key, shape, dtype, digest.hexdigest()):
                return None
            with suppress(PermissionError, FileNotFoundError):  # others may own a cache, or be removing from it
                os.utime(file)  # used now: the last to make room for others
            # Copy on write: torch wants memory that may be written; the file stays as it is. The mapping holds a
            # duplicate of the handle, and with it the lock.
            values = np.memmap(handle, dtype=np.uint8, mode="c", offset=HEADER_BYTES, shape=(size,))
    except (OSError, ValueError):
        return None
    return torch.from_numpy(values).view(dtype).view(shape)


def _make_room(folder: Path, needed: int, limit: int | None) -> None:
    """Remove the files unused longest, but none in use, until `needed` bytes fit under the limit.

    Raises:
        StorageError: when they cannot fit; then nothing is removed.
    """
    place = folder
    while not os.path.exists(place):
        place = place.parent
    with storage_errors(folder):
        recover(folder)  # what killed writers left
        free = shutil.disk_usage(place).free
        files = sorted(_sizes(folder), key=lambda one: (one[2], one[0].name))
    total = sum(size for _, size, _ in files)
    # Never more than half of what would be free without the cache, whatever it may take.
    most = min((free + total) // 2, (free + total) if limit is None else limit)
    idle = [(path, size) for path, size, _ in files if path.parent == folder and not _in_use(path)]
    held = total - sum(size for _, size in idle)
    if needed and held + needed > most:
        used = f", {held / 1e9:.3f} GB of it in use" if held else ""
        raise StorageError(
            f"the frozen prefix takes {needed / 1e9:.3f} GB",
            where=folder,
            expected=f"at most {most / 1e9:.3f} GB{used}",
            remedy="free some space or raise the limit with --cache-gb",
        )
    for path, size in idle:
        if total + needed <= most:
            break
        if _remove(path):
            total -= size


def _sizes(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Kept files, and those being written: path, bytes, when used last. What vanishes meanwhile is left out."""
    paths = list(folder.glob(f"*{SUFFIX}"))
    for writing_to in folder.glob(f".*{SUFFIX}.*"):
        with suppress(FileNotFoundError, NotADirectoryError):
            paths += writing_to.iterdir()
    for path in paths:
        with suppress(FileNotFoundError):
            found = path.stat()
            writing = path.parent != folder
            yield path, found.st_size, math.inf if writing else found.st_mtime


def _in_use(path: Path) -> bool:
    """Whether somebody has a file mapped, or it is not ours to look at."""
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _remove(path: Path) -> bool:
    """Remove a file unless somebody has taken it in use; whether it is gone."""
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:  # in use now, or somebody else's
        return False
    return True
