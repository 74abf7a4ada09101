"""Fine-tune a text classifier under a hard budget of trainable parameters.

    import pennyweight as pw

    classifier = pw.train("news.csv", budget="200k")
    classifier.predict(["Shares fell after the bank's warning."])
    classifier.save("news-classifier")

The public names load on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from typing import TYPE_CHECKING, Any

from .system import forks as forks

if TYPE_CHECKING:
    from .errors import PennyweightError
    from .integrations.scikit_learn import PennyweightClassifier
    from .pipeline import train
    from .predict.load_classifier import load
    from .predict.predictor import Classifier
    from .recipe.schema import Recipe
    from .runs.plan_recipe import plan
    from .runs.robustness import shift
    from .search.search import search

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "plan": "runs.plan_recipe",
    "load": "predict.load_classifier",
    "Classifier": "predict.predictor",
    "PennyweightClassifier": "integrations.scikit_learn",
    "Recipe": "recipe.schema",
    "PennyweightError": "errors",
    "shift": "runs.robustness",
}

__all__ = [
    "Classifier", "PennyweightClassifier", "PennyweightError", "Recipe", "__version__",
    "load", "plan", "search", "shift", "train",
]  # fmt: skip


class _Package(types.ModuleType):
    """Keeps `pennyweight.train` and `pennyweight.search` functions, although folders have these names too.

    Importing train/ or search/ would else assign the folder's module to the name.
    """

    @property
    def train(self) -> Any:
        return importlib.import_module(".pipeline", __name__).train

    @train.setter
    def train(self, module: types.ModuleType) -> None:
        """The import system's assignment; `from .train import loop` finds the folder without it."""

    @property
    def search(self) -> Any:
        return importlib.import_module(".search.search", __name__).search

    @search.setter
    def search(self, module: types.ModuleType) -> None:
        """As for `train`."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
