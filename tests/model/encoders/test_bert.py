"""The fast encoder against transformers, its oracle: same hidden states, same logits, same gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pennyweight.budget.targets import resolve_targets
from pennyweight.errors import BackboneError, DataError
from pennyweight.model.encoders.bert import FastEncoder, unsupported

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "vocab_size": 101,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", "max_position_embeddings": 40, "pad_token_id": 0, "type_vocab_size": 2},
    "roberta": {
        "model_type": "roberta",
        "max_position_embeddings": 42,
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "xlm-roberta": {
        "model_type": "xlm-roberta",
        "max_position_embeddings": 42,
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "hidden_act": "gelu_new",
    },
    # MiniLM's proportions: more heads than usual for the width, six layers.
    "minilm": {
        "model_type": "bert",
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "hidden_size": 96,
        "num_attention_heads": 12,
        "num_hidden_layers": 6,
        "intermediate_size": 384,
    },
    "electra": {"model_type": "electra", "max_position_embeddings": 40, "pad_token_id": 0, "embedding_size": 16},
    "electra-wide": {"model_type": "electra", "max_position_embeddings": 40, "pad_token_id": 0, "embedding_size": 48},
    "distilbert": {
        "model_type": "distilbert",
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "hidden_dim": 96,
        "activation": "relu",
    },
    "mpnet": {"model_type": "mpnet", "max_position_embeddings": 42, "pad_token_id": 1, "layer_norm_eps": 1e-5},
}
TARGETS: dict[str, dict[str, Any]] = {
    "qkv": {"target_modules": ["query", "key", "value"]},
    "query-value": {"target_modules": ["query", "value"]},
    "all": {"target_modules": ["all-linear"]},
    "top": {"target_modules": ["query", "value"], "layers": (2,)},
}


def reference(kind: str) -> Any:
    from transformers import AutoConfig, AutoModel

    values = SMALL | CONFIGS[kind]
    kind = values.pop("model_type")
    pooler = {} if kind in ("electra", "distilbert") else {"add_pooling_layer": False}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **values), attn_implementation="eager", **pooler)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than initial values, so that every term matters
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def fast(model: Any, dtype: torch.dtype = torch.float32) -> FastEncoder:
    encoder = FastEncoder(model.config.to_dict(), dtype)
    encoder.load_weights(model.state_dict())
    encoder.module.eval()
    return encoder


def batch(model: Any, lengths: list[int], *, longest: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    length = longest or max(lengths)
    pad = model.config.pad_token_id
    ids = torch.randint(5, model.config.vocab_size, (len(lengths), length), generator=generator)
    mask = (torch.arange(length) < torch.tensor(lengths).unsqueeze(1)).long()
    return torch.where(mask.bool(), ids, pad), mask


def inject(module: nn.Module, targets: list[str] | str, seed: int = 3, **options: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options), module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            if "lora_A" in name or "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def modules(model: Any, target_modules: list[str], layers: tuple[int, ...] | None = None) -> list[str]:
    """The names of the linear layers of these roles."""
    return [module.name for module in resolve_targets(model.config.to_dict(), target_modules, layers)]


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(1) / weights.sum(1)


LENGTHS = {"padded": [9, 3, 17, 1], "full": [12, 12]}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_hidden_states_and_pooled_vectors_are_transformers(kind: str, lengths: list[int]) -> None:
    model = reference(kind)
    encoder = fast(model)
    ids, mask = batch(model, lengths)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        embedded = encoder.embed(ids, mask)
        two = encoder.run(embedded, mask, 0, 2)
        final = encoder.run(two, mask, 2, encoder.num_layers)
        real = mask.bool()
        torch.testing.assert_close(embedded[real], expected.hidden_states[0][real], atol=1e-5, rtol=0)
        torch.testing.assert_close(two[real], expected.hidden_states[2][real], atol=1e-5, rtol=0)
        torch.testing.assert_close(final[real], expected.last_hidden_state[real], atol=1e-5, rtol=0)
        last = expected.last_hidden_state
        torch.testing.assert_close(encoder.pooled(embedded, mask, 0, "cls"), last[:, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.pooled(two, mask, 2, "cls"), last[:, 0], atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.pooled(embedded, mask, 0, "mean"), mean(last, mask), atol=1e-5, rtol=0)
        unrun = encoder.pooled(final, mask, encoder.num_layers, "cls")
        torch.testing.assert_close(unrun, last[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "electra"])
@torch.no_grad()
def test_segments_are_those_of_transformers(kind: str) -> None:
    model = reference(kind)
    encoder = fast(model)
    ids, mask = batch(model, LENGTHS["padded"])
    types = (torch.arange(ids.shape[1]) > 1).long().expand_as(ids)
    last = model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    found = encoder.pooled(encoder.embed(ids, mask, types), mask, 0, "cls")
    torch.testing.assert_close(found, last[:, 0], atol=1e-5, rtol=0)
    assert float((found - encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", CONFIGS)
def test_parameters_have_transformers_names(kind: str) -> None:
    model = reference(kind)
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert {name: tuple(value.shape) for name, value in fast(model).module.named_parameters()} == wanted


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_logits_and_adapter_gradients_are_those_of_transformers_and_peft(
    kind: str, targets: dict[str, Any], lengths: list[int], pooling: str
) -> None:
    check_gradients(kind, targets, lengths, pooling)


@pytest.mark.parametrize(
    "options",
    [{"use_dora": True}, {"use_rslora": True}, {"bias": "lora_only"}, {"bias": "all"}, {"lora_bias": True}],
    ids=["dora", "rslora", "bias-lora-only", "bias-all", "lora-bias"],
)
@pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers")
def test_variants_have_the_same_gradients(options: dict[str, Any]) -> None:
    check_gradients("roberta", TARGETS["all"], LENGTHS["padded"], "cls", **options)


def test_relative_positions_reach_a_first_token_whose_keys_are_a_variants() -> None:
    check_gradients("mpnet", TARGETS["all"], LENGTHS["padded"], "cls", use_dora=True)


def test_rank_pattern_and_longer_padding_have_the_same_gradients() -> None:
    check_gradients("bert", TARGETS["all"], LENGTHS["padded"], "cls", longest=32, rank_pattern={"key": 2, "value": 7})


def check_gradients(
    kind: str, targets: dict[str, Any], lengths: list[int], pooling: str, longest: int | None = None, **options: Any
) -> None:
    model = reference(kind)
    encoder = fast(model)
    names = modules(model, **targets)
    inject(model, names, **options)
    inject(encoder.module, names, **options)
    ids, mask = batch(model, lengths, longest=longest)
    head = torch.randn(4, encoder.hidden_size, generator=torch.Generator().manual_seed(2)) * 0.2
    labels = torch.arange(len(lengths)) % 4

    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = (hidden[:, 0] if pooling == "cls" else mean(hidden, mask)) @ head.t()
    nn.functional.cross_entropy(expected, labels).backward()
    logits = encoder.pooled(encoder.embed(ids, mask), mask, 0, pooling) @ head.t()
    nn.functional.cross_entropy(logits, labels).backward()

    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    wanted = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = {name: parameter.grad for name, parameter in encoder.module.named_parameters() if parameter.requires_grad}
    assert wanted.keys() == found.keys()
    largest = max(float(grad.norm()) for grad in wanted.values() if grad is not None)
    for name, grad in wanted.items():
        if grad is None:
            assert found[name] is None or float(found[name].norm()) == 0  # type: ignore[union-attr]
        elif float(grad.norm()) < 1e-6 * largest:  # key biases: the softmax does not see them, only rounding remains
            assert float(found[name].norm()) < 1e-5 * largest, name  # type: ignore[union-attr]
        else:
            assert float((found[name] - grad).norm() / grad.norm()) < 1e-4, name  # type: ignore[operator]


def test_gradients_flow_through_run_and_into_given_hidden_states() -> None:
    model = reference("bert")
    encoder = fast(model)
    inject(encoder.module, ["query", "value"])
    ids, mask = batch(model, [5, 9])
    start = encoder.embed(ids, mask).requires_grad_()
    whole = encoder.pooled(start, mask, 0, "cls")
    (direct,) = torch.autograd.grad(whole.square().sum(), start)
    parts = encoder.pooled(encoder.run(start, mask, 0, 2), mask, 2, "cls")
    (stepwise,) = torch.autograd.grad(parts.square().sum(), start)
    torch.testing.assert_close(stepwise, direct, atol=1e-5, rtol=1e-4)
    assert float(direct[0, 5:].abs().max()) == 0  # padding is nobody's business


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_long_texts_compute_attention_weights_anew(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pennyweight.model.kernels.packed_attention.SAVE_WEIGHTS_UP_TO", 4)
    check_gradients(kind, TARGETS["qkv"], LENGTHS["padded"], "cls")


@pytest.mark.parametrize("kind", ["roberta", "electra", "distilbert", "mpnet"])
def test_padding_does_not_change_a_text(kind: str) -> None:
    model = reference(kind)
    encoder = fast(model)
    ids, mask = batch(model, [7, 20])
    with torch.no_grad():
        together = encoder.pooled(encoder.embed(ids, mask), mask, 0, "mean")
        alone = encoder.pooled(encoder.embed(ids[:1, :7], mask[:1, :7]), mask[:1, :7], 0, "mean")
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)


def test_bf16_stays_near_fp32_and_keeps_adapters_in_fp32() -> None:
    model = reference("minilm")
    exact, half = fast(model), fast(model, torch.bfloat16)
    inject(half.module, ["query", "value"])
    inject(exact.module, ["query", "value"])
    ids, mask = batch(model, LENGTHS["padded"])
    outputs = []
    for encoder in (exact, half):
        out = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls").float()
        out.square().mean().backward()
        outputs.append(out.detach())
    # Six layers, each of which rounds its states half a dozen times: some ten steps of the format in the norm.
    assert float((outputs[1] - outputs[0]).norm() / outputs[0].norm()) < 10 * torch.finfo(torch.bfloat16).eps
    kinds = {parameter.dtype for parameter in half.module.parameters() if parameter.requires_grad}
    assert kinds == {torch.float32}
    frozen = half.module.get_submodule("encoder.layer.0.intermediate.dense")
    assert {name: value.dtype for name, value in frozen.named_parameters()} == {
        "weight": torch.bfloat16,
        "bias": torch.float32,
    }


@pytest.mark.parametrize("variant", [{}, {"use_dora": True}], ids=["plain", "dora"])
def test_bf16_under_autocast_is_the_same(variant: dict[str, Any]) -> None:
    model = reference("bert")
    encoder = fast(model, torch.bfloat16)
    inject(encoder.module, ["query", "dense"], **variant)
    ids, mask = batch(model, [5, 9])
    plain = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")
    assert torch.equal(plain, inside)


def test_a_copied_or_moved_module_still_computes_the_same() -> None:
    model = reference("bert")
    encoder = fast(model)
    ids, mask = batch(model, [5, 9])
    with torch.no_grad():
        before = encoder.pooled(encoder.embed(ids, mask), mask, 0, "mean")
        encoder.module = copy.deepcopy(encoder.module).double().float()
        query: Any = encoder.module.get_submodule("encoder.layer.0.attention.self.query")
        assert torch.equal(encoder.pooled(encoder.embed(ids, mask), mask, 0, "mean"), before)
        query.weight.add_(1)  # a change of one weight, in place, is seen
        assert not torch.allclose(encoder.pooled(encoder.embed(ids, mask), mask, 0, "mean"), before)


def test_adapters_can_be_switched_off_and_merged() -> None:
    model = reference("bert")
    encoder = fast(model)
    ids, mask = batch(model, [5, 9])

    def vector() -> Tensor:
        with torch.no_grad():
            return encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")

    bare = vector()
    inject(encoder.module, ["query", "key", "value", "dense"])
    adapted = vector()
    layers: list[Any] = [module for module in encoder.module.modules() if hasattr(module, "lora_A")]
    for layer in layers:
        layer.enable_adapters(False)
    assert torch.equal(vector(), bare)
    for layer in layers:
        layer.enable_adapters(True)
        layer.merge()
    torch.testing.assert_close(vector(), adapted, atol=1e-5, rtol=0)
    for layer in layers:
        layer.unmerge()
    torch.testing.assert_close(vector(), adapted, atol=1e-5, rtol=0)


def test_full_fine_tuning_has_the_same_gradients() -> None:
    model = reference("bert").requires_grad_(True)
    encoder = fast(model)
    encoder.module.requires_grad_(True)
    ids, mask = batch(model, LENGTHS["padded"])
    model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].square().sum().backward()
    encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls").square().sum().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in encoder.module.named_parameters():
        if not name.endswith("key.bias"):  # zero but for rounding
            torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "deberta-v2"},
        {"position_embedding_type": "relative_key"},
        {"hidden_act": "xielu"},
        {"is_decoder": True},
        {"add_cross_attention": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_it_does_not_compute_is_refused(change: dict[str, Any]) -> None:
    config = SMALL | CONFIGS["bert"] | change
    assert unsupported(config) is not None
    with pytest.raises(BackboneError, match=r"the fast encoder does not support .*; use the reference encoder"):
        FastEncoder(config)


def test_missing_and_misshapen_weights_are_named() -> None:
    model = reference("bert")
    encoder = FastEncoder(model.config.to_dict())
    state = model.state_dict()
    missing = {name: value for name, value in state.items() if name != "encoder.layer.1.output.dense.weight"}
    with pytest.raises(BackboneError) as error:
        encoder.load_weights(missing)
    assert str(error.value) == (
        "encoder.layer.1.output.dense.weight: the weights do not fit the config; "
        "expected shape (48, 96); received nothing"
    )
    state["embeddings.LayerNorm.bias"] = torch.zeros(3)
    with pytest.raises(BackboneError, match=r"^embeddings\.LayerNorm\.bias: .*received shape \(3,\)"):
        encoder.load_weights(state)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "mpnet"])
def test_a_text_longer_than_the_positions_is_refused(kind: str) -> None:
    model = reference(kind)
    encoder = fast(model)
    assert encoder.max_length == 40
    encoder.embed(*batch(model, [40]))
    with pytest.raises(DataError) as error:
        encoder.embed(*batch(model, [41]))
    assert str(error.value) == (
        "a text of 41 tokens is longer than the backbone's positions; expected at most 40 tokens; "
        "set max_length to 40 or less"
    )
