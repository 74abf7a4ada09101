"""How many parameters a setting trains, exactly, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import RecipeError
from .architecture import LinearLayer, describe, encoder_parameters, head_parameters, linear_modules, size
from .config_fields import Config
from .families import Shapes
from .specs import AdapterSpec, HeadSpec
from .targets import ranks, resolve_targets

__all__ = [
    "AdapterSpec",
    "Count",
    "HeadSpec",
    "LinearLayer",
    "TrainedPart",
    "adapter_shapes",
    "bias_parameters",
    "count",
    "head_shapes",
    "linear_modules",
    "resolve_targets",
]


@dataclass(frozen=True)
class TrainedPart:
    """One group of trained parameters.

    Attributes:
        name: a module's suffix, with ` core` for LoRA-XS; `singular values`, `biases`, `magnitudes`; the kind of head.
        where: the blocks, in words.
        r: the rank, None if there is none.
        parameters: numbers trained.
        kind: adapter, magnitude, bias or head.
    """

    name: str
    where: str
    r: int | None
    parameters: int
    kind: Literal["adapter", "magnitude", "bias", "head"] = "adapter"


@dataclass(frozen=True)
class Count:
    """The trained parameters, in parts that add up.

    Attributes:
        parts: every group of trained parameters.
        trainable: their sum.
        total: what PEFT's `print_trainable_parameters` calls "all params" when the head is in `modules_to_save`: the
            encoder, the adapter, and the head twice, because PEFT keeps a frozen copy of what it saves.
        backbone: the encoder alone, without any pooling layer (BERT's pooler belongs to its full head).
        stored: numbers in the saved adapter and head. More than are trained where frozen bases are saved with what was
            trained on them (LoRA-XS); of adaptive ranks those that training starts with.
    """

    parts: tuple[TrainedPart, ...]
    trainable: int
    total: int
    backbone: int
    stored: int


@dataclass(frozen=True)
class AdapterCount:
    """The parameters that an adapter adds to an encoder.

    Attributes:
        parts: every group of trained parameters.
        untrained: numbers that it adds but does not train.
        stored: numbers in its saved form; None if they are as many as are trained.
    """

    parts: tuple[TrainedPart, ...]
    untrained: int = 0
    stored: int | None = None


def count(config: Config, *, adapter: AdapterSpec | None, head: HeadSpec, labels: int) -> Count:
    """Count what a setting trains, part by part.

    Args:
        config: fields of the backbone's `config.json`.
        adapter: None trains the head alone.
        head: the classification head.
        labels: number of classes, 2 or more.

    Raises:
        RecipeError: a target, layer or pattern that matches nothing, or fewer than 2 labels.
        BackboneError: a config that lacks what is needed.
    """
    backbone, head_size = size(encoder_parameters(config)), size(head_shapes(config, head, labels))
    adapted = AdapterCount(()) if adapter is None else ADAPTERS[adapter.method](config, adapter)
    parts = list(adapted.parts)
    # A bias already belongs to the encoder: training it adds nothing to the total.
    added = adapted.untrained + sum(part.parameters for part in parts if part.kind != "bias")
    rank = head.rank if head.kind == "low_rank" else None
    parts.append(TrainedPart(head.kind, "head", rank, head_size, "head"))
    return Count(
        parts=tuple(parts),
        trainable=sum(part.parameters for part in parts),
        total=backbone + added + 2 * head_size,
        backbone=backbone,
        stored=head_size
        + (sum(part.parameters for part in adapted.parts) if adapted.stored is None else adapted.stored),
    )


def head_shapes(config: Config, head: HeadSpec, labels: int) -> Shapes:
    """Name to shape of every parameter of the head.

    Raises:
        RecipeError: fewer than 2 labels, or a rank above the width of the dense layer it factors.
    """
    if isinstance(labels, bool) or not isinstance(labels, int) or labels < 2:
        raise RecipeError("a classifier needs at least two classes", expected="2 labels or more", received=labels)
    own = head_parameters(config, labels)
    names = describe(config).own_head
    if head.kind == "linear":
        return {name: shape for name, shape in own.items() if name.startswith(names.output + ".")}
    if head.kind == "full":
        return own
    out_features, in_features = own.pop(f"{names.dense}.weight")
    if head.rank > min(out_features, in_features):
        raise RecipeError(
            "the head's rank is larger than the width of the layer that it factors",
            where="head -> rank",
            expected=f"at most {min(out_features, in_features)}",
            received=head.rank,
        )
    return {
        f"{names.dense}.down.weight": (head.rank, in_features),
        f"{names.dense}.up.weight": (out_features, head.rank),
        **own,
    }


def bias_parameters(shapes: Shapes) -> int:
    """Numbers in every bias of an encoder, layer norms' included, as PEFT's `bias="all"` trains them."""
    return size({name: shape for name, shape in shapes.items() if name.endswith(".bias")})


def layers_in_words(layers: Sequence[int]) -> str:
    """`layer 3`, `layers 0-5`, `layers 0-2, 5`."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    words = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return ("layer " if len(set(layers)) == 1 else "layers ") + words


def count_lora(config: Config, adapter: AdapterSpec) -> AdapterCount:
    """LoRA's A and B, DoRA's magnitudes, and the biases that are trained."""
    by_name = ranks(config, adapter)
    adapted = [module for module in linear_modules(config) if module.name in by_name]
    parts = [
        TrainedPart(
            modules[0].suffix,
            layers_in_words([module.layer for module in modules]),
            rank,
            sum(rank * (module.in_features + module.out_features) for module in modules),
        )
        for rank, modules in _groups(adapted, by_name)
    ]
    where = layers_in_words([module.layer for module in adapted])
    if adapter.use_dora:
        parts.append(
            TrainedPart("magnitudes", where, None, sum(module.out_features for module in adapted), "magnitude")
        )
    if adapter.bias == "lora_only":
        own = sum(module.out_features for module in adapted if module.bias)
        parts.append(TrainedPart("biases", where, None, own, "bias"))
    elif adapter.bias == "all":
        parts.append(TrainedPart("biases", "whole encoder", None, bias_parameters(encoder_parameters(config)), "bias"))
    return AdapterCount(tuple(parts))


def _groups(adapted: Sequence[LinearLayer], by_name: Mapping[str, int]) -> list[tuple[int, list[LinearLayer]]]:
    """Adapted layers of one suffix and rank together, in the order of a block and by rank."""
    groups: dict[tuple[str, int], list[LinearLayer]] = {}
    for module in adapted:
        groups.setdefault((module.suffix, by_name[module.name]), []).append(module)
    order = {suffix: place for place, suffix in enumerate(dict.fromkeys(module.suffix for module in adapted))}
    in_order = sorted(groups.items(), key=lambda group: (order[group[0][0]], group[0][1]))
    return [(rank, modules) for (_, rank), modules in in_order]


def adapter_shapes(config: Config, adapter: AdapterSpec) -> Shapes:
    """Name to shape of every tensor of a saved adapter, plain LoRA or DoRA, by the names that PEFT 0.21 gives them.

    Trained biases are among them. An adapted layer is wrapped, so that its own bias lies in its `base_layer`. LoRA-XS
    is folded into plain LoRA of its ranks before it is saved; so are adaptive ranks, which have no shapes of their own.

    Raises:
        RecipeError: see `ranks`.
    """
    by_name = ranks(config, adapter)
    shapes: Shapes = {}
    for module in linear_modules(config):
        if module.name in by_name:
            rank = by_name[module.name]
            shapes[f"{module.name}.lora_A.weight"] = (rank, module.in_features)
            shapes[f"{module.name}.lora_B.weight"] = (module.out_features, rank)
            if adapter.use_dora:
                shapes[f"{module.name}.lora_magnitude_vector"] = (module.out_features,)
            if adapter.bias == "lora_only" and module.bias:
                shapes[f"{module.name}.base_layer.bias"] = (module.out_features,)
    if adapter.bias == "all":
        for name, shape in encoder_parameters(config).items():
            module_name, _, kind = name.rpartition(".")
            if kind == "bias":
                shapes[f"{module_name}.base_layer.bias" if module_name in by_name else name] = shape
    return shapes


def count_adalora(config: Config, adapter: AdapterSpec) -> AdapterCount:
    """LoRA's A and B, and one singular value a rank. PEFT keeps each matrix's rank as a parameter, untrained."""
    by_name = ranks(config, adapter)
    where = layers_in_words([module.layer for module in linear_modules(config) if module.name in by_name])
    singular_values = TrainedPart("singular values", where, None, sum(by_name.values()))
    plain = count_lora(config, adapter)
    stored = sum(part.parameters for part in plain.parts)
    return AdapterCount((*plain.parts, singular_values), untrained=len(by_name), stored=stored)


def count_lora_xs(config: Config, adapter: AdapterSpec) -> AdapterCount:
    """The cores (r, r). Their bases U (out, r) and V (in, r) are frozen; folded, they take a plain LoRA's numbers.

    Raises:
        RecipeError: a rank above the shorter side of its matrix, which has no more directions.
    """
    by_name = ranks(config, adapter)
    adapted = [module for module in linear_modules(config) if module.name in by_name]
    for module in adapted:
        side = min(module.in_features, module.out_features)
        if by_name[module.name] > side:
            raise RecipeError(
                f"the LoRA-XS rank is larger than the shorter side of the matrix {module.name}",
                where="adapter -> r",
                expected=f"at most {side}",
                received=by_name[module.name],
            )
    parts = tuple(
        TrainedPart(
            f"{modules[0].suffix} core",
            layers_in_words([module.layer for module in modules]),
            rank,
            len(modules) * rank**2,
        )
        for rank, modules in _groups(adapted, by_name)
    )
    frozen = sum(part.parameters for part in count_lora(config, adapter).parts)
    return AdapterCount(parts, untrained=frozen, stored=frozen)


# By `AdapterSpec.method`; `model.adapters` holds the same methods by the same names. A new one is one more line.
ADAPTERS: dict[str, Callable[[Config, AdapterSpec], AdapterCount]] = {
    "lora": count_lora,
    "adalora": count_adalora,
    "lora-xs": count_lora_xs,
}
