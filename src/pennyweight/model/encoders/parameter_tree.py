"""Modules that only hold parameters, under transformers' names: weights load unchanged and PEFT injects into them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ...budget.architecture import describe, encoder_parameters
from ...errors import BackboneError
from ..kernels.frozen_linear import Linear
from .encoder import Config

# What a matrix outside of the layers is, by its name: a linear layer behind the embeddings, or the tokens' embeddings.
PROJECTIONS = {"embeddings_project"}
TOKEN_EMBEDDINGS = {"embeddings.word_embeddings", "embeddings.tok_embeddings"}


def parameter_tree(config: Config, dtype: torch.dtype) -> nn.Module:
    """A frozen module for every part of an encoder that has parameters, with values not set yet.

    Args:
        config: fields of the backbone's config.json.
        dtype: dtype of the matrices and the token embeddings; biases, norms and other embeddings are kept in fp32.
    """
    architecture, shapes = describe(config), encoder_parameters(config)
    layers = [f"{architecture.stack}.{layer}" for layer in range(architecture.layers)]
    products = {f"{layer}.{matrix.path}" for layer in layers for matrix in architecture.matrices} | PROJECTIONS
    root, stack = nn.Module(), nn.ModuleList(nn.Module() for _ in layers)
    _place(root, architecture.stack, stack)
    for name in dict.fromkeys(parameter.rpartition(".")[0] for parameter in shapes):
        shape, has_bias = shapes[f"{name}.weight"], f"{name}.bias" in shapes
        made: nn.Module
        if name in products:
            made = skip_init(Linear, shape[1], shape[0], bias=has_bias)
            made.weight = nn.Parameter(torch.empty(shape, dtype=dtype))
        elif len(shape) == 1:
            made = nn.LayerNorm(shape, eps=architecture.norm_epsilon, bias=has_bias)
        else:
            made = skip_init(nn.Embedding, *shape, dtype=dtype if name in TOKEN_EMBEDDINGS else torch.float32)
        _place(root, name, made)
    return root.requires_grad_(False)


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the weights of transformers' `AutoModel`; what the module has no place for, as a pooler, is left out.

    Raises:
        BackboneError: when a weight is missing or has another shape.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            given = state.get(name)
            if given is None or given.shape != parameter.shape:
                raise BackboneError(
                    "the weights do not fit the config",
                    where=name,
                    expected=f"shape {tuple(parameter.shape)}",
                    received="nothing" if given is None else f"shape {tuple(given.shape)}",
                )
            parameter.copy_(given)


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Make a module the child of another at a dotted path."""
    *above, leaf = name.split(".")
    node = root
    for part in above:
        if not hasattr(node, part):
            node.add_module(part, nn.Module())
        node = node.get_submodule(part)
    node.add_module(leaf, module)
