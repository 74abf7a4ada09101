"""The first stage of a run: texts and labels, read, cleaned and split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..data.label_descriptions import names_as_descriptions, read_descriptions
from ..data.load import Data
from ..data.load import load as read_splits
from ..data.provenance import provenance
from ..recipe.schema import Recipe

if TYPE_CHECKING:
    import numpy as np

    from ..data.batching import Encoded
    from ..evaluate.evaluation import Evaluation
    from ..evaluate.labelled_rows import LabelledRows
    from ..train.distillation import Teaching
    from ..train.training_rows import TrainingTexts
    from ..train.warm_start import WarmStart

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedData:
    """The texts and labels of a run.

    Attributes:
        targets: by split: (N,) class numbers, or (N, L) of 0 and 1.
        class_weights: (L,) as `train.class_balance` gives them; None for none.
        sources: of each source name, rows and checksum, as in metrics.json.
        teaching: what a teacher says of the texts; None without one.
        start: the earlier run that training starts from; None for none.
        descriptions: of each class, to learn from where texts are few; empty if there are none that say anything.
    """

    splits: Data
    targets: Mapping[str, np.ndarray]
    class_weights: np.ndarray | None
    sources: Mapping[str, Any]
    teaching: Teaching | None = None
    start: WarmStart | None = None
    descriptions: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """L class names, in label order."""
        return self.splits.labels.names

    def rows(self, tokens: Mapping[str, Encoded]) -> dict[str, LabelledRows]:
        """The labelled rows of each split, as evaluation takes them; `tokens`: theirs."""
        from ..evaluate.labelled_rows import LabelledRows

        return {
            name: LabelledRows.of_table(table, tokens[name], self.targets[name], self.splits.unknown.get(name, 0))
            for name, table in self.splits.tables().items()
        }

    @property
    def training(self) -> TrainingTexts:
        """The source of the training rows."""
        from ..train.training_rows import TrainingTexts

        return TrainingTexts(self.splits.train.texts, self.targets["train"], self.class_weights, self.teaching)

    @property
    def fingerprint(self) -> dict[str, str | None]:
        """Its part of a run's fingerprint."""
        given = self.descriptions != names_as_descriptions(self.names)  # class names come with the data
        return {
            "data": self.splits.fingerprint(),
            "teacher": None if self.teaching is None else self.teaching.fingerprint,
            "start": None if self.start is None else self.start.fingerprint,
            "descriptions": sha256("\0".join(self.descriptions).encode()).hexdigest() if given else None,
        }

    def told(self, evaluation: Evaluation | None) -> dict[str, Any]:
        """The fields of metrics.json about the teacher and the earlier run; they are also logged."""
        from .continuing import continued
        from .teacher import distilled

        return distilled(self.teaching, evaluation) | continued(self.start, evaluation)


def load_data(recipe: Recipe, train_data: Any = None, test_data: Any = None) -> LoadedData:
    """Read, clean and split the texts, and turn labels into numbers."""
    from ..train.class_balance import class_weights
    from .robustness import refuse_multi_label

    earlier = None
    if recipe.train.start_from is not None:
        from .continuing import EarlierRun

        earlier = EarlierRun(recipe.train.start_from, recipe.train.device)
        earlier.check(recipe)
    splits = read_splits(recipe.data, train_data, test_data, None if earlier is None else earlier.labels)
    sources = provenance(recipe.data, {"train": train_data, "test": test_data}, splits)
    logger.info(f"data: {splits}")
    for note in splits.notes:
        logger.info(note)
    if splits.labels.multi and (recipe.train.shift or splits.ood is not None):
        refuse_multi_label()  # now, not after an hour of training
    targets = {name: splits.labels.encode(table) for name, table in splits.tables().items()}
    weights = class_weights(targets["train"], splits.labels.names, recipe.train.class_weights)
    start = None if earlier is None else earlier.start(splits, targets)
    file, names = recipe.data.label_descriptions, splits.labels.names
    descriptions = names_as_descriptions(names) if file is None else read_descriptions(file, names)
    loaded = LoadedData(splits, targets, weights, sources, start=start, descriptions=descriptions)
    if recipe.train.teacher is None:
        return loaded
    from .teacher import consult_teacher

    return replace(loaded, teaching=consult_teacher(recipe.train, splits, targets))
