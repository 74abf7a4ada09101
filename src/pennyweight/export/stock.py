"""A saved classifier in other people's forms: stock transformers + PEFT, or one merged transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..artifact.artifact import Artifact
from ..artifact.model_card import base_model, block, code
from ..errors import ArtifactError
from ..evaluate.metrics.thresholds import saved_thresholds
from ..model.adapters import lora as adapt
from ..model.encoders import StockHead, stock_head_of
from ..storage.atomic import atomic_folder, write_text
from ..storage.folders import refuse_nonempty_folder

# tanh(x) = x - x^3/3 + ...: at this scale the cubic term of a normalised hidden state is below fp32's resolution of
# the logits, and the scaled values are still normal numbers in half precision.
EPSILON = 2.0**-12
# Beyond this argument gelu(x) equals x in fp32.
GELU_IS_IDENTITY = 6.0


def stock_head(artifact: Artifact) -> dict[str, Tensor]:
    """The head's tensors under the architecture's stock names, computing the same logits.

    A linear head has no dense layer, a stock head has one with an activation behind it. Where the activation is tanh,
    it is entered near zero, where it is linear: dense = eps I, output = W / eps. Where it is relu or gelu, it is
    entered far above zero, where it is the identity: dense = I with bias c, output bias b - W c; c is taken from the
    last layer norm, whose outputs are bounded by sqrt(H) |gamma| + |beta|.

    Raises:
        ArtifactError: when the stock class cannot express this head; the message says which setting would do.
    """
    stock = stock_head_of(artifact.backbone.config)
    head = artifact.model.head
    _refuse_pooling(artifact)
    out = {"weight": head.out.weight.detach().cpu().clone(), "bias": head.out.bias.detach().cpu().clone()}
    if head.dense is not None:
        weight = head.dense.weight if head.down is None else head.dense.weight @ head.down.weight
        dense = {"weight": weight.detach().cpu().clone()}
        if head.dense.bias is not None:
            dense["bias"] = head.dense.bias.detach().cpu().clone()
    else:
        dense, out = _identity_dense(stock, out, artifact.model.module)
    named = {f"{stock.dense}.{key}": tensor for key, tensor in dense.items()}
    named |= {f"{stock.output}.{key}": tensor for key, tensor in out.items()}
    if head.norm is not None and stock.norm:
        named |= {
            f"{stock.norm}.{key}": tensor.detach().cpu().clone() for key, tensor in head.norm.state_dict().items()
        }
    return named


def _refuse_pooling(artifact: Artifact) -> None:
    config, pooling = artifact.backbone.config, artifact.recipe.model.pooling
    stock = stock_head_of(config).pooling
    if pooling != stock:
        raise ArtifactError(
            f"transformers' stock {config['model_type']} classifier cannot express {pooling} pooling",
            expected=f"a classifier trained with --pooling {stock}",
            received=f"--pooling {pooling}",
            remedy=f"train with --pooling {stock}, or keep using Pennyweight's own artifact",
        )


def _identity_dense(
    stock: StockHead, out: dict[str, Tensor], encoder: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Dense and output layers that reproduce `out` through the stock head's activation."""
    size = out["weight"].shape[1]
    if stock.norm:
        raise ArtifactError(
            "the stock head normalises between its dense layer and its output, which a linear head cannot pass through",
            expected="a classifier trained with --head full or --head low_rank",
            received="--head linear",
        )
    if stock.activation == "tanh":
        dense = {"weight": torch.eye(size) * EPSILON, "bias": torch.zeros(size)}
        return dense, {"weight": out["weight"] / EPSILON, "bias": out["bias"]}
    if stock.activation not in ("relu", "gelu"):
        raise ArtifactError(
            f"a linear head cannot pass through the stock head's {stock.activation}", remedy="train with --head full"
        )
    norm = _last_norm(encoder)
    bound = size**0.5 * norm.weight.detach().float().abs() + norm.bias.detach().float().abs()  # (H,)
    shift = (bound + GELU_IS_IDENTITY).cpu()
    dense = {"weight": torch.eye(size), "bias": shift}
    return dense, {"weight": out["weight"], "bias": out["bias"] - (out["weight"].double() @ shift.double()).float()}


def _last_norm(encoder: nn.Module) -> Any:
    norms = [
        module for name, module in encoder.named_modules() if name.endswith(("output.LayerNorm", "output_layer_norm"))
    ]
    return norms[-1]


def to_peft(artifact: Artifact, folder: str | Path) -> float:
    """Write a folder that stock transformers + peft load with the same logits.

    Returns:
        The largest difference of logits between ours and the stock model's, in fp32, on a few texts.

    Raises:
        InputError: when the folder holds anything.
        ArtifactError: when the stock classes cannot express this classifier.
    """
    from transformers import AutoConfig
    from transformers.utils import logging

    refuse_nonempty_folder(folder)
    if artifact.plan.adapter is None:
        raise ArtifactError("there is no adapter: only the head was trained", remedy="use --format merged")
    stock = stock_head_of(artifact.backbone.config)
    head = stock_head(artifact)
    config = adapt.lora_config(artifact.plan.adapter, artifact.backbone.config)
    config.task_type = "SEQ_CLS"
    config.modules_to_save = list(stock.modules_to_save)
    config.base_model_name_or_path = _base_name(artifact)
    config.inference_mode = True
    with atomic_folder(folder) as aside:
        config.save_pretrained(aside)
        tensors = {f"base_model.model.{name}": tensor for name, tensor in head.items()}
        for name, tensor in adapt.adapter_state(artifact.model.module).items():
            tensors[name.replace("base_model.model.", f"base_model.model.{stock.encoder_attribute}.", 1)] = tensor
        save_file(tensors, aside / "adapter_model.safetensors", metadata={"format": "pt"})
        artifact.tokenizer.save_pretrained(aside)
        if artifact.labels.multi:
            # An adapter's own files cannot say this; the README reads it from here.
            AutoConfig.from_pretrained(artifact.backbone.folder, **_task(artifact)).save_pretrained(aside)
        write_text(aside / "README.md", _usage(artifact))
        logging.set_verbosity_error()
        return difference(artifact, stock_model(artifact, aside))


def to_merged(artifact: Artifact, folder: str | Path) -> float:
    """Write one stock transformers model with the adapter merged into its weights.

    Returns:
        The largest difference of logits, as in `to_peft`.
    """
    import tempfile

    refuse_nonempty_folder(folder)
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as aside:
        if artifact.plan.adapter is None:
            model = _stock_base(artifact)
            missing = model.load_state_dict(stock_head(artifact), strict=False).unexpected_keys
            assert not missing, missing
        else:
            to_peft(artifact, Path(scratch) / "peft")
            model = stock_model(artifact, Path(scratch) / "peft").merge_and_unload()
        model.save_pretrained(aside)
        artifact.tokenizer.save_pretrained(aside)
        return difference(artifact, model)


def stock_model(artifact: Artifact, adapter: Path) -> Any:
    """The stock base with a PEFT adapter folder on it, as a user would load it; evaluation mode, fp32."""
    from peft import PeftModel

    return PeftModel.from_pretrained(_stock_base(artifact), str(adapter)).eval()


def _stock_base(artifact: Artifact) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(
        artifact.backbone.folder,
        **_task(artifact),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype="float32",
    ).eval()


def _task(artifact: Artifact) -> dict[str, Any]:
    """What transformers' config says about the labels."""
    names = artifact.labels.names
    task: dict[str, Any] = {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    # Stock pipelines then apply a sigmoid and stock training binary cross-entropy.
    return task | ({"problem_type": "multi_label_classification"} if artifact.labels.multi else {})


@torch.inference_mode()
def difference(artifact: Artifact, model: Any) -> float:
    """The largest difference between our logits and a stock model's on a few texts of different length."""
    texts = ["Shares fell.", "The striker scored twice in extra time as the visitors came from behind to win the cup."]
    limit = artifact.recipe.data.max_length
    second = {"text_pair": texts[::-1]} if artifact.recipe.data.pair else {}
    batch = artifact.tokenizer(texts, **second, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    device = next(artifact.model.parameters()).device
    ours = artifact.model(**{name: tensor.to(device) for name, tensor in batch.items()}).float().cpu()
    theirs = model(**batch).logits.float()
    return float((ours - theirs).abs().max())


def _base_name(artifact: Artifact) -> str:
    return str(artifact.backbone.folder) if artifact.backbone.name == "embedded" else artifact.backbone.name


def _usage(artifact: Artifact) -> str:
    names = list(artifact.labels.names)
    base, given = f"num_labels={len(names)}", ""
    imports = "AutoModelForSequenceClassification, AutoTokenizer"
    if artifact.labels.multi:
        imports = f"AutoConfig, {imports}"
        base = 'config=AutoConfig.from_pretrained("this-folder")'
        saved = saved_thresholds(artifact.metrics, len(names)).tolist()
        each = ", ".join(f"{code(name)} {value:.6g}" for name, value in zip(names, saved, strict=True))
        given = f" A text may carry any of them: each whose sigmoid(logit) reaches its threshold ({each})."
    temperature = (artifact.metrics.get("calibration") or {}).get("temperature", 1.0)
    warm = ""
    if not artifact.labels.multi and temperature != 1.0:
        warm = f"\nPennyweight's probabilities are softmax(logits / {temperature:.6g}): its fitted temperature."
    if artifact.recipe.data.pair:
        given += " Texts come in pairs: tokenizer(first, second)."
    loading = f"""from peft import PeftModel
from transformers import {imports}

base = AutoModelForSequenceClassification.from_pretrained({_base_name(artifact)!r}, {base})
model = PeftModel.from_pretrained(base, "this-folder").eval()
tokenizer = AutoTokenizer.from_pretrained("this-folder")"""
    return f"""---
library_name: peft
{base_model(artifact)}pipeline_tag: text-classification
---

# A Pennyweight classifier as a PEFT adapter

{block(loading)}

Labels, in the order of the logits: {", ".join(map(code, names))}.{given}
Texts are cut at {artifact.recipe.data.max_length} tokens.{warm}
"""
