"""Ranks that move while training: PEFT's AdaLoRA, and what is left of it as plain LoRA.

W = W0 + alpha/r B diag(E) A    (Zhang et al. 2023, "Adaptive budget allocation for parameter-efficient fine-tuning",
https://arxiv.org/abs/2303.10512, sections 3.1 to 3.3)

All ranks start as planned, so the budget holds for what is trained at any time. Between a tenth and the half of the
steps the triplets of B, E and A that matter least are switched off (E = 0), a third of them in all; then the rest is
tuned. At the end E and the scale are multiplied into A, which gives a plain LoRA adapter of fewer ranks: it is saved,
served and exported as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...budget.allocation import adapter_with_ranks
from ...budget.count import count
from ...budget.plan import Plan
from ...budget.specs import AdapterSpec
from ...budget.targets import lora_arguments, ranks, scales
from ...errors import RecipeError
from .lora import inject as inject_lora
from .lora import lora_config

NAME = "default"
KEPT = 2 / 3  # the share of ranks that are left: AdaLoRA's authors start at 1.5 times the rank they want
FIRST, LAST = 0.1, 0.5  # the shares of the steps between which ranks are taken away
ORTHOGONALITY = 0.5  # PEFT's default weight of |A A^T - I| + |B^T B - I|
FEWEST_STEPS = 4
# What a checkpoint holds for each parameter: the averages that importance is made of.
AVERAGES = ("importance", "uncertainty")


@dataclass
class Adaptive:
    """The moving ranks of one encoder.

    Attributes:
        module: the encoder; its adapted layers are PEFT's `SVDLinear`.
        tuner: PEFT's `AdaLoraModel` around it.
        spec: the adapter as planned.
        config: the backbone's config.json.
    """

    module: nn.Module
    tuner: Any
    spec: AdapterSpec
    config: Mapping[str, Any]
    moves: bool = False

    def schedule(self, total: int) -> None:
        """Say how many steps there will be; before the first.

        Raises:
            RecipeError: when they are too few to move ranks.
        """
        from peft.tuners.adalora.layer import RankAllocator

        if total < FEWEST_STEPS:
            raise RecipeError(
                "there are too few steps to move ranks in",
                where="plan -> adaptive_ranks",
                expected=f"{FEWEST_STEPS} optimizer steps or more",
                received=total,
            )
        settings = self.tuner.peft_config[NAME]
        settings.total_step, settings.tinit, settings.tfinal = total, int(total * FIRST), total - int(total * LAST)
        settings.deltaT = max(1, total // 100)
        allocator = RankAllocator(self.module, settings, NAME)
        # PEFT counts a target rank for each matrix; a number for all of them together is what its sums are made of.
        allocator.target_bgt = max(1, round(allocator.init_bgt * KEPT))
        self.moves = allocator.target_bgt < allocator.init_bgt
        self.tuner.rankallocator = allocator

    def penalty(self) -> Tensor:
        """How far A's rows and B's columns are from orthonormal, weighted, for the loss: a scalar."""
        gaps = []
        for layer in self._layers().values():
            for matrix in (layer.lora_A[NAME], layer.lora_B[NAME].t()):  # (r, in), (r, out)
                gaps.append(
                    torch.linalg.matrix_norm(matrix @ matrix.t() - torch.eye(len(matrix), device=matrix.device))
                )
        return ORTHOGONALITY * torch.stack(gaps).mean()

    def allocate(self, step: int) -> None:
        """Weigh every rank and switch off what is to go; after step `step` (from 1), before gradients are cleared."""
        if self.moves:
            self.tuner.update_and_allocate(step)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold, besides weights."""
        allocator = self.tuner.rankallocator
        averages = zip(AVERAGES, (allocator.exp_avg_ipt, allocator.exp_avg_unc), strict=True)
        return {f"{name}/{kind}": tensor.clone() for kind, held in averages for name, tensor in held.items()}

    def restore(self, held: Mapping[str, Tensor], step: int) -> None:
        """Put `state()` back, after `schedule`, the weights as they were after `step`."""
        allocator, settings = self.tuner.rankallocator, self.tuner.peft_config[NAME]
        parameters = dict(self.module.named_parameters())
        for key, tensor in held.items():
            name, _, kind = key.rpartition("/")
            averages = allocator.exp_avg_ipt if kind == AVERAGES[0] else allocator.exp_avg_unc
            averages[name] = tensor.to(parameters[name].device)
            allocator.ipt[name] = torch.zeros_like(parameters[name])
        if step >= settings.total_step - settings.tfinal:
            settings.rank_pattern = {
                f"{name}.lora_E.{NAME}": (layer.lora_E[NAME] != 0).view(-1).tolist()
                for name, layer in self._layers().items()
            }

    def settle(self, plan: Plan, labels: int) -> Plan:
        """Turn the layers into plain LoRA of the ranks that are left, in place.

        Returns:
            The plan of what is left, its count included.
        """
        factors, matrices = scales(self.config, self.spec), {}
        with torch.no_grad():
            for name, layer in self._layers().items():
                singular = layer.lora_E[NAME].detach()  # (r, 1)
                kept = singular.view(-1) != 0
                if kept.any():
                    # What PEFT's own forward divides by has 1e-5 added.
                    factor = layer.scaling[NAME] / (layer.ranknum[NAME].detach() + 1e-5)
                    down = (layer.lora_A[NAME].detach() * singular * factor)[kept]  # (r', in)
                    matrices[name] = down, layer.lora_B[NAME].detach()[:, kept]  # (out, r')
            for name in factors:
                parent, _, child = name.rpartition(".")
                setattr(self.module.get_submodule(parent), child, self.module.get_submodule(name).base_layer)
            if hasattr(self.module, "peft_config"):
                del self.module.peft_config
            left = {name: len(down) for name, (down, _) in matrices.items()}
            adapter = adapter_with_ranks(self.config, left) if left else None
            inject_lora(self.module, None if adapter is None else lora_config(adapter, self.config))
            self.module.train(self.module.training)  # new layers come in training mode
            for name, (down, up) in matrices.items():
                plain: Any = self.module.get_submodule(name)
                plain.to(down.device)
                plain.lora_A[NAME].weight.copy_(down)
                plain.lora_B[NAME].weight.copy_(up)
        planned = ranks(self.config, self.spec)
        counted = count(self.config, adapter=adapter, head=plan.head, labels=labels)
        sentence = (
            f"adaptive ranks: {sum(left.values())} of {sum(planned.values())} are left, on {len(left)} of "
            f"{len(planned)} matrices; {plan.count.trainable:,} parameters were trained"
        )
        return Plan(adapter, plan.head, counted, plan.budget, plan.strategy, (*plan.why, sentence))

    def _layers(self) -> dict[str, Any]:
        return {name: self.module.get_submodule(name) for name in ranks(self.config, self.spec)}


def take(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `Adaptive.state` put among a checkpoint's tensors, taken out of them."""
    return {key: tensors.pop(key) for key in list(tensors) if key.rpartition("/")[2] in AVERAGES}


def inject(module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Adaptive:
    """Freeze an encoder and put AdaLoRA's layers into it, in place, each with its planned rank; all in fp32."""
    from peft import AdaLoraConfig
    from peft.tuners.adalora import AdaLoraModel

    unknown = ("r", "rank_pattern", "alpha_pattern", "use_dora", "use_rslora")
    arguments = {key: value for key, value in lora_arguments(config, spec).items() if key not in unknown}
    module.requires_grad_(False)
    # The number of steps is not known yet; `schedule` sets what follows from it.
    settings = AdaLoraConfig(init_r=spec.r, total_step=1, orth_reg_weight=ORTHOGONALITY, **arguments)
    tuner = AdaLoraModel(module, settings, NAME)
    factors = scales(config, spec)
    for name, rank in ranks(config, spec).items():
        layer: Any = module.get_submodule(name)
        layer.update_layer(NAME, rank, factors[name] * rank, config=settings)
        for parameter in (layer.lora_A[NAME], layer.lora_B[NAME], layer.lora_E[NAME], layer.ranknum[NAME]):
            parameter.data = parameter.data.float()
        layer.ranknum[NAME].requires_grad_(False)  # on bf16 weights PEFT 0.21 makes it anew, to be trained
    return Adaptive(module, tuner, spec, config)
