"""Operations after which the host waits for a device, found on a CPU, where nothing waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# The host asks for a value, or for a size that depends on values.
WAITS = {
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero",
    "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::bincount",
}  # fmt: skip
BY_MASK = {"aten::index", "aten::index_put", "aten::index_put_"}
COPIES = ("tolist", "cpu", "numpy")  # on a CPU they are no operations


class DeviceWait(AssertionError):
    """What would have made the host wait."""


class _Watch(TorchDispatchMode):
    """Raises at such an operation. Places of dropout masks are drawn on the host and may be read."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: dict[int, Tensor] = {}  # by their address; kept, so that no other tensor comes to have it

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, given = function.name().partition(".")[0], dict(kwargs or {})
        on_host = bool(args) and isinstance(args[0], Tensor) and args[0].data_ptr() in self._drawn
        by_mask = name in BY_MASK and any(isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1])
        repeats = name == "aten::repeat_interleave" and given.get("output_size") is None
        if (name in WAITS and not on_host) or by_mask or repeats:
            raise DeviceWait(name)
        out = function(*args, **given)
        if name == "aten::randint":
            self._drawn[out.data_ptr()] = out
        return out


@contextmanager
def no_waits() -> Iterator[None]:
    """Inside, what would make the host wait for a device raises `DeviceWait`."""
    with pytest.MonkeyPatch.context() as patch, _Watch():
        for method in COPIES:
            patch.setattr(torch.Tensor, method, _refuse(method), raising=False)
        yield


def _refuse(method: str) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        raise DeviceWait(method)

    return called
