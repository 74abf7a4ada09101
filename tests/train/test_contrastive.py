from __future__ import annotations

import numpy as np
import pytest
import torch

from pennyweight.train.contrastive import BATCH, MOST_CLASSES, cosine_loss, draw_batch


def test_the_loss_is_that_of_all_pairs() -> None:
    vectors = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -3.0]])
    root = 0.5**0.5
    same, other, apart = (1 - root) ** 2, 0.0, root**2  # pairs 0 and 1, 0 and 2, 1 and 2
    found = cosine_loss(vectors, torch.tensor([4, 4, 1]))
    assert float(found) == pytest.approx((same + other + apart) / 3, abs=1e-6)


def test_few_texts_are_all_in_every_batch() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 2])
    rows = np.array([0, 1, 2, 3, 5])
    assert sorted(draw_batch(labels, rows, np.random.default_rng(0)).tolist()) == rows.tolist()


def test_a_batch_of_many_classes_holds_several_texts_of_each() -> None:
    labels = np.arange(400) % 40
    for seed in range(5):
        chosen = draw_batch(labels, np.arange(400), np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == BATCH
        counts = np.unique(labels[chosen], return_counts=True)[1]
        assert (len(counts), counts.min(), counts.max()) == (MOST_CLASSES, 4, 4)


def test_a_rare_class_is_in_the_batch_whole() -> None:
    labels = np.array([0] * 200 + [1] * 3)
    chosen = draw_batch(labels, np.arange(203), np.random.default_rng(0))
    assert len(chosen) == BATCH
    assert (labels[chosen] == 1).sum() == 3
