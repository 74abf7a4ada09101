"""Does it pay to leave out texts that are already learnt? Selective backpropagation beside plain training.

    python benchmarks/selective.py [--agnews FOLDER] [--epochs 3] [--below 0.02 0.1]

A text whose loss was below a threshold when it was last seen sits the next epoch out (after Jiang et al. 2019,
https://arxiv.org/abs/1910.00762, without their second forward pass). The same plan, steps' rate by share of the epoch,
seed and rows; a tenth of the training rows is held back to measure on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs import LABELS, embedded, news
from ours import BUCKET, Ours
from torch.nn.functional import cross_entropy

from pennyweight.data.batching import plan_batches
from pennyweight.model.trainable import trainable
from pennyweight.train.optimizer import adamw, learning_rate


def train(ours: Ours, epochs: int, below: float) -> tuple[float, int]:
    """Seconds of training and texts seen."""
    recipe = ours.recipe.train
    parameters = trainable(ours.model)
    optimizer = adamw(parameters, recipe)
    lengths, labels = ours.tokens.lengths, torch.from_numpy(ours.labels)
    last = np.full(len(labels), np.inf)
    began, seen = time.perf_counter(), 0
    ours.model.train()
    for epoch in range(epochs):
        rows = np.flatnonzero(last >= below)
        order = plan_batches(
            lengths[rows], batch_size=recipe.batch_size, bucket=BUCKET, seed=0, epoch=epoch, group=True
        )
        for number, chosen in enumerate(order):
            indices = rows[chosen]
            # As far as plain training would be at this share of the epoch, so that both rates end together.
            step = round(1000 * (epoch + number / len(order)))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 1000 * epochs, recipe)
            each = cross_entropy(ours.model(**ours.feed(indices)).float(), labels[indices], reduction="none")
            each.mean().backward()
            torch.nn.utils.clip_grad_norm_(list(parameters.values()), recipe.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            last[indices] = each.detach().numpy()
            seen += len(indices)
    seconds = time.perf_counter() - began
    ours.model.eval()
    return seconds, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agnews", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--below", type=float, nargs="*", default=[0.02, 0.1])
    chosen = parser.parse_args()
    (texts, labels), _ = news(chosen.agnews)
    held = np.zeros(len(texts), dtype=bool)
    held[np.random.default_rng(0).permutation(len(texts))[: len(texts) // 10]] = True
    split: dict[bool, Any] = {
        side: ([t for t, h in zip(texts, held, strict=True) if h == side], np.asarray(labels)[held == side])
        for side in (False, True)
    }
    for below in (0.0, *chosen.below):
        ours = Ours(embedded(), *split[False], classes=len(LABELS), max_length=128, top=3)
        seconds, seen = train(ours, chosen.epochs, below)
        right = float((ours.predict(split[True][0]) == split[True][1]).mean())
        print(
            f"below {below:g}: {right:.4f} of {held.sum()} held-back texts, {seen:,} texts in {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
