"""Several LoRA adapters of one backbone as one: the weighted sum of their updates.

LoRA's product B A is not linear in its factors: the mean of the As times the mean of the Bs is not the mean of the
products, and factors that were trained apart point in unrelated directions. So the updates themselves are summed,
sum_i w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...], exactly, at the sum of the ranks. Cut to a
lower rank, it is the nearest matrix of that rank in the Frobenius norm: the leading part of its singular value
decomposition (Eckart and Young 1936), which takes only factors of the size of the ranks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...budget.architecture import linear_modules
from ...budget.config_fields import Config
from ...budget.specs import AdapterSpec
from ...budget.targets import express, ranks, scales
from ...errors import InputError
from .lora import PREFIX


@dataclass(frozen=True)
class WeightedAdapter:
    """A saved adapter and what its update counts.

    Attributes:
        spec: as saved, plain LoRA.
        tensors: by the names that PEFT saves.
    """

    spec: AdapterSpec
    tensors: Mapping[str, Tensor]
    weight: float

    def factors(self, config: Config) -> dict[str, tuple[Tensor, Tensor]]:
        """By the name of the layer: B (out, r) with the scale and the weight in it, and A (r, in), in fp64."""
        return {
            name: (
                self.tensors[f"{PREFIX}{name}.lora_B.weight"].double() * (self.weight * scale),
                self.tensors[f"{PREFIX}{name}.lora_A.weight"].double(),
            )
            for name, scale in scales(config, self.spec).items()
        }


@dataclass(frozen=True)
class Combined:
    """An adapter that adds what several add together.

    Attributes:
        spec: plain LoRA.
        tensors: by the names that PEFT saves, fp32.
        kept: share of the sum's squared Frobenius norm that is left; 1 where no rank was cut.
    """

    spec: AdapterSpec
    tensors: dict[str, Tensor]
    kept: float


def combine(config: Config, parts: Sequence[WeightedAdapter], *, exact: bool) -> Combined:
    """The weighted sum of the updates of adapters.

    Args:
        config: the backbone's config.json.
        exact: keep the sum of the ranks, at most a matrix's shorter side; otherwise the ranks of the first adapter.

    Raises:
        InputError: DoRA, whose magnitudes are not summed, or adapters of which some train biases.
    """
    if any(part.spec.use_dora for part in parts):
        raise InputError("DoRA cannot be merged: its magnitudes are not linear in its update", expected="plain LoRA")
    if len({part.spec.bias for part in parts}) > 1:
        raise InputError(
            "the adapters train different biases", expected=f"bias {parts[0].spec.bias} in all",
            received=", ".join(part.spec.bias for part in parts),
        )  # fmt: skip
    spec = _joined(config, parts) if exact else parts[0].spec
    wanted, scale = ranks(config, spec), scales(config, spec)
    factors = [part.factors(config) for part in parts]
    tensors: dict[str, Tensor] = {}
    kept = total = 0.0
    for name, rank in wanted.items():
        held = [each[name] for each in factors if name in each]
        up, down, left, whole = _reduced(
            torch.cat([up for up, _ in held], dim=1) / scale[name], torch.cat([down for _, down in held]), rank
        )
        tensors[f"{PREFIX}{name}.lora_A.weight"] = down.float().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = up.float().contiguous()
        kept, total = kept + scale[name] ** 2 * left, total + scale[name] ** 2 * whole
    for name in parts[0].tensors:
        if name.endswith(".bias"):  # values of their own, not an update: their mean
            tensors[name] = average([part.tensors[name] for part in parts], [part.weight for part in parts])
    return Combined(spec, tensors, kept / total if total else 1.0)


def average(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of tensors of one shape, in fp32."""
    summed = torch.stack([tensor.double() * weight for tensor, weight in zip(tensors, weights, strict=True)]).sum(dim=0)
    return (summed / sum(weights)).float()


def _reduced(up: Tensor, down: Tensor, rank: int) -> tuple[Tensor, Tensor, float, float]:
    """Factors (out, rank) and (rank, in) nearest to up @ down, and the squared norms of what is left and of all."""
    if up.shape[1] == rank:
        whole = float(((up.t() @ up) * (down @ down.t())).sum())
        return up, down, whole, whole
    left, inner = torch.linalg.qr(up)
    right, outer = torch.linalg.qr(down.t())
    u, values, v = torch.linalg.svd(inner @ outer.t(), full_matrices=False)
    root = values[:rank].sqrt()
    near, far = left @ (u[:, :rank] * root), (v[:rank] * root[:, None]) @ right.t()
    missing = rank - near.shape[1]  # where a rank is above its matrix's shorter side
    if missing > 0:
        near = torch.cat([near, near.new_zeros(len(near), missing)], dim=1)
        far = torch.cat([far, far.new_zeros(missing, far.shape[1])])
    return near, far, float(values[:rank].square().sum()), float(values.square().sum())


def _joined(config: Config, parts: Sequence[WeightedAdapter]) -> AdapterSpec:
    """A spec of plain LoRA for every layer that any adapter has, at the sum of the ranks there."""
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update(ranks(config, part.spec))
    modules = [module for module in linear_modules(config) if module.name in sums]
    wanted = {module.name: min(sums[module.name], module.in_features, module.out_features) for module in modules}
    usual = Counter(wanted.values()).most_common(1)[0][0]
    targets, layers = express(config, modules)
    return AdapterSpec(
        r=usual,
        lora_alpha=float(usual),
        target_modules=targets,
        layers=layers,
        rank_pattern={re.escape(name): rank for name, rank in wanted.items() if rank != usual},
        bias=parts[0].spec.bias,
    )
