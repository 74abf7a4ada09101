"""How near two results have to be, in steps of their number format rather than as one processor rounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def near() -> Callable[..., None]:
    """A function `(found, expected, steps=64, name="")` that asserts the same values but for rounding.

    No number may differ by more than `steps` times the format's epsilon times the largest expected number: kernels add
    in different orders, and a sum is rounded in steps of its largest terms. 64 leaves room for chains of sums of a few
    hundred products, which differ by one to ten steps; where a term is left out, hundreds and more are missing.
    """

    def check(found: Tensor, expected: Tensor, steps: float = 64, name: str = "") -> None:
        assert found.dtype == expected.dtype, name
        assert found.shape == expected.shape, name
        largest = float(expected.detach().abs().max())
        off = float((found.detach().double() - expected.detach().double()).abs().max())
        allowed = steps * torch.finfo(expected.dtype).eps * largest
        assert off <= allowed, f"{name}: {off:.3g} off, {allowed:.3g} allowed at numbers up to {largest:.3g}"

    return check
