"""What Linux says of the processor, told without torch."""

from __future__ import annotations

from pathlib import Path


def processor_fact(*names: str) -> str | None:
    """The value of the first line of /proc/cpuinfo that begins with one of the names; None without such a line."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), None)
