"""From a recipe's data section to the texts and labels of a run."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import RecipeError
from ..recipe import DataRecipe
from .clean import clean
from .labels import LabelSet, check_ordered
from .labels import fit as fit_labels
from .mix import mixed
from .multi import DELIMITER, form_of, split_several
from .read import from_python
from .split import split
from .table import FileOptions, Table

# Which part of a source with several is read where the name is not that of one.
SPLITS = {"mix": "train", "ood": "test"}


@dataclass(frozen=True)
class Data:
    """What a run learns from, chooses on and is measured on.

    Attributes:
        notes: remarks on how the sources were read, each with its source, for people.
    """

    labels: LabelSet
    train: Table
    validation: Table
    test: Table | None
    cleaning: dict[str, Any]
    ood: Table | None = None
    notes: tuple[str, ...] = ()

    def tables(self) -> dict[str, Table]:
        """By name: train, validation, and test if there is one."""
        found = {"train": self.train, "validation": self.validation}
        return found if self.test is None else found | {"test": self.test}

    def fingerprint(self) -> str:
        """SHA-256 over every text and label, in order."""
        digest = hashlib.sha256()
        for table in self.tables().values():
            for text, label in zip(table.texts, table.labels or (), strict=True):
                digest.update(f"{text}\x00{label}\x01".encode())
        return digest.hexdigest()


def options_of(wanted: DataRecipe) -> FileOptions:
    """How a recipe says that its files are to be read."""
    return FileOptions(wanted.format, wanted.encoding, wanted.header)


def load(wanted: DataRecipe, train_data: Any = None, test_data: Any = None) -> Data:
    """Read, clean, label and split what a recipe names, or what the caller gives instead.

    Raises:
        DataError: whatever is wrong with a source, a row or a label.
        RecipeError: when there is nothing to train on.
    """
    form = form_of(wanted)
    columns: dict[str, Any] = {
        "text_columns": wanted.text_columns,
        "label_column": wanted.label_column,
        "separator": wanted.separator,
        "pair": wanted.pair,
        "options": options_of(wanted),
    }
    source = train_data if train_data is not None else wanted.train
    if source is None:
        raise RecipeError("no training data", expected="a file, a folder, a hub name or data -> train in the recipe")
    if wanted.mix_share is not None and wanted.mix is None:
        raise RecipeError(
            "a share of nothing", where="data -> mix_share", remedy="name the second source with --mix FILE"
        )
    dropped: dict[str, Any] = {}
    notes: dict[str, None] = {}

    def prepared(name: str, given: Any) -> Table:
        # Where one source holds several splits (the hub, a dictionary of datasets), each part reads its own.
        table, report = clean(
            from_python(given, split=SPLITS.get(name, name), form=form, **columns),
            min_chars=wanted.min_chars,
            max_chars=wanted.max_chars,
            markup=wanted.markup,
        )
        dropped[name] = asdict(report)
        notes.update(dict.fromkeys(f"{table.source}: {note}" for note in table.notes))
        return table

    training = prepared("train", source)
    labels = fit_labels(training, names=wanted.label_names, delimiter=wanted.label_delimiter or DELIMITER)
    form = replace(form, task="multi" if labels.multi else "single")
    if wanted.ordinal:
        check_ordered(training, wanted.label_names)
    if wanted.validation is not None:
        validation = prepared("validation", wanted.validation)
    else:
        truth, size, seed = labels.encode(training), wanted.validation_size, wanted.split_seed
        if labels.multi:
            kept, held = split_several(truth, size=size, seed=seed, names=labels.names)
        else:
            kept, held = split(truth, size=size, seed=seed)
        training, validation = training.select(kept), training.select(held)
    test_source = test_data if test_data is not None else wanted.test
    test = None if test_source is None else prepared("test", test_source)
    if wanted.mix is not None:
        training = mixed(training, prepared("mix", wanted.mix), labels, wanted.mix_share, wanted.split_seed)
    ood = None if wanted.ood is None else prepared("ood", wanted.ood)
    for table in (validation, test, ood):
        if table is not None:
            labels.encode(table)  # a label that training lacks is an error now, not after an hour
    return Data(labels, training, validation, test, dropped, ood, tuple(notes))
