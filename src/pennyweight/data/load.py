"""From a recipe's data section to the texts and labels of a run."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..recipe import DataRecipe
from .assemble import assemble
from .clean import CleanReport, clean
from .labels import LabelSet, check_ordered
from .labels import fit as fit_labels
from .mix import mixed
from .multi import DELIMITER, split_several
from .read import check_labelled, columns_of, labelled_table
from .reading import Reading
from .split import split
from .table import AS_NAMED, FileOptions, Table

# Which part of a source with several is read where the name is not that of one.
SPLITS = {"mix": "train", "ood": "test"}


@dataclass(frozen=True)
class Data:
    """What a run learns from, chooses on and is measured on.

    Attributes:
        notes: remarks on how the sources were read, each with its source, for people.
    """

    labels: LabelSet
    reading: Reading
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


def read_as(
    reading: Reading, data: Any, *, split: str = "test", options: FileOptions = AS_NAMED
) -> tuple[Table, CleanReport | None]:
    """Labelled texts read and cleaned as in a classifier's training.

    Args:
        data: as for `from_python`. A `Table` is taken as it is, without cleaning: None takes the report's place.
        split: which part of a source with several.
        options: how a file is read.

    Raises:
        DataError: a column that is missing, or whatever else is wrong with the source, with file and line.
    """
    if isinstance(data, Table):
        return labelled_table(data), None
    columns = columns_of(data, split, options)
    if isinstance(data, (str, Path)):
        check_labelled(columns)
    texts, label = reading.columns_for(columns)
    table = assemble(
        columns,
        text_columns=texts,
        label_column=label,
        separator=reading.separator,
        form=reading.form,
        pair=reading.pair,
    )
    return clean(table, min_chars=reading.min_chars, max_chars=reading.max_chars, markup=reading.markup)


def options_of(wanted: DataRecipe) -> FileOptions:
    """How a recipe says that its files are to be read."""
    return FileOptions(wanted.format, wanted.encoding, wanted.header)


def load(wanted: DataRecipe, train_data: Any = None, test_data: Any = None) -> Data:
    """Read, clean, label and split what a recipe names, or what the caller gives instead.

    Raises:
        DataError: whatever is wrong with a source, a row or a label.
        RecipeError: when there is nothing to train on.
    """
    source = train_data if train_data is not None else wanted.train
    if source is None:
        raise RecipeError("no training data", expected="a file, a folder, a hub name or data -> train in the recipe")
    if wanted.mix_share is not None and wanted.mix is None:
        raise RecipeError(
            "a share of nothing", where="data -> mix_share", remedy="name the second source with --mix FILE"
        )
    dropped: dict[str, Any] = {}
    notes: dict[str, None] = {}

    asked, options = Reading.of_recipe(wanted), options_of(wanted)

    def prepared(name: str, given: Any, reading: Reading) -> Table:
        # Where one source holds several splits (the hub, a dictionary of datasets), each part reads its own.
        table, report = read_as(reading, given, split=SPLITS.get(name, name), options=options)
        if report is not None:
            dropped[name] = asdict(report)
        notes.update(dict.fromkeys(f"{table.source}: {note}" for note in table.notes))
        return table

    training = prepared("train", source, asked)
    # Every further file is read by the columns of this one, now and in all later commands.
    reading = asked.resolved(training)
    labels = fit_labels(training, names=wanted.label_names, delimiter=wanted.label_delimiter or DELIMITER)
    if wanted.ordinal:
        check_ordered(training, wanted.label_names)
    if wanted.validation is not None:
        validation = prepared("validation", wanted.validation, reading)
    else:
        truth, size, seed = labels.encode(training), wanted.validation_size, wanted.split_seed
        if labels.multi:
            kept, held = split_several(truth, size=size, seed=seed, names=labels.names)
        else:
            kept, held = split(truth, size=size, seed=seed)
        training, validation = training.select(kept), training.select(held)
    test_source = test_data if test_data is not None else wanted.test
    test = None if test_source is None else prepared("test", test_source, reading)
    if wanted.mix is not None:
        # A second style may come from a file of its own columns, and is never measured.
        further = prepared("mix", wanted.mix, replace(asked, form=reading.form))
        training = mixed(training, further, labels, wanted.mix_share, wanted.split_seed)
    ood = None if wanted.ood is None else prepared("ood", wanted.ood, reading)
    for table in (validation, test, ood):
        if table is not None:
            labels.encode(table)  # a label that training lacks is an error now, not after an hour
    return Data(labels, reading, training, validation, test, dropped, ood, tuple(notes))
