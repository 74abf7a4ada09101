"""Products in int8: near those in fp32, and the same bytes with and without torch's quantizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pennyweight.model.kernels import int8_linear
from pennyweight.model.kernels.int8_linear import ByteRange, Int8Linear, has_int8, smoothing

from .products import error, tensors

needs_int8 = pytest.mark.skipif(not has_int8(), reason="oneDNN's int8 product does not exist here")


@needs_int8
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("with_addend", [True, False])
def test_it_is_near_the_product_in_fp32(with_bias: bool, with_addend: bool) -> None:
    x, weight, bias, addend = tensors((50, 64), (48, 64), (48,), (50, 48))
    layer = Int8Linear(weight, bias if with_bias else None, largest=x.abs().amax(0))
    expected = F.linear(x, weight, bias if with_bias else None)
    if with_addend:
        expected = expected + addend
    before = addend.clone()
    found = layer(x, addend if with_addend else None)
    assert found.dtype == torch.float32
    assert error(found, expected) < 0.02
    assert torch.equal(addend, before)


@needs_int8
def test_it_may_be_written_into_the_addend() -> None:
    x, weight, bias, addend = tensors((50, 64), (48, 64), (48,), (50, 48))
    usual, within = (Int8Linear(weight, bias, largest=x.abs().amax(0), into_addend=each) for each in (False, True))
    expected = usual(x, addend)
    found = within(x, addend)
    assert torch.equal(found, expected)
    assert found.data_ptr() == addend.data_ptr()


@needs_int8
def test_an_input_channel_with_large_numbers_does_not_drown_the_others() -> None:
    x, weight = tensors((50, 64), (48, 64))
    x[:, 3] *= 100
    found = Int8Linear(weight, None, largest=x.abs().amax(0))(x)
    whole = ByteRange.around_zero(float(x.abs().max()))
    rounded = (whole.bytes_of(x).float() - whole.zero) * whole.scale
    assert error(found, F.linear(x, weight)) < 0.5 * error(F.linear(rounded, weight), F.linear(x, weight))


@needs_int8
@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "relu", "silu"])
def test_two_layers_with_an_activation_between(activation: str) -> None:
    x, up, up_bias, down, down_bias, addend = tensors((50, 32), (64, 32), (64,), (32, 64), (32,), (50, 32))
    inner = int8_linear.ACTIVATIONS[activation][0](F.linear(x, up, up_bias))
    between = ByteRange.between(float(inner.min()), float(inner.max()))
    first = Int8Linear(up, up_bias, largest=x.abs().amax(0), target=between, activation=activation)
    second = Int8Linear(down, down_bias, source=between)
    rounded = first(x)
    assert rounded.dtype == torch.uint8
    assert error((rounded.float() - between.zero) * between.scale, inner) < 0.03
    assert error(second.from_bytes(rounded, addend), F.linear(inner, down, down_bias) + addend) < 0.03


@needs_int8
def test_rows_do_not_depend_on_each_other() -> None:
    x, weight, bias = tensors((37, 64), (48, 64), (48,))
    layer = Int8Linear(weight, bias, largest=x.abs().amax(0))
    together = layer(x)
    for number in range(len(x)):
        torch.testing.assert_close(layer(x[number : number + 1])[0], together[number], rtol=1e-5, atol=1e-5)


@needs_int8
def test_numbers_outside_the_range_are_cut_off() -> None:
    weight = torch.eye(4)
    layer = Int8Linear(weight, None, largest=torch.ones(4))
    found = layer(torch.tensor([[0.5, -0.5, 50.0, -50.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5, -0.5, 1.0, -1.0]]), atol=0.02, rtol=0)


RANGES = [ByteRange.around_zero(3.0), ByteRange.between(-0.17, 4.0), ByteRange.between(0.5, 2.0), ByteRange(0.25, 128)]


@pytest.fixture
def without_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_linear, "_has_quantizer", lambda: False)


@pytest.mark.parametrize("range_", RANGES, ids=str)
def test_bytes_are_read_back_to_half_a_step(range_: ByteRange) -> None:
    x = torch.linspace(-range_.zero * range_.scale, (255 - range_.zero) * range_.scale, 1001)
    found = range_.bytes_of(x)
    assert found.dtype == torch.uint8
    assert int(range_.bytes_of(torch.zeros(1))) == range_.zero
    # Half a step, and a quarter at the ends of the range, which are no whole number of steps from 0.
    assert float(((found.float() - range_.zero) * range_.scale - x).abs().max()) <= 0.51 * range_.scale
    assert range_.bytes_of(torch.tensor([-1e6, 1e6])).tolist() == [0, 255]


def test_without_torchs_quantizer_the_bytes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of a power of two divide without rounding; halves go to the even neighbour both ways.
    range_ = ByteRange(0.25, 128)
    x = torch.arange(-140, 140, 0.5).view(8, -1) * 0.25
    usual = range_.bytes_of(x)
    monkeypatch.setattr(int8_linear, "_has_quantizer", lambda: False)
    assert torch.equal(range_.bytes_of(x), usual)
    assert torch.equal(range_.bytes_of(x.t()), usual.t())  # whatever the layout


@needs_int8
@pytest.mark.usefixtures("without_quantizer")
def test_it_is_near_fp32_without_torchs_quantizer() -> None:
    x, weight, bias = tensors((50, 64), (48, 64), (48,))
    found = Int8Linear(weight, bias, largest=x.abs().amax(0))(x)
    assert error(found, F.linear(x, weight, bias)) < 0.02


def test_channels_that_are_all_zero_are_no_division_by_zero() -> None:
    factor = smoothing(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 1.0]]))
    assert bool(factor.isfinite().all())
    assert bool((factor > 0).all())
    assert ByteRange.around_zero(0.0).scale > 0
    assert ByteRange.between(0.0, 0.0).scale > 0


@pytest.fixture
def asked_anew() -> Iterator[None]:
    has_int8.cache_clear()
    yield
    has_int8.cache_clear()


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("fault", [AttributeError, RuntimeError])
def test_where_the_kernel_is_missing_there_is_no_int8(fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    class Operators:
        def __getattr__(self, name: str) -> Any:
            raise fault(name)

    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "onednn", Operators())
        assert not has_int8()


@pytest.mark.usefixtures("asked_anew")
def test_where_the_kernel_is_wrong_there_is_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Int8Linear, "__call__", lambda layer, x, addend: addend)
        assert not has_int8()
