"""The device, number format and threads that this machine computes with."""

from __future__ import annotations

import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from ..errors import InputError, ResourceError
from ..system.forks import may_wait_forever
from ..system.processor import processor_fact
from .kernels.int8_linear import has_int8

logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("auto", *DTYPES)


@dataclass(frozen=True)
class Runtime:
    """Where and in which number format to compute.

    Attributes:
        device: a torch device.
        precision: `fp32`, `bf16` or `fp16`; in inference also `int8`.
    """

    device: torch.device
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the products, as torch names it; of what is not a product in int8, fp32."""
        return DTYPES.get(self.precision, torch.float32)

    @property
    def unit(self) -> str:
        """The name of the device for figures and caches: `cpu`, `mps`, or `cuda` with the GPU's name."""
        return f"cuda:{torch.cuda.get_device_name(self.device)}" if self.device.type == "cuda" else self.device.type


def choose(device: str = "auto", precision: str = "auto", threads: int | None = None) -> Runtime:
    """Resolve `auto`: the best device available, bf16 where it is faster, one thread a physical core.

    Raises:
        InputError: for a device or precision of another name.
        ResourceError: when a device is not available, or does not compute in the precision.
    """
    for value, known in ((device, DEVICES), (precision, PRECISIONS)):
        if value not in known:
            raise InputError("unknown device or precision", expected=" or ".join(known), received=value)
    set_threads(threads)
    name = device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise ResourceError(f"no {name} device on this machine", remedy="use --device cpu or auto")
    if precision == "auto":
        precision = _cuda_precision() if name == "cuda" else "bf16" if name == "cpu" and bf16_is_faster() else "fp32"
    if name == "cpu":
        _check_cpu(precision)
    return Runtime(torch.device(name), precision)


def choose_for_inference(
    device: str, wanted: str | None, trained: str, chosen: str | None, threads: int | None = None
) -> Runtime:
    """Where and in which number format a saved classifier computes.

    Args:
        wanted: `fp32`, `bf16`, `fp16` or `int8`; None for what was chosen in training, where this machine can; `auto`
            for the fastest here, int8 only where it was chosen in training.
        trained: what the recipe asked for, maybe `auto`.
        chosen: what was measured to be the fastest that is as good, in training; None if nothing was measured.

    Raises:
        InputError, ResourceError: as for `choose`.
    """
    if wanted in (None, "auto"):
        exact = choose(device, "fp32", threads)
        if exact.device.type == "cpu" and chosen == "int8" and has_int8():
            return replace(exact, precision="int8")
        if exact.device.type == "cpu" and chosen == "fp32" and wanted is None:
            return exact
        return choose(device, trained if wanted is None else "auto", threads)
    if wanted == "int8":
        runtime = choose("cpu" if device == "auto" else device, "fp32", threads)
        if runtime.device.type != "cpu" or not has_int8():
            raise ResourceError("int8 needs a CPU with int8 kernels", remedy="use --precision auto")
        return Runtime(runtime.device, "int8")
    assert wanted is not None
    return choose(device, wanted, threads)


def check_inference_precision(runtime: Runtime, wanted: str, prefix: str = "same") -> None:
    """Refuse, before anything is trained, a number format that this machine cannot predict in, or keep a prefix in.

    Raises:
        ResourceError: naming the remedy.
    """
    if prefix == "int8" and (runtime.device.type != "cpu" or not has_int8()):
        raise ResourceError("int8 needs a CPU with int8 kernels", remedy="use --prefix-precision auto")
    if runtime.device.type == "cpu" and wanted == "bf16":
        _check_cpu(wanted)
    if runtime.device.type == "cpu" and wanted == "int8" and not has_int8():
        raise ResourceError("this CPU's kernels do not compute in int8", remedy="use --inference-precision auto")


def _check_cpu(precision: str) -> None:
    """Refuse number formats that a CPU does not compute in: most take a hundred times as long in fp16 as in fp32."""
    if precision == "fp16":
        raise ResourceError("CPUs do not support fp16", remedy="use --precision bf16 or fp32")
    if precision == "bf16" and not computes_bf16():
        raise ResourceError("this CPU's kernels do not compute in bf16", remedy="use --precision fp32")


def set_threads(threads: int | None) -> None:
    """Use `threads` CPU threads; otherwise what OMP_NUM_THREADS says; otherwise one a physical core.

    In the thread that a forked process began with it is one, whatever is asked for.
    """
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = min(psutil.cpu_count(logical=False) or allowed, allowed)
    threads = torch.get_num_threads() if threads is None else threads
    if threads > 1 and may_wait_forever():
        logger.warning(
            "threads: training uses one CPU thread, because a forked process cannot use more: "
            "start it with the method spawn or forkserver for more"
        )
        threads = 1
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


@contextmanager
def usual_torch() -> Iterator[None]:
    """torch as a new process has it, whatever the caller has set: gradients where they are asked for, no autocast, and
    new tensors in fp32 on the CPU. Afterwards all is as it was.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with ExitStack() as stack:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


@cache
def computes_bf16() -> bool:
    """Whether this CPU multiplies bf16 at all, however slowly: tried once, in a shape that oneDNN computes."""
    left, right = torch.ones(64, 64, dtype=torch.bfloat16), torch.ones(64, 64, dtype=torch.bfloat16)
    try:
        return bool((torch.mm(left, right) == 64).all())
    except RuntimeError:
        return False


def _cuda_precision() -> str:
    """The format that this GPU's tensor cores take: bf16 from Ampere on, fp16 on a V100 or T4, which emulate bf16."""
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability() >= (7, 0) else "fp32"


def _has_bf16_kernels() -> bool:
    """Whether oneDNN is available (it is not in every build or on every processor) and has kernels for bf16."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # it has no public name, so another build may lack it
        return False


@cache
def bf16_is_faster() -> bool:
    """Whether this CPU multiplies bf16 faster than fp32: oneDNN is asked, then it is timed once (a few milliseconds).

    A CPU without AVX512-BF16 or AMX emulates bf16 and is slower with it.
    """
    if not _has_bf16_kernels() or not computes_bf16():
        return False
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(1024, 384, dtype=dtype), torch.ones(384, 384, dtype=dtype)
        times = []
        for _ in range(6):
            began = time.perf_counter()
            torch.mm(left, right)
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device; to a GPU through pinned memory, so that the host need not wait until the device is ready.

    torch keeps the pinned memory until the copy is done.
    """
    tensor = torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken: of a CUDA device's memory what is free or torch keeps unused, else of the RAM."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def wait_for(device: torch.device) -> None:
    """Let the host wait until a GPU has done all that it was given, so that it can be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rows(values: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Some rows of a tensor in main memory, on a device: (N, H) and row numbers (M,) -> (M, H).

    To a GPU they go through pinned memory and on a stream of their own, so that they are under way while the GPU still
    computes what it was given before.
    """
    if device.type != "cuda":
        return values.index_select(0, rows).to(device, non_blocking=True)
    pinned = torch.empty(len(rows), values.shape[1], dtype=values.dtype, pin_memory=True)
    torch.index_select(values, 0, rows, out=pinned)
    stream, current = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        found = pinned.to(device, non_blocking=True)
    current.wait_stream(stream)  # the GPU waits, not the host
    found.record_stream(current)  # else its memory might be given away while it is read
    return found


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def machine(runtime: Runtime) -> dict[str, Any]:
    """The machine that figures were measured on, and the peak memory of this process, on its GPU too."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    gpu = runtime.device.type == "cuda"
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(runtime.device) if gpu else runtime.device.type,
        "precision": runtime.precision,
        "system": platform.platform(),
        "peak_memory_mb": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
    } | ({"peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated(runtime.device) / (1 << 20)),
          # torch's own default is off, and we leave it: fp32 then means fp32.
          "tf32": torch.get_float32_matmul_precision() != "highest"} if gpu else {})  # fmt: skip


def _processor() -> str:
    name = processor_fact("model name")
    return platform.processor() or platform.machine() if name is None else name
