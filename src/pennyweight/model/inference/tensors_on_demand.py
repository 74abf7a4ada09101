"""Tensors that are read or computed when they are asked for, so that never all of them lie in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

# Smaller tensors are read at once: each one that is read later maps its file, and keeps it mapped while it lives.
SMALL = 1 << 20  # bytes


class TensorsOnDemand(Mapping[str, Tensor]):
    """Tensors by name; each is made anew whenever it is read, and kept by who reads it alone.

    Args:
        makers: by name, what makes a tensor.
        shapes: by name.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._makers, self.shapes = makers, shapes

    def __getitem__(self, name: str) -> Tensor:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:  # that of `Mapping` would read the tensor
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def already(tensor: Tensor) -> Callable[[], Tensor]:
    """A maker of a tensor that lies in memory as it is."""
    return lambda: tensor


def stored_tensors(files: Iterable[Path]) -> TensorsOnDemand:
    """The tensors of safetensors files by name; of two with one name the last.

    A large one is mapped when it is asked for and lets go of its file when it is freed, so that what was read of a file
    is not counted as memory of this process any more.

    Raises:
        OSError, SafetensorError: a file cannot be read.
    """
    from safetensors import safe_open

    makers: dict[str, Callable[[], Tensor]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with safe_open(file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = held.get_tensor(name)
                shapes[name] = tuple(tensor.shape)
                small = tensor.numel() * tensor.element_size() <= SMALL
                makers[name] = already(tensor.clone()) if small else partial(_read, file, name)
    return TensorsOnDemand(makers, shapes)


def _read(file: Path, name: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as held:
        tensor: Tensor = held.get_tensor(name)
        return tensor
