"""Frozen matrices in 4 bits: NormalFloat with double quantization, as QLoRA trains (Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314, section 3), by bitsandbytes.

A matrix is dequantized for each product, forward and backward, and never kept so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ResourceError
from .frozen_linear import FrozenMatrix, FrozenProduct


class NF4Linear(nn.Linear):
    """A frozen linear layer whose matrix is held in 4 bits: (..., in) -> (..., out) in `dtype`.

    Args:
        linear: the layer to take the place of; its bias is kept.
        dtype: dtype of the products.
        device: where it will compute.

    Attributes:
        plain: the class of the layer that it took the place of.
    """

    quantized = True

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, device: torch.device) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        self.plain = type(linear)
        matrix = linear.weight.detach().to(device, dtype).contiguous()
        self._packed, self._state = _functional().quantize_4bit(matrix, compress_statistics=True, quant_type="nf4")

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in), dequantized: a new tensor each time."""
        matrix: Tensor = _functional().dequantize_4bit(self._packed, self._state)
        return matrix

    def forward(self, input: Tensor) -> Tensor:
        matrix = FrozenMatrix(lambda: self.weight, prepack=False)
        x = input.to(self._state.dtype).reshape(-1, self.in_features)  # (N, in)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = FrozenProduct.apply(x, matrix, bias, None)[0]  # type: ignore[no-untyped-call]
        return out.view(*input.shape[:-1], self.out_features)


def quantize_linears(module: nn.Module, names: Iterable[str], dtype: torch.dtype, device: torch.device) -> None:
    """Put `NF4Linear` in the place of linear layers, in place.

    Raises:
        ResourceError: bitsandbytes is not installed.
    """
    for name in names:
        module.set_submodule(name, NF4Linear(module.get_submodule(name), dtype, device))  # type: ignore[arg-type]


def restore_linears(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put the original matrices back in the place of the quantized ones, in place.

    Args:
        module: an encoder, adapters and all.
        state: the backbone's tensors by the names of transformers' `AutoModel`.
    """
    for name, layer in list(module.named_modules()):
        if isinstance(layer, NF4Linear):
            with torch.device("meta"):
                plain = layer.plain(layer.in_features, layer.out_features, bias=False)
            original = state[f"{name.removesuffix('.base_layer')}.weight"]
            plain.weight = nn.Parameter(original.to(layer._packed.device, layer._state.dtype), requires_grad=False)
            plain.bias = layer.bias
            module.set_submodule(name, plain.train(layer.training))


def has_quantized(module: nn.Module) -> bool:
    """Whether some matrices of an encoder are held in 4 bits."""
    return any(isinstance(layer, NF4Linear) for layer in module.modules())


def _functional() -> Any:
    try:
        from bitsandbytes import functional
    except ImportError:
        raise ResourceError(
            "4-bit weights need bitsandbytes, which is not installed",
            where="train -> quantization",
            remedy='run `pip install "pennyweight[quantize]"`, or use --quantization none',
        ) from None
    return functional
