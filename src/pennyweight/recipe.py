"""What to do, as data: typed, validated, YAML in and out.

A recipe has four sections: `data`, `model`, `plan` (the budget and what it buys) and `train`. Flags win over the YAML
file, which wins over the recipe it names as its `base`, which wins over the defaults below.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import RecipeError
from .files import write_text

Strategy = Literal["manual", "auto", "uniform", "top", "graded", "attention", "all-linear", "head-only"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _listed(value: object) -> object:
    """Flags carry lists as `a,b`; YAML may hold a single word where a list is meant."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _mapped(value: object) -> object:
    """Flags carry mappings as `query=8,value=4`."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return {key.strip(): number.strip() for key, _, number in pairs}


def _layers(value: object) -> object:
    """`top:3`, `0,1,2` and `all` are how people write layers on a command line."""
    if value == "all":
        return None
    if isinstance(value, str) and not value.startswith("top:"):
        return _listed(value)
    return value


def _budget(value: object) -> object:
    """Budgets read as people write them, and are kept that way: 1M, 500k, 998404, none."""
    return "none" if value is None else str(value)


def _size(value: object) -> object:
    """A whole number of rows stays one (640); anything below 1 is a share (0.1)."""
    if isinstance(value, str):
        value = float(value) if "." in value else int(value) if value.isdigit() else value
    return int(value) if isinstance(value, float) and value >= 1 and value.is_integer() else value


Words = Annotated[list[str], BeforeValidator(_listed)]
Numbers = Annotated[dict[str, float], BeforeValidator(_mapped)]
Ranks = Annotated[dict[str, Annotated[int, Field(ge=1)]], BeforeValidator(_mapped)]
TopLayers = Annotated[str, Field(pattern=r"^top:[1-9][0-9]*$")]
LayerNumbers = list[Annotated[int, Field(ge=0)]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DataRecipe(_Section):
    """Which texts and labels, and how they become tokens."""

    train: str | None = Field(None, description="Labelled texts: a file, a saved datasets folder or a hub name.")
    test: str | None = Field(None, description="Labelled texts the final figures are measured on.")
    validation: str | None = Field(
        None, description="Labelled texts to choose the best epoch on; else split off train."
    )
    validation_size: Annotated[int | float, BeforeValidator(_size), Field(gt=0)] = Field(
        0.1, description="Share (0.1) or number (640) of training rows split off for validation."
    )
    split_seed: int = Field(42, ge=0, description="Seed of the validation split.")
    text_columns: Words | None = Field(None, description="Text columns, joined in this order; inferred if not given.")
    label_column: str | None = Field(None, description="Label column; inferred if not given.")
    label_names: Words | None = Field(None, description="Label names in order; else in sorted order of what is seen.")
    separator: str = Field(" ", description="What joins several text columns.")
    min_chars: int = Field(1, ge=1, description="Drop texts shorter than this many characters.")
    max_chars: int | None = Field(None, ge=1, description="Drop texts longer than this many characters.")
    markup: Literal["keep", "strip", "drop"] = Field("keep", description="What to do with left-over markup.")
    max_length: int = Field(128, ge=4, description="Tokens kept of a text.")
    pad_to_multiple_of: int = Field(16, ge=1, le=512, description="Batches are padded to a multiple of this length.")


class ModelRecipe(_Section):
    """Which frozen encoder, and how its output becomes one vector."""

    backbone: str = Field("embedded", description="embedded, a local folder or a hub id such as roberta-base.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub backbone.")
    pooling: Literal["cls", "mean"] = Field("cls", description="The first token's vector, or the mean of all.")
    encoder: Literal["auto", "fast", "reference"] = Field("auto", description="Our forward pass or transformers'.")
    hidden_dropout: Fraction = Field(0.0, description="Dropout inside the backbone; above 0 the reference runs.")
    attention_dropout: Fraction = Field(0.0, description="Dropout on attention weights; above 0 the reference runs.")


class PlanRecipe(_Section):
    """The budget of trainable parameters and what it buys."""

    budget: Annotated[str, BeforeValidator(_budget)] = Field("1M", description="1M, 500k, 998404 or none.")
    strategy: Strategy = Field("auto", description="How the budget is spent; manual takes r and the rest as given.")
    head: Literal["linear", "low_rank", "full"] = Field("linear", description="Classifier on the pooled vector.")
    head_rank: int = Field(8, ge=1, description="Rank of the low_rank head's dense layer.")
    head_dropout: Fraction = Field(0.0, description="Dropout before the head's output layer.")
    r: int = Field(8, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(16.0, gt=0, description="LoRA scale numerator.")
    lora_dropout: Fraction = Field(0.0, description="Dropout on the LoRA branch's input.")
    target_modules: Words = Field(["all-linear"], description="Module names, or the groups attention, all-linear.")
    layers: Annotated[TopLayers | LayerNumbers | None, BeforeValidator(_layers)] = Field(
        None, description="Layers adapted: all, top:3 or 3,4,5 (from 0)."
    )
    bias: Literal["none", "lora_only", "all"] = Field("none", description="Which biases are trained.")
    rank_pattern: Ranks = Field({}, description="Ranks that differ, by module name: output.dense=4.")
    alpha_pattern: Numbers = Field({}, description="Alphas that differ, by module name.")
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(r) (rank-stabilised LoRA).")
    use_dora: bool = Field(False, description="Weight-decomposed LoRA (DoRA).")
    scaling: Literal["alpha/r", "alpha"] = Field(
        "alpha/r", description="PEFT's alpha/r, or the LoRA text's plain alpha."
    )


class TrainRecipe(_Section):
    """How the trainable part is fitted."""

    epochs: int = Field(3, ge=1, description="Passes over the training texts.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Texts in one forward pass.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Forward passes in one optimizer step.")
    eval_batch_size: int = Field(64, ge=1, description="Texts in one forward pass when evaluating.")
    learning_rate: float = Field(5e-4, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled decay; biases and norms are exempt.")
    adam_beta1: Fraction = Field(0.9, description="AdamW's first moment decay.")
    adam_beta2: Fraction = Field(0.999, description="AdamW's second moment decay.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    scheduler: Literal["linear", "cosine", "cosine_restarts", "constant"] = Field(
        "cosine", description="Learning rate after warm-up."
    )
    num_cycles: int = Field(1, ge=1, description="Restarts of cosine_restarts (SGDR).")
    warmup_ratio: Fraction = Field(0.1, description="Share of all steps with rising learning rate.")
    warmup_steps: int | None = Field(None, ge=0, description="Warm-up in steps; wins over warmup_ratio.")
    label_smoothing: Fraction = Field(0.0, description="Cross-entropy's label smoothing.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradient clipping by global norm; 0 for none.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="Number format of the products.")
    eval_steps: int | None = Field(None, ge=1, description="Evaluate every N steps; else after each epoch.")
    metric: Literal["accuracy", "macro_f1", "loss"] = Field("accuracy", description="Picks the best evaluation.")
    early_stopping_patience: int | None = Field(None, ge=1, description="Stop after N evaluations without gain.")
    seed: int = Field(0, ge=0, description="Seed of weights, order and dropout.")
    group_by_length: bool = Field(True, description="Batches of similar lengths: less padding, fewer shapes.")
    prefix_cache: Literal["auto", "memory", "disk", "off"] = Field(
        "auto", description="Keep what frozen lower layers compute."
    )
    cache_dir: str | None = Field(None, description="Folder of the on-disk prefix cache.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(None, ge=1, description="CPU threads; else physical cores, OMP_NUM_THREADS respected.")
    save_total_limit: int = Field(2, ge=1, description="Checkpoints kept.")
    track: Annotated[list[Literal["tensorboard", "wandb", "mlflow", "trackio"]], BeforeValidator(_listed)] = Field(
        [], description="Experiment trackers."
    )


class Recipe(_Section):
    """One run, completely described."""

    name: str = "default"
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    plan: PlanRecipe = PlanRecipe()
    train: TrainRecipe = TrainRecipe()

    def to_yaml(self) -> str:
        """The resolved recipe, every field spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)

    def save(self, path: str | Path) -> None:
        """Write `to_yaml()` atomically."""
        write_text(path, self.to_yaml())


SECTIONS: dict[str, type[_Section]] = {
    "data": DataRecipe,
    "model": ModelRecipe,
    "plan": PlanRecipe,
    "train": TrainRecipe,
}
# What only the strategy `manual` reads.
BY_HAND = ("r", "lora_alpha", "target_modules", "layers", "rank_pattern", "alpha_pattern")
SECTION_OF = {key: section for section, model in SECTIONS.items() for key in model.model_fields}


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files(__package__) / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load(source: str | Path | None = None, **overrides: Any) -> Recipe:
    """Resolve a recipe: flags over YAML over its `base` over the defaults.

    Args:
        source: a shipped name (`paper`), a YAML file, or None for `default`.
        **overrides: values by key (`learning_rate=1e-4`), as the flags give them; None means "not given".

    Raises:
        RecipeError: with every problem at once, as `section -> key: expected, received`.
    """
    values, where = _read(source if source is not None else "default")
    return parse(overridden(values, overrides), where)


def overridden(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, sections of a recipe, with settings put in by key; None means "not given".

    Who names a rank or its place has planned by hand: that makes the strategy `manual`.

    Raises:
        RecipeError: for a key no section has.
    """
    by_hand = [key for key in BY_HAND if settings.get(key) is not None]
    strategy = settings.get("strategy")
    if by_hand and strategy not in (None, "manual"):
        raise RecipeError(
            f"{by_hand[0]} and strategy {strategy} contradict each other: the strategy chooses it",
            remedy=f"leave out --strategy or --{by_hand[0].replace('_', '-')}",
        )
    settings = {**settings, "strategy": "manual"} if by_hand else settings
    for key, value in settings.items():
        if key not in SECTION_OF:
            raise RecipeError(f"unknown setting {key!r}", expected=_suggest(key, SECTION_OF))
        section = values.setdefault(SECTION_OF[key], {})
        # A section that is no mapping is reported by `parse`, with everything else that is wrong.
        if value is not None and isinstance(section, dict):
            section[key] = value
    return values


def parse(values: Mapping[str, Any], where: str | Path | None = None) -> Recipe:
    """Validate a mapping of sections.

    Raises:
        RecipeError: naming every problem as `section -> key: expected ..., received ...`.
    """
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        # A union reports every member it tried; the first line per place says enough.
        by_place: dict[str, str] = {}
        for detail in error.errors(include_url=False):
            place, problem = _problem(detail)
            by_place.setdefault(place, f"{place}: {problem}")
        raise _invalid(list(by_place.values()), where) from None
    problems = list(_contradictions(recipe))
    if problems:
        raise _invalid(problems, where)
    return recipe


def _invalid(problems: list[str], where: str | Path | None) -> RecipeError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return RecipeError(f"{count} in the recipe: " + " | ".join(problems), where=where)


def _contradictions(recipe: Recipe) -> list[str]:
    """Settings that are valid one by one and impossible together."""
    problems = []
    if recipe.plan.r < 1:
        problems.append(
            f"plan -> r: expected a rank of at least 1 (or strategy head-only for no adapter), received {recipe.plan.r}"
        )
    size = recipe.data.validation_size
    if size > 1 and isinstance(size, float):
        problems.append(f"data -> validation_size: expected a share below 1 or a whole number of rows, received {size}")
    if recipe.plan.use_rslora and recipe.plan.scaling == "alpha":
        problems.append("plan -> use_rslora: expected scaling alpha/r with use_rslora, received scaling alpha")
    if recipe.plan.strategy == "auto" and recipe.plan.budget == "none":
        problems.append("plan -> strategy: expected manual (or a budget) when the budget is none, received auto")
    names = recipe.data.label_names
    if names is not None and len(set(names)) != len(names):
        problems.append(f"data -> label_names: expected names that differ, received {names}")
    return problems


def _problem(detail: Any) -> tuple[str, str]:
    """One pydantic error as `section -> key` and `expected ..., received ...`."""
    path = [str(part) for part in detail["loc"]]
    # Union members and validators show up as path parts that are no keys of ours.
    keys = path[:2] if path and path[0] in SECTIONS else path[:1]
    place = " -> ".join(keys) or "recipe"
    if detail["type"] == "extra_forbidden":
        known = SECTIONS[path[0]].model_fields if len(path) > 1 and path[0] in SECTIONS else Recipe.model_fields
        return f"{place} -> {path[-1]}" if len(
            path
        ) > 2 else place, f"expected {_suggest(path[-1], known)}, received an unknown key"
    expected = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if detail["type"] in ("model_type", "model_attributes_type"):
        expected = "a mapping of settings"
    if place == "plan -> layers":
        expected = "all, top:N or layer numbers such as 3,4,5"
    if place == "data -> validation_size":
        expected = "a share such as 0.1 or a number of rows such as 640"
    return place, f"expected {expected}, received {detail['input']!r}"


def _suggest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"{near[0]} (nearest known name)" if near else "one of " + ", ".join(known)


def _read(source: str | Path) -> tuple[dict[str, Any], str]:
    """The mapping behind a shipped name or a YAML file, merged over its `base`."""
    path = Path(source)
    if str(source) in shipped():
        text, where = (resources.files(__package__) / "recipes" / f"{source}.yaml").read_text("utf-8"), str(source)
    elif path.is_file():
        try:
            text, where = path.read_text("utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise RecipeError("not a UTF-8 text file", where=path, remedy="save the recipe as UTF-8 YAML") from error
    else:
        raise RecipeError(
            f"no such recipe: {source}", expected="one of " + ", ".join(shipped()) + ", or a YAML file that exists"
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = where if mark is None else f"{where}:{mark.line + 1}"
        raise RecipeError("not valid YAML", where=place, received=getattr(error, "problem", None)) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(
            "not a recipe", where=where, expected="sections data, model, plan, train", received=type(values).__name__
        )
    base = values.pop("base", None)
    if base is None:
        return values, where
    if base not in shipped():
        raise RecipeError("unknown base", where=where, expected="one of " + ", ".join(shipped()), received=repr(base))
    return _merge(_read(base)[0], values), where


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(low.get(key), dict)
        merged[key] = {**low[key], **value} if both else value
    return merged
