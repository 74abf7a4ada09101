"""Pennyweight as a contender: its own build, prefix, loop and predictions, timed by the loop's own observer."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pennyweight.budget.cost import work
from pennyweight.model.backbone import resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import choose
from pennyweight.model.inference import TokenFeed, evaluating, logits
from pennyweight.model.tokenizer import encode, load_tokenizer
from pennyweight.recipe.loading import load
from pennyweight.recipe.planning import plan_for
from pennyweight.train.accelerator import make_accelerator
from pennyweight.train.loop import fit
from pennyweight.train.machine_speed import estimate_training
from pennyweight.train.prefix_cache import Prefix, first_trained_layer, prepare

BUCKET = 16  # the recipes' own


def import_heavy() -> None:
    """What `build` imports when it is first called; its memory is the libraries', not the training's."""
    for name in ("peft", "transformers"):
        importlib.import_module(name)


class _Stop(Exception):
    """The watcher has seen enough."""


class _Watch:
    def __init__(self, watch: Callable[[int, float], bool] | None) -> None:
        self.watch, self.steps = watch, []  # type: ignore[var-annotated]

    def step(self, step: int, total: int, loss: float, rate: float, texts: int, seconds: float) -> None:
        self.steps.append(seconds)
        if self.watch is not None and self.watch(step, sum(self.steps)):
            raise _Stop

    def evaluation(self, record: dict[str, Any]) -> None:
        pass


def spared(config: dict[str, Any], length: int, rank: int = 16) -> float:
    """Operations that `work` counts for a text and the engine leaves out: it counts a key and a value of each token in
    the last layer, for which kernels/first_token_attention.py has smaller products, with keys and values adapted at
    this rank.
    """
    hidden, heads, wide = config["hidden_size"], config["num_attention_heads"], config["hidden_size"] + 2 * rank
    to_all = 2 * 2 * length * (2 * hidden * hidden + 3 * 2 * hidden * rank)  # weights twice, updates three times
    attention = 3 * 2 * 2 * length * hidden
    matrices = 2 * 2 * 2 * hidden * wide + 2 * 2 * hidden * 2 * rank  # into the query and out of the sum, and their ups
    rows = (2 + 4) * 2 * heads * wide * length + 3 * 2 * 2 * rank * hidden * length
    return float(to_all + attention - matrices - rows)


class Ours:
    """LoRA of rank 16 on query, key and value, as the peers have it, linear head.

    Args:
        top: adapt only this many upper layers, and keep what the others give; None: all layers, no prefix.
    """

    learning_rate = 5e-4

    def __init__(
        self,
        folder: Path,
        texts: Sequence[str],
        labels: Sequence[int],
        *,
        classes: int,
        max_length: int,
        top: int | None,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        import_heavy()
        self.memory_before_mb = psutil.Process().memory_info().rss / 1e6  # interpreter and libraries
        self.recipe = load(
            backbone=str(folder), target_modules=["query", "key", "value"], r=16, lora_alpha=32.0, lora_dropout=0.1,
            layers=None if top is None else f"top:{top}", head="linear", budget=None, max_length=max_length,
            batch_size=batch_size, learning_rate=self.learning_rate, epochs=1, device=device, seed=0,
            pad_to_multiple_of=BUCKET,
        )  # fmt: skip
        train = self.recipe.train
        self.runtime = choose(train.device, train.precision, train.threads)
        backbone = resolve(str(folder))
        self.plan = plan_for(self.recipe, backbone.config, classes)
        self.model = build(backbone, self.plan, classes, self.runtime, ModelSettings(**self.recipe.model.settings()))
        self.labels, self.batch_size = np.asarray(labels), batch_size
        began = time.perf_counter()
        self.tokenizer, self.max_length = load_tokenizer(folder), max_length
        self.tokens = encode(self.tokenizer, list(texts), max_length)
        self.tokenize_seconds = time.perf_counter() - began
        self.feed: TokenFeed | Prefix = self._tokens(self.tokens)
        self.prefix_seconds = 0.0
        if top is not None:
            encoder = self.model.encoder
            first = first_trained_layer(encoder.module, encoder.num_layers)
            pooling = self.recipe.model.pooling
            began = time.perf_counter()
            prefix = prepare(
                encoder, self.feed, first=first, pooling=pooling, dtype=encoder.dtype, backbone="benchmark"
            )
            assert prefix is not None, "the prefix does not fit into memory"
            self.feed, self.prefix_seconds = prefix, time.perf_counter() - began
        # Counted text by text, since attention grows with the square of the length.
        sizes, counts = np.unique(self.tokens.lengths, return_counts=True)
        self.mean_tokens = float(self.tokens.lengths.mean())
        self.cache_mb = self.feed.bytes / 1e6 if isinstance(self.feed, Prefix) else 0.0
        self._estimate(backbone.config)
        self.operations = self.executed = 0.0
        for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
            counted = work(backbone.config, self.plan, length=size, pooling=self.recipe.model.pooling)
            each = counted.per_text(cached=top is not None)
            self.operations += count * each
            self.executed += count * (each - spared(backbone.config, size))

    def _estimate(self, config: dict[str, Any]) -> None:
        """What `plan` would say of this run, kept beside what it then takes."""
        count = len(self.tokens)
        said = estimate_training(self.recipe, config, self.plan, texts=count, tokens=round(self.mean_tokens))
        self.estimated_texts_per_second = count / said.seconds_per_epoch
        self.estimated_memory_mb, self.estimated_cache_mb = said.memory_bytes / 1e6, said.cache_bytes / 1e6

    def _tokens(self, tokens: Any) -> TokenFeed:
        return TokenFeed(tokens, self.tokenizer.pad_token_id, BUCKET, self.max_length, self.runtime.device)

    def epoch(self, epochs: int = 1, watch: Callable[[int, float], bool] | None = None) -> list[float]:
        """Train over all texts; seconds of each step. `watch` as for the peers."""
        observer = _Watch(watch)
        recipe = self.recipe.train.model_copy(update={"epochs": epochs})
        accelerator = make_accelerator(recipe, self.runtime, None)
        with contextlib.suppress(_Stop):
            fit(
                self.model, self.feed, self.labels, self.tokens.lengths, recipe, accelerator=accelerator,
                evaluate=lambda: {"loss": 0.0, "accuracy": 0.0, "macro_f1": 0.0}, planned=self.plan.count.trainable,
                bucket=BUCKET, observer=observer,
            )  # fmt: skip
        return observer.steps

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Most probable classes, (N,)."""
        tokens = encode(self.tokenizer, list(texts), self.max_length)
        with evaluating(self.model):  # a run that was stopped leaves it in training mode
            out = logits(self.model, self._tokens(tokens), tokens.lengths, batch_size=64, bucket=BUCKET)
        return out.argmax(1)
