"""A recipe: the fields of its four sections (`data`, `model`, `plan`, `train`), with their defaults and limits.

These defaults are the recipe `default`, and the only ones. How they were chosen is in docs/evidence.md and docs/log.md:
rate and dropouts on AG News' validation split under a budget of 200k, `lp_ft` ahead at every budget tried. Who changes
one keeps the former value in `train.resume.FORMER_DEFAULTS`.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from ..budget.specs import AdapterKind, AdapterSettings, Bases, Bias, Scaling
from ..storage.atomic import write_text

Strategy = Literal["manual", "auto", "uniform", "top", "graded", "attention", "all-linear", "head-only"]
FileFormat = Literal["csv", "tsv", "jsonl", "json", "parquet", "arrow", "xlsx", "fasttext", "trec", "txt"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _listed(value: object) -> object:
    """Flags carry lists as `a,b`; YAML may hold a single word or number where a list is meant."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int) else value


def _word(value: object) -> object:
    """YAML reads a column or class called 2 as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _mapped(value: object) -> object:
    """Flags carry mappings as `query=8,value=4`."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return {key.strip(): number.strip() for key, _, number in pairs}


def _weights(value: object) -> object:
    """A class called 2 is a word, as in `_word`; what is no mapping is left for the error to show."""
    value = _mapped(value) if isinstance(value, str) and "=" in value else value
    return {_word(key): weight for key, weight in value.items()} if isinstance(value, dict) else value


def _names(value: object) -> object:
    """`0=World,1=Sports`; in YAML labels may be numbers and truth values, as in the data."""
    value = _mapped(value)
    return {str(key): _word(name) for key, name in value.items()} if isinstance(value, dict) else value


def _layers(value: object) -> object:
    """`top:3`, `0,1,2` and `all` are how people write layers on a command line."""
    if value == "all":
        return None
    return value if isinstance(value, str) and value.startswith("top:") else _listed(value)


def _budget(value: object) -> object:
    """Budgets read as people write them, and are kept that way: 1M, 500k, 998404, none."""
    return "none" if value is None else str(value)


def _length(value: object) -> object:
    return AUTO_LENGTH if isinstance(value, str) and value.lower() == "auto" else value


def _refuse_short(value: int) -> int:
    if value != AUTO_LENGTH and value < 4:
        raise ValueError("expected auto or at least 4")
    return value


def _shown_length(value: int) -> int | str:
    return "auto" if value == AUTO_LENGTH else value


def _size(value: object) -> object:
    """A whole number of rows stays one (640); anything below 1 is a share (0.1)."""
    if isinstance(value, str) and re.fullmatch(r"\d+|\d*\.\d+", value):
        value = float(value) if "." in value else int(value)
    return int(value) if isinstance(value, float) and value >= 1 and value.is_integer() else value


Word = Annotated[str, BeforeValidator(_word)]
Words = Annotated[list[Word], BeforeValidator(_listed)]
Numbers = Annotated[dict[str, float], BeforeValidator(_mapped)]
Names = Annotated[dict[str, Annotated[str, Field(min_length=1)]], BeforeValidator(_names)]
Ranks = Annotated[dict[str, Annotated[int, Field(ge=1)]], BeforeValidator(_mapped)]
Weights = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_weights)]
TopLayers = Annotated[str, Field(pattern=r"^top:[1-9][0-9]*$")]
LayerNumbers = list[Annotated[int, Field(ge=0)]]
# `auto` is kept as 0 until the training texts are read, see `train.max_length`: every layer takes a number.
AUTO_LENGTH = 0
MaxLength = Annotated[int, BeforeValidator(_length), AfterValidator(_refuse_short), PlainSerializer(_shown_length)]
# A share that precision or recall should reach on the validation rows.
Target = Annotated[str, Field(pattern=r"^(precision|recall)=(0?\.\d*[1-9]\d*|1(\.0+)?)$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what every generator of random numbers takes
# How a budget looks; what it amounts to, `budget.plan.parse_budget` says.
Budget = Annotated[
    str, BeforeValidator(_budget), Field(pattern=r"^(?i:none|(\d+(\.\d+)?|\d{1,3}([,_]\d{3})+)\s*[kmb]?)$")
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _cleared(cls, values: Any) -> Any:
        """`none` takes back what a recipe set, wherever a field may be without a value."""
        if not isinstance(values, dict):
            return values
        return {key: None if _is_none(value) and optional(cls, key) else value for key, value in values.items()}


def optional(section: type[BaseModel], key: str) -> bool:
    """Whether a field may be without a value."""
    field = section.model_fields.get(key)
    return field is not None and NoneType in get_args(field.annotation)


def _is_none(value: object) -> bool:
    return isinstance(value, str) and value.lower() == "none"


class DataRecipe(Section):
    """The texts and labels, and how they become tokens."""

    train: str | None = Field(None, description="Labelled texts: a file, a folder or a hub name.")
    test: str | None = Field(None, description="Labelled texts for the final measurement.")
    validation: str | None = Field(
        None, description="Labelled texts for choosing the best epoch; if not given, split off train."
    )
    validation_size: Annotated[int | float, BeforeValidator(_size), Field(ge=0)] = Field(
        0.1, description="Training rows to hold out for validation, as a share (0.1) or a number (640); 0 for none."
    )
    split_seed: Seed = Field(42, description="Seed of the validation split.")
    text_columns: Words | None = Field(None, description="Text columns, joined in this order; detected if not given.")
    label_column: Word | None = Field(None, description="Label column; detected if not given.")
    label_names: Words | None = Field(None, description="Label names in order; sorted if not given.")
    label_map: Names | None = Field(
        None, description="Names of the labels in the data, such as 0=World,1=Sports; two labels may share a name."
    )
    unknown_labels: Literal["error", "drop", "wrong"] = Field(
        "error",
        description="Evaluation rows with a label that is not a training class: refuse, drop, or count as wrong.",
    )
    rare_classes: Literal["error", "drop", "keep"] = Field(
        "error",
        description="Classes with only one row, too few to validate on: refuse, drop, or train on them.",
    )
    ordinal: bool = Field(
        False, description="The classes are ordered, as in label_names: also measure errors in ranks."
    )
    task: Literal["auto", "single", "multi"] = Field(
        "auto",
        description="One label per text or any number; auto picks multi if labels are lists, delimited or in columns.",
    )
    label_delimiter: str | None = Field(
        None, min_length=1, description="Separator between the labels in a cell, such as a vertical bar."
    )
    label_columns: Words | None = Field(
        None, description="Columns of 0 and 1, one per label, instead of a single label column."
    )
    allow_unlabelled: bool = Field(False, description="Multi-label: accept rows that have no labels.")
    format: FileFormat | None = Field(
        None,
        description=f"Format of the data files ({', '.join(get_args(FileFormat))}); detected if not given.",
    )
    encoding: str | None = Field(
        None, min_length=1, description="Character encoding of the data files; UTF-8 if not given."
    )
    header: bool | None = Field(
        None, description="Whether the data files start with a row of column names; detected if not given."
    )
    separator: str = Field(" ", description="Text placed between text columns when they are joined.")
    pair: bool = Field(
        False, description="Encode two text columns as a pair, [CLS] a [SEP] b [SEP], instead of joining them."
    )
    min_chars: int = Field(1, ge=1, description="Drop texts shorter than this many characters.")
    max_chars: int | None = Field(None, ge=1, description="Drop texts longer than this many characters.")
    markup: Literal["keep", "strip", "drop"] = Field(
        "keep", description="What to do with HTML tags and entities: keep them, strip them, or drop the rows."
    )
    mix: str | None = Field(None, description="Labelled texts of a second style, added to the training rows only.")
    mix_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Share of the training rows that come from mix; if not given, all rows of mix are added."
    )
    ood: str | None = Field(None, description="Labelled texts of another kind, measured in addition to the test set.")
    unlabelled: str | None = Field(None, description="More texts to train on, labelled only by the teacher.")
    label_descriptions: str | None = Field(
        None,
        description="A table with a description of each class, used in addition to the labelled texts if there are at "
        "most 8 per class; if not given, the class names are the descriptions.",
    )
    max_length: MaxLength = Field(
        128,
        description="Maximum tokens per text, at least 4; auto takes the 95th percentile of the training texts' "
        "lengths, but no more than the backbone allows and 4 times the training time of 128 tokens.",
    )
    long_texts: Literal["truncate", "head-tail", "windows"] = Field(
        "truncate",
        description="Texts longer than max_length tokens: cut the end, cut the middle, or read them in overlapping "
        "windows and average the logits.",
    )
    pad_to_multiple_of: int = Field(16, ge=1, le=512, description="Pad batches to a multiple of this many tokens.")


class ModelRecipe(Section):
    """The frozen encoder, and how its output becomes one vector."""

    backbone: str = Field("embedded", description="embedded, a local folder or a hub id such as roberta-base.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub backbone.")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="A text's vector: the first token's, or the mean over all tokens."
    )
    encoder: Literal["auto", "fast", "reference"] = Field(
        "auto",
        description="Forward pass: Pennyweight's own (fast) or transformers' (reference); auto picks fast if possible.",
    )
    hidden_dropout: Fraction = Field(
        0.0, description="Dropout inside the backbone; values above 0 use the reference encoder."
    )
    attention_dropout: Fraction = Field(
        0.0, description="Dropout on attention weights; values above 0 use the reference encoder."
    )

    def settings(self) -> dict[str, Any]:
        """All but the backbone's name and revision, by field: what `model.classifier.ModelSettings` takes."""
        return self.model_dump(exclude={"backbone", "revision"})


class PlanRecipe(Section):
    """The budget of trainable parameters and what it buys."""

    budget: Budget = Field("1M", description="Maximum number of trainable parameters: 1M, 500k, 998404 or none.")
    strategy: Strategy = Field(
        "auto", description="How to spend the budget; manual uses r, target_modules and layers as given."
    )
    min_rank: int | None = Field(None, ge=1, description="Smallest rank a strategy may give a matrix; 1 if not given.")
    max_rank: int | None = Field(None, ge=1, description="Largest rank a strategy may give a matrix.")
    frozen_modules: Words | None = Field(
        None, description="Modules that a strategy must not adapt, named as in target_modules."
    )
    forced_modules: Words | None = Field(None, description="Modules that a strategy must adapt.")
    head: Literal["auto", "linear", "low_rank", "full"] = Field(
        "linear", description="Classification head on the pooled vector; auto lets the strategy choose."
    )
    head_rank: int = Field(8, ge=1, description="Rank of the low_rank head's dense layer.")
    head_dropout: Fraction = Field(0.1, description="Dropout before the head's output layer.")
    r: int = Field(8, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(16.0, gt=0, description="Numerator of the LoRA scale; LoRA-XS uses 30 sqrt(r) instead.")
    lora_dropout: Fraction = Field(0.1, description="Dropout on the LoRA branch's input.")
    target_modules: Words = Field(
        ["all-linear"], description="Modules to adapt, by name or by group: attention, all-linear."
    )
    layers: Annotated[TopLayers | LayerNumbers | None, BeforeValidator(_layers)] = Field(
        None, description="Layers to adapt: all, top:3 or 3,4,5 (counted from 0)."
    )
    bias: Bias = Field("none", description="Which biases are trained.")
    rank_pattern: Ranks = Field({}, description="Exceptions to r by module name: output.dense=4.")
    alpha_pattern: Numbers = Field({}, description="Exceptions to lora_alpha by module name.")
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(r) (rank-stabilised LoRA).")
    use_dora: bool = Field(False, description="Weight-decomposed LoRA (DoRA).")
    adaptive_ranks: bool = Field(
        False, description="Start from the planned ranks and remove the least useful ones during training (AdaLoRA)."
    )
    adapter: AdapterKind = Field(
        "auto",
        description="What is trained for each matrix: LoRA, or a small core between frozen bases (lora-xs). With "
        "strategy auto, auto chooses by the budget; otherwise it means lora.",
    )
    bases: Bases = Field(
        "gradient",
        description="LoRA-XS: take the bases from gradients on labelled training rows, or only from frozen weights "
        "(svd).",
    )
    scaling: Scaling = Field("alpha/r", description="LoRA scale: alpha/r as in PEFT, or plain alpha.")

    def adapter_settings(self) -> AdapterSettings:
        """The fields that say what an adapter is, whatever its ranks."""
        return AdapterSettings(**{field.name: getattr(self, field.name) for field in fields(AdapterSettings)})


# What only the strategies that choose ranks read.
BY_STRATEGY = ("min_rank", "max_rank", "frozen_modules", "forced_modules")


class TrainRecipe(Section):
    """How the trainable parameters are fitted."""

    epochs: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="Passes over the training texts; auto is 3, or up to 12 if 3 are fewer than 320 steps."
    )
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Texts per forward pass in training.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Forward passes per optimizer step.")
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Keep only the inputs of layers and compute the layers again in the backward pass, which takes "
        "less memory and more time. auto does so if the plan's estimate exceeds the free memory.",
    )
    quantization: Literal["auto", "none", "int8", "nf4"] = Field(
        "auto",
        description="Frozen matrices in training: products in int8 (SwitchBack), or 4-bit storage (nf4: QLoRA; needs "
        "bitsandbytes). Prediction uses the original weights. auto picks int8 where a CPU in fp32 is faster with it.",
    )
    eval_batch_size: int = Field(64, ge=1, description="Texts per forward pass in evaluation.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled decay; biases and norms are exempt.")
    adam_beta1: Fraction = Field(0.9, description="AdamW's first moment decay.")
    adam_beta2: Fraction = Field(0.999, description="AdamW's second moment decay.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    scheduler: Literal["linear", "cosine", "cosine_restarts", "constant"] = Field(
        "cosine", description="Learning rate schedule after warm-up."
    )
    num_cycles: int = Field(1, ge=1, description="Number of restarts in cosine_restarts (SGDR).")
    warmup_ratio: Fraction = Field(0.1, description="Share of all steps spent on warm-up.")
    warmup_steps: int | None = Field(None, ge=0, description="Warm-up in steps; overrides warmup_ratio.")
    class_weights: Literal["balanced"] | Weights | None = Field(
        None, description="Class weights in the loss: balanced, none, or by name, such as Sports=2,World=0.5."
    )
    oversample: bool = Field(False, description="Repeat texts of rarer classes until all classes are the same size.")
    label_smoothing: Fraction = Field(0.0, description="Label smoothing in the cross-entropy.")
    r_drop: float = Field(
        0.0,
        ge=0,
        le=100,
        description="R-Drop: read each batch twice, with other dropout, and add this times the divergence between the "
        "two outputs to the loss; 2 is a good start. Takes 1.5 times as long. 0 turns it off.",
    )
    start_from: str | None = Field(
        None, description="Start from this saved classifier's adapter, head and recipe, and add missing labels."
    )
    teacher: str | None = Field(
        None,
        description="Distillation: a saved classifier, or a table of probabilities written by predict. Its "
        "probabilities are targets in addition to the labels.",
    )
    distillation_temperature: float = Field(
        2.0, ge=1, le=100, description="Temperature of the teacher's and the student's probabilities in the loss."
    )
    distillation_weight: float = Field(
        0.5, gt=0, le=1, description="Weight of the teacher's probabilities in the loss; the labels get the rest."
    )
    unlabelled_confidence: Fraction = Field(
        0.0, description="Leave out unlabelled texts on which the teacher's confidence is lower than this."
    )
    max_grad_norm: float = Field(1.0, ge=0, description="Clip gradients to this global norm; 0 turns clipping off.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format of the encoder's matrix products."
    )
    inference_precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="Number format of the trained classifier on a CPU; auto picks the fastest that changes the "
        "validation accuracy by at most 0.1 points, and considers int8 only with 1,000 validation texts or more.",
    )
    eval_steps: int | None = Field(None, ge=1, description="Evaluate every N steps; after each epoch if not given.")
    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1", "loss"] = Field(
        "auto",
        description="Metric for choosing the best evaluation; the lower loss breaks ties. For multi-label data, "
        "accuracy is the exact match. auto takes macro F1 if a class is rare (under 10% of the training rows and under "
        "half of an equal share), and accuracy otherwise.",
    )
    thresholds: Literal["macro_f1", "micro_f1", "fixed"] | Target = Field(
        "macro_f1",
        description="Multi-label: the F1 score that the thresholds maximize on the validation rows; fixed uses 0.5 for "
        "every label. precision=0.9 or recall=0.9 sets a minimum to reach there instead. With two classes, this "
        "applies to the rarer one.",
    )
    logit_adjustment: Literal["auto", "off"] = Field(
        "auto",
        description="Raise the biases of rarer classes after training. auto does so if a class is rare, neither "
        "class_weights nor oversample is set, and the validation probabilities predict a gain in macro F1.",
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after N evaluations without a gain; an equal score with a lower loss counts as a gain.",
    )
    seed: Seed = Field(0, description="Seed of the initial weights, the order of texts and dropout.")
    group_by_length: bool = Field(True, description="Batch texts of similar length, for less padding and fewer shapes.")
    prefix_cache: Literal["auto", "memory", "disk", "off"] = Field(
        "auto",
        description="Where to keep the outputs of the frozen lower layers. auto keeps them in memory, or on disk if "
        "cache_dir is set, but not where a GPU computes them faster than it reads them.",
    )
    prefix_precision: Literal["same", "int8", "auto"] = Field(
        "same",
        description="Number format for computing and caching the outputs of the frozen lower layers: the one used in "
        "training (same), or int8, which is faster but changes the trained weights slightly. auto picks int8 on a CPU "
        "that trains in fp32.",
    )
    cache_dir: str | None = Field(None, description="Folder of the on-disk prefix cache.")
    cache_gb: float = Field(
        20.0,
        gt=0,
        description="Maximum size of cache_dir in GB, and at most half of the free disk; the least recently used files "
        "are deleted first.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; if not given, OMP_NUM_THREADS or the number of physical cores."
    )
    save_steps: int | None = Field(
        None, ge=1, description="Save a checkpoint every N steps, in addition to those after each evaluation."
    )
    save_total_limit: int = Field(2, ge=1, description="Number of checkpoints kept.")
    augment: float = Field(
        0.0, ge=0, le=1, description="Share of training texts replaced by corrupted copies in each epoch."
    )
    augment_copies: int = Field(2, ge=1, le=64, description="Maximum number of corrupted copies per text.")
    lp_ft: bool = Field(True, description="Fit the head on frozen features before training (LP-FT).")
    contrastive: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Few labels: replace the epochs by a short contrastive phase and logistic regression. auto does so "
        "with at most 64 training texts per class, if it beats the frozen backbone in cross-validation.",
    )
    frozen_head: Literal["auto", "off"] = Field(
        "auto",
        description="After training, replace the adapter with a linear head on the frozen backbone if the adapter does "
        "not beat that head on the validation rows. Applies only if the recipe sets no adapter field other than the "
        "budget.",
    )
    average: Literal["none", "ema", "last_epochs"] = Field(
        "none",
        description="Average the weights over steps (ema: an exponential moving average) or over the ends of the last "
        "epochs.",
    )
    average_decay: Fraction = Field(0.999, description="Decay of ema per step.")
    average_epochs: int = Field(3, ge=1, description="Number of epochs that last_epochs averages.")
    adapter_scale: float = Field(1.0, ge=0, le=4, description="Factor on the adapter's update, applied after training.")
    shift: bool = Field(False, description="Also measure on corrupted test texts.")
    report: Literal["full", "short", "tables"] = Field(
        "full",
        description="Contents of the report; short leaves out the linear head on the frozen backbone, tables also "
        "leaves out the pictures.",
    )
    audit: Literal["short", "off"] = Field(
        "short", description="Check the data for leaks, conflicting labels and similar problems before training."
    )
    track: Annotated[list[Literal["tensorboard", "wandb", "mlflow", "trackio"]], BeforeValidator(_listed)] = Field(
        [], description="Experiment trackers."
    )


class Recipe(Section):
    """A complete description of one run."""

    name: str = "default"
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    plan: PlanRecipe = PlanRecipe()
    train: TrainRecipe = TrainRecipe()

    def model_settings(self, quantization: str) -> dict[str, Any]:
        """How the model is built for training: what `model.classifier.ModelSettings` takes."""
        more = {"head_dropout": self.plan.head_dropout, "seed": self.train.seed, "quantization": quantization}
        return self.model.settings() | more

    def dropouts(self) -> dict[str, float]:
        """The dropout rates of training, by key."""
        return {
            "hidden_dropout": self.model.hidden_dropout,
            "attention_dropout": self.model.attention_dropout,
            "lora_dropout": self.plan.lora_dropout,
            "head_dropout": self.plan.head_dropout,
        }

    def to_yaml(self) -> str:
        """The recipe with every field spelled out."""
        values = self.model_dump(mode="json")
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
        # PyYAML writes Unicode's own line breaks as they are and reads them back as others; escaped they survive.
        if yaml.safe_load(text) != values:
            text = yaml.safe_dump(values, sort_keys=False, allow_unicode=False, width=110)
        return text

    def save(self, path: str | Path) -> None:
        """Write `to_yaml()` atomically."""
        write_text(path, self.to_yaml())


SECTIONS: dict[str, type[Section]] = {
    "data": DataRecipe,
    "model": ModelRecipe,
    "plan": PlanRecipe,
    "train": TrainRecipe,
}
# What only the strategy `manual` reads.
BY_HAND = ("r", "lora_alpha", "target_modules", "layers", "rank_pattern", "alpha_pattern")
SECTION_OF = {key: section for section, model in SECTIONS.items() for key in model.model_fields}
