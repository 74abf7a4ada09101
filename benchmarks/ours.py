"""Pennyweight as a contender: the pipeline's own stages, with steps timed by the loop's own observer."""

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
from pennyweight.model.inference import evaluating
from pennyweight.pipeline import build_model, load_data, plan_run
from pennyweight.recipe.loading import load
from pennyweight.train.accelerator import make_accelerator
from pennyweight.train.loop import fit, report_steps, step_and_record
from pennyweight.train.machine_speed import estimate_training
from pennyweight.train.run_folder import RunFolder
from pennyweight.train.signals import Stop
from pennyweight.train.state import TrainingState
from pennyweight.train.training_rows import prepare_rows

BUCKET = 16  # the recipes' own
SPARING = ("bert", "roberta")  # architectures whose last layer computes no keys and values
# What the stages import when they are first called; its memory is the libraries', not the training's.
IMPORTED = ("peft", "transformers", "pennyweight.runs.robustness", "pennyweight.audit.short_audit")


def import_heavy() -> None:
    """Import what the stages would."""
    for name in IMPORTED:
        importlib.import_module(name)


class _Stop(Exception):
    """Raised to end a training that has run long enough."""


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
            layers=None if top is None else f"top:{top}", head="linear", budget="none", max_length=max_length,
            batch_size=batch_size, learning_rate=self.learning_rate, epochs=2, device=device, seed=0,
            pad_to_multiple_of=BUCKET, eval_batch_size=64, validation_size=0, audit="off", prefix_cache="memory",
        )  # fmt: skip
        loaded = load_data(self.recipe, [(text, f"class {label}") for text, label in zip(texts, labels, strict=True)])
        assert (len(loaded.splits.train), len(loaded.names)) == (len(texts), classes), "all texts and classes are read"
        self.planned = plan_run(self.recipe, loaded, RunFolder())
        self.built = build_model(self.recipe, loaded, self.planned)
        self.plan, self.model, self.batch_size = self.planned.plan, self.built.text_model.model, batch_size
        self.classes = np.array([int(name.removeprefix("class ")) for name in loaded.names])
        self.labels, self.tokens = loaded.targets["train"], self.built.tokens["train"]
        self.tokenize_seconds = self.built.tokenize_seconds
        self.rows, sources = prepare_rows(self.built.text_model, loaded.training, self.built.tokens, self.recipe.train)
        assert bool(sources.prefixes) == (top is not None), "the prefix does not fit into memory"
        self.feed = self.rows.source
        self.prefix_seconds = sum(prefix.seconds for prefix in sources.prefixes.values())
        self.cache_mb = sum(prefix.bytes for prefix in sources.prefixes.values()) / 1e6
        # Counted text by text, since attention grows with the square of the length.
        sizes, counts = np.unique(self.tokens.lengths, return_counts=True)
        self.mean_tokens = float(self.tokens.lengths.mean())
        config = self.planned.backbone.config
        self._estimate(config)
        self.operations = self.executed = 0.0
        for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
            counted = work(config, self.plan, length=size, pooling=self.recipe.model.pooling)
            each = counted.per_text(cached=top is not None)
            self.operations += count * each
            self.executed += count * (each - (spared(config, size) if config["model_type"] in SPARING else 0.0))

    def _estimate(self, config: dict[str, Any]) -> None:
        """What `plan` would say of this run, kept beside what it then takes."""
        count = len(self.tokens)
        said = estimate_training(self.recipe, config, self.plan, texts=count, tokens=round(self.mean_tokens))
        self.estimated_texts_per_second = count / said.seconds_per_epoch
        self.estimated_memory_mb, self.estimated_cache_mb = said.memory_bytes / 1e6, said.cache_bytes / 1e6

    def epoch(self, epochs: int = 1, watch: Callable[[int, float], bool] | None = None) -> list[float]:
        """Train over all texts; seconds of each step. `watch` as for the peers."""
        observer = _Watch(watch)
        settings = self.recipe.train.model_copy(update={"epochs": epochs})
        accelerator = make_accelerator(settings, self.planned.runtime, None)
        state = TrainingState(self.model, self.rows, settings, accelerator, self.plan.count.trainable)
        figures = {"loss": 0.0, "accuracy": 0.0, "macro_f1": 0.0}
        with contextlib.suppress(_Stop):
            fit(state, evaluate=lambda: figures, observer=observer)
        return observer.steps

    def launch_share(self, steps: int = 20) -> float:
        """Which share of the time of some steps the host takes to start them. At 1 the device waits for the host: then
        CUDA graphs or compilation would help; far below, they would not.
        """
        settings = self.recipe.train.model_copy(update={"epochs": 100, "max_steps": steps})
        accelerator = make_accelerator(settings, self.planned.runtime, None)
        state = TrainingState(self.model, self.rows, settings, accelerator, self.plan.count.trainable)
        state.losses.at_once = steps + 1
        self.model.train()
        began = time.perf_counter()
        for _ in range(steps - 1):  # after the last one losses are read in any case
            step_and_record(state, None, Stop())
        started = time.perf_counter()
        report_steps(state, None)
        return (started - began) / (time.perf_counter() - began)

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Most probable classes, (N,)."""
        model = self.built.text_model
        with evaluating(self.model):  # a run that was stopped leaves it in training mode
            out = model.logits(model.encode(texts))
        return self.classes[out.argmax(1)]
