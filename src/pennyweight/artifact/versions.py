"""Versions of Python, Pennyweight and the libraries that compute its figures."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache

from .. import __version__


def versions() -> dict[str, str]:
    """The versions of the software that computed the figures."""
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    """Looked up once: the files of every installed package are searched for them."""
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
    known = {"python": platform.python_version(), "pennyweight": __version__}
    return known | {name: importlib.metadata.version(name) for name in packages}
