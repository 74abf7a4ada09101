"""PEFT's methods with few parameters on a frozen backbone and a linear head: peers of `methods.py`.

Trained as the default recipe trains: the head begins as logistic regression on the frozen backbone's vectors, then both
learn by AdamW with a cosine schedule, 6 % warm-up and gradients clipped at 1, in batches of 32 texts of like length.
The head's rate is at most 1e-3: some of these methods need a rate of their own that is far too high for a fitted head.
The backbone is transformers', without dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BATCH, MAX_LENGTH, GROUP = 32, 128, 20  # GROUP: batches that are sorted by length together
ATTENTION, ALL = ["query", "value"], ["query", "key", "value", "dense"]
BITFIT_HALF = ("query.bias", "intermediate.dense.bias")  # Zaken et al. 2022, section 4
HEAD_RATE = 1e-3  # the head's largest
LORAPLUS_RATIO = 16  # the rate of B over that of A; Hayou et al. 2024


@dataclass(frozen=True)
class Biases:
    """BitFit, which PEFT does not have: biases whose names end so are trained, nothing is added."""

    ends: str | tuple[str, ...]


def configs(parameters: int, hidden: int, layers: int) -> dict[str, Any]:
    """PEFT's configs of at most so many parameters beside the head, by method; without those that cannot fit.

    Args:
        hidden: width of the backbone, whose feed-forward layers are four times as wide; layers: how many.
    """
    import peft

    matrices = 2 * layers  # queries and values
    found: dict[str, Any] = {
        "unilora": peft.UniLoraConfig(r=4, theta_d_length=parameters, target_modules=ALL),
        "tinylora": peft.TinyLoraConfig(r=2, u=parameters // (6 * layers), target_modules=ALL),
    }
    # One number for each output, and one for each rank of each matrix: "dense" names three matrices of a layer.
    for names, each, outputs in ((ATTENTION, 2, 2 * hidden), (ALL, 6, 9 * hidden)):
        rank = (parameters - outputs * layers) // (layers * each)
        if rank > 0:
            found["vera"] = peft.VeraConfig(r=min(rank, 1024), target_modules=names)
    # A block of the whole width costs `hidden` a square matrix, and four times as much a feed-forward one.
    for names, each in ((ALL, 12), (["query", "key", "value"], 3), (ATTENTION, 2), (["value"], 1)):
        if each * hidden * layers <= parameters:
            found["c3a"] = peft.C3AConfig(block_size=hidden, target_modules=names, init_weights=True)
            break
    # One logit for each vector of the bank and each piece of A and B.
    length, bank = hidden // 6, 0
    while (bank + 1) * (length + matrices * 12) <= parameters:
        bank += 1
    if bank > 2:
        found["vblora"] = peft.VBLoRAConfig(r=1, num_vectors=bank, vector_length=length, target_modules=ATTENTION)
    # LoRA of one rank everywhere, as these three begin and train it.
    rank = parameters // (18 * hidden * layers)
    if rank > 0:
        alpha = max(8, 2 * rank)
        found["lora"] = found["loraplus"] = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=ALL)
        found["pissa"] = peft.LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="pissa", target_modules=ALL)
    # BitFit, and the half of it that its authors found to do nearly as well.
    for names, count in ((".bias", 11 * layers + 1), (BITFIT_HALF, 5 * layers)):
        if count * hidden <= parameters:
            found["bitfit"] = Biases(names)
            break
    if (2 * layers) * hidden <= parameters:
        found["ia3"] = peft.IA3Config(target_modules=["key", "value"], feedforward_modules=[])
    return found


class PeftClassifier:
    """One method's adapter in a transformers backbone, the vectors pooled as the recipe does, a linear head.

    Args:
        folder: of the backbone.
        config: PEFT's, or `Biases`; None for the frozen backbone.
        labels: number of classes.
        pooling: `cls` or `mean`.
        seed: of the adapter's first weights.
        b_ratio: the learning rate of LoRA's B over that of everything else.
    """

    def __init__(self, folder: str, config: Any, labels: int, pooling: str, seed: int, b_ratio: float = 1.0) -> None:
        from peft import get_peft_model
        from transformers import AutoModel, AutoTokenizer

        torch.manual_seed(seed)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        backbone = AutoModel.from_pretrained(folder, attn_implementation="sdpa", add_pooling_layer=False)
        backbone.requires_grad_(False)
        self.head = nn.Linear(backbone.config.hidden_size, labels)
        if isinstance(config, Biases):
            for name, each in backbone.named_parameters():
                each.requires_grad_(name.endswith(config.ends))
        peft_config = None if isinstance(config, Biases) else config
        self.backbone = backbone if peft_config is None else get_peft_model(backbone, peft_config)
        self.backbone.eval()
        self._pooling = pooling
        self._b_ratio = b_ratio

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained, the head's last."""
        return [each for each in self.backbone.parameters() if each.requires_grad] + list(self.head.parameters())

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """All that is trained, for the optimizer: apart the head, and LoRA's B, to which LoRA+ gives a higher rate."""
        adapter = {name: each for name, each in self.backbone.named_parameters() if each.requires_grad}
        b = [each for name, each in adapter.items() if "lora_B" in name]
        others = [each for name, each in adapter.items() if "lora_B" not in name]
        found = [
            {"params": others, "lr": rate},
            {"params": b, "lr": rate * self._b_ratio},
            {"params": list(self.head.parameters()), "lr": min(rate, HEAD_RATE)},
        ]
        return [group for group in found if group["params"]]

    def pooled(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """(B, H): the vectors of a batch."""
        batch = self.tokenizer.pad({"input_ids": [list(each) for each in ids]}, return_tensors="pt")
        hidden = self.backbone(**batch).last_hidden_state
        if self._pooling == "cls":
            return hidden[:, 0]
        mask = batch["attention_mask"][:, :, None].to(hidden)
        return (hidden * mask).sum(1) / mask.sum(1)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        found: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
        return found

    def vectors(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """(N, H): pooled vectors of all texts, in their order."""
        order = np.argsort([len(each) for each in tokens], kind="stable")
        rows = np.empty((len(tokens), self.head.in_features), dtype=np.float32)
        with torch.inference_mode():
            for at in range(0, len(order), BATCH):
                chosen = order[at : at + BATCH]
                rows[chosen] = self.pooled([tokens[row] for row in chosen]).numpy()
        return rows

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) class numbers."""
        with torch.inference_mode():
            return self.head(torch.from_numpy(self.vectors(self.encode(texts)))).argmax(1).numpy()

    def fit(self, texts: Sequence[str], labels: np.ndarray, *, rate: float, epochs: int, seed: int) -> None:
        """Train adapter and head."""
        from sklearn.linear_model import LogisticRegression

        tokens = self.encode(texts)
        start = LogisticRegression(max_iter=1000).fit(self.vectors(tokens), labels)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(start.coef_))
            self.head.bias.copy_(torch.from_numpy(start.intercept_))
        random = np.random.default_rng(seed)
        steps = epochs * -(-len(tokens) // BATCH)
        warmup = round(0.06 * steps)
        optimizer = torch.optim.AdamW(self.groups(rate), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min(1.0, (step + 1) / max(1, warmup)) * 0.5 * (1 + np.cos(np.pi * min(1.0, step / steps))),
        )
        for _ in range(epochs):
            for rows in batches([len(each) for each in tokens], random):
                logits = self.head(self.pooled([tokens[row] for row in rows]))
                nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)


def batches(lengths: Sequence[int], random: np.random.Generator) -> Iterator[np.ndarray]:
    """Each row once, in batches of like length, in random order."""
    found = []
    for mega in np.array_split(random.permutation(len(lengths)), max(1, len(lengths) // (BATCH * GROUP))):
        ordered = mega[np.argsort(np.asarray(lengths)[mega], kind="stable")]
        found += [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
    for at in random.permutation(len(found)):
        yield found[at]
