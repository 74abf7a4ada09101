"""Encoders: the protocol, one file per family, and the registry they are chosen from."""

from __future__ import annotations

from ...budget.architecture import describe
from ...errors import BackboneError, RecipeError
from ..backbone import Backbone
from ..kernels.frozen_linear import multiply_in_int8
from ..kernels.nf4_linear import quantize_linears
from . import bert, deberta, distilbert, modernbert, mpnet
from .encoder import Config, Encoder, EncoderFamily, EncoderSettings, StockHead

__all__ = [
    "FAMILIES",
    "Encoder",
    "EncoderFamily",
    "EncoderSettings",
    "StockHead",
    "choose_engine",
    "load_encoder",
    "stock_head_of",
]

# By transformers' `model_type`. A new family is one new file and one line here; one that `budget.families` does not
# describe yet is one more line there.
FAMILIES: dict[str, EncoderFamily] = {
    "bert": bert.BERT,
    "roberta": bert.ROBERTA,
    "xlm-roberta": bert.ROBERTA,
    "electra": bert.ELECTRA,
    "deberta-v2": deberta.DEBERTA,
    "distilbert": distilbert.DISTILBERT,
    "modernbert": modernbert.MODERNBERT,
    "mpnet": mpnet.MPNET,
}


def load_encoder(backbone: Backbone, wanted: str, settings: EncoderSettings) -> tuple[Encoder, str]:
    """A backbone's frozen encoder and the name of its engine, `fast` or `reference`.

    Args:
        wanted: `auto`, `fast` or `reference`.

    Raises:
        RecipeError: `fast` is asked for where it does not apply.
        BackboneError: an unsupported architecture, or weights that cannot be loaded.
        ResourceError: 4-bit weights without bitsandbytes.
    """
    family = _family_of(backbone.config)
    engine = choose_engine(backbone.config, wanted, settings)
    loader = family.reference if engine == "reference" or family.fast is None else family.fast
    encoder = loader(backbone, settings)
    if settings.quantization != "none":
        described = describe(backbone.config)
        layers = (f"{described.stack}.{layer}" for layer in range(described.layers))
        names = [f"{layer}.{matrix.path}" for layer in layers for matrix in described.matrices]
        if settings.quantization == "nf4":
            quantize_linears(encoder.module, names, settings.dtype, settings.device)
        else:
            multiply_in_int8(encoder.module, names)
    return encoder, engine


def choose_engine(config: Config, wanted: str, settings: EncoderSettings) -> str:
    """`fast` or `reference`: as wanted, and with `auto` the fast encoder where it supports everything.

    Raises:
        RecipeError: with the reason, when `fast` is asked for where it does not apply.
        BackboneError: an unsupported architecture.
    """
    if wanted == "reference":
        return "reference"
    family = _family_of(config)
    limit = f"the architecture {config['model_type']}" if family.fast is None else family.fast_limit(config, settings)
    if wanted == "fast" and limit is not None:
        raise RecipeError(
            f"the fast encoder does not support {limit}",
            where="model -> encoder",
            remedy="use --encoder reference, or auto",
        )
    return "fast" if limit is None else "reference"


def stock_head_of(config: Config) -> StockHead:
    """The head of the architecture's own sequence classifier.

    Raises:
        BackboneError: for an architecture whose head is not known here.
    """
    family = FAMILIES.get(config["model_type"])
    if family is None or family.stock_head is None:
        raise BackboneError(
            f"the {config['model_type']} architecture's own head is not known",
            expected=", ".join(kind for kind, known in FAMILIES.items() if known.stock_head is not None),
            remedy="use --head linear",
        )
    return family.stock_head(config)


def _family_of(config: Config) -> EncoderFamily:
    kind = config["model_type"]
    if kind not in FAMILIES:
        raise BackboneError(f"architecture {kind!r} is not supported", expected=", ".join(FAMILIES))
    return FAMILIES[kind]
