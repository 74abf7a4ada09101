"""A classifier measured under shift: corrupted texts and other files, each text tokenized once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batching import pack
from ..data.corruption import MIDDLE
from ..data.file_options import AS_NAMED
from ..data.load import read_labelled
from ..data.sampling import sample_rows
from ..data.table import Table
from ..errors import InputError
from ..evaluate.metrics import shift as figures
from ..evaluate.metrics.probabilities import softmax
from ..evaluate.metrics.shift import ROWS, SEED, Row, Shift, suite
from ..predict.predictor import Classifier

# What a run measures where its recipe says `shift: true`.
SEVERITIES = (1, 3, 5)


@dataclass(frozen=True)
class Suite:
    """Texts as they are and corrupted, with their labels; made once, measured for many classifiers.

    Attributes:
        texts: N texts; `labels`: (N,) class numbers.
        corrupted: the same N texts by corruption and severity.
    """

    texts: list[str]
    labels: np.ndarray
    corrupted: Mapping[tuple[str, int], list[str]]
    seed: int


def shift(
    classifier: Classifier,
    data: Any,
    *,
    severities: Sequence[int] = (1, 3, 5),
    corruptions: Sequence[str] | None = None,
    ood: Any = None,
    rows: int | None = ROWS,
    seed: int = SEED,
    ood_unknown: int = 0,
    **columns: Any,
) -> Shift:
    """How a classifier holds up on corrupted texts, and on a second labelled source.

    Args:
        data: labelled texts: a path, a `Table`, or anything `pennyweight.train` takes.
        severities: of 1 to 5; empty for no corruptions.
        corruptions: names; None for the whole suite.
        ood: labelled texts of another kind with the same classes, in any of these forms; measured whole.
        rows: a seeded sample of so many texts is corrupted; None for all.
        seed: of the sample and of the corruptions.
        ood_unknown: further rows of `ood` with unknown labels, which count as wrong.
        **columns: as for `Classifier.evaluate`.

    Raises:
        InputError: for a corruption or severity that is not in the suite, or a multi-label classifier.
        DataError: when a source cannot be read, or a label was not seen in training.
    """
    if classifier.multi:
        refuse_multi_label()
    asked = {"split": columns.pop("split", "test"), "options": columns.pop("options", AS_NAMED)}
    input_spec = classifier.input_spec.changed(**columns)
    table, _ = read_labelled(input_spec, data, **asked)
    others = [] if ood is None else [other_table(classifier, read_labelled(input_spec, ood, **asked)[0], ood_unknown)]
    labels = classifier.artifact.labels.encode(table)
    if not severities:
        prepared = Suite(table.texts, labels, {}, seed)
    else:
        prepared = prepare(table.texts, labels, severities=severities, names=corruptions, rows=rows, seed=seed)
    return measure(classifier, prepared, others)


def prepare(
    texts: Sequence[str],
    labels: np.ndarray,
    *,
    severities: Sequence[int] = (MIDDLE,),
    names: Sequence[str] | None = None,
    rows: int | None = ROWS,
    seed: int = SEED,
) -> Suite:
    """Corrupt a seeded sample of labelled texts.

    Raises:
        InputError: for a corruption or severity that is not in the suite.
    """
    chosen = sample_rows(len(texts), rows, seed)
    kept = [texts[index] for index in chosen.tolist()]
    made = {(name, level): found for name, level, found in suite(kept, names=names, severities=severities, seed=seed)}
    return Suite(kept, labels[chosen], made, seed)


def measure(classifier: Classifier, prepared: Suite, ood: Sequence[Row] = ()) -> Shift:
    """Figures of one classifier on a prepared suite."""
    conditions = [prepared.texts, *prepared.corrupted.values()]
    # All at once: batches of one length from everywhere, instead of a ragged last batch in each condition.
    together = probabilities(classifier, [text for texts in conditions for text in texts])
    clean, *found = np.split(together, len(conditions))
    return figures.shift(
        prepared.labels,
        clean,
        dict(zip(prepared.corrupted, found, strict=True)),
        ood=ood,
        seed=prepared.seed,
    )


def other_table(classifier: Classifier, table: Table, unknown: int = 0) -> Row:
    """Figures of texts that are read already, and of `unknown` further ones that count as wrong."""
    labels, name = classifier.artifact.labels.encode(table), Path(table.source).name or table.source
    return figures.row(name, 0, labels, probabilities(classifier, table.texts), unknown)


def probabilities(classifier: Classifier, texts: Sequence[str]) -> np.ndarray:
    """(N, L) probabilities of N texts; what reads the same to the tokenizer is computed once.

    Corruptions leave many texts as they were, and an uncased tokenizer sees no case.
    """
    encoded = classifier.tokens(texts)
    places: dict[bytes, int] = {}
    firsts: list[int] = []
    order = np.empty(len(encoded), dtype=np.int64)
    for row in range(len(encoded)):
        place = slice(encoded.offsets[row], encoded.offsets[row + 1])
        key = encoded.ids[place].tobytes() + (b"" if encoded.type_ids is None else encoded.type_ids[place].tobytes())
        order[row] = places.setdefault(key, len(places))
        if order[row] == len(firsts):
            firsts.append(row)
    types = encoded.type_ids
    starts = encoded.offsets
    different = pack(
        [encoded.row(row).tolist() for row in firsts],
        type_ids=None if types is None else [types[starts[row] : starts[row + 1]].tolist() for row in firsts],
    )
    found: np.ndarray = softmax(classifier.logits_of(different), classifier.temperature)[order]
    return found


def refuse_multi_label() -> None:
    """Figures under shift are accuracies of one label a text.

    Raises:
        InputError: always.
    """
    raise InputError("figures under shift are for one label a text", remedy="leave out --shift and --ood")
