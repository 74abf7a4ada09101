"""Labels that are likely wrong: rows whose label a classifier that never saw them finds improbable.

Source: Northcutt, Jiang and Chuang, "Confident Learning", JAIR 2021; https://docs.cleanlab.ai.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..evaluate.baselines.linear_probe import linear_probe
from ..evaluate.baselines.tfidf import tfidf
from ..recipe.schema import Recipe

#: The share of the rows that is listed, most suspicious first.
LISTED = 0.05
FOLDS = 5

#: Gives (N, H) features of N texts.
Features = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class LabelIssues:
    """The most suspicious K of N labelled rows, worst first.

    Attributes:
        rows: (K,) indices among the N; scores: (K,) label quality in [0, 1], low is suspicious.
        labels, guesses: K class numbers each, given and out-of-sample.
        flagged: (K,) bool, whether confident learning counts the row among the wrong labels.
        estimated: how many of the N it counts.
        n: N.
    """

    rows: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    guesses: np.ndarray
    flagged: np.ndarray
    estimated: int
    n: int


def rank_label_issues(
    texts: Sequence[str], labels: np.ndarray, classes: int, features: Features | None, *, seed: int = 0
) -> LabelIssues:
    """Rank N labelled texts by how little their labels are believed.

    Out-of-sample probabilities come from five folds; in each, a logistic regression on TF-IDF and, where there are
    `features`, one on them too, are fitted on the other four, and their probabilities averaged.

    Args:
        labels: (N,) class numbers.
        features: the frozen backbone's; None goes by TF-IDF alone.

    Raises:
        DataError: fewer than two classes, or too few rows to hold any out.
    """
    labels = np.asarray(labels)
    if len(np.unique(labels)) < 2 or len(labels) < 2 * FOLDS:
        raise DataError(
            "too few rows to find wrong labels", expected=f"two classes and {2 * FOLDS} rows",
            received=f"{len(np.unique(labels))} classes in {len(labels)} rows",
        )  # fmt: skip
    probabilities = out_of_sample(texts, labels, classes, features, seed=seed)
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    # cleanlab wants every class to occur.
    present, dense = np.unique(labels, return_inverse=True)
    kept = probabilities[:, present]
    kept = kept / np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)
    scores = get_label_quality_scores(dense, kept, method="self_confidence")
    issues = find_label_issues(dense, kept, n_jobs=1)
    order = np.argsort(scores, kind="stable")[: max(1, round(LISTED * len(labels)))]
    return LabelIssues(
        order, scores[order], labels[order], probabilities[order].argmax(axis=1), issues[order], int(issues.sum()),
        len(labels),
    )  # fmt: skip


def out_of_sample(
    texts: Sequence[str], labels: np.ndarray, classes: int, features: Features | None, *, seed: int = 0
) -> np.ndarray:
    """(N, L) probabilities of each row from a model that was fitted without it."""
    fold = folds(labels, seed)
    vectors = None if features is None else features(texts)
    probabilities = np.zeros((len(labels), classes))
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        here, there = [texts[row] for row in held.tolist()], [texts[row] for row in rest.tolist()]
        each = [tfidf(there, labels[rest], here, classes, seed=seed).probabilities]
        if vectors is not None:
            each.append(linear_probe(vectors[rest], labels[rest], vectors[held], classes, seed=seed).probabilities)
        probabilities[held] = np.mean(each, axis=0)
    return probabilities


def folds(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N,) fold numbers, every class spread over them as evenly as it goes."""
    chance = np.random.default_rng(seed)
    order = np.lexsort((chance.random(len(labels)), labels))
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) % FOLDS
    return found


def frozen_features(recipe: Recipe, classes: int) -> Features:
    """The averaged last-layer vectors of a recipe's backbone as it comes, nothing trained.

    Raises:
        BackboneError: it is not to be had.
    """
    from ..model.backbone import resolve
    from ..model.device import choose
    from ..model.tokenizer import encode, load_tokenizer
    from ..recipe.planning import plan_for
    from ..train.auto_settings import USUAL
    from ..train.frozen_features import FrozenBackbone

    backbone = resolve(recipe.model.backbone, recipe.model.revision)
    runtime = choose(recipe.train.device, recipe.train.precision, recipe.train.threads)
    tokenizer = load_tokenizer(backbone.folder)
    plan = plan_for(recipe, backbone.config, classes)
    frozen = FrozenBackbone(backbone, recipe, plan, runtime, tokenizer.pad_token_id)

    def features(texts: Sequence[str]) -> np.ndarray:
        longest, long_texts = recipe.data.max_length or USUAL, recipe.data.long_texts
        return frozen.features(encode(tokenizer, list(texts), longest, long_texts=long_texts))

    return features
