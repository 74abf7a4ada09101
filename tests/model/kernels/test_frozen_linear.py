"""Products with frozen weights: laid out once, told of changes, and the bits of plain products."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pennyweight.model.kernels import frozen_linear as frozen
from pennyweight.model.kernels.frozen_linear import Linear, frozen_matrix, joined_bias, stacked_weight
from pennyweight.model.kernels.lora_linear import project


def linears(*outputs: int, inputs: int = 24, dtype: torch.dtype = torch.float32) -> list[Linear]:
    torch.manual_seed(0)
    made = [Linear(inputs, output).requires_grad_(False) for output in outputs]
    for module in made:
        module.weight.data = module.weight.data.to(dtype)
    return made


def plain(x: Tensor, modules: list[Linear]) -> Tensor:
    return torch.cat([module(x) for module in modules], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("outputs", [(16,), (16, 8, 12)], ids=str)
def test_values_and_gradients_are_those_of_linear_layers(
    outputs: tuple[int, ...], dtype: torch.dtype, near: Callable[..., None]
) -> None:
    modules = linears(*outputs, dtype=dtype)
    x = torch.randn(10, 24).to(dtype).requires_grad_()
    expected = plain(x, modules)
    weights = torch.linspace(-1, 1, expected.numel()).view_as(expected).to(dtype)
    for _ in range(2):  # as it is laid out, and as it was
        found = project(x, modules)
        near(found, expected, 8)
        mine, theirs = (torch.autograd.grad((out * weights).sum(), x, retain_graph=True) for out in (found, expected))
        near(mine[0], theirs[0], 8)


def test_it_is_laid_out_once_and_anew_after_a_change() -> None:
    modules = linears(16, 8, dtype=torch.bfloat16)
    x = torch.randn(10, 24).bfloat16()
    once = frozen_matrix(modules)
    project(x, modules)
    assert frozen_matrix(modules) is once
    assert frozen_matrix(modules[:1]) is not once
    assert frozen_matrix(modules) is once  # both are kept
    with torch.no_grad():
        modules[1].weight.mul_(2)
    torch.testing.assert_close(project(x, modules), plain(x, modules))
    assert frozen_matrix(modules) is not once
    modules[0].weight.data = modules[0].weight.data * 3  # in another place
    torch.testing.assert_close(project(x, modules), plain(x, modules))


def test_what_peft_merges_is_seen(near: Callable[..., None]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    tree = inject_adapter_in_model(
        LoraConfig(r=2, target_modules=["m"]), nn.ModuleDict({"m": linears(16, dtype=torch.bfloat16)[0]})
    )
    module = tree.get_submodule("m")
    nn.init.normal_(module.lora_B["default"].weight)
    x = torch.randn(10, 24).bfloat16()
    before = project(x, [module])
    module.merge()  # changes the weight where no count of changes is kept
    torch.testing.assert_close(project(x, [module]), module.base_layer(x))
    assert not torch.equal(project(x, [module]), before)
    module.unmerge()
    near(project(x, [module]), before, 8)  # merged and unmerged, the weight has been rounded twice


def test_weights_made_in_inference_mode_are_not_kept() -> None:
    with torch.inference_mode():
        modules = linears(16, dtype=torch.bfloat16)
        modules[0].weight = nn.Parameter(torch.randn(16, 24).bfloat16(), requires_grad=False)
        x = torch.randn(10, 24).bfloat16()
        torch.testing.assert_close(project(x, modules), plain(x, modules))
        modules[0].weight.mul_(2)
        torch.testing.assert_close(project(x, modules), plain(x, modules))


def test_what_is_laid_out_goes_with_its_module() -> None:
    modules = linears(16, dtype=torch.bfloat16)
    project(torch.randn(10, 24).bfloat16(), modules)
    known = len(frozen._CACHE)
    del modules
    gc.collect()
    assert len(frozen._CACHE) < known


def test_without_onednns_own_product_it_is_a_plain_one(
    monkeypatch: pytest.MonkeyPatch, near: Callable[..., None]
) -> None:
    x = torch.randn(10, 24).bfloat16().requires_grad_()
    modules = linears(16, 8, dtype=torch.bfloat16)
    fast = project(x, modules)
    monkeypatch.setattr(frozen, "_has_onednn_products", lambda: False)
    again = linears(16, 8, dtype=torch.bfloat16)
    slow = project(x, again)
    near(slow, fast, 8)
    (one,) = torch.autograd.grad(fast.float().sum(), x)
    (other,) = torch.autograd.grad(slow.float().sum(), x)
    near(one, other, 8)


def test_weights_are_laid_below_each_other_once_and_share_memory() -> None:
    modules = linears(16, 8, 12)
    before = [module.weight.clone() for module in modules]
    together = stacked_weight(modules)
    assert together.shape == (36, 24)
    assert torch.equal(together, torch.cat(before))
    assert stacked_weight(modules).data_ptr() == together.data_ptr()
    assert stacked_weight(modules[1:]).data_ptr() == modules[1].weight.data_ptr()
    modules[1].weight.data += 1
    assert torch.equal(stacked_weight(modules)[16:24], before[1] + 1)
    modules[2].weight.data = before[2] * 2  # replaced: laid out anew
    assert torch.equal(stacked_weight(modules)[24:], before[2] * 2)


def test_biases_are_joined_once_and_again_after_a_change() -> None:
    modules = linears(16, 8)
    once = joined_bias(modules, torch.bfloat16)
    assert once is not None
    assert once is joined_bias(modules, torch.bfloat16)
    with torch.no_grad():
        modules[1].bias.add_(1)
    again = joined_bias(modules, torch.bfloat16)
    assert again is not None
    torch.testing.assert_close(again, torch.cat([module.bias for module in modules]).bfloat16())
    assert not torch.equal(again, once)
    modules[0].bias.requires_grad_()  # one that learns is read in every step, and learns
    learnt = joined_bias(modules, torch.float32)
    assert learnt is not None
    assert learnt.requires_grad
    with torch.inference_mode():  # a module made in there cannot tell of changes
        (made,) = linears(16)
        torch.testing.assert_close(joined_bias([made], torch.float32), made.bias)
