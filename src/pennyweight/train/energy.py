"""The energy that a training took, where the processor or the GPU counts it.

Linux shows the energy counters of processor packages (RAPL) as files, in microjoules; most virtual machines hide them
and many systems keep them from other users than root. Then there is no figure, rather than a guess.
https://www.kernel.org/doc/html/latest/power/powercap/powercap.html

NVIDIA's cards count theirs since Volta. The library that reads it (`pip install nvidia-ml-py`) is optional.
https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch

COUNTERS = Path("/sys/class/powercap")


class Meter(Protocol):
    """Counts energy from its construction on."""

    def joules(self) -> float | None:
        """Joules since construction; None if they cannot be read."""


def energy_meter(device: torch.device) -> Meter:
    """A meter of the card, of a run on a GPU, otherwise of the processor."""
    return GpuEnergyMeter(device) if device.type == "cuda" else EnergyMeter()


class GpuEnergyMeter:
    """Counts the energy of one NVIDIA card."""

    def __init__(self, device: torch.device) -> None:
        self._number = device.index if device.index is not None else torch.cuda.current_device()
        self._start = self._millijoules()

    def joules(self) -> float | None:
        """Joules since construction; None if they cannot be read."""
        now = self._millijoules()
        return None if now is None or self._start is None else (now - self._start) / 1e3

    def _millijoules(self) -> int | None:
        try:
            nvml: Any = import_module("pynvml")
            nvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(self._number).uuid)  # CUDA_VISIBLE_DEVICES renumbers cards
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except Exception:  # not installed, or a card, driver or container that does not say: there is no figure
            return None


class EnergyMeter:
    """Counts from its construction on. Whole packages only: their parts (core, dram) would be counted twice."""

    def __init__(self, folder: Path = COUNTERS) -> None:
        packages = sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []
        self._packages = [package for package in packages if package.name.count(":") == 1]
        self._start = [_read(package / "energy_uj") for package in self._packages]

    def joules(self) -> float | None:
        """Joules since construction, all packages together; None if they cannot be read."""
        total = 0
        for package, start in zip(self._packages, self._start, strict=True):
            now = _read(package / "energy_uj")
            if start is None or now is None:
                return None
            if now < start:  # the counter has wrapped around
                now += _read(package / "max_energy_range_uj") or 0
            total += now - start
        return total / 1e6 if self._packages else None


def _read(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
