"""The device under test: a CUDA device, or in the rehearsal (PENNYWEIGHT_GPU_TESTS_ON=cpu) the CPU."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    name = os.environ.get("PENNYWEIGHT_GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return torch.device(name)


@pytest.fixture(scope="session")
def formats(device: torch.device) -> tuple[str, ...]:
    """The number formats that the device trains in."""
    if device.type == "cpu":
        return ("fp32", "bf16")
    return ("fp32", "fp16", "bf16") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp32", "fp16")
