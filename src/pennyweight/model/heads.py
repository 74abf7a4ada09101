"""Classification heads on one pooled vector, and their stock names in transformers' sequence classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from ..errors import BackboneError


@dataclass(frozen=True)
class Form:
    """How an architecture's own sequence classifier ends.

    Attributes:
        activation: between the dense layer and the output, by transformers' name.
        dense: stock name of the dense layer. For BERT it is the pooler inside the backbone.
        out: stock name of the output layer.
        norm: stock name of a norm after the activation, if there is one.
        saved: PEFT's `modules_to_save` for the whole head.
        backbone: stock attribute that holds the encoder.
    """

    activation: str
    dense: str
    out: str
    saved: tuple[str, ...]
    backbone: str
    norm: str | None = None


FORMS = {
    "bert": Form("tanh", "bert.pooler.dense", "classifier", ("pooler", "classifier"), "bert"),
    "roberta": Form("tanh", "classifier.dense", "classifier.out_proj", ("classifier",), "roberta"),
    "xlm-roberta": Form("tanh", "classifier.dense", "classifier.out_proj", ("classifier",), "roberta"),
    "electra": Form("gelu", "classifier.dense", "classifier.out_proj", ("classifier",), "electra"),
    "distilbert": Form("relu", "pre_classifier", "classifier", ("pre_classifier", "classifier"), "distilbert"),
    "deberta-v2": Form("gelu", "pooler.dense", "classifier", ("pooler", "classifier"), "deberta"),
    "modernbert": Form("gelu", "head.dense", "classifier", ("head", "classifier"), "model", norm="head.norm"),
}


def form_of(config: dict[str, Any]) -> Form:
    """The architecture's own head, its activation taken from the config where the config names one.

    Raises:
        BackboneError: for an architecture whose head is not known here.
    """
    kind = config["model_type"]
    if kind not in FORMS:
        raise BackboneError(
            f"the {kind} architecture's own head is not known", expected=", ".join(FORMS), remedy="use --head linear"
        )
    form = FORMS[kind]
    named = {"modernbert": "classifier_activation", "deberta-v2": "pooler_hidden_act"}
    activation = config.get(named.get(kind, ""), form.activation)
    return Form(activation, form.dense, form.out, form.saved, form.backbone, form.norm)


class Head(nn.Module):
    """Logits from a pooled vector: (B, H) -> (B, L).

    linear:    out(x)
    full:      out(norm(act(dense(x))))            the architecture's own head
    low_rank:  out(norm(act(up(down(x)))))         its dense layer as a product of rank k

    Dropout is applied before each linear map, as the stock heads do.
    """

    def __init__(
        self,
        kind: str,
        config: dict[str, Any],
        labels: int,
        *,
        rank: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = int(config.get("hidden_size", config.get("dim", 0)))
        self.kind = kind
        self.dropout = nn.Dropout(dropout)
        self.down: nn.Linear | None = None
        self.dense: nn.Linear | None = None
        self.norm: nn.LayerNorm | None = None
        self.act: nn.Module = nn.Identity()
        if kind != "linear":
            form = form_of(config)
            bias = bool(config.get("classifier_bias", False)) if form.norm else True
            if kind == "low_rank":
                self.down = nn.Linear(size, rank, bias=False)
                self.dense = nn.Linear(rank, size, bias=bias)
            else:
                self.dense = nn.Linear(size, size, bias=bias)
            self.act = ACT2FN[form.activation]
            if form.norm:
                bias = bool(config.get("norm_bias", False))
                self.norm = nn.LayerNorm(size, eps=config.get("norm_eps", 1e-5), bias=bias)
        self.out = nn.Linear(size, labels)
        self._initialise(float(config.get("initializer_range", 0.02)))

    def _initialise(self, std: float) -> None:
        for module in self.children():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.down is not None:
            # A product of two small matrices would start with vanishing signal; rows of unit variance do not.
            nn.init.normal_(self.down.weight, std=self.down.in_features**-0.5)

    def forward(self, pooled: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(pooled)  # (B, H)
        if self.down is not None:
            hidden = self.down(hidden)  # (B, k)
        if self.dense is not None:
            hidden = self.act(self.dense(hidden))  # (B, H)
            if self.norm is not None:
                hidden = self.norm(hidden)
            hidden = self.dropout(hidden)
        logits: Tensor = self.out(hidden)  # (B, L)
        return logits

    @torch.no_grad()
    def start_from_pooler(self, tensors: dict[str, Tensor]) -> None:
        """Begin a full head at the checkpoint's own pretrained pooler, where shapes agree."""
        if self.kind != "full" or self.dense is None or not tensors.keys() >= {"weight", "bias"}:
            return
        if tensors["weight"].shape == self.dense.weight.shape:
            self.dense.weight.copy_(tensors["weight"])
            self.dense.bias.copy_(tensors["bias"])
