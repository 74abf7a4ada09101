"""The encoder's tensors with the adapter merged into them, as inference needs them; PEFT is not imported.

LoRA    W + s B A
DoRA    m (W + s B A) / ||W + s B A||, the norm of each row    (Liu et al. 2024, arXiv:2402.09353, equation 5)

Both as PEFT's `merge_and_unload` computes them; trained biases take the place of the backbone's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...budget.architecture import encoder_parameters
from ...budget.specs import AdapterSpec
from ...budget.targets import scales
from ..adapters.lora import PREFIX
from ..backbone import Backbone, load_module
from .tensors_on_demand import TensorsOnDemand, already, stored_tensors

Config = Mapping[str, Any]
# Names in checkpoints of TensorFlow's time, which transformers renames on loading.
_OLD_NAMES = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
# How PEFT names what it adds to a layer; `default` is the adapter's name in a module, which saved names leave out.
_A, _B, _MAGNITUDE, _BASE = "lora_A", "lora_B", "lora_magnitude_vector", "base_layer"


def merged_state(
    config: Config,
    backbone_tensors: Mapping[str, Tensor],
    spec: AdapterSpec | None,
    adapter_tensors: Mapping[str, Tensor],
) -> TensorsOnDemand:
    """The tensors of transformers' `AutoModel` without its pooler, the adapter merged.

    Args:
        config: the backbone's config.json.
        backbone_tensors: by a checkpoint's names or by `AutoModel`'s; what is of no use is left out.
        spec: the adapter as planned; None if only the head was trained.
        adapter_tensors: by the names that PEFT saves.

    Returns:
        fp32 tensors, each merged when it is read, so that there are never two copies of all; those that nothing was
        merged into may share memory with the backbone's.

    Raises:
        KeyError: a tensor of the encoder, or of the adapter, is missing.
    """
    state = encoder_tensors(config, backbone_tensors)
    if spec is None:
        return state
    trained = {name.removeprefix(PREFIX): tensor.detach().float() for name, tensor in adapter_tensors.items()}
    makers: dict[str, Callable[[], Tensor]] = {name: partial(state.__getitem__, name) for name in state}
    for name, scale in scales(config, spec).items():
        magnitude = trained.get(f"{name}.{_MAGNITUDE}")
        down, up = trained[f"{name}.{_A}.weight"], trained[f"{name}.{_B}.weight"]
        key = f"{name}.weight"
        makers[key] = partial(_merge_into, makers[key], down, up, scale, magnitude)
    for name, tensor in trained.items():
        if name.endswith(".bias"):
            makers[name.replace(f".{_BASE}.", ".")] = already(tensor)
    return TensorsOnDemand(makers, state.shapes)


def _merge_into(
    weight: Callable[[], Tensor], down: Tensor, up: Tensor, scale: float, magnitude: Tensor | None
) -> Tensor:
    return _merged(weight(), down, up, scale, magnitude)


def encoder_tensors(config: Config, tensors: Mapping[str, Tensor]) -> TensorsOnDemand:
    """The tensors of transformers' `AutoModel` without its pooler, in fp32, out of a checkpoint's, read on demand.

    As transformers does, a prefix such as `bert.` and the names `gamma` and `beta` of old checkpoints are translated;
    heads, poolers and buffers are left out.

    Raises:
        KeyError: a tensor that the config calls for is missing or has another shape.
    """
    wanted = encoder_parameters(config)
    names = _names_in(tensors, wanted)
    makers: dict[str, Callable[[], Tensor]] = {}
    for name, shape in wanted.items():
        held = names[name]
        found = tensors.shapes[held] if isinstance(tensors, TensorsOnDemand) else tuple(tensors[held].shape)
        if found != shape:
            raise KeyError(f"{name} of shape {shape}")
        makers[name] = partial(_in_fp32, tensors, held)
    return TensorsOnDemand(makers, wanted)


def _in_fp32(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name].detach().float()


def backbone_state(backbone: Backbone) -> TensorsOnDemand:
    """A backbone's tensors as `AutoModel` has them, in fp32, read on demand.

    They come from its safetensors files alone where that works.

    Raises:
        BackboneError: as `load_module`, which reads what is laid out in any other way.
    """
    from safetensors import SafetensorError

    try:
        return encoder_tensors(backbone.config, stored_tensors(_weight_files(backbone.folder)))
    except (KeyError, OSError, ValueError, SafetensorError):
        state: dict[str, Tensor] = load_module(backbone).state_dict()
        return encoder_tensors(backbone.config, state)


def _merged(weight: Tensor, down: Tensor, up: Tensor, scale: float, magnitude: Tensor | None) -> Tensor:
    """One matrix: weight (out, in), down (r, in), up (out, r) and perhaps a magnitude (out,) -> (out, in), all fp32."""
    merged = torch.addmm(weight, up, down, alpha=scale)
    return merged if magnitude is None else merged * dora_factor(merged, magnitude).unsqueeze(1)


def dora_factor(updated: Tensor, magnitude: Tensor) -> Tensor:
    """(out,) what DoRA multiplies each row of W + s B A (out, in) by, so that it is as long as its magnitude (out,)."""
    norms: Tensor = torch.linalg.norm(updated, dim=1)
    return magnitude / norms


def _names_in(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, str]:
    """The names of `AutoModel`'s tensors in a checkpoint: the same, or all with a prefix such as `bert.`.

    Raises:
        KeyError: it lacks one.
    """
    wanted = list(wanted)
    best: dict[str, str] = {}
    for prefix in ("", *sorted({f"{name.partition('.')[0]}." for name in tensors})):
        found: dict[str, str] = {}
        for name in wanted:
            spellings = [name, *(name.replace(new, old) for new, old in _OLD_NAMES if new in name)]
            held = [prefix + spelling for spelling in spellings if prefix + spelling in tensors]
            if held:
                found[name] = held[0]
        best = max(best, found, key=len)
    missing = [name for name in wanted if name not in best]
    if missing:
        raise KeyError(missing[0])
    return best


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads: one, or the parts that an index lists."""
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
    return [folder / name for name in sorted({Path(part).name for part in index["weight_map"].values()})]
