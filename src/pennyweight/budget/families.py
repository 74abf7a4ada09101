"""The supported families of encoders, each described from the facts of its `config.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .config_fields import Config, body, flag, integer, number, unusable, whole, words

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class BlockLinear:
    """A linear layer inside a block: its path below the block, and its place in `LinearLayer`."""

    path: str
    role: str
    suffix: str
    in_features: int
    out_features: int
    bias: bool = True


@dataclass(frozen=True)
class Norm:
    """A layer norm inside a block."""

    path: str
    size: int
    bias: bool = True


@dataclass(frozen=True)
class OwnHead:
    """The classification head of an architecture's stock class in transformers.

    Attributes:
        dense: name of its dense layer.
        output: name of its output layer, which has one row per label.
        hidden: name to shape of every parameter but the output layer's.
    """

    dense: str
    output: str
    hidden: Shapes


@dataclass(frozen=True)
class Architecture:
    """An encoder, described.

    Attributes:
        family: transformers' `model_type`.
        hidden: width of the vectors between blocks.
        layers: number of blocks.
        heads: attention heads per block.
        stack: where the blocks live, such as `encoder.layer`.
        matrices: the linear layers of one block.
        norms: the layer norms of one block, in the order it runs them.
        outside: every parameter that is not in a block (embeddings, final norms, relative positions, convolution).
        own_head: the classification head of the stock class.
        activation: inside the feed-forward, by transformers' name.
        norm_epsilon: epsilon of every norm.
        skipped: parameters that a block lacks although the others have them.
        window: number of positions that a token attends to in a local layer; None if all.
        global_layers: the layers that see all positions.
        positions: rows of relative position embeddings that attention multiplies with, per direction (DeBERTa).
        position_terms: number of such products in a layer (0 to 2).
        reserved_positions: rows of the position embeddings that no token uses.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    stack: str
    matrices: tuple[BlockLinear, ...]
    norms: tuple[Norm, ...]
    outside: Shapes
    own_head: OwnHead
    activation: str
    norm_epsilon: float
    skipped: frozenset[str] = frozenset()
    window: int | None = None
    global_layers: frozenset[int] = frozenset()
    positions: int = 0
    position_terms: int = 0
    reserved_positions: int = 0


def bert(config: Config) -> Architecture:
    """BERT, RoBERTa, XLM-R and ELECTRA: one encoder under four names."""
    hidden, layers, heads = body(config)
    electra, roberta = config["model_type"] == "electra", config["model_type"] in ("roberta", "xlm-roberta")
    width = whole(config, "embedding_size", 128) if electra else hidden
    outside: Shapes = {
        "embeddings.word_embeddings.weight": (whole(config, "vocab_size"), width),
        "embeddings.position_embeddings.weight": (whole(config, "max_position_embeddings"), width),
        "embeddings.token_type_embeddings.weight": (whole(config, "type_vocab_size", 2), width),
    }
    norm(outside, "embeddings.LayerNorm", width)
    if width != hidden:
        linear(outside, "embeddings_project", width, hidden)
    return Architecture(
        family=str(config["model_type"]),
        hidden=hidden,
        layers=layers,
        heads=heads,
        stack="encoder.layer",
        matrices=(
            BlockLinear("attention.self.query", "query", "query", hidden, hidden),
            BlockLinear("attention.self.key", "key", "key", hidden, hidden),
            BlockLinear("attention.self.value", "value", "value", hidden, hidden),
            *_bert_dense(config, hidden),
        ),
        norms=_bert_norms(hidden),
        outside=outside,
        own_head=_own_head("pooler.dense", "classifier", hidden)
        if config["model_type"] == "bert"
        else _own_head("classifier.dense", "classifier.out_proj", hidden),
        activation=str(config.get("hidden_act", "gelu")),
        norm_epsilon=number(config, "layer_norm_eps", 1e-12),
        # RoBERTa numbers positions from one past the padding id.
        reserved_positions=integer(config, "pad_token_id", 1) + 1 if roberta else 0,
    )


def deberta(config: Config) -> Architecture:
    """DeBERTa-v2 and v3: BERT's blocks with disentangled attention over relative positions."""
    hidden, layers, heads = body(config)
    attended = heads * whole(config, "attention_head_size", hidden // heads)
    relative = flag(config, "relative_attention", False)
    kinds = words(config.get("pos_att_type"))
    shared = flag(config, "share_att_key", False)
    matrices = [
        BlockLinear(f"attention.self.{role}_proj", role, f"{role}_proj", hidden, attended)
        for role in ("query", "key", "value")
    ]
    for kind, role in (("c2p", "key"), ("p2c", "query")):
        if relative and not shared and kind in kinds:
            name = f"pos_{role}_proj"
            matrices.append(BlockLinear(f"attention.self.{name}", f"position_{role}", name, hidden, attended))
    longest = whole(config, "max_position_embeddings")
    limit = integer(config, "max_relative_positions", -1)
    buckets = integer(config, "position_buckets", -1)
    span = buckets if buckets > 0 else limit if limit >= 1 else longest
    return Architecture(
        family="deberta-v2",
        hidden=hidden,
        layers=layers,
        heads=heads,
        stack="encoder.layer",
        matrices=(*matrices, *_bert_dense(config, hidden)),
        norms=_bert_norms(hidden),
        own_head=_own_head("pooler.dense", "classifier", whole(config, "pooler_hidden_size", hidden)),
        activation=str(config.get("hidden_act", "gelu")),
        norm_epsilon=number(config, "layer_norm_eps", 1e-7),
        outside=_deberta_outside(config, hidden, 2 * span if relative else 0),
        positions=2 * span if relative else 0,
        position_terms=sum(kind in kinds for kind in ("c2p", "p2c")) if relative else 0,
    )


def _deberta_outside(config: Config, hidden: int, relative_rows: int) -> Shapes:
    width = whole(config, "embedding_size", hidden)
    shapes: Shapes = {"embeddings.word_embeddings.weight": (whole(config, "vocab_size"), width)}
    if flag(config, "position_biased_input", True):
        shapes["embeddings.position_embeddings.weight"] = (whole(config, "max_position_embeddings"), width)
    types = integer(config, "type_vocab_size", 0)
    if types > 0:
        shapes["embeddings.token_type_embeddings.weight"] = (types, width)
    if width != hidden:
        linear(shapes, "embeddings.embed_proj", width, hidden, bias=False)
    norm(shapes, "embeddings.LayerNorm", hidden)
    if relative_rows:
        shapes["encoder.rel_embeddings.weight"] = (relative_rows, hidden)
    if "layer_norm" in words(config.get("norm_rel_ebd", "none")):
        norm(shapes, "encoder.LayerNorm", hidden)
    kernel = integer(config, "conv_kernel_size", 0)
    if kernel > 0:
        groups = whole(config, "conv_groups", 1)
        shapes["encoder.conv.conv.weight"] = (hidden, hidden // groups, kernel)
        shapes["encoder.conv.conv.bias"] = (hidden,)
        norm(shapes, "encoder.conv.LayerNorm", hidden)
    return shapes


def distilbert(config: Config) -> Architecture:
    """DistilBERT: BERT's blocks without token types, under names of its own."""
    # transformers reads the usual names too, by its attribute map.
    usual = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
    config = {**{own: config.get(name) for own, name in usual.items()}, **config}
    hidden, layers, heads = body(config, hidden="dim", layers="n_layers", heads="n_heads")
    inner = whole(config, "hidden_dim")
    outside: Shapes = {
        "embeddings.word_embeddings.weight": (whole(config, "vocab_size"), hidden),
        "embeddings.position_embeddings.weight": (whole(config, "max_position_embeddings"), hidden),
    }
    norm(outside, "embeddings.LayerNorm", hidden)
    roles = (("q_lin", "query"), ("k_lin", "key"), ("v_lin", "value"), ("out_lin", "attention_output"))
    return Architecture(
        family="distilbert",
        hidden=hidden,
        layers=layers,
        heads=heads,
        stack="transformer.layer",
        matrices=(
            *(BlockLinear(f"attention.{name}", role, name, hidden, hidden) for name, role in roles),
            BlockLinear("ffn.lin1", "ffn_input", "lin1", hidden, inner),
            BlockLinear("ffn.lin2", "ffn_output", "lin2", inner, hidden),
        ),
        norms=(Norm("sa_layer_norm", hidden), Norm("output_layer_norm", hidden)),
        outside=outside,
        own_head=_own_head("pre_classifier", "classifier", hidden),
        activation=str(config.get("activation", "gelu")),
        norm_epsilon=1e-12,
    )


def mpnet(config: Config) -> Architecture:
    """MPNet: BERT's blocks without token types, attention with one table of relative positions for all blocks."""
    hidden, layers, heads = body(config)
    inner = whole(config, "intermediate_size")
    outside: Shapes = {
        "embeddings.word_embeddings.weight": (whole(config, "vocab_size"), hidden),
        "embeddings.position_embeddings.weight": (whole(config, "max_position_embeddings"), hidden),
    }
    norm(outside, "embeddings.LayerNorm", hidden)
    outside["encoder.relative_attention_bias.weight"] = (whole(config, "relative_attention_num_buckets", 32), heads)
    roles = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "attention_output"))
    return Architecture(
        family="mpnet",
        hidden=hidden,
        layers=layers,
        heads=heads,
        stack="encoder.layer",
        matrices=(
            *(BlockLinear(f"attention.attn.{name}", role, name, hidden, hidden) for name, role in roles),
            BlockLinear("intermediate.dense", "ffn_input", "intermediate.dense", hidden, inner),
            BlockLinear("output.dense", "ffn_output", "output.dense", inner, hidden),
        ),
        norms=(Norm("attention.LayerNorm", hidden), Norm("output.LayerNorm", hidden)),
        outside=outside,
        own_head=_own_head("classifier.dense", "classifier.out_proj", hidden),
        activation=str(config.get("hidden_act", "gelu")),
        norm_epsilon=number(config, "layer_norm_eps", 1e-12),
        # Positions are numbered from one past the padding id, which transformers has as 1 whatever the config says.
        reserved_positions=2,
    )


def modernbert(config: Config) -> Architecture:
    """ModernBERT: pre-norm blocks, query, key and value in one matrix, a gated feed-forward, rotary positions."""
    hidden, layers, heads = body(config)
    inner = whole(config, "intermediate_size")
    in_attention, in_mlp = flag(config, "attention_bias", False), flag(config, "mlp_bias", False)
    norm_bias = flag(config, "norm_bias", False)
    outside: Shapes = {"embeddings.tok_embeddings.weight": (whole(config, "vocab_size"), hidden)}
    norm(outside, "embeddings.norm", hidden, norm_bias)
    norm(outside, "final_norm", hidden, norm_bias)
    own_head: Shapes = {}
    linear(own_head, "head.dense", hidden, hidden, flag(config, "classifier_bias", False))
    norm(own_head, "head.norm", hidden, norm_bias)
    return Architecture(
        family="modernbert",
        hidden=hidden,
        layers=layers,
        heads=heads,
        stack="layers",
        matrices=(
            BlockLinear("attn.Wqkv", "qkv", "Wqkv", hidden, 3 * (hidden // heads) * heads, in_attention),
            BlockLinear("attn.Wo", "attention_output", "attn.Wo", hidden, hidden, in_attention),
            BlockLinear("mlp.Wi", "ffn_input", "Wi", hidden, 2 * inner, in_mlp),
            BlockLinear("mlp.Wo", "ffn_output", "mlp.Wo", inner, hidden, in_mlp),
        ),
        norms=(Norm("attn_norm", hidden, norm_bias), Norm("mlp_norm", hidden, norm_bias)),
        outside=outside,
        own_head=OwnHead("head.dense", "classifier", own_head),
        activation=str(config.get("hidden_activation", "gelu")),
        norm_epsilon=number(config, "norm_eps", 1e-5),
        # The embeddings are already normed, so the first block's attention norm is an identity.
        skipped=frozenset({"layers.0.attn_norm"}),
        window=whole(config, "local_attention", 128) + 1,
        global_layers=_global_layers(config, layers),
    )


def _global_layers(config: Config, layers: int) -> frozenset[int]:
    """The layers that see the whole text: listed in newer configs, every n-th in older ones."""
    kinds = config.get("layer_types")
    if kinds is None:
        return frozenset(range(0, layers, whole(config, "global_attn_every_n_layers", 3)))
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise unusable("layer_types", f"a list of {layers} layer types", kinds)
    return frozenset(layer for layer, kind in enumerate(kinds) if kind == "full_attention")


def _bert_dense(config: Config, hidden: int) -> tuple[BlockLinear, ...]:
    inner = whole(config, "intermediate_size")
    return (
        BlockLinear("attention.output.dense", "attention_output", "attention.output.dense", hidden, hidden),
        BlockLinear("intermediate.dense", "ffn_input", "intermediate.dense", hidden, inner),
        BlockLinear("output.dense", "ffn_output", "output.dense", inner, hidden),
    )


def _bert_norms(hidden: int) -> tuple[Norm, ...]:
    return Norm("attention.output.LayerNorm", hidden), Norm("output.LayerNorm", hidden)


def _own_head(dense: str, output: str, width: int) -> OwnHead:
    hidden: Shapes = {}
    linear(hidden, dense, width, width)
    return OwnHead(dense, output, hidden)


def linear(shapes: Shapes, name: str, in_features: int, out_features: int, bias: bool = True) -> None:
    """Add a linear layer's parameters to `shapes`."""
    shapes[f"{name}.weight"] = (out_features, in_features)
    if bias:
        shapes[f"{name}.bias"] = (out_features,)


def norm(shapes: Shapes, name: str, width: int, bias: bool = True) -> None:
    """Add a layer norm's parameters to `shapes`."""
    shapes[f"{name}.weight"] = (width,)
    if bias:
        shapes[f"{name}.bias"] = (width,)


# By transformers' `model_type`. A new family is described by a function here or elsewhere, and one more line.
FAMILIES: dict[str, Callable[[Config], Architecture]] = {
    "bert": bert,
    "roberta": bert,
    "xlm-roberta": bert,
    "distilbert": distilbert,
    "deberta-v2": deberta,
    "modernbert": modernbert,
    "electra": bert,
    "mpnet": mpnet,
}
# Those that have a fast encoder (model/encoders/), by which estimates are made without loading any.
FAST_FAMILIES = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "modernbert")
