"""The fused LoRA project: PEFT's values and gradients, its dropout, and weights that lie together in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pennyweight.model.kernels.frozen_linear import Linear
from pennyweight.model.kernels.lora_linear import dropout_mask, project, project_columns, project_with_input, read_lora


def linears(*outputs: int, inputs: int = 24, seed: int = 0) -> list[Linear]:
    torch.manual_seed(seed)
    return [Linear(inputs, output).requires_grad_(False) for output in outputs]


def adapted(modules: list[Linear], ranks: list[int], alpha: float = 0, **options: Any) -> list[Any]:
    """PEFT's wrappers, whose updates are times 3, or times alpha through each module's rank."""
    from peft import LoraConfig, inject_adapter_in_model

    tree = nn.ModuleDict({f"m{index}": module for index, module in enumerate(modules)})
    for index, rank in enumerate(ranks):
        if rank:
            config = LoraConfig(r=rank, lora_alpha=alpha or 3 * rank, target_modules=[f"m{index}"], **options)
            holder = inject_adapter_in_model(config, nn.ModuleDict({f"m{index}": modules[index]}))
            tree[f"m{index}"] = holder.get_submodule(f"m{index}")
    for name, parameter in tree.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return list(tree.values())


def gradients(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    return list(torch.autograd.grad((out * weights).sum(), inputs))


@pytest.mark.parametrize("alpha", [0, 8])
@pytest.mark.parametrize("ranks", [[4, 2, 3], [4, 0, 3], [0, 0, 1]], ids=str)
def test_modules_together_are_what_peft_computes_one_by_one(ranks: list[int], alpha: float) -> None:
    modules = adapted(linears(16, 8, 12), ranks, alpha)
    x = torch.randn(10, 24, requires_grad=True)
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    expected = torch.cat([module(x) for module in modules], 1)
    found = project(x, modules)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(gradients(found, [x, *trained]), gradients(expected, [x, *trained]), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", ["plain", "none", "dora", "merged", "trained"])
@pytest.mark.parametrize("columns", [slice(0, 5), slice(5, 16)], ids=["first", "rest"])
def test_some_columns_are_those_of_all(columns: slice, variant: str) -> None:
    (module,) = adapted(linears(16), [0 if variant == "none" else 4], use_dora=variant == "dora")
    if variant == "merged":
        module.merge()
    if variant == "trained":
        module.base_layer.requires_grad_(True)
    x = torch.randn(10, 24, requires_grad=True)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad and variant != "merged"]
    found, expected = project_columns(x, module, columns), module(x)[:, columns]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(gradients(found, [x, *trained]), gradients(expected, [x, *trained]), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_without_adapters_it_is_a_linear_layer() -> None:
    modules = linears(16, 8)
    x = torch.randn(10, 24, requires_grad=True)
    expected = torch.cat([module(x) for module in modules], 1)
    torch.testing.assert_close(project(x, modules), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradients(project(x, modules), [x]), gradients(expected, [x]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("ranks", [[0], [3]], ids=["frozen", "adapted"])
def test_residual_sums_inside_a_product_are_those_outside(
    ranks: list[int], kind: torch.dtype, near: Callable[..., None]
) -> None:
    bases = linears(24)
    bases[0].weight.data = bases[0].weight.data.to(kind)
    modules = adapted(bases, ranks)
    x = torch.randn(10, 24).to(kind).requires_grad_()
    plus = torch.randn(10, 24).to(kind).requires_grad_()
    inputs = [x, plus, *(parameter for parameter in modules[0].parameters() if parameter.requires_grad)]
    out, same = project_with_input(x, modules, plus)
    found, expected = out * 2 + same, (project(x, modules) + plus) * 2 + x
    # In bf16 one way rounds between project and sum and the other does not: a few steps of that format.
    eps = torch.finfo(kind).eps / torch.finfo(torch.float32).eps
    near(found, expected, 8 if kind == torch.bfloat16 else 64)
    for mine, theirs in zip(gradients(found, inputs), gradients(expected, inputs), strict=True):
        near(mine, theirs, 8 * (eps if mine.dtype != kind else 1) if kind == torch.bfloat16 else 64)
    same = project_with_input(x, modules)[1]
    (alone,) = torch.autograd.grad((same * 3).sum(), x)  # nobody read the project
    assert bool((alone == 3).all())


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_zeroes_what_adapters_read_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    (module,) = adapted(linears(24), [24], lora_dropout=rate)
    with torch.no_grad():
        module.base_layer.weight.zero_()
        module.base_layer.bias.zero_()
        module.lora_A["default"].weight.copy_(torch.eye(24))
        module.lora_B["default"].weight.copy_(torch.eye(24) / module.scaling["default"])
    x = torch.ones(4000, 24)
    torch.manual_seed(0)
    out = project(x, [module])
    assert float((out == 0).float().mean()) == pytest.approx(rate, abs=0.01)
    assert float(out.detach().mean()) == pytest.approx(1, abs=0.02)
    torch.manual_seed(0)
    assert torch.equal(project(x, [module]), out)  # the seed decides
    assert not torch.equal(project(x, [module]), out)
    module.eval()
    torch.testing.assert_close(project(x, [module]), x)


def test_gradients_go_through_the_mask_that_was_drawn() -> None:
    modules = adapted(linears(16, 8), [3, 2], lora_dropout=0.3)
    x = torch.randn(6, 24, requires_grad=True, dtype=torch.float64)
    for module in modules:
        module.double()
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]

    def run(x: Tensor, *matrices: Tensor) -> Tensor:
        torch.manual_seed(1)
        for parameter, matrix in zip(trained, matrices, strict=True):
            assert parameter is matrix
        return project(x, modules)

    base = run(x, *trained).detach()
    direction = torch.randn(6, 24, dtype=torch.float64)
    (grad,) = gradients(run(x, *trained), [x])
    torch.manual_seed(1)
    moved = project(x.detach() + 1e-6 * direction, modules).detach()
    weights = torch.linspace(-1, 1, base.numel(), dtype=torch.float64).view_as(base)
    slope = float(((moved - base) * weights).sum() / 1e-6)
    assert slope == pytest.approx(float((grad * direction).sum()), rel=1e-4)


def test_bf16_weights_give_bf16_rows_and_fp32_gradients() -> None:
    modules = linears(16, 8)
    for module in modules:
        module.weight.data = module.weight.data.bfloat16()
    wrapped = adapted(modules, [4, 2])
    for module in wrapped:
        for name, parameter in module.named_parameters():
            if "lora" in name:
                parameter.data = parameter.data.float()
    x = torch.randn(10, 24).bfloat16()
    out = project(x, wrapped)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    grads = [parameter.grad for module in wrapped for parameter in module.parameters() if parameter.requires_grad]
    assert {grad.dtype for grad in grads if grad is not None} == {torch.float32}


def test_what_is_not_plain_lora_goes_through_the_modules_own_forward() -> None:
    assert read_lora(linears(4)[0]) is not None
    (plain,) = adapted(linears(16), [2])
    (dora,) = adapted(linears(16), [2], use_dora=True)
    (biased,) = adapted(linears(16), [2], lora_bias=True)
    assert read_lora(plain) is not None
    assert read_lora(dora) is None
    assert read_lora(biased) is None
    assert read_lora(nn.Identity()) is None
    x = torch.randn(5, 24)
    expected = torch.cat([dora(x), plain(x)], 1)
    torch.testing.assert_close(project(x, [dora, plain]), expected, atol=1e-5, rtol=1e-5)


def test_masks_drop_at_their_rate_are_drawn_anew_and_come_again_with_the_seed() -> None:
    x = torch.empty(4000, 600)  # more bytes than one stretch of the pool
    torch.manual_seed(3)
    first, second = dropout_mask(x, 0.25), dropout_mask(x, 0.25)
    for mask in (first, second):
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert float(mask.mean()) == pytest.approx(0.75, abs=0.002)
        # Neither rows nor columns share their fate: their shares vary as coins do.
        assert float(mask.mean(1).std()) == pytest.approx((0.75 * 0.25 / 600) ** 0.5, rel=0.15)
        assert float(mask.mean(0).std()) == pytest.approx((0.75 * 0.25 / 4000) ** 0.5, rel=0.25)
    assert float((first * second).mean()) == pytest.approx(0.75**2, abs=0.005)  # independent of each other
    torch.manual_seed(3)
    assert torch.equal(dropout_mask(x, 0.25), first)


def test_of_a_mask_in_pieces_the_backward_pass_keeps_their_places_alone() -> None:
    (module,) = adapted(linears(4, inputs=2048), [2], lora_dropout=0.25)
    module.train()
    x = torch.randn(2100, 2048, requires_grad=True)  # more elements than one stretch of the pool
    trained = [module.lora_A["default"].weight, module.lora_B["default"].weight]
    saved: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = project(x, [module])
    assert saved.count(x.shape) == 1  # the rows that the mask has dropped from
    torch.manual_seed(5)
    dropped = x * dropout_mask(x, 0.25)
    base = torch.nn.functional.linear(x, module.base_layer.weight, module.base_layer.bias)
    expected = base + dropped @ trained[0].t() @ trained[1].t() * (3 / 0.75)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)
    for mine, theirs in zip(gradients(found, [x, *trained]), gradients(expected, [x, *trained]), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-2, rtol=1e-3)
