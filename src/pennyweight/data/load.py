"""From a recipe's data section to the texts and labels of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, RecipeError
from ..recipe.schema import DataRecipe
from .canonical_labels import sort_labels
from .cleaning import CleanReport, clean
from .file_options import AS_NAMED, FileOptions
from .input_spec import InputSpec
from .label_cells import count_unlabelled, refuse_joined_labels
from .label_format import DELIMITER
from .labels import (
    LabelSet,
    check_ordered,
    describe_measurements,
    drop_labels,
    extended_names,
    find_rare,
    fit_labels,
    refuse_rare,
    rename_labels,
    with_class_names,
)
from .mixing import mix_rows
from .sources import refuse_unlabelled, require_labels, to_columns
from .split import split, split_multi_label
from .table import Table, listed
from .table_builder import build_table

# The split that is read where the source's role is not a split's name.
SPLITS = {"mix": "train", "ood": "test", "unlabelled": "train"}
# Where a row with an unknown label can count as a wrong prediction; not on validation rows, which choose the model.
COUNTED = ("test", "ood")
NAMED = 12  # labels in the log; of more the number
NOT_VALIDATED = "validation: no rows are held out, so the last epoch is kept, no temperature is fitted"


@dataclass(frozen=True)
class Data:
    """The training, validation and test rows of a run.

    Attributes:
        validation: None if nothing is held out.
        cleaning: by table, what the filters dropped and changed.
        unknown: by table (test, ood), rows left out whose labels are no classes and that count as wrong predictions.
        notes: remarks on how the sources and their labels were read, for people.
        unlabelled: further texts to train on, without labels.
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
    unlabelled: Table | None = None

    def tables(self) -> dict[str, Table]:
        """By name: train, and validation and test if there are such."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: table for name, table in found.items() if table is not None}

    def __str__(self) -> str:
        test = "" if self.test is None else f", {len(self.test):,} test"
        validation = "no" if self.validation is None else f"{len(self.validation):,}"
        dropped = sum(sum(report["dropped"].values()) for report in self.cleaning.values())
        without_label = sum(count_unlabelled(table) for table in self.tables().values())
        remarks = f" ({dropped:,} rows dropped)" if dropped else ""
        remarks += f" ({without_label:,} rows in total without labels)" if without_label else ""
        names = self.labels.names
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return (
            f"{len(self.train):,} training, {validation} validation{test} texts{remarks}, "
            f"{len(self.labels.names)} labels{', any number a text' if self.labels.multi else ''}: "
            f"{', '.join(names[:NAMED])}{more}"
        )

    def fingerprint(self) -> str:
        """SHA-256 over every text and label, in order."""
        return hash_rows(self.tables().values())


def hash_rows(tables: Iterable[Table]) -> str:
    """SHA-256 over every text and label of some tables, in order."""
    digest = hashlib.sha256()
    for table in tables:
        for text, label in zip(table.texts, table.labels or (), strict=True):
            digest.update(f"{text}\x00{label}\x01".encode("utf-8", "surrogatepass"))
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
        return require_labels(data), None
    columns = to_columns(data, split, options)
    refuse_unlabelled(columns, is_file=isinstance(data, (str, Path)))
    table = build_table(columns, input_spec)
    if input_spec.label_base is not None and table.label_names is None:
        table = replace(table, label_base=input_spec.label_base)  # counted as in training, whatever numbers occur here
    table, _ = rename_labels(table, input_spec.label_map)
    return clean(table, min_chars=input_spec.min_chars, max_chars=input_spec.max_chars, markup=input_spec.markup)


def load(
    settings: DataRecipe, train_data: Any = None, test_data: Any = None, known: Sequence[str] | None = None
) -> Data:
    """Read, clean, label and split what a recipe names, or what the caller gives instead.

    Args:
        known: class names that come first, whether they occur or not.

    Raises:
        DataError: whatever is wrong with a source, a row or a label.
        RecipeError: there is nothing to train on.
    """
    source = train_data if train_data is not None else settings.train
    if source is None:
        raise RecipeError("no training data", expected="a file, a folder, a hub name, or the recipe's data -> train")
    reader = _SourceReader(settings)
    training, labels, notes = _fit_classes(settings, reader.read_training(source), known)
    training, validation, said = _hold_out(settings, reader, training, labels)
    notes += said
    test = reader.read("test", test_data if test_data is not None else settings.test)
    # A second style may come from a file with columns of its own, and nothing is measured on it.
    further = reader.read("mix", settings.mix, replace(InputSpec.of_recipe(settings), form=reader.input_spec.form))
    if further is not None:
        training = mix_rows(training, further, labels, settings.mix_share, settings.split_seed)
        notes = (*describe_labels(labels, further), *notes)
    ood = reader.read("ood", settings.ood)
    unlabelled = reader.read_unlabelled(settings.unlabelled)
    reader.renamer.check()
    measured, unknown, said = _refuse_unknown(settings, labels, {"validation": validation, "test": test, "ood": ood})
    notes += said
    tables = [training, *measured.values()]
    notes = (*dict.fromkeys([note for table in tables for note in describe_labels(labels, table)]), *notes)
    return Data(
        labels,
        replace(reader.input_spec, label_map=dict(settings.label_map or {})),
        training,
        measured.get("validation"),
        measured.get("test"),
        reader.cleaning,
        measured.get("ood"),
        unknown,
        notes,
        unlabelled,
    )


class _SourceReader:
    """Reads the sources of one recipe, the further ones by what the training data turned out to be.

    Attributes:
        input_spec: as the recipe says; from `read_training` on with the columns and the label format of those data.
        cleaning: by source, what the filters dropped and changed.
        renamer: calls labels as the recipe's label_map says.
    """

    def __init__(self, settings: DataRecipe) -> None:
        self.input_spec = InputSpec.of_recipe(settings)
        self.cleaning: dict[str, Any] = {}
        self.renamer = LabelRenamer(settings.label_map)
        self._options = FileOptions.of_recipe(settings)

    def read_training(self, source: Any) -> Table:
        """The training rows. Every further source is read by the same columns, now and in all later commands."""
        table = self._read("train", source, self.input_spec)
        self.input_spec = self.input_spec.resolved(table)
        return self.renamer.rename(table)

    def read(self, name: str, source: Any, input_spec: InputSpec | None = None) -> Table | None:
        """The rows of a further source; None if there is no such source."""
        return None if source is None else self.renamer.rename(self._read(name, source, input_spec or self.input_spec))

    def read_unlabelled(self, source: Any) -> Table | None:
        """The texts of a source, cleaned as the training's; its labels, if it has any, are left alone."""
        if source is None:
            return None
        columns = to_columns(source, SPLITS["unlabelled"], self._options)
        spec = self.input_spec
        table, report = clean(
            build_table(columns, spec, labelled=False),
            min_chars=spec.min_chars, max_chars=spec.max_chars, markup=spec.markup,
        )  # fmt: skip
        self.cleaning["unlabelled"] = asdict(report)
        return table

    def _read(self, name: str, source: Any, input_spec: InputSpec) -> Table:
        # Where one source holds several splits (the hub, a dictionary of datasets), each part reads its own.
        table, report = read_labelled(input_spec, source, split=SPLITS.get(name, name), options=self._options)
        if report is not None:
            self.cleaning[name] = asdict(report)
        return table


class LabelRenamer:
    """Calls labels in tables as a recipe's label_map says, and records which entries matched."""

    def __init__(self, label_map: Mapping[str, str] | None) -> None:
        self._map = label_map
        self._used: set[str] = set()
        self._seen: set[str] = set()

    def rename(self, table: Table) -> Table:
        """The table with its labels renamed."""
        self._seen.update(str(label) for label in (with_class_names(table).labels or ())[:1000])
        table, used = rename_labels(table, self._map)
        self._used |= used
        return table

    def check(self) -> None:
        """Refuse a map that matched no label: the data spell their labels differently.

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


def _fit_classes(
    settings: DataRecipe, training: Table, known: Sequence[str] | None
) -> tuple[Table, LabelSet, tuple[str, ...]]:
    """The training table without the classes that are to go, the classes, and what was decided, in words."""
    if settings.task == "auto" and not training.multi:
        refuse_joined_labels(training)
    notes: tuple[str, ...] = ()
    if settings.rare_classes == "drop":
        training = with_class_names(training)
        few = find_rare(training)
        if few and len(few) < len(training):
            left = drop_labels(training, few)
            gone = len(training) - len(left)
            notes = (f"labels: {_count(gone, 'row')} of {_count(len(few), 'rare class')} dropped ({listed(few, 6)})",)
            training = left
    aliases, delimiter = settings.label_map, settings.label_delimiter or DELIMITER
    names = settings.label_names
    if known is not None and names is None:
        names = list(extended_names(known, training, aliases))
    labels = fit_labels(training, names=names, delimiter=delimiter, aliases=aliases)
    # A class with one row matters only where a validation set is split off.
    if settings.rare_classes != "keep" and settings.validation is None and settings.validation_size:
        refuse_rare(training)
    if settings.ordinal:
        check_ordered(training, settings.label_names)
    unseen = () if known is not None else _describe_unseen(labels, training)
    return training, labels, (*notes, *describe_measurements(training), *unseen)


def _describe_unseen(labels: LabelSet, training: Table) -> tuple[str, ...]:
    """The classes that have a name and no training row, in words."""
    numbers = labels.encode(training)
    seen = set(np.flatnonzero(numbers.any(axis=0)).tolist() if labels.multi else numbers.tolist())
    unseen = [name for number, name in enumerate(labels.names) if number not in seen]
    if not unseen:
        return ()
    what = _count(len(unseen), "label" if labels.multi else "class")
    return (f"labels: {what} without a training text, of which nothing is learnt: {listed(unseen, 6)}",)


def _hold_out(
    settings: DataRecipe, reader: _SourceReader, training: Table, labels: LabelSet
) -> tuple[Table, Table | None, tuple[str, ...]]:
    """The training rows, the validation rows (named, split off, or none) and what was decided, in words."""
    if settings.validation is not None:
        return training, reader.read("validation", settings.validation), ()
    if settings.validation_size:
        return _split_off(settings, training, labels)
    return training, None, (NOT_VALIDATED + (" and every label has the threshold 0.5" if labels.multi else ""),)


def _split_off(settings: DataRecipe, training: Table, labels: LabelSet) -> tuple[Table, Table, tuple[str, ...]]:
    """The training table in two, and what was decided, in words."""
    truth, size, seed = labels.encode(training), settings.validation_size, settings.split_seed
    # Numbered in their usual order, so that the same rows are held out whatever order the labels were given.
    names = [str(name) for name in sort_labels(labels.names)]
    numbers = {name: number for number, name in enumerate(labels.names)}
    usual = np.array([numbers[name] for name in names])  # (L,) class numbers
    if labels.multi:
        kept, held = split_multi_label(truth[:, usual], size=size, seed=seed, names=names)
    else:
        kept, held = split(usual.argsort()[truth], size=size, seed=seed)
    notes = []
    if few := find_rare(training):
        notes.append(
            f"labels: trained on but not validated: {_count(len(few), 'class')} with one row ({listed(few, 6)})"
        )
    if isinstance(size, float) and len(held) > (share := int(np.ceil(size * len(training)))):
        notes.append(
            f"validation: {len(held):,} rows, one per class, because {100 * size:g}% would be {share:,}; "
            "--validation-size 0 trains on all of them"
        )
    return training.select(kept), training.select(held), tuple(notes)


def _refuse_unknown(
    settings: DataRecipe, labels: LabelSet, tables: dict[str, Table | None]
) -> tuple[dict[str, Table], dict[str, int], tuple[str, ...]]:
    """The tables that there are, without rows whose labels are no classes; how many of them count as wrong; notes.

    A label that training lacks is an error now, not after an hour.
    """
    kept: dict[str, Table] = {}
    wrong: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    for name, table in tables.items():
        if table is not None:
            may_count = name in COUNTED
            kept[name], gone, said = apply_unknown_labels(labels, table, settings.unknown_labels, may_count=may_count)
            notes += said
            if gone and settings.unknown_labels == "wrong" and may_count:
                wrong[name] = gone
    return kept, wrong, notes


def apply_unknown_labels(
    labels: LabelSet, table: Table, how: str, *, may_count: bool = True
) -> tuple[Table, int, tuple[str, ...]]:
    """The rows of a table whose labels are classes.

    Args:
        how: `error` refuses others, `drop` leaves them out, `wrong` leaves them out to be counted as wrong predictions.
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
            "no row has a label of a known class",
            expected=f"some of {listed(labels.names)}",
            received=listed(dict.fromkeys(str(label) for label in others.labels or ()), 6),
            where=table.source,
        )
    counts = Counter(str(label) for label in others.labels or ())
    what = "counted as wrong" if how == "wrong" and may_count else "left out"
    note = (
        f"labels: {len(others):,} of {len(table):,} rows of {table.source} {what}, since their labels are not classes "
        f"({listed((f'{label} {count}' for label, count in counts.most_common()), 6)})"
    )
    return table.select(np.flatnonzero(known)), len(others), (note,)


def _count(count: int, what: str) -> str:
    """`1 row`, `2 rows`, `3 classes`."""
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def _describe_mapping(labels: LabelSet, table: Table) -> tuple[str, ...]:
    """The mapping from numbers to classes, in words."""
    found = labels.mapping(table)
    return () if found is None else (f"labels of {table.source}: {found}",)


def describe_labels(labels: LabelSet, table: Table) -> tuple[str, ...]:
    """The decisions about the labels of an evaluation table, in words."""
    each = (note if table.source in note else f"{table.source}: {note}" for note in table.notes)
    return (*each, *_describe_mapping(labels, table))
