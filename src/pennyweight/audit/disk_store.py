"""Texts and MinHash bands kept on disk, so that memory does not grow with the number of rows."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np


class TextStore:
    """Texts by number, kept in a file without a name: 8 bytes of memory a text, whatever its length."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the object)
        self._ends = array("q", [0])

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, texts: Sequence[str]) -> None:
        """Put texts behind the others."""
        end = self._ends[-1]
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        for part in parts:
            end += len(part)
            self._ends.append(end)
        self._file.write(b"".join(parts))

    def __getitem__(self, row: int) -> str:
        self._file.flush()
        start, end = self._ends[row], self._ends[row + 1]
        return os.pread(self._file.fileno(), end - start, start).decode("utf-8", "surrogatepass")


class BandStore:
    """(N, bands) 32-bit keys, written row by row and read band by band: 4 bytes of memory a row at a time."""

    def __init__(self, bands: int) -> None:
        self._files: list[Any] = [tempfile.TemporaryFile() for _ in range(bands)]  # noqa: SIM115

    def close(self) -> None:
        """Give the files back."""
        for file in self._files:
            file.close()

    def __len__(self) -> int:
        return len(self._files)

    def add(self, keys: np.ndarray) -> None:
        """Put (n, bands) uint32 keys behind the others."""
        for file, column in zip(self._files, np.ascontiguousarray(keys.T), strict=True):
            file.write(column.tobytes())

    def band(self, number: int) -> np.ndarray:
        """(N,) uint32 keys of one band."""
        file = self._files[number]
        file.seek(0)
        return np.frombuffer(file.read(), dtype=np.uint32)
