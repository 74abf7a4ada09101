"""Every weight trained: what LoRA is measured against."""

from __future__ import annotations

from typing import Any

from .hf_trainer import HfTrainer


class FullFinetune(HfTrainer):
    """transformers' Trainer without PEFT, bf16 autocast and length grouping."""

    learning_rate = 5e-5

    def adapted(self, model: Any) -> Any:
        """The model as it is."""
        return model
