"""A classifier measured under shift: corrupted texts and other files, each text tokenized once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.batching import Encoded, select
from ..data.corruption import MIDDLE
from ..data.file_options import AS_NAMED
from ..data.labels import LabelSet
from ..data.load import Data, read_labelled
from ..data.sampling import sample_rows
from ..data.table import Table
from ..errors import InputError
from ..evaluate.metrics import shift as figures
from ..evaluate.metrics.probabilities import softmax
from ..evaluate.metrics.shift import ROWS, SEED, Row, Shift, suite
from ..model.text_model import TextModel
from ..predict.predictor import Classifier

# What a run measures where its recipe says `shift: true`.
SEVERITIES = (1, 3, 5)

# From N texts to (N, L) probabilities.
Predict = Callable[[Sequence[str]], np.ndarray]


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
    """Measure a classifier on corrupted texts, and on a second labelled source.

    Args:
        data: labelled texts: a path, a `Table`, or anything `pennyweight.train` takes.
        severities: numbers from 1 to 5; empty for no corruptions.
        corruptions: names; None for the whole suite.
        ood: labelled texts of another kind with the same classes, in any of these forms; all rows are measured.
        rows: size of the seeded sample of texts to corrupt; None for all.
        seed: seed of the sample and the corruptions.
        ood_unknown: further rows of `ood` with unknown labels, which count as wrong.
        **columns: as for `Classifier.evaluate`.

    Raises:
        InputError: for a corruption or severity that is not in the suite, or a multi-label classifier.
        DataError: when a source cannot be read, or a label was not seen in training.
    """
    if classifier.multi:
        refuse_multi_label()
    asked = {"split": columns.pop("split", "test"), "options": columns.pop("options", AS_NAMED)}
    input_spec, labels = classifier.input_spec.changed(**columns), classifier.artifact.labels
    predict = predict_distinct(classifier.tokens, classifier.probabilities_of)
    table, _ = read_labelled(input_spec, data, **asked)
    others = []
    if ood is not None:
        others.append(measure_table(predict, labels, read_labelled(input_spec, ood, **asked)[0], ood_unknown))
    return measure_shift(
        predict, labels, table, severities=severities, corruptions=corruptions, ood=others, rows=rows, seed=seed
    )


def measure_shift(
    predict: Predict,
    labels: LabelSet,
    table: Table,
    *,
    severities: Sequence[int] = SEVERITIES,
    corruptions: Sequence[str] | None = None,
    ood: Sequence[Row] = (),
    rows: int | None = ROWS,
    seed: int = SEED,
) -> Shift:
    """As `shift`, of any function from texts to probabilities; `ood` are rows that are measured already."""
    truth = labels.encode(table)
    if severities:
        prepared = prepare(table.texts, truth, severities=severities, names=corruptions, rows=rows, seed=seed)
    else:
        prepared = Suite(table.texts, truth, {}, seed)
    return measure(predict, prepared, ood)


def shift_of_run(model: TextModel, temperature: float, splits: Data, measured_on: str, *, corrupted: bool) -> Shift:
    """The shift of a run: corrupted texts of the split `measured_on`, and its texts of another kind."""
    predict = predict_distinct(model.encode, lambda tokens: softmax(model.logits(tokens), temperature))
    ood = []
    if splits.ood is not None:
        ood.append(measure_table(predict, splits.labels, splits.ood, splits.unknown.get("ood", 0)))
    table, severities = splits.tables()[measured_on], SEVERITIES if corrupted else ()
    return measure_shift(predict, splits.labels, table, severities=severities, ood=ood)


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


def measure(predict: Predict, prepared: Suite, ood: Sequence[Row] = ()) -> Shift:
    """Figures of one classifier on a prepared suite."""
    conditions = [prepared.texts, *prepared.corrupted.values()]
    # All at once: batches of one length from everywhere, instead of a ragged last batch in each condition.
    together = predict([text for texts in conditions for text in texts])
    clean, *found = np.split(together, len(conditions))
    return figures.shift(
        prepared.labels,
        clean,
        dict(zip(prepared.corrupted, found, strict=True)),
        ood=ood,
        seed=prepared.seed,
    )


def measure_table(predict: Predict, labels: LabelSet, table: Table, unknown: int = 0) -> Row:
    """Figures of texts that are read already, and of `unknown` further ones that count as wrong."""
    name = Path(table.source).name or table.source
    return figures.row(name, 0, labels.encode(table), predict(table.texts), unknown)


def predict_distinct(encode: Callable[[Sequence[str]], Encoded], predict: Callable[[Encoded], np.ndarray]) -> Predict:
    """From texts to probabilities, computing texts that are the same to the tokenizer once.

    Corruptions leave many texts as they were, and an uncased tokenizer sees no case.

    Args:
        encode: from N texts to token ids.
        predict: from N sequences of token ids to (N, L) probabilities.
    """

    def predict_texts(texts: Sequence[str]) -> np.ndarray:
        encoded = encode(texts)
        types, starts = encoded.type_ids, encoded.offsets
        places: dict[bytes, int] = {}
        firsts: list[int] = []
        order = np.empty(len(encoded), dtype=np.int64)
        for row in range(len(encoded)):
            span = slice(starts[row], starts[row + 1])
            key = encoded.ids[span].tobytes() + (b"" if types is None else types[span].tobytes())
            order[row] = places.setdefault(key, len(places))
            if order[row] == len(firsts):
                firsts.append(row)
        probabilities: np.ndarray = predict(select(encoded, np.array(firsts, dtype=np.int64)))[order]
        return probabilities

    return predict_texts


def refuse_multi_label() -> None:
    """Figures under shift are accuracies of one label per text.

    Raises:
        InputError: always.
    """
    raise InputError("--shift and --ood work only with one label per text", remedy="leave out --shift and --ood")
