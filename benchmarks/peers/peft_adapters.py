"""transformers and PEFT with many adapters in one process: switched for each group of texts, or mixed in a batch.

Both hold each classifier's linear head beside PEFT and apply it themselves. PEFT's own sequence classifiers cannot be
mixed in a batch when their numbers of labels differ (https://github.com/huggingface/peft/issues/1960), as they do here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapter_batches import by_reader, calls
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel

from .length_sorted import Feed, batches, load_tokenizer

NAMES = ("input_ids", "attention_mask")
BATCH_SIZE = 32


class PeftAdapters:
    """What both ways share: the backbone in fp32, adapters by number, heads beside them.

    Args:
        folders: of saved classifiers with linear heads on the first token.
        backbone: a transformers folder.
    """

    def __init__(self, folders: Sequence[str], *, backbone: str, max_length: int) -> None:
        self.folders = [Path(folder) for folder in folders]
        self.tokenizer = load_tokenizer(backbone, max_length)
        base = AutoModel.from_pretrained(backbone, dtype=torch.float32, add_pooling_layer=False)
        self.model: Any = PeftModel.from_pretrained(base, self.folders[0] / "adapter", adapter_name="0").eval()
        self.heads = [self._head(0)]

    def load(self, count: int) -> None:
        """Hold the first `count` adapters."""
        for number in range(len(self.heads), count):
            self.model.load_adapter(self.folders[number] / "adapter", adapter_name=str(number))
            self.heads.append(self._head(number))
        self.model.eval()

    def _head(self, number: int) -> torch.nn.Linear:
        tensors = load_file(self.folders[number] / "head.safetensors")
        assert tensors.keys() == {"out.weight", "out.bias"}, "the head is not linear"
        labels, size = tensors["out.weight"].shape
        head = torch.nn.Linear(size, labels).requires_grad_(False)
        head.load_state_dict({name.removeprefix("out."): tensor for name, tensor in tensors.items()})
        return head

    def _pooled(self, inputs: Feed, **more: Any) -> torch.Tensor:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        pooled: torch.Tensor = self.model(**tensors, **more).last_hidden_state[:, 0]
        return pooled


class PeftSwitching(PeftAdapters):
    """`set_adapter` before each group of texts that one adapter reads."""

    @torch.inference_mode()
    def mixed(self, texts: Sequence[str], readers: Sequence[int], size: int) -> list[int]:
        """N class numbers, `size` texts per call."""
        found: list[int] = []
        for some, theirs in calls(texts, readers, size):
            classes = np.empty(len(some), dtype=np.int64)
            for reader, places in by_reader(theirs).items():
                self.model.set_adapter(str(reader), inference_mode=True)
                group = [some[place] for place in places]
                for rows, inputs in batches(self.tokenizer, group, BATCH_SIZE, NAMES):
                    classes[np.array(places)[rows]] = self.heads[reader](self._pooled(inputs)).argmax(1).numpy()
            found += classes.tolist()
        return found


class PeftMixed(PeftAdapters):
    """`adapter_names`: each layer's LoRA products by adapter, one after another, in one batch."""

    @torch.inference_mode()
    def mixed(self, texts: Sequence[str], readers: Sequence[int], size: int) -> list[int]:
        """N class numbers, `size` texts per call."""
        found: list[int] = []
        for some, theirs in calls(texts, readers, size):
            classes = np.empty(len(some), dtype=np.int64)
            for rows, inputs in batches(self.tokenizer, some, BATCH_SIZE, NAMES):
                names = [str(theirs[row]) for row in rows]
                pooled = self._pooled(inputs, adapter_names=names)
                classes[rows] = [
                    int(self.heads[int(name)](one).argmax()) for name, one in zip(names, pooled, strict=True)
                ]
            found += classes.tolist()
        return found
