"""Any transformers encoder behind our small Protocol: the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import BackboneError

# Where each architecture keeps its stack of layers, and what runs once before and once after it.
STACKS = {
    "bert": ("encoder", "layer"),
    "roberta": ("encoder", "layer"),
    "xlm-roberta": ("encoder", "layer"),
    "electra": ("encoder", "layer"),
    "deberta": ("encoder", "layer"),
    "deberta-v2": ("encoder", "layer"),
    "distilbert": ("transformer", "layer"),
    "modernbert": ("", "layers"),
}


# With CLS pooling only the first token of the last layer is read. From the named submodule on, a layer treats tokens
# one by one, so there the others can be dropped; what remains for them, attention, is the smaller part.
TOKENWISE_FROM = {
    "bert": "attention.output",
    "roberta": "attention.output",
    "xlm-roberta": "attention.output",
    "electra": "attention.output",
    "deberta": "attention.output",
    "deberta-v2": "attention.output",
    "distilbert": "sa_layer_norm",
    "modernbert": "mlp_norm",
}


class _FirstToken(nn.Module):
    """A submodule that is handed the first token's rows only: (B, T, H) arguments become (B, 1, H)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *hidden: Tensor) -> Tensor:
        out: Tensor = self.module(*(each[:, :1] for each in hidden))
        return out


class _Given(nn.Module):
    """Stands in for the embeddings: answers with hidden states that are already there."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.hidden


class _NoLayer(nn.Module):
    """Stands in for a stack without layers, which DeBERTa's code does not expect."""

    attention_type = "full_attention"  # ModernBERT asks each layer for its kind

    def __init__(self, pair: bool) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, hidden: Tensor, *args: object, **kwargs: object) -> Tensor | tuple[Tensor, None]:
        return (hidden, None) if self.pair else hidden


class GenericEncoder:
    """transformers' own forward pass, which can also be entered and left between two layers.

    To run layers [first, last) only, the stack is swapped for that slice and the embeddings for the given hidden
    states; masks, relative positions and rotary angles are still made by the model's own code.
    """

    def __init__(self, module: Any) -> None:
        config = module.config
        self.module: nn.Module = module
        self.hidden_size = int(config.hidden_size)
        self.num_layers = int(config.num_hidden_layers)
        self._kind = str(config.model_type)
        self._segments = int(getattr(config, "type_vocab_size", 0) or 0) > 1
        self._owner, self._stack = self._find_stack(self._kind)

    def _find_stack(self, kind: str) -> tuple[nn.Module, str]:
        if kind not in STACKS:
            raise BackboneError(f"architecture {kind!r} is not supported", expected=", ".join(STACKS))
        owner, stack = STACKS[kind]
        return (self.module.get_submodule(owner), stack)

    @property
    def splittable(self) -> bool:
        """Whether layers can be run apart. DeBERTa's convolution mixes the embeddings into the first layer's output."""
        return getattr(self._owner, "conv", None) is None

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) token ids and perhaps segments to (B, T, H) hidden states before layer 0."""
        with self._only(0, 0):
            return self._forward(input_ids, attention_mask, token_type_ids)

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        """Hidden states (B, T, H) after layers [first, last)."""
        with self._only(first, last, hidden):
            # The ids are not read, only their shape and device.
            return self._forward(attention_mask, attention_mask)

    def pooled(self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str) -> Tensor:
        """Run the layers from `first` on and pool: (B, T, H) -> (B, H).

        With `cls` the last layer's feed-forward sees the first token alone.
        """
        # DeBERTa's convolution reads all of the first layer's output: that layer must not be cut short.
        cut = pooling == "cls" and first < self.num_layers and (self.splittable or self.num_layers > 1)
        if not cut:
            return pool(self.run(hidden, attention_mask, first, self.num_layers), attention_mask, pooling)
        last = list(getattr(self._owner, self._stack))[-1]
        where, _, name = TOKENWISE_FROM[self._kind].rpartition(".")
        owner = last.get_submodule(where)
        with swapped([(owner, name, _FirstToken(getattr(owner, name)))]):
            return self.run(hidden, attention_mask, first, self.num_layers)[:, 0]

    def _forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        segments = {} if token_type_ids is None or not self._segments else {"token_type_ids": token_type_ids}
        output: Tensor = self.module(input_ids=input_ids, attention_mask=attention_mask, **segments).last_hidden_state
        return output

    def _only(self, first: int, last: int, hidden: Tensor | None = None) -> AbstractContextManager[None]:
        """Swap in layers [first, last), and `hidden` for the embeddings."""
        layers = list(getattr(self._owner, self._stack))[first:last]
        if not layers:
            layers = [_NoLayer(pair=self._kind.startswith("deberta"))]
        swaps: list[tuple[nn.Module, str, nn.Module]] = [(self._owner, self._stack, nn.ModuleList(layers))]
        children = dict(self.module.named_children())
        if hidden is not None:
            swaps.append((self.module, "embeddings", _Given(hidden)))
            if "embeddings_project" in children:
                swaps.append((self.module, "embeddings_project", nn.Identity()))
        if last < self.num_layers and "final_norm" in children:
            swaps.append((self.module, "final_norm", nn.Identity()))
        return swapped(swaps)


@contextmanager
def swapped(swaps: Sequence[tuple[nn.Module, str, nn.Module]]) -> Iterator[None]:
    """Stand-ins for the named attributes of modules while the block runs."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in swaps]
    for owner, name, stand_in in swaps:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """(B, T, H) and its mask (B, T) to one vector a text: the first token's, or the mean over real tokens."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1)
