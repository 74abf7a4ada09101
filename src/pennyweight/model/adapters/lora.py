"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685), injected and saved through PEFT."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...budget.plan import Plan
from ...budget.specs import AdapterSpec
from ...budget.targets import lora_arguments
from ...errors import InputError
from .adapter import Adapter, check_scale, check_state

PREFIX = "base_model.model."  # of the names that PEFT saves


def lora_config(spec: AdapterSpec, config: Mapping[str, Any]) -> Any:
    """PEFT's `LoraConfig` for a spec."""
    from peft import LoraConfig

    return LoraConfig(**lora_arguments(config, spec))


class LoraAdapter(Adapter):
    """LoRA or DoRA by PEFT, in an encoder."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @classmethod
    def inject(cls, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Self:
        """Freeze an encoder and put PEFT's LoRA layers into it, in place; what they train is fp32."""
        from peft import inject_adapter_in_model

        module.requires_grad_(False)
        with warnings.catch_warnings():
            # PEFT warns that a bias="all"/"lora_only" adapter changes the base when switched off; it never is here.
            warnings.filterwarnings("ignore", message="Careful, disabling adapter layers")
            inject_adapter_in_model(lora_config(spec, config), module)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return cls(module)

    def fold(self, plan: Plan, labels: int) -> tuple[Plan, Adapter]:
        """It is plain LoRA already."""
        return plan, self

    def state(self) -> dict[str, Tensor]:
        """The adapter's tensors by the names PEFT saves them under (`base_model.model....lora_A.weight`)."""
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self.module)
        return {f"{PREFIX}{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put saved tensors back; every tensor must have its place and every place its tensor.

        Raises:
            ArtifactError: names or shapes do not agree.
        """
        from peft import set_peft_model_state_dict

        check_state(self.state(), state)
        set_peft_model_state_dict(self.module, {name.removeprefix(PREFIX): t for name, t in state.items()})

    def scale(self, factor: float) -> None:
        """Multiply the adapter's update by `factor`, in place: 1 changes nothing, 0 is the frozen encoder again.

        Between 0 and 1 the weights lie on the line from the pretrained to the fine-tuned ones, the LoRA analogue of
        WiSE-FT (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022,
        https://arxiv.org/abs/2109.01903). B takes the factor, so that what is saved or exported afterwards has it, too.
        Trained biases and the head stay.

        Raises:
            InputError: for a factor out of range, or DoRA, whose magnitudes are no part of the update.
        """
        parameters = dict(self.module.named_parameters())
        _check_scale_of(parameters, factor)
        with torch.no_grad():
            for name, parameter in parameters.items():
                if ".lora_B." in name and factor != 1:
                    parameter.mul_(factor)


def remove_adapters(module: nn.Module) -> None:
    """Put an encoder's own layers back in the place of PEFT's, whatever adapters it held: it is as it was loaded."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(module.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            module.set_submodule(name, layer.get_base_layer())
    vars(module).pop("peft_config", None)  # with it, PEFT would take the next adapter for a second one


def scale_tensors(tensors: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """An adapter's saved tensors as `LoraAdapter.scale` changes them.

    Raises:
        InputError: as there.
    """
    _check_scale_of(tensors, factor)
    return {name: tensor * factor if ".lora_B." in name else tensor for name, tensor in tensors.items()}


def _check_scale_of(tensors: Mapping[str, Tensor], factor: float) -> None:
    check_scale(factor)
    if factor != 1 and any("lora_magnitude_vector" in name for name in tensors):
        raise InputError("an adapter scale other than 1 needs plain LoRA", received="DoRA", remedy="leave it at 1")
