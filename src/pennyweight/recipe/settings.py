"""The fields of a recipe as keyword arguments, for editors and type checkers: written by `make docs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict


class RecipeSettings(TypedDict, total=False):
    """Any field of `recipe.schema`, by its key; `test` is an argument of its own."""

    # data
    train: str | None
    validation: str | None
    validation_size: float
    split_seed: int
    text_columns: list[str] | str | None
    label_column: str | None
    label_names: list[str] | str | None
    label_map: dict[str, Any] | str | None
    unknown_labels: Literal["error", "drop", "wrong"]
    rare_classes: Literal["error", "drop", "keep"]
    ordinal: bool
    task: Literal["auto", "single", "multi"]
    label_delimiter: str | None
    label_columns: list[str] | str | None
    allow_unlabelled: bool
    format: Literal["csv", "tsv", "jsonl", "json", "parquet", "arrow", "xlsx", "fasttext", "trec", "txt"] | None
    encoding: str | None
    header: bool | None
    separator: str
    pair: bool
    min_chars: int
    max_chars: int | None
    markup: Literal["keep", "strip", "drop"]
    mix: str | None
    mix_share: float | None
    ood: str | None
    unlabelled: str | None
    label_descriptions: str | None
    max_length: str | int
    long_texts: Literal["truncate", "head-tail", "windows"]
    pad_to_multiple_of: int

    # model
    backbone: str
    revision: str | None
    pooling: Literal["cls", "mean"]
    encoder: Literal["auto", "fast", "reference"]
    hidden_dropout: float
    attention_dropout: float

    # plan
    budget: str | int
    strategy: Literal["manual", "auto", "uniform", "top", "graded", "attention", "all-linear", "head-only"]
    min_rank: int | None
    max_rank: int | None
    frozen_modules: list[str] | str | None
    forced_modules: list[str] | str | None
    head: Literal["auto", "linear", "low_rank", "full"]
    head_rank: int
    head_dropout: float
    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: list[str] | str
    layers: list[int] | str | None
    bias: Literal["none", "lora_only", "all"]
    rank_pattern: dict[str, Any] | str
    alpha_pattern: dict[str, Any] | str
    use_rslora: bool
    use_dora: bool
    adaptive_ranks: bool
    adapter: Literal["auto", "lora", "lora-xs"]
    bases: Literal["svd", "gradient"]
    scaling: Literal["alpha/r", "alpha"]

    # train
    epochs: str | int
    max_steps: int | None
    batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: Literal["auto", "on", "off"]
    quantization: Literal["auto", "none", "int8", "nf4"]
    eval_batch_size: int
    learning_rate: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    scheduler: Literal["linear", "cosine", "cosine_restarts", "constant"]
    num_cycles: int
    warmup_ratio: float
    warmup_steps: int | None
    class_weights: Literal["balanced"] | None
    oversample: bool
    label_smoothing: float
    r_drop: float
    start_from: str | None
    teacher: str | None
    distillation_temperature: float
    distillation_weight: float
    unlabelled_confidence: float
    max_grad_norm: float
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    inference_precision: Literal["auto", "fp32", "bf16", "int8"]
    eval_steps: int | None
    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1", "loss"]
    thresholds: str
    logit_adjustment: Literal["auto", "off"]
    early_stopping_patience: int | None
    seed: int
    group_by_length: bool
    prefix_cache: Literal["auto", "memory", "disk", "off"]
    prefix_precision: Literal["same", "int8", "auto"]
    cache_dir: str | None
    cache_gb: float
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int | None
    save_steps: int | None
    save_total_limit: int
    augment: float
    augment_copies: int
    lp_ft: bool
    contrastive: Literal["auto", "on", "off"]
    frozen_head: Literal["auto", "off"]
    average: Literal["none", "ema", "last_epochs"]
    average_decay: float
    average_epochs: int
    adapter_scale: float
    shift: bool
    report: Literal["full", "short", "tables"]
    audit: Literal["short", "off"]
    track: list[str] | str

    # in addition to the recipe; `say` is deprecated
    progress: bool | None
    say: Callable[[str], None] | None
