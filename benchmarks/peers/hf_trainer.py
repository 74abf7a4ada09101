"""transformers' Trainer with PEFT, as their documentation shows it: dynamic padding, LoRA on query, key and value.

https://huggingface.co/docs/transformers/tasks/sequence_classification and
https://huggingface.co/docs/peft/task_guides/lora_based_methods; `bf16` and `grouped` are its strongest honest settings.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

# Query, key and value, as each architecture calls them.
TARGETS = {
    "distilbert": ["q_lin", "k_lin", "v_lin"], "modernbert": ["Wqkv"],
    "deberta-v2": ["query_proj", "key_proj", "value_proj"],
}  # fmt: skip


class _Clock(TrainerCallback):
    """Seconds of each optimizer step, data loading included; pauses while `watch` looks at the model."""

    def __init__(self, batch_size: int, watch: Callable[[int, float], bool] | None) -> None:
        self.batch_size, self.watch = batch_size, watch
        self.steps: list[float] = []

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append(time.perf_counter() - self.began)
        if self.watch is not None and self.watch(state.global_step, sum(self.steps)):
            control.should_training_stop = True
        self.began = time.perf_counter()


class HfTrainer:
    """One way to set the Trainer, kept between epochs so that it can be timed in turn with others.

    Args:
        folder: the backbone.
        texts: raw texts; tokenized here, once.
        labels: their classes, from 0.
        bf16: autocast.
        grouped: batches of similar length.
        compiled: `torch.compile`, as the Trainer's own argument does it.
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
        bf16: bool,
        grouped: bool,
        device: str = "cpu",
        batch_size: int = 32,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(0)
        self.compiled = compiled
        self.bf16, self.grouped, self.batch_size, self.device = bf16, grouped, batch_size, device
        began = time.perf_counter()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = self.tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        self.rows = [{"input_ids": row, "labels": int(label)} for row, label in zip(ids, labels, strict=True)]
        self.tokenize_seconds = time.perf_counter() - began
        self.max_length = max_length
        self.model = self.adapted(AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes))

    def adapted(self, model: Any) -> Any:
        """The model with LoRA in it."""
        from peft import LoraConfig, get_peft_model

        targets = TARGETS.get(model.config.model_type, ["query", "key", "value"])
        config = LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.1, target_modules=targets)
        return get_peft_model(model, config)

    def epoch(self, epochs: int = 1, watch: Callable[[int, float], bool] | None = None) -> list[float]:
        """Train over all texts.

        Args:
            watch: called after each step with its number and the seconds so far; True stops.

        Returns:
            Seconds of each step.
        """
        clock = _Clock(self.batch_size, watch)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=self.batch_size,
                num_train_epochs=epochs,
                learning_rate=self.learning_rate,
                warmup_steps=0.06,
                bf16=self.bf16,
                torch_compile=self.compiled,
                train_sampling_strategy="group_by_length" if self.grouped else "random",
                use_cpu=self.device == "cpu",
                save_strategy="no",
                report_to="none",
                logging_strategy="no",
                disable_tqdm=True,
            )
            trainer = Trainer(
                model=self.model,
                args=arguments,
                train_dataset=self.rows,  # type: ignore[arg-type]
                data_collator=DataCollatorWithPadding(self.tokenizer),
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)  # it prints on standard output, which is the report's
            trainer.train()
        return clock.steps

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Most probable classes, (N,)."""
        self.model.eval()
        found = []
        order = np.argsort([len(text) for text in texts], kind="stable")
        with torch.no_grad(), torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            for at in range(0, len(order), 64):
                chunk = [texts[index] for index in order[at : at + 64]]
                batch = self.tokenizer(
                    chunk, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
                )
                found.append(self.model(**batch.to(self.device)).logits.argmax(1).cpu().numpy())
        self.model.train()
        classes = np.empty(len(texts), dtype=np.int64)
        classes[order] = np.concatenate(found)
        return classes
