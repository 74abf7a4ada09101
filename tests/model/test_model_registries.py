"""A new encoder family and a new adapter method train, predict, save and load with nothing but their registration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pennyweight as pw
from pennyweight import pipeline
from pennyweight.budget import count as counts
from pennyweight.budget import families
from pennyweight.budget.count import AdapterCount, TrainedPart
from pennyweight.budget.families import Architecture, BlockLinear, OwnHead
from pennyweight.budget.plan import Plan
from pennyweight.budget.plan import plan as make_plan
from pennyweight.budget.specs import AdapterSpec, HeadSpec
from pennyweight.budget.targets import resolve_targets
from pennyweight.model import adapters, encoders
from pennyweight.model.adapters.adapter import Adapter
from pennyweight.model.adapters.lora import LoraAdapter
from pennyweight.model.backbone import Backbone
from pennyweight.model.encoders import EncoderFamily, EncoderSettings
from pennyweight.model.inference import engine
from pennyweight.model.inference.adapter_updates import Segment, on
from pennyweight.model.inference.inference_encoder import Dense, InferenceEncoder, Products
from pennyweight.model.inference.token_rows import TokenRows
from pennyweight.model.kernels.frozen_linear import Linear
from pennyweight.model.kernels.int8_linear import has_int8
from pennyweight.model.kernels.prepared_linear import PreparedLinear
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.train.run_folder import open_run_folder

TEXTS = ["The goal in the match", "The bank and the shares in the market", "A moon"]
QUICK: dict[str, Any] = {
    "precision": "fp32", "batch_size": 8, "epochs": 2, "learning_rate": 5e-3, "report": "short", "validation_size": 0.2,
}  # fmt: skip


# --- a family of encoders ----------------------------------------------------------------------------------------


def describe(config: Mapping[str, Any]) -> Architecture:
    hidden = config["hidden_size"]
    return Architecture(
        family="averages",
        hidden=hidden,
        layers=config["num_hidden_layers"],
        heads=1,
        stack="layers",
        matrices=(BlockLinear("mix", "ffn_input", "mix", hidden, hidden),),
        norms=(),
        outside={"embeddings.weight": (config["vocab_size"], hidden)},
        own_head=OwnHead("dense", "output", {"dense.weight": (hidden, hidden)}),
        activation="tanh",
        norm_epsilon=1e-12,
    )


class AveragingEncoder:
    """Token embeddings, a matrix and tanh a layer, and the mean over tokens, whatever the pooling."""

    dtype = torch.float32

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.hidden_size, self.num_layers = config["hidden_size"], config["num_hidden_layers"]
        self.module: Any = nn.Module()
        self.module.embeddings = nn.Embedding(config["vocab_size"], self.hidden_size)
        blocks = [nn.ModuleDict({"mix": Linear(self.hidden_size, self.hidden_size)}) for _ in range(self.num_layers)]
        self.module.layers = nn.ModuleList(blocks)

    @classmethod
    def load(cls, backbone: Backbone, settings: EncoderSettings) -> Self:
        encoder = cls(backbone.config)
        encoder.module.load_state_dict(load_file(backbone.folder / "model.safetensors"))
        return encoder

    def embed(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        found: Tensor = self.module.embeddings(input_ids)
        return found

    def run(self, hidden: Tensor, attention_mask: Tensor, first: int, last: int) -> Tensor:
        for block in self.module.layers[first:last]:
            hidden = torch.tanh(block.mix(hidden))
        return hidden

    def pooled(
        self, hidden: Tensor, attention_mask: Tensor, first: int, pooling: str, tokens: int | None = None
    ) -> Tensor:
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (self.run(hidden, attention_mask, first, self.num_layers) * mask).sum(1) / mask.sum(1)


@pytest.fixture
def averages(tiny_backbone: Callable[..., Path], tmp_path: Path) -> Path:
    """A backbone of the new family, with BERT's tokenizer."""
    folder, bert = tmp_path / "averages", tiny_backbone("bert")
    shutil.copytree(bert, folder)
    config = {"model_type": "averages", "hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 160}
    config["vocab_size"] = json.loads((bert / "config.json").read_text())["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    save_file(AveragingEncoder(config).module.state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("strategy", ["all-linear", "head-only"])
def test_a_new_family_of_encoders(
    strategy: str, averages: Path, news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(families.FAMILIES, "averages", describe)
    monkeypatch.setitem(encoders.FAMILIES, "averages", EncoderFamily(AveragingEncoder.load))
    settings = QUICK | {"backbone": str(averages), "budget": "2k", "strategy": strategy}
    trained = pw.train(news / "train.csv", test=news / "test.csv", out=tmp_path / "run", **settings)
    assert trained.metrics["trainable"] <= 2_000
    assert trained.artifact.model.engine == "reference"
    loaded = pw.load(tmp_path / "run", precision="fp32")
    assert np.array_equal(loaded.predict_proba(TEXTS), trained.predict_proba(TEXTS))
    with pytest.raises(pw.PennyweightError, match="the fast encoder does not support the architecture averages"):
        pw.train(news / "train.csv", encoder="fast", **settings)


# --- an inference encoder ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixingLayer:
    """One layer of `AveragingInference`."""

    mix: PreparedLinear

    def __call__(self, x: Tensor, batch: TokenRows, positions: None) -> Tensor:
        return torch.tanh(self.mix(x))

    def first(self, x: Tensor, batch: TokenRows, positions: None) -> Tensor:
        return self(x.index_select(0, batch.firsts), batch, positions)

    def adapted(self, rows: Sequence[Segment], after_attention: Sequence[Segment]) -> Self:
        return replace(self, mix=on(self.mix, rows))


@dataclass(frozen=True)
class AveragingInference:
    """`AveragingEncoder` over token rows."""

    words: Tensor
    layers: tuple[MixingLayer, ...]
    max_length: int = 160

    @classmethod
    def build(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor], products: Products, pooling: str
    ) -> InferenceEncoder:
        layers = []
        for index in range(config["num_hidden_layers"]):
            name = f"layers.{index}.mix"
            linear = Dense(state[f"{name}.weight"], state[f"{name}.bias"], name)
            layers.append(MixingLayer(products.linear(f"{index}.mix", linear)))
        return cls(state["embeddings.weight"].to(products.dtype), tuple(layers))

    def embed(self, batch: TokenRows) -> Tensor:
        return nn.functional.embedding(batch.ids, self.words)

    def positions(self, batch: TokenRows) -> None:
        return None

    def finish(self, x: Tensor) -> Tensor:
        return x

    def adapted(self, embedded: Sequence[Segment], finished: Sequence[Segment]) -> Self:
        return self


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_new_inference_encoder(
    precision: str, averages: Path, news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if precision == "int8" and not has_int8():
        pytest.skip("oneDNN's int8 product does not exist here")
    monkeypatch.setitem(families.FAMILIES, "averages", describe)
    monkeypatch.setitem(encoders.FAMILIES, "averages", EncoderFamily(AveragingEncoder.load))
    monkeypatch.setitem(engine.ENCODERS, "averages", AveragingInference.build)
    settings = QUICK | {"backbone": str(averages), "budget": "2k", "strategy": "all-linear", "device": "cpu"}
    settings["pooling"] = "mean"
    trained = pw.train(news / "train.csv", out=tmp_path / "run", inference_precision=precision, **settings)
    assert trained.runtime.precision == precision
    loaded = pw.load(tmp_path / "run", device="cpu")
    assert np.array_equal(loaded.logits(TEXTS), trained.logits(TEXTS))
    by_model = trained.text_model.logits(trained.tokens(TEXTS))  # the model is in fp32
    assert not np.array_equal(trained.logits(TEXTS), by_model)
    tolerance = 1e-5 if precision == "fp32" else 5e-2
    assert np.abs(trained.logits(TEXTS) - by_model).max() < tolerance * np.abs(by_model).max()


# --- an adapter method -------------------------------------------------------------------------------------------


class VectorSpec(AdapterSpec):
    """Of a plan that trains one vector a matrix."""

    @property
    def method(self) -> str:
        return "vector"


class VectorLinear(nn.Module):
    """W x + b + v mean(x), with v (out,) trained."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.vector = nn.Parameter(torch.zeros(base.out_features))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base(x) + (x.float().mean(-1, keepdim=True) * self.vector).to(x.dtype)
        return found


class VectorAdapter(Adapter):
    """One vector a matrix, which is saved as LoRA of rank 1: A = 1/in, B = v."""

    def __init__(self, module: nn.Module, names: list[str], config: Mapping[str, Any]) -> None:
        self.module, self.names, self.config = module, names, config
        self.steps: list[int] = []

    @classmethod
    def inject(cls, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Self:
        module.requires_grad_(False)
        names = [linear.name for linear in resolve_targets(config, spec.target_modules, spec.layers)]
        for name in names:
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, VectorLinear(module.get_submodule(name)))  # type: ignore[arg-type]
        return cls(module, names, config)

    def after_step(self, step: int) -> None:
        self.steps.append(step)

    def fold(self, plan: Plan, labels: int) -> tuple[Plan, Adapter]:
        vectors = {name: self.module.get_submodule(name).vector.detach() for name in self.names}
        for name in self.names:
            parent, _, child = name.rpartition(".")
            setattr(self.module.get_submodule(parent), child, self.module.get_submodule(name).base)
        assert plan.adapter is not None
        spec = AdapterSpec(r=1, lora_alpha=1.0, target_modules=plan.adapter.target_modules)
        folded = LoraAdapter.inject(self.module, spec, self.config)
        self.module.train(self.module.training)
        with torch.no_grad():
            for name, vector in vectors.items():
                layer: Any = self.module.get_submodule(name)
                layer.lora_A["default"].weight.fill_(1 / layer.in_features)
                layer.lora_B["default"].weight.copy_(vector.view(-1, 1))
        left = counts.count(self.config, adapter=spec, head=plan.head, labels=labels)
        return replace(plan, adapter=spec, count=left, why=("vectors, as LoRA of rank 1",)), folded

    def state(self) -> dict[str, Tensor]:
        raise AssertionError("only what it folds into is saved")

    def load(self, state: Mapping[str, Tensor]) -> None:
        raise AssertionError("only what it folds into is loaded")

    def scale(self, factor: float) -> None:
        raise AssertionError("only what it folds into is scaled")


def count_vectors(config: Mapping[str, Any], adapter: AdapterSpec) -> AdapterCount:
    linears = resolve_targets(config, adapter.target_modules, adapter.layers)
    return AdapterCount((TrainedPart("vectors", "all layers", None, sum(each.out_features for each in linears)),))


@pytest.mark.parametrize("encoder", ["fast", "reference"])
def test_a_new_adapter_method(
    encoder: str, tiny_backbone: Callable[..., Path], news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(counts.ADAPTERS, "vector", count_vectors)
    monkeypatch.setitem(adapters.METHODS, "vector", VectorAdapter.inject)
    settings = QUICK | {"backbone": str(tiny_backbone("bert")), "budget": "2k", "encoder": encoder}
    recipe = resolve_recipe("default", settings)
    loaded = pipeline.load_data(recipe, news / "train.csv", news / "test.csv")
    with open_run_folder(tmp_path / "run", resume=False, resume_anyway=False, overwrite=False) as folder:
        planned = pipeline.plan_run(recipe, loaded, folder)
        plan = make_plan(
            planned.backbone.config, labels=3, budget=2_000, strategy="manual", head=HeadSpec(),
            adapter=VectorSpec(r=1, lora_alpha=1.0, target_modules=("query", "value", "output.dense")),
        )  # fmt: skip
        planned = replace(planned, plan=plan)
        built = pipeline.build_model(recipe, loaded, planned)
        model = built.text_model.model
        adapter = model.adapter
        assert isinstance(adapter, VectorAdapter)
        fitted = pipeline.fit_model(recipe, loaded, planned, built, folder)
        assert adapter.steps == list(range(1, fitted.result.steps + 1))
        evaluated = pipeline.evaluate_model(recipe, loaded, planned, built, fitted, report=False)
        classifier = pipeline.save_model(recipe, loaded, planned, built, fitted, evaluated, folder).classifier
    assert classifier.metrics["trainable"] == 4 * 4 * 32 + 3 * 32 + 3
    lora = [each for name, each in model.named_parameters() if "lora_B" in name]
    assert len(lora) == 16
    assert all(bool(each.abs().sum() > 0) for each in lora)
    again = pw.load(tmp_path / "run", precision="fp32")
    assert np.array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
