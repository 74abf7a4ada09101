"""What an encoder is made of: every parameter by name and shape, from its `config.json` alone.

The names are those of transformers' `AutoModel` without a pooling layer; a test compares them, shapes included, with
the real classes. Counting, planning and costing all read this one description.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import BackboneError
from .config_fields import Config
from .families import FAMILIES, Architecture, Shapes, linear, norm


@dataclass(frozen=True)
class LinearLayer:
    """One linear layer of an encoder block, which an adapter can target.

    Attributes:
        name: full name in transformers' `AutoModel`, such as `encoder.layer.0.attention.self.query`.
        layer: index of its block, 0 nearest the embeddings.
        role: what it does in any architecture: query, key, value, qkv, attention_output, ffn_input, ffn_output,
            position_key, position_query.
        suffix: the shortest readable tail of the name, such as `query` or `attention.output.dense`.
        in_features: columns of its weight.
        out_features: rows of its weight.
        bias: whether it has a bias of `out_features` numbers.
    """

    name: str
    layer: int
    role: str
    suffix: str
    in_features: int
    out_features: int
    bias: bool


def describe(config: Config) -> Architecture:
    """Describe the encoder of a `config.json`.

    Raises:
        BackboneError: an unsupported `model_type`, or a field that is missing or not a positive whole number.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise BackboneError(
            "unsupported architecture",
            where="config -> model_type",
            expected="one of " + ", ".join(FAMILIES),
            received=repr(family),
        )
    return FAMILIES[family](config)


def linear_modules(config: Config) -> tuple[LinearLayer, ...]:
    """Every linear layer of every block, bottom block first, in the order a block runs them."""
    architecture = describe(config)
    return tuple(
        LinearLayer(
            f"{architecture.stack}.{layer}.{m.path}", layer, m.role, m.suffix, m.in_features, m.out_features, m.bias
        )
        for layer in range(architecture.layers)
        for m in architecture.matrices
    )


def encoder_parameters(config: Config) -> Shapes:
    """Name to shape of every parameter of the encoder, as `AutoModel` without its pooling layer has them."""
    architecture = describe(config)
    shapes = dict(architecture.outside)
    for layer in range(architecture.layers):
        prefix = f"{architecture.stack}.{layer}."
        for matrix in architecture.matrices:
            linear(shapes, prefix + matrix.path, matrix.in_features, matrix.out_features, matrix.bias)
        for part in architecture.norms:
            if prefix + part.path not in architecture.skipped:
                norm(shapes, prefix + part.path, part.size, part.bias)
    return shapes


def head_parameters(config: Config, labels: int) -> Shapes:
    """Name to shape of the architecture's own classification head, all of it, as its stock class has it.

    That is RoBERTa's, XLM-R's, ELECTRA's and MPNet's `classifier` (dense and out_proj), BERT's pooler and classifier,
    DistilBERT's pre_classifier and classifier, DeBERTa's pooler and classifier, ModernBERT's head and classifier.
    """
    architecture = describe(config)
    shapes = dict(architecture.own_head.hidden)
    linear(shapes, architecture.own_head.output, architecture.hidden, labels)
    return shapes


def size(shapes: Shapes) -> int:
    """Numbers held by all parameters of `shapes`."""
    return sum(math.prod(shape) for shape in shapes.values())
