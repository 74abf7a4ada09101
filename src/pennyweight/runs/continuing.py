"""Training that continues from a saved classifier on other rows: its weights, and measuring forgetting."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.load import Data
from ..data.provenance import source_name
from ..errors import RecipeError
from ..evaluate.metrics.paired_tests import compare
from ..evaluate.row_predictions import RowPredictions, row_predictions
from ..predict.hub_folder import local_folder
from ..recipe.planning import pin_plan
from ..recipe.schema import BY_STRATEGY, Recipe
from ..train.warm_start import WarmStart
from .starting_recipe import FREE

if TYPE_CHECKING:
    from ..evaluate.evaluation import Evaluation

logger = logging.getLogger(__name__)


class EarlierRun:
    """The classifier that a training begins at.

    Args:
        folder: folder of the run, or a name on the hub.
        device: where it predicts the test rows.
    """

    def __init__(self, folder: str, device: str) -> None:
        import torch

        from ..predict.predictor import load

        threads = torch.get_num_threads()
        try:
            self._classifier = load(local_folder(folder), device=device)
        finally:
            torch.set_num_threads(threads)
        self.name = source_name(folder)
        self.labels = self._classifier.labels

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe whose plan is another than the run's: its weights would have no place.

        Raises:
            RecipeError: naming the first field that differs.
        """
        artifact = self._classifier.artifact
        own = pin_plan(artifact.recipe, artifact.plan)
        pairs = {
            f"plan -> {key}": (getattr(own.plan, key), getattr(recipe.plan, key))
            for key in type(own.plan).model_fields
            if key not in (*FREE, "bases", *BY_STRATEGY)
        } | {"model -> pooling": (own.model.pooling, recipe.model.pooling)}
        for where, (expected, received) in pairs.items():
            if expected != received:
                raise RecipeError(
                    "the recipe's plan differs from the plan of the run in start_from", where=where, expected=expected,
                    received=received, remedy=f"`pennyweight train --from {self.name}` uses the run's plan",
                )  # fmt: skip

    def start(self, splits: Data, targets: Mapping[str, np.ndarray]) -> WarmStart:
        """The state that a training run on some data starts from.

        Args:
            targets: by split: (N,) class numbers, or (N, L) of 0 and 1.

        Raises:
            RecipeError: data of another task or other inputs, or whose labels leave out some of its own.
        """
        names, artifact = splits.labels.names, self._classifier.artifact
        if self._classifier.multi != splits.labels.multi or self._classifier.pair != splits.input_spec.pair:
            kinds = {False: "one label per text", True: "any number of labels per text"}
            inputs = {False: "texts", True: "pairs of texts"}
            raise RecipeError(
                "the data do not match the run's task", where="train -> start_from",
                expected=f"{inputs[self._classifier.pair]}, {kinds[self._classifier.multi]}",
                received=f"{inputs[splits.input_spec.pair]}, {kinds[splits.labels.multi]}",
            )  # fmt: skip
        missing = [name for name in self.labels if name not in names]
        if missing:
            raise RecipeError(
                f"{len(missing)} of the run's labels are missing", where="data -> label_names",
                expected=", ".join(self.labels), received=", ".join(names),
            )  # fmt: skip
        places = np.array([names.index(name) for name in self.labels], dtype=np.int64)
        new = tuple(name for name in names if name not in self.labels)
        digest = sha256(repr(self._classifier.identity).encode()).hexdigest()
        found = WarmStart(self.name, artifact.tensors.adapter, artifact.tensors.head, places, new, digest)
        return found if splits.test is None else self._with_test(found, splits, targets["test"])

    def _with_test(self, start: WarmStart, splits: Data, labels: np.ndarray) -> WarmStart:
        """With what it predicts for the test rows: those of its own test if there are any, else those of its labels."""
        assert splits.test is not None
        texts, size = splits.test.texts, len(splits.labels.names)
        probabilities = np.zeros((len(texts), size), dtype=np.float32)
        probabilities[:, start.places] = self._classifier.predict_proba(texts)
        thresholds = None
        if splits.labels.multi:
            thresholds = np.full(size, 0.5)
            thresholds[start.places] = self._classifier.thresholds
        before = row_predictions(texts, labels, probabilities, thresholds)
        others = np.setdiff1d(np.arange(size), start.places)
        of_its_labels = labels[:, others].sum(axis=1) == 0 if labels.ndim == 2 else np.isin(labels, start.places)
        kept = RowPredictions.from_arrays(self._classifier.artifact.predictions, "test")
        own = of_its_labels & np.isin(before.rows, np.empty(0) if kept is None else kept.rows)
        found = bool(own.any())
        return replace(start, before=before, measured=own if found else of_its_labels, old_test=found)


def continued(start: WarmStart | None, evaluation: Evaluation | None) -> dict[str, Any]:
    """The `continued` part of metrics.json: what was forgotten; empty if training did not start from an earlier run.

    Args:
        evaluation: evaluation of the trained classifier; None if nothing was measured.
    """
    if start is None:
        return {}
    figures: dict[str, Any] = {"start": start.name, "new_labels": list(start.new)}
    after = None if evaluation is None else evaluation.predictions.get("test")
    if start.before is None or start.measured is None or after is None or not start.measured.any():
        logger.info(f"forgetting was not measured: give the test rows of {start.name} with --test")
        return {"continued": figures}
    rows = start.measured
    found = compare(after.labels[rows], start.before.predicted[rows], after.predicted[rows], names=("before", "after"))
    figures["test"] = {
        "rows": "of its test" if start.old_test else "of its labels",
        "n": found.n,
        "before": float(start.before.correct[rows].mean()),
        "after": float(after.correct[rows].mean()),
        "difference": found.difference,
        "difference_interval": list(found.interval),
    }
    shares = figures["test"]
    logger.info(
        f"forgetting: {shares['before']:.1%} of {found.n:,} test texts {shares['rows']} were right before, "
        f"{shares['after']:.1%} are now (difference {100 * found.difference:+.1f} points, 95% interval "
        f"{100 * found.interval[0]:+.1f} to {100 * found.interval[1]:+.1f})"
    )
    return {"continued": figures}
