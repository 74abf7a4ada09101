"""Many classifiers over one frozen backbone: each gives the logits that it gives alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pennyweight.budget.count import adapter_shapes
from pennyweight.budget.plan import Plan, plan
from pennyweight.budget.specs import AdapterSpec, HeadSpec
from pennyweight.data.batching import Encoded, pack
from pennyweight.errors import DataError
from pennyweight.model.adapters.lora import PREFIX
from pennyweight.model.backbone import Backbone, resolve
from pennyweight.model.device import Runtime
from pennyweight.model.heads import Head
from pennyweight.model.inference.build import inference_weights
from pennyweight.model.inference.engine import InferenceEngine
from pennyweight.model.inference.inference_encoder import InferenceEncoder
from pennyweight.model.inference.member import Member
from pennyweight.model.inference.mixed_engine import MixedEngine, mixed_engine
from pennyweight.model.inference.token_rows import TokenRows

pytestmark = pytest.mark.usefixtures("two_threads")
FP32, BF16 = (Runtime(torch.device("cpu"), precision) for precision in ("fp32", "bf16"))
KINDS = ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "modernbert"]
ADAPTERS: dict[str, AdapterSpec | None] = {
    "everywhere": AdapterSpec(r=3, lora_alpha=6, target_modules=("all-linear",)),
    "top layer": AdapterSpec(r=5, lora_alpha=5, target_modules=("all-linear",), layers=(3,)),
    "two layers, uneven ranks": AdapterSpec(
        r=2, lora_alpha=4, target_modules=("attention",), layers=(1, 2), use_rslora=True
    ),
    "values": AdapterSpec(r=8, lora_alpha=8, target_modules=("value",), scaling="alpha", layers=(2, 3)),
    "dora": AdapterSpec(r=2, lora_alpha=4, target_modules=("all-linear",), use_dora=True, layers=(1, 3)),
    "biases of its layers": AdapterSpec(
        r=1, lora_alpha=1, target_modules=("ffn_input",), bias="lora_only", layers=(2,)
    ),
    "all biases": AdapterSpec(r=2, lora_alpha=2, target_modules=("query", "ffn_output"), bias="all"),
    "head alone": None,
    "another head alone": None,
}
HEADS = ["linear", "full", "low_rank"]


class Fleet:
    """Classifiers of random weights, each in the mixed engine and in an engine of its own."""

    def __init__(self, folder: Path, runtime: Runtime = FP32, pooling: str | None = None) -> None:
        self.backbone: Backbone = resolve(str(folder))
        self.config = self.backbone.config
        self.random = torch.Generator().manual_seed(0)
        pad_id = int(self.config["pad_token_id"])
        engine = mixed_engine(self.backbone, runtime, pad_id)
        assert engine is not None
        self.engine: MixedEngine = engine
        self.members: list[Member] = []
        self.alone: list[InferenceEngine] = []
        for number, spec in enumerate(ADAPTERS.values()):
            made = self.trained(spec, HEADS[number % 3], number + 2)
            pooled = pooling or ("mean" if number % 2 else "cls")
            self.members.append(engine.member(*made, pooled))
            weights = inference_weights(self.backbone, *made, pooled, pad_id)
            assert weights is not None
            alone = weights.engine(runtime)
            assert alone is not None
            self.alone.append(alone)

    def trained(
        self, spec: AdapterSpec | None, head: Any, labels: int
    ) -> tuple[Plan, dict[str, Tensor], dict[str, Tensor]]:
        made = plan(self.config, labels=labels, budget=None, strategy="manual", adapter=spec, head=HeadSpec(head, 4))
        shapes = {} if spec is None else adapter_shapes(self.config, spec)
        adapter = {f"{PREFIX}{name}": self.values(*shape) * 0.3 for name, shape in shapes.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(labels)
            own = Head(head, self.config, labels, rank=4).state_dict()
        return made, adapter, {name: value.clone() + self.values(*value.shape) * 0.1 for name, value in own.items()}

    def values(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random)

    def texts(self, lengths: list[int]) -> Encoded:
        random = np.random.default_rng(0)
        rows = [random.integers(5, int(self.config["vocab_size"]), size=length).tolist() for length in lengths]
        types = [[int(place > len(row) // 2) for place in range(len(row))] for row in rows]
        return pack(rows, type_ids=types if self.config.get("type_vocab_size", 0) > 1 else None)

    def check(self, encoded: Encoded, readers: list[list[int]], tolerance: float) -> None:
        found = self.engine.logits(encoded, [[self.members[number] for number in own] for own in readers])
        assert [len(each) for each in found] == [len(own) for own in readers]
        alone = [engine.logits(encoded) for engine in self.alone]
        for text, own in enumerate(readers):
            for place, number in enumerate(own):
                expected = alone[number][text]
                assert found[text][place].shape == expected.shape
                assert found[text][place].dtype == np.float32
                largest = max(1.0, float(np.abs(alone[number]).max()))
                assert np.abs(found[text][place] - expected).max() < tolerance * largest, (text, number)


LENGTHS = [3, 9, 9, 9, 9, 9, 14, 5, 60, 1, 13, 9, 31, 31, 30, 29, 7, 7, 7, 9]


@pytest.mark.parametrize("pooling", [None, "cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_mixed_texts_get_the_logits_of_their_classifiers_alone(
    tiny_backbone: Callable[..., Path], kind: str, pooling: str | None
) -> None:
    fleet = Fleet(tiny_backbone(kind), pooling=pooling)
    random = np.random.default_rng(1)
    count = len(ADAPTERS)
    one_each = [[int(random.integers(count))] for _ in LENGTHS]
    fleet.check(fleet.texts(LENGTHS), one_each, 1e-4)
    some = [random.integers(count, size=random.integers(4)).tolist() for _ in LENGTHS]
    fleet.check(fleet.texts(LENGTHS), some, 1e-4)
    fleet.check(fleet.texts(LENGTHS[:5]), [list(range(count))] * 5, 1e-4)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_bf16_is_near_the_same_classifier_alone(tiny_backbone: Callable[..., Path], kind: str) -> None:
    fleet = Fleet(tiny_backbone(kind), BF16)
    fleet.check(fleet.texts(LENGTHS), [[number % len(ADAPTERS)] for number in range(len(LENGTHS))], 0.1)


def test_one_text_for_more_classifiers_than_a_batch_has_room_for(
    tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pennyweight.model.inference.mixed_engine.TOKENS", 64)
    fleet = Fleet(tiny_backbone("bert"))
    fleet.check(fleet.texts([30, 2, 30]), [list(range(9)) * 2, [1], [8, 7, 0]], 1e-4)


def test_layers_that_no_classifier_of_a_text_adapts_are_computed_once(tiny_backbone: Callable[..., Path]) -> None:
    fleet = Fleet(tiny_backbone("bert"))
    seen: list[int] = []
    engine = replace(fleet.engine, encoder=_counting(fleet.engine.encoder, seen))
    members = dict(zip(ADAPTERS, fleet.members, strict=True))
    torch.set_num_threads(1)

    def texts_a_layer(*names: str) -> list[int]:
        seen.clear()
        engine.logits(fleet.texts([20]), [[members[name] for name in names]])
        return list(seen)

    assert texts_a_layer("everywhere") == [1, 1, 1, 1]
    assert texts_a_layer("head alone", "another head alone") == [1, 1, 1, 1]
    assert texts_a_layer("top layer", "head alone", "another head alone") == [1, 1, 1, 2]
    assert texts_a_layer("two layers, uneven ranks", "top layer", "values", "head alone") == [1, 2, 3, 4]
    assert texts_a_layer("everywhere", "all biases", "top layer") == [3, 3, 3, 3]


def _counting(encoder: InferenceEncoder, seen: list[int]) -> Any:
    class Counting:
        def __init__(self, layer: Any) -> None:
            self.layer = layer

        def __call__(self, x: Tensor, batch: TokenRows, positions: Any) -> Tensor:
            seen.append(len(batch.firsts))
            return self.layer(x, batch, positions)

        def first(self, x: Tensor, batch: TokenRows, positions: Any) -> Tensor:
            seen.append(len(batch.firsts))
            return self.layer.first(x, batch, positions)

        def adapted(self, *segments: Any) -> Any:
            return Counting(self.layer.adapted(*segments))

    return replace(encoder, layers=tuple(Counting(layer) for layer in encoder.layers))  # type: ignore[type-var]


def test_an_adapter_takes_what_its_numbers_take(tiny_backbone: Callable[..., Path]) -> None:
    fleet = Fleet(tiny_backbone("bert"))
    spec = ADAPTERS["everywhere"]
    made, adapter, head = fleet.trained(spec, "linear", 3)
    member = fleet.engine.member(made, adapter, head, "cls")
    assert member.nbytes == sum(tensor.nbytes for tensor in (*adapter.values(), *head.values()))


def test_several_threads_share_it(tiny_backbone: Callable[..., Path]) -> None:
    fleet = Fleet(tiny_backbone("bert"))
    encoded, readers = fleet.texts(LENGTHS * 3), [[fleet.members[number % 9]] for number in range(len(LENGTHS) * 3)]
    expected, found = fleet.engine.logits(encoded, readers), []
    threads = [threading.Thread(target=lambda: found.append(fleet.engine.logits(encoded, readers))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for each in found:
        assert all(np.array_equal(one[0], other[0]) for one, other in zip(each, expected, strict=True))


def test_no_texts_no_readers_and_texts_that_are_too_long(tiny_backbone: Callable[..., Path]) -> None:
    fleet = Fleet(tiny_backbone("bert"))
    assert fleet.engine.logits(pack([]), []) == []
    assert fleet.engine.logits(fleet.texts([4, 5]), [[], []]) == [[], []]
    with pytest.raises(DataError, match="a text of 161 tokens is longer than the backbone's positions"):
        fleet.engine.logits(fleet.texts([161]), [[fleet.members[0]]])


def test_families_without_an_inference_encoder_have_no_mixed_engine(tiny_backbone: Callable[..., Path]) -> None:
    folder = tiny_backbone("deberta-v2")
    pad_id = json.loads((folder / "config.json").read_text())["pad_token_id"]
    assert mixed_engine(resolve(str(folder)), FP32, pad_id) is None
