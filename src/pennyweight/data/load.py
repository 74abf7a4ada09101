"""From a recipe's data section to the texts and labels of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, RecipeError
from ..recipe.loading import DataRecipe
from .cleaning import CleanReport, clean
from .columns import require
from .input_spec import InputSpec
from .label_format import DELIMITER, refuse_joined_labels, split_multi_label, unlabelled
from .labels import LabelSet, check_ordered, named, rare, refuse_rare, renamed, without
from .labels import fit as fit_labels
from .mixing import mix_rows
from .sources import check_labelled, columns_of, labelled_table
from .split import split
from .table import AS_NAMED, FileOptions, Table, listed
from .table_builder import build_table

# Which part of a source with several is read where the name is not that of one.
SPLITS = {"mix": "train", "ood": "test"}
# Where a row with an unknown label can count as a wrong answer. On validation rows something is chosen.
COUNTED = ("test", "ood")
NOT_VALIDATED = "validation: none held out, so that the last epoch is kept, no temperature is fitted"


@dataclass(frozen=True)
class Data:
    """What a run learns from, chooses on and is measured on.

    Attributes:
        validation: None where nothing is held out.
        cleaning: by table, what the filters dropped and changed.
        unknown: by table (test, ood), rows left out of it whose labels are no classes and that count as wrong answers.
        notes: remarks on how the sources and their labels were read, for people.
    """

    labels: LabelSet
    input_spec: InputSpec
    train: Table
    validation: Table | None
    test: Table | None
    cleaning: dict[str, Any]
    ood: Table | None = None
    unknown: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def tables(self) -> dict[str, Table]:
        """By name: train, and validation and test if there are such."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: table for name, table in found.items() if table is not None}

    def __str__(self) -> str:
        test = "" if self.test is None else f", {len(self.test):,} test"
        validation = "no" if self.validation is None else f"{len(self.validation):,}"
        dropped = sum(sum(report["dropped"].values()) for report in self.cleaning.values())
        without_label = sum(unlabelled(table) for table in self.tables().values())
        remarks = f" ({dropped:,} rows dropped)" if dropped else ""
        remarks += f" ({without_label:,} of all rows without any label)" if without_label else ""
        return (
            f"{len(self.train):,} training, {validation} validation{test} texts{remarks}, "
            f"{len(self.labels.names)} labels{', any number a text' if self.labels.multi else ''}: "
            f"{', '.join(self.labels.names)}"
        )

    def fingerprint(self) -> str:
        """SHA-256 over every text and label, in order."""
        digest = hashlib.sha256()
        for table in self.tables().values():
            for text, label in zip(table.texts, table.labels or (), strict=True):
                digest.update(f"{text}\x00{label}\x01".encode())
        return digest.hexdigest()


def read_labelled(
    input_spec: InputSpec, data: Any, *, split: str = "test", options: FileOptions = AS_NAMED
) -> tuple[Table, CleanReport | None]:
    """Labelled texts read and cleaned as in a classifier's training.

    Args:
        data: as for `read_python`. A `Table` is taken as it is, without cleaning: None takes the report's place.
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
    texts, label = input_spec.columns_for(columns)
    if label is not None and not input_spec.named_by_user:
        require(columns, label, "--label-column c", positions=False)
    table = build_table(
        columns,
        text_columns=texts,
        label_column=label,
        separator=input_spec.separator,
        form=input_spec.form,
        pair=input_spec.pair,
    )
    if input_spec.label_base is not None and table.label_names is None:
        table = replace(table, label_base=input_spec.label_base)  # counted as in training, whatever numbers occur here
    table, _ = renamed(table, input_spec.label_map)
    return clean(table, min_chars=input_spec.min_chars, max_chars=input_spec.max_chars, markup=input_spec.markup)


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
    dropped: dict[str, Any] = {}
    renaming = LabelRenamer(wanted.label_map)
    asked, options = InputSpec.of_recipe(wanted), options_of(wanted)

    def opened(name: str, given: Any, input_spec: InputSpec) -> Table:
        # Where one source holds several splits (the hub, a dictionary of datasets), each part reads its own.
        table, report = read_labelled(input_spec, given, split=SPLITS.get(name, name), options=options)
        if report is not None:
            dropped[name] = asdict(report)
        return table

    def prepared(name: str, given: Any, input_spec: InputSpec) -> Table:
        return renaming(opened(name, given, input_spec))

    training = opened("train", source, asked)
    # Every further file is read by the columns of this one, now and in all later commands.
    input_spec = asked.resolved(training)
    training, labels, notes = _classes(wanted, renaming(training))
    validation = None
    if wanted.validation is not None:
        validation = prepared("validation", wanted.validation, input_spec)
    elif wanted.validation_size:
        training, validation, said = _split_off(wanted, training, labels)
        notes += said
    else:
        notes += (NOT_VALIDATED + (" and every label has the threshold 0.5" if labels.multi else ""),)
    test_source = test_data if test_data is not None else wanted.test
    test = None if test_source is None else prepared("test", test_source, input_spec)
    if wanted.mix is not None:
        # A second style may come from a file of its own columns, and is never measured.
        further = prepared("mix", wanted.mix, replace(asked, form=input_spec.form))
        training = mix_rows(training, further, labels, wanted.mix_share, wanted.split_seed)
        notes = (*notes_of(labels, further), *notes)
    ood = None if wanted.ood is None else prepared("ood", wanted.ood, input_spec)
    renaming.check()
    measured = {"validation": validation, "test": test, "ood": ood}
    unknown: dict[str, int] = {}
    for name, table in measured.items():
        if table is not None:
            # A label that training lacks is an error now, not after an hour.
            measured[name], gone, said = apply_unknown_labels(
                labels, table, wanted.unknown_labels, may_count=name in COUNTED
            )
            notes += said
            unknown |= {name: gone} if gone and wanted.unknown_labels == "wrong" and name in COUNTED else {}
    validation, test, ood = measured.values()
    every = [table for table in (training, validation, test, ood) if table is not None]
    notes = (*dict.fromkeys([note for table in every for note in notes_of(labels, table)]), *notes)
    input_spec = replace(input_spec, label_map=dict(wanted.label_map or {}))
    return Data(labels, input_spec, training, validation, test, dropped, ood, unknown, notes)


class LabelRenamer:
    """Calls labels in tables as a recipe's label_map says, and knows which entries of it were of use."""

    def __init__(self, label_map: Mapping[str, str] | None) -> None:
        self._map = label_map
        self._used: set[str] = set()
        self._seen: set[str] = set()

    def __call__(self, table: Table) -> Table:
        """The table with its labels renamed."""
        self._seen.update(str(label) for label in (named(table).labels or ())[:1000])
        table, used = renamed(table, self._map)
        self._used |= used
        return table

    def check(self) -> None:
        """Refuse a map of which nothing was of use: it was meant for labels written otherwise.

        Raises:
            RecipeError: no label of the map occurs in any table.
        """
        if self._map and not self._used:
            raise RecipeError(
                "none of the labels in label_map occurs in the data",
                where="data -> label_map",
                expected=f"some of {listed(sorted(self._seen), 6)}",
                received=listed(self._map, 6),
            )


def _classes(wanted: DataRecipe, training: Table) -> tuple[Table, LabelSet, tuple[str, ...]]:
    """The training table without the classes that are to go, the classes, and what was decided, in words."""
    if wanted.task == "auto" and not training.multi:
        refuse_joined_labels(training)
    notes: tuple[str, ...] = ()
    if wanted.rare_classes == "drop":
        training = named(training)
        few = rare(training)
        if few and len(few) < len(training):
            left = without(training, few)
            gone = len(training) - len(left)
            notes = (f"labels: {_number(gone, 'row')} of {_number(len(few), 'rare class')} dropped ({listed(few, 6)})",)
            training = left
    aliases, delimiter = wanted.label_map, wanted.label_delimiter or DELIMITER
    labels = fit_labels(training, names=wanted.label_names, delimiter=delimiter, aliases=aliases)
    # A class with one row is in nobody's way where nothing is split off.
    if wanted.rare_classes != "keep" and wanted.validation is None and wanted.validation_size:
        refuse_rare(training)
    if wanted.ordinal:
        check_ordered(training, wanted.label_names)
    return training, labels, notes


def _split_off(wanted: DataRecipe, training: Table, labels: LabelSet) -> tuple[Table, Table, tuple[str, ...]]:
    """The training table in two, and what was decided, in words."""
    truth, size, seed = labels.encode(training), wanted.validation_size, wanted.split_seed
    if labels.multi:
        kept, held = split_multi_label(truth, size=size, seed=seed, names=labels.names)
    else:
        kept, held = split(truth, size=size, seed=seed)
    notes = []
    if few := rare(training):
        notes.append(
            f"labels: trained on and not validated: {_number(len(few), 'class')} with one row ({listed(few, 6)})"
        )
    if isinstance(size, float) and len(held) > (share := int(np.ceil(size * len(training)))):
        notes.append(
            f"validation: {len(held):,} rows, one a class, since {100 * size:g}% would be {share:,}; "
            "--validation-size 0 trains on all of them"
        )
    return training.select(kept), training.select(held), tuple(notes)


def apply_unknown_labels(
    labels: LabelSet, table: Table, how: str, *, may_count: bool = True
) -> tuple[Table, int, tuple[str, ...]]:
    """The rows of a table whose labels are classes.

    Args:
        how: `error` refuses others, `drop` leaves them out, `wrong` leaves them out to be counted as wrong answers.
        may_count: whether rows can count as wrong; where nothing is measured they are only left out.

    Returns:
        The table, the number of rows left out, and what was done, in words.

    Raises:
        DataError: an unknown label where none may be, or no row with a known one.
    """
    known = labels.known(table)
    if how == "error" or known.all():
        labels.encode(table)
        return table, 0, ()
    others = table.select(np.flatnonzero(~known))
    if not known.any():
        raise DataError(
            "no row has a label that is one of the classes",
            expected=f"some of {listed(labels.names)}",
            received=listed(dict.fromkeys(str(label) for label in others.labels or ()), 6),
            where=table.source,
        )
    counts = Counter(str(label) for label in others.labels or ())
    what = "counted as wrong" if how == "wrong" and may_count else "left out"
    note = (
        f"labels: {len(others):,} of {len(table):,} rows of {table.source} {what}, their labels being no classes "
        f"({listed((f'{label} {count}' for label, count in counts.most_common()), 6)})"
    )
    return table.select(np.flatnonzero(known)), len(others), (note,)


def _number(count: int, what: str) -> str:
    """`1 row`, `2 rows`, `3 classes`."""
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def _mapping(labels: LabelSet, table: Table) -> tuple[str, ...]:
    """Which numbers were taken for which classes, in words."""
    found = labels.mapping(table)
    return () if found is None else (f"labels of {table.source}: {found}",)


def notes_of(labels: LabelSet, table: Table) -> tuple[str, ...]:
    """What was decided about the labels of a table that a classifier is measured on, in words."""
    each = (note if table.source in note else f"{table.source}: {note}" for note in table.notes)
    return (*each, *_mapping(labels, table))
