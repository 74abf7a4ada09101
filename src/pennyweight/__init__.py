"""Fine-tune a text classifier under a hard budget of trainable parameters.

    import pennyweight as pw

    classifier = pw.train("news.csv", budget="200k")
    classifier.predict(["Shares fell after the bank's warning."])
    classifier.save("news-classifier")

The public names load on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import PennyweightError
    from .estimator import PennyweightClassifier
    from .pipeline import train
    from .planning import plan
    from .predict import Classifier, load
    from .recipe import Recipe
    from .reporting.shift import shift
    from .searching.search import search

__version__ = "0.1.0"

_HOMES = {
    "plan": "planning",
    "load": "predict",
    "Classifier": "predict",
    "PennyweightClassifier": "estimator",
    "Recipe": "recipe",
    "PennyweightError": "errors",
    "shift": "reporting.shift",
    "search": "searching.search",
}

__all__ = [
    "Classifier", "PennyweightClassifier", "PennyweightError", "Recipe", "__version__",
    "load", "plan", "search", "shift", "train",
]  # fmt: skip


class _Package(types.ModuleType):
    """Keeps `pennyweight.train` the function: importing the folder train/ would put the folder under its name."""

    @property
    def train(self) -> Any:
        return importlib.import_module(".pipeline", __name__).train

    @train.setter
    def train(self, module: types.ModuleType) -> None:
        """The import system's assignment; `from .train import loop` finds the folder without it."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
