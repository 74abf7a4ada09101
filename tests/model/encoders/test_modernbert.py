"""The fast ModernBERT against transformers, its oracle: same hidden states, same logits, same gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pennyweight.errors import BackboneError
from pennyweight.model.encoders import EncoderSettings, choose_engine
from pennyweight.model.encoders.modernbert import FastModernbert, positions_of, unsupported
from pennyweight.model.kernels.rotary import RotaryPositions

CONFIG: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "intermediate_size": 40,
    "vocab_size": 101,
    "max_position_embeddings": 64,
    "local_attention": 6,  # three tokens to each side: shorter than most texts here
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
BIASES = {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": BIASES,
    "local-last": {"global_attn_every_n_layers": 2, "hidden_activation": "gelu_pytorch_tanh"},
    "new-fields": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 300.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
        },
    },
    "wide-window": {"local_attention": 128, "global_rope_theta": 50.0, "local_rope_theta": 7.0},
}
TARGETS: dict[str, list[str] | str] = {
    "attention": ["Wqkv", "attn.Wo"],
    "all": ["Wqkv", "Wo", "Wi"],
    "feed-forward": ["Wi", "mlp.Wo"],
    "top": r"layers\.3\.attn\.(Wqkv|Wo)",
}
LENGTHS = {"padded": [9, 3, 17, 1], "full": [12, 12], "short": [3, 4]}


def reference(**changes: Any) -> Any:
    from transformers import AutoConfig, AutoModel

    values = copy.deepcopy(CONFIG | changes)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():  # larger than initial values, so that every term matters
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def fast(model: Any, dtype: torch.dtype = torch.float32, **changes: Any) -> FastModernbert:
    encoder = FastModernbert(CONFIG | changes, dtype)
    encoder.load_weights(model.state_dict())
    encoder.module.eval()
    return encoder


def batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    ids = torch.randint(
        5, CONFIG["vocab_size"], (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1)
    )
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    return ids * mask, mask


def inject(module: nn.Module, targets: list[str] | str, **options: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options), module)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            if "lora_A" in name or "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
            if parameter.requires_grad:
                parameter.data = parameter.data.float()


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(1) / weights.sum(1)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_hidden_states_and_pooled_vectors_are_transformers(changes: dict[str, Any], lengths: list[int]) -> None:
    model = reference(**changes)
    encoder = fast(model, **changes)
    ids, mask = batch(lengths)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        embedded = encoder.embed(ids, mask)
        two = encoder.run(embedded, mask, 0, 2)
        final = encoder.run(two, mask, 2, encoder.num_layers)
        real, last = mask.bool(), expected.last_hidden_state
        torch.testing.assert_close(embedded[real], expected.hidden_states[0][real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(two[real], expected.hidden_states[2][real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(final[real], last[real], atol=1e-5, rtol=1e-5)
        assert encoder.run(final, mask, 4, 4) is final  # no layers: the final norm is not applied again
        for pooling, wanted in (("cls", last[:, 0]), ("mean", mean(last, mask))):
            for start, first in ((embedded, 0), (two, 2), (final, 4)):
                torch.testing.assert_close(encoder.pooled(start, mask, first, pooling), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_logits_and_adapter_gradients_are_those_of_transformers_and_peft(
    changes: dict[str, Any], targets: list[str] | str, lengths: list[int], pooling: str
) -> None:
    check_gradients(changes, targets, lengths, pooling)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"Wi": 7}}], ids=str)
def test_variants_have_the_same_gradients(options: dict[str, Any]) -> None:
    check_gradients(BIASES, TARGETS["all"], LENGTHS["padded"], "cls", **options)


def check_gradients(
    changes: dict[str, Any], targets: list[str] | str, lengths: list[int], pooling: str, **options: Any
) -> None:
    model = reference(**changes)
    encoder = fast(model, **changes)
    inject(model, targets, **options)
    inject(encoder.module, targets, **options)
    ids, mask = batch(lengths)
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
    for name, grad in wanted.items():
        assert float((found[name] - grad).norm() / grad.norm()) < 1e-4, name  # type: ignore[operator, union-attr]


def test_gradients_flow_through_run_and_into_given_hidden_states() -> None:
    encoder = fast(reference())
    inject(encoder.module, ["Wqkv"])
    ids, mask = batch([5, 9])
    start = encoder.embed(ids, mask).requires_grad_()
    whole = encoder.pooled(start, mask, 0, "cls")
    (direct,) = torch.autograd.grad(whole.square().sum(), start)
    parts = encoder.pooled(encoder.run(start, mask, 0, 2), mask, 2, "cls")
    (stepwise,) = torch.autograd.grad(parts.square().sum(), start)
    torch.testing.assert_close(stepwise, direct, atol=1e-5, rtol=1e-4)
    assert float(direct[0, 5:].abs().max()) == 0  # padding is nobody's business


@pytest.mark.parametrize("most", [1, 1000, 1 << 24])
@pytest.mark.parametrize("lengths", [[20, 3, 17, 1], [12, 12]], ids=["padded", "full"])
@pytest.mark.parametrize("changes", [{}, VARIANTS["local-last"]], ids=["plain", "local-last"])
def test_long_texts_compute_attention_weights_anew_and_in_parts(
    changes: dict[str, Any], lengths: list[int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennyweight.model.kernels.packed_attention.SAVE_WEIGHTS_UP_TO", 4)
    monkeypatch.setattr("pennyweight.model.kernels.packed_attention.MOST_WEIGHTS", most)
    for pooling in ("cls", "mean"):
        check_gradients(changes, TARGETS["attention"], lengths, pooling)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_kernels_of_other_devices_compute_the_same(device: str) -> None:
    from pennyweight.model.kernels import choose_kernels

    encoder = fast(reference())
    inject(encoder.module, ["Wqkv", "Wo"])
    ids, mask = batch(LENGTHS["padded"])
    found = []
    for kind in ("cpu", device):
        encoder._kernels = choose_kernels(torch.device(kind))
        out = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")
        trained = [parameter for parameter in encoder.module.parameters() if parameter.requires_grad]
        found.append([out, *torch.autograd.grad(out.square().sum(), trained)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_padding_does_not_change_a_text() -> None:
    encoder = fast(reference())
    ids, mask = batch([7, 20])
    with torch.no_grad():
        together = encoder.pooled(encoder.embed(ids, mask), mask, 0, "mean")
        alone = encoder.pooled(encoder.embed(ids[:1, :7], mask[:1, :7]), mask[:1, :7], 0, "mean")
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_bf16_stays_near_fp32_and_keeps_adapters_and_norms_in_fp32() -> None:
    model = reference(**BIASES)
    exact, half = fast(model, **BIASES), fast(model, torch.bfloat16, **BIASES)
    ids, mask = batch(LENGTHS["padded"])
    outputs = []
    for encoder in (exact, half):
        inject(encoder.module, ["Wqkv", "Wo"])
        out = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls").float()
        out.square().mean().backward()
        outputs.append(out.detach())
    # Four layers, each of which rounds its states half a dozen times: some ten steps of the format in the norm.
    assert float((outputs[1] - outputs[0]).norm() / outputs[0].norm()) < 10 * torch.finfo(torch.bfloat16).eps
    kinds = {parameter.dtype for parameter in half.module.parameters() if parameter.requires_grad}
    assert kinds == {torch.float32}
    layer: Any = half.module.get_submodule("layers.1")
    assert {layer.mlp.Wi.weight.dtype, layer.attn.Wqkv.base_layer.weight.dtype} == {torch.bfloat16}
    assert {layer.mlp.Wi.bias.dtype, layer.mlp_norm.weight.dtype} == {torch.float32}


@pytest.mark.parametrize("variant", [{}, {"use_dora": True}], ids=["plain", "dora"])
def test_bf16_under_autocast_is_the_same(variant: dict[str, Any]) -> None:
    encoder = fast(reference(), torch.bfloat16)
    inject(encoder.module, ["Wqkv", "Wo"], **variant)
    ids, mask = batch([5, 9])
    plain = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")
    assert torch.equal(plain, inside)


def test_a_copied_module_computes_the_same_and_a_changed_weight_is_seen() -> None:
    encoder = fast(reference())
    ids, mask = batch([5, 9])
    with torch.no_grad():
        before = encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")
        encoder.module = copy.deepcopy(encoder.module)
        assert torch.equal(encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls"), before)
        last: Any = encoder.module.get_submodule("layers.3.attn.Wqkv")
        last.weight.mul_(1.5)
        assert not torch.allclose(encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls"), before)


def test_adapters_can_be_switched_off_and_merged() -> None:
    encoder = fast(reference())
    ids, mask = batch([5, 9])

    def vector() -> Tensor:
        with torch.no_grad():
            return encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls")

    bare = vector()
    inject(encoder.module, TARGETS["all"])
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
    model = reference(**BIASES).requires_grad_(True)
    encoder = fast(model, **BIASES)
    encoder.module.requires_grad_(True)
    ids, mask = batch(LENGTHS["padded"])
    model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].square().sum().backward()
    encoder.pooled(encoder.embed(ids, mask), mask, 0, "cls").square().sum().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in encoder.module.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-3, rtol=1e-3, msg=name)


def test_positions_are_read_from_older_and_newer_configs() -> None:
    whole, local = RotaryPositions(160_000.0), RotaryPositions(10_000.0, 3)
    assert positions_of(CONFIG) == (whole, local, local, whole)
    older = {"global_rope_theta": 50.0, "local_rope_theta": 7.0, "global_attn_every_n_layers": 2}
    one, other = RotaryPositions(50.0), RotaryPositions(7.0, 3)
    assert positions_of(CONFIG | older) == (one, other, one, other)
    # What transformers writes is read as what it was made from.
    assert positions_of(reference(**older).config.to_dict()) == (one, other, one, other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "bert"}, "the architecture bert"),
        ({"hidden_activation": "silu"}, "the activation silu"),
        ({"head_dim": 16}, "a hidden_size that cannot be divided into pairs of numbers for each attention head"),
        ({"rope_scaling": {"factor": 2.0}}, "scaled rotary positions"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rotary positions of type yarn",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_it_does_not_compute_is_refused(change: dict[str, Any], reason: str) -> None:
    assert unsupported(CONFIG | change) == reason
    with pytest.raises(BackboneError) as error:
        FastModernbert(CONFIG | change)
    assert str(error.value) == f"the fast encoder does not support {reason}; use the reference encoder"


@pytest.mark.parametrize("setting", [{"hidden_dropout": 0.1}, {"attention_dropout": 0.1}, {"trained_bias": "all"}])
def test_auto_takes_the_reference_for_settings_it_does_not_support(setting: dict[str, Any]) -> None:
    cpu = torch.device("cpu")
    assert choose_engine(CONFIG, "auto", EncoderSettings(torch.float32, cpu)) == "fast"
    assert choose_engine(CONFIG, "auto", EncoderSettings(torch.float32, cpu, **setting)) == "reference"
