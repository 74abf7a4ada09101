"""The adapter: injected, counted and saved through PEFT."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...budget.specs import AdapterSpec
from ...budget.targets import lora_arguments
from ...errors import ArtifactError, InputError

LARGEST_SCALE = 4.0


def lora_config(spec: AdapterSpec, config: Mapping[str, Any]) -> Any:
    """PEFT's `LoraConfig` for a spec. Source of the method: Hu et al. 2021, https://arxiv.org/abs/2106.09685."""
    from peft import LoraConfig

    return LoraConfig(**lora_arguments(config, spec))


def inject(module: nn.Module, config: Any | None) -> None:
    """Freeze an encoder and put PEFT's LoRA layers into it; adapters are kept in fp32.

    Args:
        module: the encoder, changed in place.
        config: a `LoraConfig`, or None to only freeze.
    """
    from peft import inject_adapter_in_model

    module.requires_grad_(False)
    if config is None:
        return
    with warnings.catch_warnings():
        # PEFT warns that a bias="all"/"lora_only" adapter changes the base when switched off; it never is here.
        warnings.filterwarnings("ignore", message="Careful, disabling adapter layers")
        inject_adapter_in_model(config, module)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def scale(module: nn.Module, factor: float) -> None:
    """Multiply the adapter's update by `factor`, in place: 1 leaves all as it is, 0 is the frozen encoder again.

    What lies between is on the line from the pretrained to the fine-tuned weights, the LoRA analogue of WiSE-FT
    (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, https://arxiv.org/abs/2109.01903). B takes
    the factor, so that what is saved or exported afterwards answers the same. Trained biases and the head stay.

    Raises:
        InputError: for a factor out of range, or DoRA, whose magnitudes are no part of the update.
    """
    if not 0 <= factor <= LARGEST_SCALE:
        raise InputError("the adapter's scale is out of range", expected=f"0 to {LARGEST_SCALE:g}", received=factor)
    if factor == 1:
        return
    parameters = dict(module.named_parameters())
    if any("lora_magnitude_vector" in name for name in parameters):
        raise InputError("an adapter scale other than 1 needs plain LoRA", received="DoRA", remedy="leave it at 1")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if ".lora_B." in name:
                parameter.mul_(factor)


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors under the names PEFT saves them by (`base_model.model....lora_A.weight`), on the CPU."""
    from peft import get_peft_model_state_dict

    if not hasattr(module, "peft_config"):
        return {}
    state = get_peft_model_state_dict(module)
    return {f"base_model.model.{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def load_adapter_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put saved tensors back into an injected encoder; every tensor must have its place and every place its tensor.

    Raises:
        ArtifactError: when names or shapes do not agree.
    """
    from peft import set_peft_model_state_dict

    expected = {name: tensor.shape for name, tensor in adapter_state(module).items()}
    received = {name: tensor.shape for name, tensor in state.items()}
    if expected != received:
        wrong = sorted(name for name in expected.keys() | received.keys() if expected.get(name) != received.get(name))
        raise ArtifactError(
            "the adapter's tensors do not fit its plan",
            expected=f"{wrong[0]} of shape {tuple(expected.get(wrong[0], ())) or 'none'}",
            received=f"shape {tuple(received.get(wrong[0], ())) or 'none'} ({len(wrong)} tensors differ)",
        )
    if state:
        set_peft_model_state_dict(module, {name.removeprefix("base_model.model."): t for name, t in state.items()})
