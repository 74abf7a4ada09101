"""The reference encoder can be entered and left between layers, for every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pennyweight.errors import BackboneError
from pennyweight.model.backbone import load_module, resolve
from pennyweight.model.encoders import FAMILIES, EncoderSettings, choose_engine
from pennyweight.model.encoders.reference import ReferenceEncoder, pool

KINDS = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet"]


def encoder_of(module: Any, dtype: torch.dtype = torch.float32) -> ReferenceEncoder:
    """transformers' model behind the reference encoder of its family."""
    loader: Any = FAMILIES[module.config.model_type].reference
    return ReferenceEncoder(module, loader.layers, dtype)


def test_another_architecture_is_refused() -> None:
    config = {"model_type": "gpt2"}
    with pytest.raises(BackboneError, match=r"^architecture 'gpt2' is not supported; expected bert, roberta, "):
        choose_engine(config, "auto", EncoderSettings(torch.float32, torch.device("cpu")))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_parts_give_the_whole(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    module = load_module(resolve(str(tiny_backbone(kind))))
    encoder = encoder_of(module)
    ids = torch.randint(5, 30, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    ids[1, 7:] = module.config.pad_token_id
    whole = module(input_ids=ids, attention_mask=mask).last_hidden_state
    hidden = encoder.embed(ids, mask)
    lower = encoder.run(hidden, mask, 0, 2)
    upper = encoder.run(lower, mask, 2, encoder.num_layers)
    torch.testing.assert_close(upper[mask.bool()], whole[mask.bool()], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.pooled(lower, mask, 2, "cls"), whole[:, 0], rtol=1e-5, atol=1e-5)
    for pooling in ("cls", "mean"):  # what follows the last layer is not done twice
        found = encoder.pooled(upper, mask, encoder.num_layers, pooling)
        torch.testing.assert_close(found, pool(whole, mask, pooling), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_segments_are_read_where_the_architecture_knows_them(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    module = load_module(resolve(str(tiny_backbone(kind))))
    encoder = encoder_of(module)
    ids, mask = torch.randint(5, 30, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    types = (torch.arange(12) > 5).long().expand(2, -1)
    knows = int(getattr(module.config, "type_vocab_size", 0) or 0) > 1
    assert knows == (kind in ("bert", "electra"))
    whole = module(input_ids=ids, attention_mask=mask, **({"token_type_ids": types} if knows else {}))
    found = encoder.run(encoder.embed(ids, mask, types), mask, 0, encoder.num_layers)
    torch.testing.assert_close(found, whole.last_hidden_state, rtol=1e-5, atol=1e-5)
    assert torch.equal(found, encoder.run(encoder.embed(ids, mask), mask, 0, encoder.num_layers)) != knows


@torch.inference_mode()
def test_a_decoders_tokens_see_only_those_before_them(tiny_backbone: Callable[..., Path]) -> None:
    module = load_module(resolve(str(tiny_backbone("bert", is_decoder=True))))
    encoder = encoder_of(module)
    ids, mask = torch.randint(5, 30, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    whole = module(input_ids=ids, attention_mask=mask).last_hidden_state
    found = encoder.run(encoder.embed(ids, mask), mask, 0, encoder.num_layers)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    alone = encoder.run(encoder.embed(ids, mask)[:, :1], mask[:, :1], 0, encoder.num_layers)
    torch.testing.assert_close(found[:, :1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
@torch.inference_mode()
def test_debertas_convolution_belongs_to_the_lowest_layer(layers: int, tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone("deberta-v2", conv_kernel_size=3, conv_act="gelu", num_hidden_layers=layers)
    module = load_module(resolve(str(folder)))
    encoder = encoder_of(module)
    ids, mask = torch.randint(5, 30, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    whole = module(input_ids=ids, attention_mask=mask).last_hidden_state
    start = encoder.embed(ids, mask)
    lower = encoder.run(start, mask, 0, 1)
    upper = encoder.run(lower, mask, 1, layers)
    torch.testing.assert_close(upper[mask.bool()], whole[mask.bool()], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.pooled(start, mask, 0, "cls"), whole[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_half_precision_is_that_of_the_products_whoever_calls(
    kind: str, dtype: torch.dtype, tiny_backbone: Callable[..., Path]
) -> None:
    module = load_module(resolve(str(tiny_backbone(kind))))
    ids, mask = torch.randint(5, 30, (2, 12)), torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    exact, half = encoder_of(module), encoder_of(module, dtype)
    kinds: set[torch.dtype] = set()
    handles = [
        layer.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
        for layer in module.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    states = half.embed(ids, mask)
    found = [
        states,
        half.run(states, mask, 0, 2),
        half.pooled(states, mask, 0, "cls"),
        half.pooled(states, mask, 0, "mean"),
    ]
    assert kinds == {dtype}
    assert {each.dtype for each in found} == {half.dtype} == {torch.float32}  # nothing is lost between layers
    with torch.autocast("cpu", torch.bfloat16):
        inside = half.pooled(half.embed(ids, mask), mask, 0, "cls")
        kinds.clear()
        plain = exact.pooled(exact.embed(ids, mask), mask, 0, "cls")
    assert torch.equal(inside, found[2])
    assert kinds == {torch.float32}
    for handle in handles:
        handle.remove()
    # Four layers of a handful of roundings each, in steps of the format.
    assert float((found[2] - plain).norm() / plain.norm()) < 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", KINDS)
def test_with_cls_the_last_feed_forward_sees_one_token(kind: str, tiny_backbone: Callable[..., Path]) -> None:
    module = load_module(resolve(str(tiny_backbone(kind)))).eval()
    encoder = encoder_of(module)
    ids = torch.randint(5, 30, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    seen: list[int] = []
    wide = {"distilbert": "lin1", "modernbert": "Wi"}.get(kind, "intermediate.dense")
    linears = [layer for name, layer in module.named_modules() if name.endswith(wide)]
    for linear in linears:
        linear.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
    encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls").sum().backward()
    assert seen == [12] * (len(linears) - 1) + [1]
    cut = {name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None}
    module.zero_grad()
    module(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].sum().backward()
    assert cut
    for name, parameter in module.named_parameters():
        if name in cut and not name.startswith("embeddings."):  # `embed` looks ids up on its own
            torch.testing.assert_close(cut[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_mean_pooling_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert pool(hidden, torch.tensor([[1, 1, 0]]), "mean").item() == 2.0
    assert pool(hidden, torch.tensor([[1, 1, 0]]), "cls").item() == 1.0
    assert pool(hidden, torch.tensor([[0, 0, 0]]), "mean").item() == 0.0  # a text without tokens is no division by 0
