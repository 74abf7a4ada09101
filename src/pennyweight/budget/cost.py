"""What a plan costs to train: operations, bytes and seconds, by arithmetic alone.

Operations are the multiplications and additions of matrix products, 2 for each pair; norms, activations and the
optimizer are left out, and the head counts 2 for each of its parameters. Only necessary work is counted: frozen weights
take a forward product and, from the lowest adapted block up, a product that passes the gradient on, but none for
gradients of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .architecture import describe, encoder_parameters, linear_modules
from .architecture import size as encoder_size
from .config_fields import Config
from .families import Architecture, BlockLinear
from .plan import Plan
from .targets import ranks

Pooling = Literal["cls", "mean"]

# Roles whose input is the block's own input, and roles that, in the last block, only the pooled token needs.
_FIRST = frozenset({"query", "key", "value", "qkv"})
_POOLED_ONLY = frozenset({"query", "attention_output", "ffn_input", "ffn_output"})
# DeBERTa projects its relative positions once a batch, not once a text.
_PER_BATCH = frozenset({"position_key", "position_query"})
# Bytes of a number in NF4: 4 bits, an 8-bit scale for each 64 numbers, an fp32 scale for each 256 of these (Dettmers
# et al. 2023, https://arxiv.org/abs/2305.14314, section 3).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Of narrower backbones a training step spends its time in starting operations, of which int8 needs more.
NARROWEST_INT8 = 256
_NOT_PRODUCTS = ("_embeddings.weight", "relative_attention_bias.weight")


@dataclass(frozen=True)
class Work:
    """Floating point operations of one text.

    Attributes:
        prefix: forward through what lies below the lowest trained block; the same in every epoch, so it can be cached.
        forward: forward through the rest and the head.
        backward: backward through the rest and the head.
        first_layer: the lowest trained block; the number of blocks when only the head is trained.
    """

    prefix: float
    forward: float
    backward: float
    first_layer: int

    def per_text(self, *, cached: bool, recomputed: bool = False) -> float:
        """Operations a text takes in one epoch.

        Args:
            cached: whether the prefix is computed already.
            recomputed: whether the backward pass computes the forward pass again (activation checkpointing).
        """
        return self.forward * (2 if recomputed else 1) + self.backward + (0.0 if cached else self.prefix)


@dataclass(frozen=True)
class Memory:
    """Peak bytes while training, an estimate.

    Attributes:
        weights: the encoder's frozen weights as the steps read them, in 4 bits where they are quantized.
        trained: trained parameters with their gradients and AdamW's two moments, in float32.
        activations: what one batch keeps for the backward pass, and the gradients of one block.
        checkpointed: the same with activation checkpointing.
        measuring: after the steps, weights for training and for prediction beside each other.
    """

    weights: int
    trained: int
    activations: int
    checkpointed: int
    measuring: int

    @property
    def total(self) -> int:
        """Bytes altogether."""
        return self.trained + max(self.weights + self.activations, self.measuring)

    @property
    def checkpointed_total(self) -> int:
        """Bytes altogether with activation checkpointing."""
        return self.trained + max(self.weights + self.checkpointed, self.measuring)


def first_trained_layer(config: Config, plan: Plan) -> int:
    """The lowest block whose work changes while training; the number of blocks when only the head is trained."""
    if plan.adapter is None:
        return describe(config).layers
    if plan.adapter.bias == "all":
        return 0
    names = ranks(config, plan.adapter)
    return min(module.layer for module in linear_modules(config) if module.name in names)


def work(config: Config, plan: Plan, *, length: int, pooling: Pooling = "cls") -> Work:
    """Operations for one text of `length` tokens.

    With `pooling="cls"` the last block works out queries, attention output and feed-forward for the first token alone.
    Its keys and values are counted, though the fast encoder has smaller products in their place
    (model/kernels/first_token_attention.py).

    Args:
        config: fields of the backbone's `config.json`.
        plan: what is trained.
        length: tokens of the text.
        pooling: cls or mean.
    """
    architecture = describe(config)
    by_name = {} if plan.adapter is None else ranks(config, plan.adapter)
    first = first_trained_layer(config, plan)
    # With bias "all" the embeddings' norm is trained too, so the gradient goes all the way down.
    to_the_bottom = plan.adapter is not None and plan.adapter.bias == "all"
    prefix, forward, backward = _outside(architecture, length), 0.0, 0.0
    for layer in range(architecture.layers):
        rows = 1 if pooling == "cls" and layer == architecture.layers - 1 else length
        attention = _attention(architecture, layer, rows, length)
        products = 0.0
        for matrix in architecture.matrices:
            tokens = _tokens(matrix, rows, length)
            rank = by_name.get(f"{architecture.stack}.{layer}.{matrix.path}", 0)
            weight = 2.0 * matrix.in_features * matrix.out_features * tokens
            low_rank = 2.0 * rank * (matrix.in_features + matrix.out_features) * tokens
            products += weight + low_rank
            if layer >= first:
                passed_on = layer > first or to_the_bottom or matrix.role not in _FIRST
                to_input = weight + low_rank if passed_on else 2.0 * rank * matrix.out_features * tokens
                backward += to_input + low_rank
        if layer < first:
            prefix += products + attention
        else:
            forward += products + attention
            backward += 2 * attention
    head = float(sum(part.parameters for part in plan.count.parts if part.kind == "head"))
    # The head's input gradient is needed only when something below it is trained.
    return Work(prefix, forward + 2 * head, backward + (2 if plan.adapter is None else 4) * head, first)


def seconds_per_epoch(
    operations: Work, *, texts: int, operations_per_second: float, cached: bool = False, recomputed: bool = False
) -> float:
    """Seconds an epoch over `texts` texts takes on a machine that does `operations_per_second`, as measured there."""
    return texts * operations.per_text(cached=cached, recomputed=recomputed) / operations_per_second


def cache_bytes(config: Config, *, vectors: int, bytes_per_number: int) -> int:
    """Bytes the prefix cache takes: a hidden vector for each token, or for each text where only the head is trained."""
    return vectors * describe(config).hidden * bytes_per_number


def number_bytes(engine: str, precision: str) -> int:
    """Bytes of a frozen weight and of a number of a hidden state.

    Args:
        engine: the reference keeps both in fp32, whatever its products are in; `fast` in the format it computes in.
        precision: a number format; one that is not known yet, `auto`, takes 2 bytes. Where products are in int8, fp32.
    """
    return 4 if engine == "reference" or precision in ("fp32", "int8") else 2


def memory(
    config: Config, plan: Plan, *, batch_size: int, length: int, bytes_per_number: int = 2, pooling: Pooling = "cls",
    cpu: bool = True, quantization: str = "none",
) -> Memory:  # fmt: skip
    """Peak memory of training by the fast encoder, an estimate in bytes.

    trained = trainable x 16. activations = batch x T x b x the sum, over the blocks from the lowest trained one up, of
    what a token keeps: the outputs of the linear layers, which attention, activation and norms read; the inputs of the
    adapted ones; heads x keys for attention's probabilities; the adapters' ranks; DeBERTa's relative positions
    (`_relative`). To that comes a block's share for the gradients. With activation checkpointing it is two blocks' and
    H a token for each trained block below the last, its
    input. b is `bytes_per_number`.

    weights = encoder x b; on a CPU in bf16 once more the blocks' matrices for each direction that they are multiplied
    in, and likewise with products in int8, there in a byte a number. In 4 bits a matrix takes half a byte a number and
    its scales, and one matrix at a time is there in b.

    measuring: on a CPU the encoder and two inference engines' matrices in fp32 (the classifier's, and the frozen
    backbone's that it is compared with); elsewhere the encoder twice.

    Args:
        cpu: whether it is trained there.
        quantization: of the blocks' matrices in the steps, `none`, `int8` or `nf4`.
    """
    architecture = describe(config)
    by_name = {} if plan.adapter is None else ranks(config, plan.adapter)
    first = first_trained_layer(config, plan)
    kept, largest, inputs = 0, 0, 0
    for layer in range(architecture.layers):
        rows = 1 if pooling == "cls" and layer == architecture.layers - 1 else length
        each = {
            matrix: by_name.get(f"{architecture.stack}.{layer}.{matrix.path}", 0) for matrix in architecture.matrices
        }
        block = length * (sum(matrix.out_features + rank for matrix, rank in each.items()) + _adapted_inputs(each))
        block += rows * architecture.heads * _keys(architecture, layer, length) + _relative(architecture, length)
        largest = max(largest, block)
        kept += block if layer >= first else 0
        inputs += length * architecture.hidden if first <= layer < architecture.layers - 1 else 0
    kept = kept + largest if kept else largest
    encoder, size = encoder_size(encoder_parameters(config)), bytes_per_number
    matrices = [matrix.in_features * matrix.out_features for matrix in architecture.matrices]
    blocks = architecture.layers * sum(matrices)
    weights = encoder * size
    if quantization == "nf4":
        weights += round(blocks * (NF4_BYTES - size)) + max(matrices) * size
    elif quantization == "int8" or (cpu and size == 2):  # model/kernels/frozen_linear.py
        packed = blocks + (architecture.layers - first) * sum(matrices)
        weights += packed * (1 if quantization == "int8" else size)
    return Memory(
        weights=weights,
        trained=plan.count.trainable * 16,
        activations=batch_size * kept * size,
        checkpointed=batch_size * min(inputs + 2 * largest, kept) * size,
        measuring=encoder * size + (2 * blocks * 4 if cpu else encoder * size),
    )


def _relative(architecture: Architecture, length: int) -> int:
    """Numbers that a text keeps in a block for DeBERTa's relative positions, as transformers computes them.

    For each of the two products: the projected positions, which are repeated for every text, and the products with all
    of them, of which each token then takes those of its distances.
    """
    attended = architecture.matrices[0].out_features
    each = architecture.positions * (attended + architecture.heads * length)
    return architecture.position_terms * each


def _adapted_inputs(ranks_of: Mapping[BlockLinear, int]) -> int:
    """Numbers that a token keeps of the inputs of a block's adapted matrices; query, key and value have one input."""
    inputs = {
        "first" if matrix.role in _FIRST else matrix.role: matrix.in_features
        for matrix, rank in ranks_of.items()
        if rank
    }
    return sum(inputs.values())


def _tokens(matrix: BlockLinear, rows: int, length: int) -> int:
    if matrix.role in _PER_BATCH:
        return 0
    return rows if matrix.role in _POOLED_ONLY else length


def _keys(architecture: Architecture, layer: int, length: int) -> int:
    """Positions a token of this block attends to."""
    if architecture.window is None or layer in architecture.global_layers:
        return length
    return min(length, architecture.window)


def _attention(architecture: Architecture, layer: int, rows: int, length: int) -> float:
    """Scores and weighted values, and DeBERTa's products with its relative positions, for `rows` queries."""
    attended = architecture.matrices[0].out_features if architecture.family == "deberta-v2" else architecture.hidden
    content = 4.0 * rows * _keys(architecture, layer, length) * attended
    # One of the two terms multiplies the queries, the other the keys.
    multiplied = (rows, length)[: architecture.position_terms]
    return content + 2.0 * sum(multiplied) * architecture.positions * attended


def _outside(architecture: Architecture, length: int) -> float:
    """Projections after the embeddings and DeBERTa's convolution."""
    return sum(
        2.0 * math.prod(shape) * length
        for name, shape in architecture.outside.items()
        if len(shape) > 1 and not name.endswith(_NOT_PRODUCTS)
    )
