"""Attention on packed rows by a kernel for texts of any length; here a stand-in computes what Flash Attention would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pennyweight.model.kernels import varlen_attention
from pennyweight.model.kernels.packed_attention import Packing, attend_first_fused, attend_fused
from pennyweight.model.kernels.rotary import RotaryPositions
from pennyweight.model.kernels.varlen_attention import attend_first_varlen, attend_varlen

CPU = torch.device("cpu")
calls: list[tuple[int, ...]] = []


def stand_in(
    q: Tensor, k: Tensor, v: Tensor, begins: Tensor, others: Tensor, longest: int, other: int, **more: Any
) -> Tensor:
    """Each text on its own, (tokens, heads, d); what lies past the last text is not defined, as in the kernel."""
    assert begins.dtype == others.dtype == torch.int32
    calls.append(tuple(others.tolist()))
    parts = []
    places = [list(zip(each[:-1].tolist(), each[1:].tolist(), strict=True)) for each in (begins, others)]
    for (first, last), (begin, end) in zip(*places, strict=True):
        assert last - first <= longest
        assert end - begin <= other
        mask = None
        if "window_size" in more:
            before, after = more["window_size"]
            assert longest == other
            at = torch.arange(end - begin)
            away = at - at[:, None]
            mask = (away >= -before) & (away <= after)
        q1 = q[first:last].transpose(0, 1)
        k1, v1 = (each[begin:end].transpose(0, 1) for each in (k, v))
        parts.append(scaled_dot_product_attention(q1, k1, v1, attn_mask=mask).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    tried = varlen_attention._agrees, varlen_attention._agrees_for_first
    for each in tried:
        each.cache_clear()
    monkeypatch.setattr(varlen_attention, "_kernel", lambda: stand_in)
    calls.clear()
    yield monkeypatch
    for each in tried:
        each.cache_clear()


def batch(lengths: list[int]) -> Packing:
    return Packing((torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long())


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("positions", [None, RotaryPositions(10_000.0), RotaryPositions(500.0, 3)])
@pytest.mark.parametrize("lengths", [[7, 1, 19, 4], [8, 8], [1]])
def test_it_gives_what_padded_texts_give(lengths: list[int], positions: RotaryPositions | None) -> None:
    packing, heads = batch(lengths), 3
    rows = torch.randn(packing.size, 3 * heads * 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    grad = torch.randn(packing.size, heads * 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    found = []
    for attend in (attend_varlen, attend_fused):
        given = rows.clone().requires_grad_()
        out = attend(given, packing, heads, positions)
        assert out.shape == (packing.size, heads * 8)
        (out * (torch.arange(packing.size) < packing.tokens)[:, None]).backward(grad)
        assert given.grad is not None
        assert torch.isfinite(out).all()
        found.append((out[: packing.tokens], given.grad))
    assert calls[-1] == tuple(packing.begins.tolist())
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("positions", [None, RotaryPositions(10_000.0), RotaryPositions(500.0, 100)])
@pytest.mark.parametrize("lengths", [[7, 1, 19, 4], [8, 8], [1]])
def test_first_tokens_attend_without_padding_too(lengths: list[int], positions: RotaryPositions | None) -> None:
    packing, heads = batch(lengths), 3
    generator = torch.Generator().manual_seed(0)
    q, kv = (torch.randn(rows, width * heads * 8, generator=generator).bfloat16()
             for rows, width in ((len(lengths), 1), (packing.size, 2)))  # fmt: skip
    grad = torch.randn(len(lengths), heads * 8, generator=generator).bfloat16()
    found = []
    for attend in (attend_first_varlen, attend_first_fused):
        given = [each.clone().requires_grad_() for each in (q, kv)]
        out = attend(*given, packing, heads, positions)
        gradients = torch.autograd.grad(out, given, grad)
        assert torch.equal(gradients[1][packing.tokens :], torch.zeros_like(kv[packing.tokens :]))
        found.append((out, *gradients))
    assert calls[-1] == tuple(packing.begins.tolist())
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)


@pytest.mark.usefixtures("kernel")
def test_a_window_on_first_tokens_is_left_to_padded_texts() -> None:
    packing, near = batch([9, 6]), RotaryPositions(500.0, 2)
    q, kv = torch.ones(2, 16).bfloat16(), torch.randn(packing.size, 32).bfloat16()
    assert torch.equal(attend_first_varlen(q, kv, packing, 2, near), attend_first_fused(q, kv, packing, 2, near))
    assert not calls


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_is_found_by_a_prediction_too(mode: Callable[[], Any]) -> None:
    packing = batch([3, 5])
    rows = torch.randn(packing.size, 3 * 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    with mode():
        attend_varlen(rows, packing, 2)
        attend_first_varlen(rows[:2, :16], rows[:, 16:].contiguous(), packing, 2)
    assert calls[-1] == tuple(packing.begins.tolist())
    tried = len(calls)
    attend_varlen(rows, packing, 2)
    assert len(calls) == tried + 1


def missing() -> None:
    raise ImportError("no such kernel")


def wrong(q: Tensor, *others: Any, **more: Any) -> Tensor:
    return q


def without_windows(q: Tensor, k: Tensor, v: Tensor, begins: Tensor, others: Tensor, a: int, b: int) -> Tensor:
    return stand_in(q, k, v, begins, others, a, b)


@pytest.mark.parametrize("kind", ["missing", "wrong", "fp32", "relative positions"])
def test_elsewhere_padded_texts_are_computed(kind: str, kernel: pytest.MonkeyPatch) -> None:
    if kind == "missing":
        kernel.setattr(varlen_attention, "_kernel", missing)
    elif kind == "wrong":
        kernel.setattr(varlen_attention, "_kernel", lambda: wrong)
    dtype = torch.float32 if kind == "fp32" else torch.bfloat16
    packing = batch([3, 5])
    if kind == "relative positions":
        packing = Packing(packing.mask, torch.zeros(2, 5, 5))
    rows = torch.randn(packing.size, 3 * 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    tried = len(calls)
    assert torch.equal(attend_varlen(rows, packing, 2), attend_fused(rows, packing, 2))
    q, kv = rows[:2, :16], rows[:, 16:].contiguous()
    assert torch.equal(attend_first_varlen(q, kv, packing, 2), attend_first_fused(q, kv, packing, 2))
    assert len(calls) == tried


def test_a_kernel_without_windows_computes_the_layers_without_them(kernel: pytest.MonkeyPatch) -> None:
    kernel.setattr(varlen_attention, "_kernel", lambda: without_windows)
    packing = batch([9, 6])
    rows = torch.randn(packing.size, 3 * 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    near = RotaryPositions(500.0, 2)
    assert torch.equal(attend_varlen(rows, packing, 2, near), attend_fused(rows, packing, 2, near))
    assert not calls
    attend_varlen(rows, packing, 2, RotaryPositions(500.0))
    assert calls


def test_torchs_own_kernel_has_this_name_where_there_is_one() -> None:
    try:
        assert callable(varlen_attention._kernel())
    except ImportError:
        pytest.skip("this torch has no torch.nn.attention.varlen")
