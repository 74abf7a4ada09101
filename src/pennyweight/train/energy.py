"""The energy that a training took, where the processor counts it.

Linux shows the energy counters of processor packages (RAPL) as files, in microjoules; most virtual machines hide them
and many systems keep them from other users than root. Then there is no figure, rather than a guess.
https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
"""

from __future__ import annotations

from pathlib import Path

COUNTERS = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts from its construction on. Whole packages only: their parts (core, dram) would be counted twice."""

    def __init__(self, folder: Path = COUNTERS) -> None:
        packages = sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []
        self._packages = [package for package in packages if package.name.count(":") == 1]
        self._start = [_read(package / "energy_uj") for package in self._packages]

    def joules(self) -> float | None:
        """Joules since construction, all packages together; None where they cannot be read."""
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
