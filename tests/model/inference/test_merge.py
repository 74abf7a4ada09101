"""Adapters merged without PEFT: the matrices that PEFT's own merge gives, for every family and kind of adapter."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pennyweight.budget.architecture import encoder_parameters
from pennyweight.budget.count import adapter_shapes
from pennyweight.budget.specs import AdapterSpec
from pennyweight.errors import BackboneError, InputError
from pennyweight.model.adapters.lora import PREFIX, LoraAdapter, lora_config, scale_tensors
from pennyweight.model.backbone import Backbone, load_module, resolve
from pennyweight.model.inference import tensors_on_demand
from pennyweight.model.inference.merge import backbone_state, encoder_tensors, merged_state
from pennyweight.model.inference.tensors_on_demand import stored_tensors
from pennyweight.model.trainable import trainable

from ...tiny_backbones import BACKBONES

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "alpha": {"scaling": "alpha", "lora_alpha": 0.5},
    "dora": {"use_dora": True},
    "biases of the adapted layers": {"bias": "lora_only"},
    "all biases": {"bias": "all"},
    "dora and biases": {"use_dora": True, "bias": "all", "layers": (1, 2)},
}


def spec(**changes: Any) -> AdapterSpec:
    return AdapterSpec(**{"r": 3, "lora_alpha": 6.0, "target_modules": ("all-linear",), **changes})


def trained(backbone: Backbone, wanted: AdapterSpec) -> tuple[Any, LoraAdapter]:
    """An encoder with an adapter of random weights."""
    module = load_module(backbone)
    adapter = LoraAdapter.inject(module, wanted, backbone.config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable(module).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return module, adapter


def merged_by_peft(backbone: Backbone, wanted: AdapterSpec, state: dict[str, Tensor]) -> dict[str, Tensor]:
    from peft import get_peft_model, set_peft_model_state_dict

    model: Any = get_peft_model(load_module(backbone), lora_config(wanted, backbone.config))
    assert not set_peft_model_state_dict(model, state).unexpected_keys
    merged: dict[str, Tensor] = model.merge_and_unload().state_dict()
    return merged


def merged_in_place(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of an encoder with PEFT's layers in it, which merge what they add."""
    for layer in module.modules():
        if isinstance(layer, LoraLayer):
            layer.merge()
    return {name.replace(".base_layer", ""): held for name, held in module.state_dict().items() if "lora_" not in name}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: dict[str, Any]) -> None:
    assert found.keys() == encoder_parameters(config).keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("changes", ADAPTERS.values(), ids=ADAPTERS.keys())
def test_it_is_what_peft_merges(kind: str, changes: dict[str, Any], tiny_backbone: Callable[..., Path]) -> None:
    backbone, wanted = resolve(str(tiny_backbone(kind))), spec(**changes)
    state = trained(backbone, wanted)[1].state()
    shapes = adapter_shapes(backbone.config, wanted)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        PREFIX + name: shape for name, shape in shapes.items()
    }
    expected = merged_by_peft(backbone, wanted, state)
    assert_same(merged_state(backbone.config, backbone_state(backbone), wanted, state), expected, backbone.config)


def test_ranks_and_alphas_of_single_layers(tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone("bert")))
    wanted = spec(rank_pattern={"query": 5, "layer.1.output.dense": 2}, alpha_pattern={"value": 3.0}, layers=(0, 1))
    _, adapter = trained(backbone, wanted)
    expected = merged_by_peft(backbone, wanted, adapter.state())
    found = merged_state(backbone.config, backbone_state(backbone), wanted, adapter.state())
    assert_same(found, expected, backbone.config)


def test_a_scaled_adapter(tiny_backbone: Callable[..., Path]) -> None:
    backbone, wanted = resolve(str(tiny_backbone("electra"))), spec()
    module, adapter = trained(backbone, wanted)
    state = adapter.state()
    adapter.scale(0.5)
    expected = merged_in_place(module)
    frozen = backbone_state(backbone)
    assert_same(merged_state(backbone.config, frozen, wanted, scale_tensors(state, 0.5)), expected, backbone.config)
    assert_same(merged_state(backbone.config, frozen, wanted, scale_tensors(state, 0)), frozen, backbone.config)
    with pytest.raises(InputError, match="out of range; expected 0 to 4; received 5"):
        scale_tensors(state, 5)
    with pytest.raises(InputError, match="needs plain LoRA; received DoRA"):
        scale_tensors({"x.lora_magnitude_vector": torch.ones(1)}, 0.5)


def test_without_an_adapter_it_is_the_backbone(tiny_backbone: Callable[..., Path]) -> None:
    backbone = resolve(str(tiny_backbone("distilbert")))
    found = merged_state(backbone.config, backbone_state(backbone), None, {})
    assert_same(found, load_module(backbone).state_dict(), backbone.config)


# --- checkpoints as they come -------------------------------------------------------------------------------------


def rewritten(folder: Path, target: Path, rename: Callable[[str], str], dtype: torch.dtype) -> Path:
    """A backbone whose tensors have other names and another number format, with a language model's head beside them."""
    shutil.copytree(folder, target)
    tensors = {rename(name): tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors |= {"cls.predictions.bias": torch.zeros(3), "embeddings.position_ids": torch.arange(4)}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("kind", [kind for kind in BACKBONES if kind != "minilm"])
def test_a_pretrained_models_checkpoint_has_a_prefix(
    kind: str, tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM

    folder = tiny_backbone(kind)
    shutil.copytree(folder, tmp_path / "whole")
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(tmp_path / "whole")
    backbone = resolve(str(tmp_path / "whole"))
    assert not encoder_parameters(backbone.config).keys() & load_file(tmp_path / "whole" / "model.safetensors").keys()
    assert_same(backbone_state(backbone), load_module(backbone).state_dict(), backbone.config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_old_names_and_half_precision(dtype: torch.dtype, tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    def old(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return f"bert.{name}"

    backbone = resolve(str(rewritten(tiny_backbone("bert"), tmp_path / "old", old, dtype)))
    assert_same(backbone_state(backbone), load_module(backbone).state_dict(), backbone.config)


def test_a_checkpoint_in_parts(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_backbone("roberta"), tmp_path / "parts")
    whole = tmp_path / "parts" / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, tmp_path / "parts" / file, metadata={"format": "pt"})
    (tmp_path / "parts" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    backbone = resolve(str(tmp_path / "parts"))
    assert_same(backbone_state(backbone), tensors, backbone.config)


def test_a_checkpoint_that_lacks_a_tensor(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    folder = rewritten(
        tiny_backbone("bert"), tmp_path / "short", lambda name: name.replace("0.output.dense", "x"), torch.float32
    )
    backbone = resolve(str(folder))
    with pytest.raises(KeyError, match=r"0\.output\.dense"):
        encoder_tensors(backbone.config, load_file(folder / "model.safetensors"))
    with pytest.raises(BackboneError, match="tensors are missing"):
        backbone_state(backbone)


# --- one tensor at a time -----------------------------------------------------------------------------------------


def test_matrices_are_read_and_merged_when_they_are_asked_for(
    tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors_on_demand, "SMALL", 1000)
    asked: list[str] = []
    read = tensors_on_demand._read
    monkeypatch.setattr(tensors_on_demand, "_read", lambda file, name: asked.append(name) or read(file, name))
    backbone, wanted = resolve(str(tiny_backbone("bert"))), spec()
    _, adapter = trained(backbone, wanted)
    whole = merged_by_peft(backbone, wanted, adapter.state())
    found = merged_state(backbone.config, backbone_state(backbone), wanted, adapter.state())
    assert asked == []
    name = "encoder.layer.1.output.dense.weight"
    first, second = found[name], found[name]
    assert asked == [name, name]
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()
    torch.testing.assert_close(first, whole[name], rtol=1e-5, atol=1e-5)
    assert name in found
    assert "pooler.dense.weight" not in found
    assert len(asked) == 2  # asking whether it is there reads nothing


@pytest.mark.skipif(sys.platform != "linux", reason="reads what the process has mapped from /proc")
def test_a_stored_tensor_lets_go_of_its_file(tiny_backbone: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"large": torch.arange(float(1 << 19)), "small": torch.ones(3)}, file)
    stored = stored_tensors([file])
    assert dict(stored.shapes) == {"large": (1 << 19,), "small": (3,)}

    def mapped() -> bool:
        return str(file) in Path("/proc/self/maps").read_text()

    assert not mapped()
    tensor = stored["large"]
    assert float(tensor[-1]) == (1 << 19) - 1
    assert mapped()
    del tensor
    gc.collect()
    assert not mapped()
