"""AdaLoRA: PEFT's adaptive ranks in training, folded into plain LoRA afterwards.

W = W0 + alpha/r B diag(E) A    (Zhang et al. 2023, "Adaptive budget allocation for parameter-efficient fine-tuning",
https://arxiv.org/abs/2303.10512, sections 3.1 to 3.3)

All ranks start as planned, so the budget holds for what is trained at any time. Between a tenth and a half of the steps
the least important triplets of B, E and A are switched off (E = 0), a third of them in all; then the rest is trained
on. At the end E and the scale are multiplied into A, which gives a plain LoRA adapter of fewer ranks that is saved,
served and exported like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...budget.allocation import adapter_with_ranks
from ...budget.count import count
from ...budget.plan import Plan
from ...budget.specs import AdapterSpec
from ...budget.targets import lora_arguments, ranks, scales
from ...errors import RecipeError
from .adapter import Adapter, NoAdapter
from .lora import LoraAdapter

NAME = "default"
FINAL_SHARE = 2 / 3  # of the ranks: AdaLoRA's authors start at 1.5 times the rank they want
FIRST, LAST = 0.1, 0.5  # the shares of the steps between which ranks are switched off
ORTHOGONALITY = 0.5  # PEFT's default weight of |A A^T - I| + |B^T B - I|
FEWEST_STEPS = 4
# What a checkpoint holds for each parameter: the averages that importance is computed from.
AVERAGES = ("importance", "uncertainty")


class AdaLoraAdapter(LoraAdapter):
    """The adaptive ranks of one encoder; `state`, `load` and `scale` are those of the LoRA it folds into.

    Args:
        module: the encoder; its adapted layers are PEFT's `SVDLinear`.
        tuner: PEFT's `AdaLoraModel` around it.
        spec: the adapter as planned.
        config: the backbone's config.json.
    """

    adaptive = True
    keeps_state = True

    def __init__(self, module: nn.Module, tuner: Any, spec: AdapterSpec, config: Mapping[str, Any]) -> None:
        super().__init__(module)
        self.tuner = tuner
        self.spec = spec
        self.config = config
        self._prunes = False

    @classmethod
    def inject(cls, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Self:
        """Freeze an encoder and put AdaLoRA's layers into it, in place, each with its planned rank; all in fp32."""
        from peft import AdaLoraConfig
        from peft.tuners.adalora import AdaLoraModel

        unknown = ("r", "rank_pattern", "alpha_pattern", "use_dora", "use_rslora")
        arguments = {key: value for key, value in lora_arguments(config, spec).items() if key not in unknown}
        module.requires_grad_(False)
        # The number of steps is not known yet; `begin` sets what depends on it.
        settings = AdaLoraConfig(init_r=spec.r, total_step=1, orth_reg_weight=ORTHOGONALITY, **arguments)
        tuner = AdaLoraModel(module, settings, NAME)
        factors = scales(config, spec)
        for name, rank in ranks(config, spec).items():
            layer: Any = module.get_submodule(name)
            layer.update_layer(NAME, rank, factors[name] * rank, config=settings)
            for parameter in (layer.lora_A[NAME], layer.lora_B[NAME], layer.lora_E[NAME], layer.ranknum[NAME]):
                parameter.data = parameter.data.float()
            layer.ranknum[NAME].requires_grad_(False)  # on bf16 weights PEFT 0.21 makes a new, trained one
        return cls(module, tuner, spec, config)

    def begin(self, total_steps: int) -> None:
        """Set the schedule by which ranks are switched off.

        Raises:
            RecipeError: when there are too few steps for that.
        """
        from peft.tuners.adalora.layer import RankAllocator

        if total_steps < FEWEST_STEPS:
            raise RecipeError(
                "there are too few steps for adaptive ranks",
                where="plan -> adaptive_ranks",
                expected=f"{FEWEST_STEPS} optimizer steps or more",
                received=total_steps,
            )
        settings = self.tuner.peft_config[NAME]
        settings.total_step = total_steps
        settings.tinit, settings.tfinal = int(total_steps * FIRST), total_steps - int(total_steps * LAST)
        settings.deltaT = max(1, total_steps // 100)
        allocator = RankAllocator(self.module, settings, NAME)
        # PEFT sets a target rank for each matrix; its sums are over all of them, so the target is a total, too.
        allocator.target_bgt = max(1, round(allocator.init_bgt * FINAL_SHARE))
        self._prunes = allocator.target_bgt < allocator.init_bgt
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

    def after_step(self, step: int) -> None:
        """Update the importance of every rank and switch off the least important, as scheduled."""
        if self._prunes:
            self.tuner.update_and_allocate(step)

    def resume_state(self) -> dict[str, Tensor]:
        """The averages that importance is computed from."""
        allocator = self.tuner.rankallocator
        averages = zip(AVERAGES, (allocator.exp_avg_ipt, allocator.exp_avg_unc), strict=True)
        return {f"{name}/{kind}": tensor.clone() for kind, held in averages for name, tensor in held.items()}

    def take_resume_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remove the averages from a checkpoint's tensors and return them."""
        return {key: tensors.pop(key) for key in list(tensors) if key.rpartition("/")[2] in AVERAGES}

    def resume(self, state: Mapping[str, Tensor], step: int) -> None:
        """Put the averages back, and the ranks that were final after `step`."""
        allocator, settings = self.tuner.rankallocator, self.tuner.peft_config[NAME]
        parameters = dict(self.module.named_parameters())
        for key, tensor in state.items():
            name, _, kind = key.rpartition("/")
            averages = allocator.exp_avg_ipt if kind == AVERAGES[0] else allocator.exp_avg_unc
            averages[name] = tensor.to(parameters[name].device)
            allocator.ipt[name] = torch.zeros_like(parameters[name])
        if step >= settings.total_step - settings.tfinal:
            settings.rank_pattern = {
                f"{name}.lora_E.{NAME}": (layer.lora_E[NAME] != 0).view(-1).tolist()
                for name, layer in self._layers().items()
            }

    def fold(self, plan: Plan, labels: int) -> tuple[Plan, Adapter]:
        """Turn the layers into plain LoRA of the ranks that are left, in place."""
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
            folded: Adapter = NoAdapter(self.module)
            if adapter is not None:
                folded = LoraAdapter.inject(self.module, adapter, self.config)
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
        return Plan(adapter, plan.head, counted, plan.budget, plan.strategy, (*plan.why, sentence)), folded

    def _layers(self) -> dict[str, Any]:
        return {name: self.module.get_submodule(name) for name in ranks(self.config, self.spec)}
