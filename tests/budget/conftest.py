"""The other side of the comparison: transformers and PEFT, on the meta device, where no weight is ever made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, logging

from pennyweight.budget.count import AdapterSpec, HeadSpec, head_shapes
from pennyweight.budget.targets import lora_arguments, ranks
from pennyweight.model.adapters import inject
from pennyweight.model.heads import Head
from pennyweight.model.trainable import check_count, trainable
from pennyweight.recipe.schema import TrainRecipe
from pennyweight.train.optimizer import adamw

OWN_HEAD = {
    "bert": ["pooler", "classifier"],
    "roberta": ["classifier"],
    "xlm-roberta": ["classifier"],
    "electra": ["classifier"],
    "distilbert": ["pre_classifier", "classifier"],
    "deberta-v2": ["pooler", "classifier"],
    "modernbert": ["head", "classifier"],
    "mpnet": ["classifier"],
}

logging.set_verbosity_error()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., dict[str, Any]]:
    """Fields of a small config of any family; overrides win."""

    def make(family: str, **changes: Any) -> dict[str, Any]:
        hidden, layers, heads = changes.pop("hidden", 16), changes.pop("layers", 2), changes.pop("heads", 2)
        inner = changes.pop("inner", 24)
        config: dict[str, Any] = {"model_type": family, "vocab_size": 20, "max_position_embeddings": 12}
        config |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        if family == "distilbert":
            config |= {"dim": hidden, "n_layers": layers, "n_heads": heads, "hidden_dim": inner}
        else:
            config |= {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
            config |= {"intermediate_size": inner}
        if family == "modernbert":
            config |= {"cls_token_id": 1, "sep_token_id": 2}
        return config | changes

    return make


@pytest.fixture(scope="session")
def encoder() -> Callable[..., nn.Module]:
    """The bare encoder without a pooling layer."""

    def build(config: dict[str, Any], device: str = "meta") -> nn.Module:
        pooled = config["model_type"] in ("bert", "roberta", "xlm-roberta", "mpnet")
        with torch.device(device):
            model: nn.Module = AutoModel.from_config(
                _hf(config), attn_implementation="eager", **({"add_pooling_layer": False} if pooled else {})
            )
        return model

    return build


@pytest.fixture(scope="session")
def stock() -> Callable[..., nn.Module]:
    """The architecture's own sequence classifier."""

    def build(config: dict[str, Any], labels: int) -> nn.Module:
        with torch.device("meta"):
            model: nn.Module = AutoModelForSequenceClassification.from_config(_hf(config, num_labels=labels))
        return model

    return build


@pytest.fixture(scope="session")
def peft_count(encoder: Callable[..., nn.Module], stock: Callable[..., nn.Module]) -> Callable[..., tuple[int, int]]:
    """PEFT's own (trainable, total) of an adapter and a head."""

    def counted(config: dict[str, Any], adapter: AdapterSpec, head: HeadSpec, labels: int) -> tuple[int, int]:
        arguments, kind = lora_arguments(config, adapter), LoraConfig
        if adapter.adaptive_ranks:
            own = ("r", "rank_pattern", "alpha_pattern", "use_dora", "use_rslora")
            arguments = {key: value for key, value in arguments.items() if key not in own}
            arguments |= {"init_r": adapter.r, "total_step": 1}
            kind = AdaLoraConfig
        if head.kind == "full":
            saved = OWN_HEAD[config["model_type"]]
            lora = kind(task_type="SEQ_CLS", modules_to_save=saved, **arguments)
            model: nn.Module = stock(config, labels)
        else:
            lora = kind(modules_to_save=["our_head"], **arguments)
            model = _Classifier(encoder(config), config, head, labels)
        with torch.device("meta"):
            peft: PeftModel = get_peft_model(model, lora)
            if adapter.adaptive_ranks:  # AdaLoRA's config has one rank for all; its layers take their own
                for name, rank in ranks(config, adapter).items():
                    (layer,) = [m for n, m in peft.named_modules() if n.endswith("." + name) and hasattr(m, "lora_E")]
                    layer.update_layer("default", rank, 1, config=lora)
        trainable, total = peft.get_nb_trainable_parameters()
        return trainable, total

    return counted


@pytest.fixture(scope="session")
def trained_count(encoder: Callable[..., nn.Module]) -> Callable[..., int]:
    """What our own model trains: `requires_grad` and the optimizer's groups, held to a plan as training holds them."""

    def counted(config: dict[str, Any], adapter: AdapterSpec | None, head: HeadSpec, labels: int, planned: int) -> int:
        module = encoder(config, "cpu")
        inject(module, adapter, config)
        model = nn.ModuleList([module, Head(head.kind, config, labels, rank=head.rank)])
        return check_count(model, planned, adamw(trainable(model), TrainRecipe()))

    return counted


class _Classifier(nn.Module):
    """An encoder and one of our heads, its parameters as `head_shapes` has them but built from torch's own layers."""

    def __init__(self, encoder: nn.Module, config: dict[str, Any], head: HeadSpec, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        hidden: int = config["hidden_size"] if "hidden_size" in config else config["dim"]
        with torch.device("meta"):
            output = nn.Linear(hidden, labels)
            if head.kind == "linear":
                self.our_head: nn.Module = output
                return
            dense_bias = config["model_type"] != "modernbert" or config.get("classifier_bias", False)
            down, up = nn.Linear(hidden, head.rank, bias=False), nn.Linear(head.rank, hidden, bias=dense_bias)
            parts: list[nn.Module] = [down, up, output]
            if config["model_type"] == "modernbert":
                parts.append(nn.LayerNorm(hidden, bias=config.get("norm_bias", False)))
            self.our_head = nn.Sequential(*parts)
        made = sorted(tuple(parameter.shape) for parameter in self.our_head.parameters())
        assert made == sorted(head_shapes(config, head, labels).values())


def _hf(config: dict[str, Any], **changes: Any) -> Any:
    fields = {name: value for name, value in config.items() if name != "model_type"}
    return AutoConfig.for_model(config["model_type"], **fields, **changes)
