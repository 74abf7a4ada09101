"""Versions of Python, Pennyweight and the libraries that compute its figures."""

from __future__ import annotations

import importlib.metadata
import platform

from .. import __version__


def versions() -> dict[str, str]:
    """What computed the figures."""
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
    known = {"python": platform.python_version(), "pennyweight": __version__}
    return known | {name: importlib.metadata.version(name) for name in packages}
