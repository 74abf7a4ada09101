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
    """Which texts and labels, and how they become tokens."""

    train: str | None = Field(None, description="Labelled texts: a file, a folder or a hub name.")
    test: str | None = Field(None, description="Labelled texts for the final measurement.")
    validation: str | None = Field(
        None, description="Labelled texts to choose the best epoch by; split off train if not given."
    )
    validation_size: Annotated[int | float, BeforeValidator(_size), Field(ge=0)] = Field(
        0.1, description="Share (0.1) or number (640) of training rows held out for validation; 0 holds none out."
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
        description="Evaluation rows whose label is not a training class: refuse, leave out, or count as wrong.",
    )
    rare_classes: Literal["error", "drop", "keep"] = Field(
        "error",
        description="Classes with one row, too few to validate: refuse, leave out, or train on them.",
    )
    ordinal: bool = Field(False, description="The classes are ordered as in label_names; also measure errors in ranks.")
    task: Literal["auto", "single", "multi"] = Field(
        "auto",
        description="One label a text, or any number; auto: any number if labels are lists, delimited or in columns.",
    )
    label_delimiter: str | None = Field(
        None, min_length=1, description="What separates the labels in one cell, such as a vertical bar."
    )
    label_columns: Words | None = Field(
        None, description="Columns of 0 and 1, one for each label, instead of one label column."
    )
    allow_unlabelled: bool = Field(False, description="Multi-label: accept rows without labels as having none.")
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
    separator: str = Field(" ", description="Text put between several text columns when they are joined.")
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
        None, description="Share of the training rows taken from mix; all rows of mix if not given."
    )
    ood: str | None = Field(None, description="Labelled texts of another kind, measured beside the test set.")
    unlabelled: str | None = Field(None, description="Further texts to train on, which only the teacher labels.")
    label_descriptions: str | None = Field(
        None,
        description="A table with a description of each class, to learn from beside up to 8 labelled texts a class; "
        "the class names if not given.",
    )
    max_length: MaxLength = Field(
        128,
        description="Maximum tokens per text, at least 4; auto: the 95th percentile of the training texts, up to the "
        "backbone's limit and 4 times the time that 128 takes.",
    )
    long_texts: Literal["truncate", "head-tail", "windows"] = Field(
        "truncate",
        description="Texts of more than max_length tokens: cut the end, cut the middle, or read all in overlapping "
        "windows whose logits are averaged.",
    )
    pad_to_multiple_of: int = Field(
        16, ge=1, le=512, description="Batches are padded to a multiple of this many tokens."
    )


class ModelRecipe(Section):
    """Which frozen encoder, and how its output becomes one vector."""

    backbone: str = Field("embedded", description="embedded, a local folder or a hub id such as roberta-base.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub backbone.")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="Vector of a text: that of the first token, or the mean over all tokens."
    )
    encoder: Literal["auto", "fast", "reference"] = Field(
        "auto", description="Our forward pass (fast) or that of transformers (reference); auto picks fast where it can."
    )
    hidden_dropout: Fraction = Field(
        0.0, description="Dropout inside the backbone; above 0 the reference encoder is used."
    )
    attention_dropout: Fraction = Field(
        0.0, description="Dropout on attention weights; above 0 the reference encoder is used."
    )

    def settings(self) -> dict[str, Any]:
        """All but the backbone's name and revision, by field: what `model.classifier.ModelSettings` takes."""
        return self.model_dump(exclude={"backbone", "revision"})


class PlanRecipe(Section):
    """The budget of trainable parameters and what it buys."""

    budget: Budget = Field("1M", description="Maximum number of trainable parameters: 1M, 500k, 998404 or none.")
    strategy: Strategy = Field(
        "auto", description="How the budget is spent; manual takes r, target_modules and layers as given."
    )
    min_rank: int | None = Field(None, ge=1, description="Smallest rank a strategy may give a matrix; 1 if not given.")
    max_rank: int | None = Field(None, ge=1, description="Largest rank a strategy may give a matrix.")
    frozen_modules: Words | None = Field(
        None, description="Modules a strategy must not adapt, named as in target_modules."
    )
    forced_modules: Words | None = Field(None, description="Modules a strategy must adapt.")
    head: Literal["auto", "linear", "low_rank", "full"] = Field(
        "linear", description="Classification head on the pooled vector; auto lets the strategy choose."
    )
    head_rank: int = Field(8, ge=1, description="Rank of the low_rank head's dense layer.")
    head_dropout: Fraction = Field(0.1, description="Dropout before the head's output layer.")
    r: int = Field(8, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(16.0, gt=0, description="LoRA scale numerator; LoRA-XS has its own, 30 sqrt(r).")
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
        False, description="Remove the least useful ranks during training (AdaLoRA), starting from the planned ones."
    )
    adapter: AdapterKind = Field(
        "auto",
        description="What is trained beside each matrix: LoRA, or a small core between frozen bases (lora-xs); auto: "
        "as the budget suggests with strategy auto, else lora.",
    )
    bases: Bases = Field(
        "gradient",
        description="LoRA-XS: bases from gradients on labelled training rows, or from the frozen weights alone (svd).",
    )
    scaling: Scaling = Field("alpha/r", description="LoRA scale: alpha/r as in PEFT, or plain alpha.")

    def adapter_settings(self) -> AdapterSettings:
        """The fields that say what an adapter is, whatever its ranks."""
        return AdapterSettings(**{field.name: getattr(self, field.name) for field in fields(AdapterSettings)})


# What only the strategies that choose ranks read.
BY_STRATEGY = ("min_rank", "max_rank", "frozen_modules", "forced_modules")


class TrainRecipe(Section):
    """How the trainable part is fitted."""

    epochs: int = Field(3, ge=1, description="Passes over the training texts.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Texts in one forward pass in training.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Forward passes per optimizer step.")
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Keep only the inputs of layers and compute them again in the backward pass: less memory, more "
        "time; auto: where the plan's estimate does not fit the free memory.",
    )
    eval_batch_size: int = Field(64, ge=1, description="Texts in one forward pass when evaluating.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled decay; biases and norms are exempt.")
    adam_beta1: Fraction = Field(0.9, description="AdamW's first moment decay.")
    adam_beta2: Fraction = Field(0.999, description="AdamW's second moment decay.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    scheduler: Literal["linear", "cosine", "cosine_restarts", "constant"] = Field(
        "cosine", description="Learning rate schedule after warm-up."
    )
    num_cycles: int = Field(1, ge=1, description="Restarts of cosine_restarts (SGDR).")
    warmup_ratio: Fraction = Field(0.1, description="Share of all steps in which the learning rate rises.")
    warmup_steps: int | None = Field(None, ge=0, description="Warm-up in steps; overrides warmup_ratio.")
    class_weights: Literal["balanced"] | Weights | None = Field(
        None, description="Loss weights of the classes: balanced, none, or by name, such as Sports=2,World=0.5."
    )
    oversample: bool = Field(False, description="Repeat texts of rarer classes until all classes are the same size.")
    label_smoothing: Fraction = Field(0.0, description="Label smoothing in the cross-entropy.")
    start_from: str | None = Field(
        None,
        description="Begin at the adapter and head of this saved classifier, with its recipe; labels that it does not "
        "have are added.",
    )
    teacher: str | None = Field(
        None,
        description="Distillation: a saved classifier, or a table of probabilities as predict writes it, whose "
        "probabilities are targets beside the labels.",
    )
    distillation_temperature: float = Field(
        2.0, ge=1, le=100, description="Temperature of the teacher's and the student's probabilities in the loss."
    )
    distillation_weight: float = Field(
        0.5, gt=0, le=1, description="Weight of the teacher's probabilities in the loss; the labels have the rest."
    )
    unlabelled_confidence: Fraction = Field(
        0.0, description="Leave out unlabelled texts of whose label the teacher is less sure than this."
    )
    max_grad_norm: float = Field(1.0, ge=0, description="Clip gradients to this global norm; 0 turns clipping off.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format of the encoder's matrix products."
    )
    inference_precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="Number format of the trained classifier on a CPU; auto: the fastest that changes the validation "
        "accuracy by at most 0.1 points, int8 only with 1,000 validation texts or more.",
    )
    eval_steps: int | None = Field(None, ge=1, description="Evaluate every N steps; after each epoch if not given.")
    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1", "loss"] = Field(
        "auto",
        description="Chooses the best evaluation; ties go to the lower loss. Multi-label accuracy is the exact match. "
        "auto: macro F1 where a class is rare (under 10% of the training rows and half of an equal share), else "
        "accuracy.",
    )
    thresholds: Literal["macro_f1", "micro_f1", "fixed"] | Target = Field(
        "macro_f1",
        description="Multi-label: the validation F1 that thresholds maximize; fixed is 0.5 for every label. "
        "precision=0.9 or recall=0.9: what the validation rows must reach, also with two classes, for the rarer one.",
    )
    logit_adjustment: Literal["auto", "off"] = Field(
        "auto",
        description="Raise the biases of rarer classes after training; auto: where a class is rare and class_weights "
        "and oversample are not set, as far as the validation probabilities promise a gain in macro F1.",
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after N evaluations without gain; an equal score with a lower validation loss is a gain.",
    )
    seed: Seed = Field(0, description="Seed of initial weights, order and dropout.")
    group_by_length: bool = Field(True, description="Batch texts of similar length: less padding, fewer shapes.")
    prefix_cache: Literal["auto", "memory", "disk", "off"] = Field(
        "auto", description="Where to keep the outputs of the frozen lower layers."
    )
    prefix_precision: Literal["same", "int8", "auto"] = Field(
        "same",
        description="Number format of the frozen lower layers whose outputs are kept: that of the training, or int8, "
        "which is faster and changes what is trained a little; auto: int8 on a CPU that would compute fp32.",
    )
    cache_dir: str | None = Field(None, description="Folder of the on-disk prefix cache.")
    cache_gb: float = Field(
        20.0,
        gt=0,
        description="GB cache_dir may take, at most half of the free disk; least recently used files go first.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; OMP_NUM_THREADS or the number of physical cores if not given."
    )
    save_steps: int | None = Field(
        None, ge=1, description="Also save a checkpoint every N steps, not only after each evaluation."
    )
    save_total_limit: int = Field(2, ge=1, description="Number of checkpoints kept.")
    augment: float = Field(
        0.0, ge=0, le=1, description="Share of training texts replaced by corrupted copies in each epoch."
    )
    augment_copies: int = Field(2, ge=1, le=64, description="Maximum number of corrupted copies per text.")
    lp_ft: bool = Field(True, description="Fit the head on frozen features before training (LP-FT).")
    contrastive: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Few labels: instead of epochs, a short contrastive phase and logistic regression; auto: up to 64 "
        "training texts a class, and only where cross-validation puts it before the frozen backbone.",
    )
    frozen_head: Literal["auto", "off"] = Field(
        "auto",
        description="After training, a linear head on the frozen backbone takes the adapter's place where the adapter "
        "does not beat it on the validation rows; only where the recipe sets no field of the adapter but the budget.",
    )
    average: Literal["none", "ema", "last_epochs"] = Field(
        "none",
        description="Average the weights: exponential moving average (ema), or over the ends of the last epochs.",
    )
    average_decay: Fraction = Field(0.999, description="Decay of ema per step.")
    average_epochs: int = Field(3, ge=1, description="Number of epochs that last_epochs averages.")
    adapter_scale: float = Field(1.0, ge=0, le=4, description="Factor on the adapter's update, applied after training.")
    shift: bool = Field(False, description="Also measure on corrupted test texts.")
    report: Literal["full", "short", "tables"] = Field(
        "full",
        description="Baselines in the report; short leaves out the linear head on the frozen backbone, and tables the "
        "pictures as well.",
    )
    audit: Literal["short", "off"] = Field(
        "short", description="Check the data for leaks, conflicting labels and similar problems before training."
    )
    track: Annotated[list[Literal["tensorboard", "wandb", "mlflow", "trackio"]], BeforeValidator(_listed)] = Field(
        [], description="Experiment trackers."
    )


class Recipe(Section):
    """One run, completely described."""

    name: str = "default"
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    plan: PlanRecipe = PlanRecipe()
    train: TrainRecipe = TrainRecipe()

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
