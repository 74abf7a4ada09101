"""The head under transformers' own names, for an architecture's stock sequence classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..artifact.artifact import Artifact
from ..errors import ArtifactError
from ..model.encoders import StockHead, stock_head_of
from .temperature import folded_output

# tanh(x) = x - x^3/3 + ...: at this scale the cubic term of a normalised hidden state is below fp32's resolution of
# the logits, and the scaled values are still normal numbers in half precision.
EPSILON = 2.0**-12
# Beyond this argument gelu(x) equals x in fp32.
GELU_IS_IDENTITY = 6.0


def stock_head(artifact: Artifact) -> dict[str, Tensor]:
    """The head's tensors under the architecture's stock names, computing the same logits divided by the temperature.

    A linear head has no dense layer, a stock head has one with an activation behind it. Where the activation is tanh,
    it is entered near zero, where it is linear: dense = eps I, output = W / eps. Where it is relu or gelu, it is
    entered far above zero, where it is the identity: dense = I with bias c, output bias b - W c; c is taken from the
    last layer norm, whose outputs are bounded by sqrt(H) |gamma| + |beta|.

    Raises:
        ArtifactError: when the stock class cannot express this head; the message says which setting would do.
    """
    stock = stock_head_of(artifact.backbone.config)
    head = artifact.model.head
    _refuse_pooling(artifact)
    out = folded_output(artifact)
    if head.dense is not None:
        weight = head.dense.weight if head.down is None else head.dense.weight @ head.down.weight
        dense = {"weight": weight.detach().cpu().clone()}
        if head.dense.bias is not None:
            dense["bias"] = head.dense.bias.detach().cpu().clone()
    else:
        dense, out = _identity_dense(stock, out, artifact.model.module)
    named = {f"{stock.dense}.{key}": tensor for key, tensor in dense.items()}
    named |= {f"{stock.output}.{key}": tensor for key, tensor in out.items()}
    if head.norm is not None and stock.norm:
        named |= {
            f"{stock.norm}.{key}": tensor.detach().cpu().clone() for key, tensor in head.norm.state_dict().items()
        }
    return named


def _refuse_pooling(artifact: Artifact) -> None:
    config, pooling = artifact.backbone.config, artifact.recipe.model.pooling
    stock = stock_head_of(config).pooling
    if pooling != stock:
        raise ArtifactError(
            f"transformers' stock {config['model_type']} classifier cannot express {pooling} pooling",
            expected=f"a classifier trained with --pooling {stock}",
            received=f"--pooling {pooling}",
            remedy=f"use --format onnx, or train with --pooling {stock} --contrastive off --frozen-head off",
        )


def _identity_dense(
    stock: StockHead, out: dict[str, Tensor], encoder: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Dense and output layers that reproduce `out` through the stock head's activation."""
    size = out["weight"].shape[1]
    if stock.norm:
        raise ArtifactError(
            "a linear head cannot be expressed by the stock head, which normalises between its two layers",
            expected="a classifier trained with --head full or --head low_rank",
            received="--head linear",
        )
    if stock.activation == "tanh":
        dense = {"weight": torch.eye(size) * EPSILON, "bias": torch.zeros(size)}
        return dense, {"weight": out["weight"] / EPSILON, "bias": out["bias"]}
    if stock.activation not in ("relu", "gelu"):
        raise ArtifactError(
            f"a linear head cannot be expressed by the stock head, because of its activation {stock.activation}",
            remedy="train with --head full",
        )
    norm = _last_norm(encoder)
    bound = size**0.5 * norm.weight.detach().float().abs() + norm.bias.detach().float().abs()  # (H,)
    shift = (bound + GELU_IS_IDENTITY).cpu()
    dense = {"weight": torch.eye(size), "bias": shift}
    return dense, {"weight": out["weight"], "bias": out["bias"] - (out["weight"].double() @ shift.double()).float()}


def _last_norm(encoder: nn.Module) -> Any:
    norms = [
        module for name, module in encoder.named_modules() if name.endswith(("output.LayerNorm", "output_layer_norm"))
    ]
    return norms[-1]
