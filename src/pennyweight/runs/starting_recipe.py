"""The recipe of a training run that starts from a saved classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.provenance import SOURCES
from ..errors import RecipeError
from ..recipe.loading import parse, resolve_recipe
from ..recipe.planning import pin_plan
from ..recipe.schema import SECTION_OF, Recipe, TrainRecipe

# Of model and plan what may differ from the run's without its weights losing their places.
FREE = ("budget", "lora_dropout", "head_dropout", "hidden_dropout", "attention_dropout", "encoder")
# Fields of a run about its own teacher, which a training from it does not inherit.
TEACHERS = ("teacher", "distillation_temperature", "distillation_weight", "unlabelled_confidence")


def starting_recipe(recipe: str | Path | Recipe, settings: Mapping[str, Any]) -> Recipe:
    """`resolve_recipe`; with the setting `start_from` on top of that run's recipe and plan, without its data.

    The saved recipe of a training that began at a run is taken as it is, with the setting as the run's place.

    Raises:
        RecipeError: a recipe in addition to the run's, or a setting that would replace its weights.
        ArtifactError: not a saved classifier.
    """
    run = settings.get("start_from")
    if run is None or (recipe != "default" and resolve_recipe(recipe, {}).train.start_from is not None):
        return resolve_recipe(recipe, settings)  # the recipe of such a training spells the run's plan out
    if recipe != "default":
        raise RecipeError("--from uses the recipe of the run", received=f"--recipe {recipe}", remedy="leave one out")
    fixed = [
        key for key, value in settings.items()
        if value is not None and SECTION_OF.get(key) in ("model", "plan") and key not in FREE
    ]  # fmt: skip
    if fixed:
        flag = fixed[0].replace("_", "-")
        raise RecipeError(
            "--from uses the backbone, pooling and plan of the run", received=f"--{flag}", remedy=f"leave out --{flag}"
        )
    from ..artifact.layout import PLAN, RECIPE  # and with it torch, which planning does not wait for
    from ..artifact.load_artifact import recipe_of
    from ..artifact.saved_files import read_files
    from ..artifact.validation import check_plan
    from ..predict.hub_folder import local_folder

    saved = read_files(local_folder(str(run)), only=(RECIPE, PLAN))
    values = pin_plan(recipe_of(saved), check_plan(saved, PLAN)).model_dump()
    values["data"] |= dict.fromkeys(SOURCES) | {"mix_share": None}
    values["train"] |= {key: TrainRecipe.model_fields[key].default for key in TEACHERS}
    if not values["data"]["ordinal"]:
        values["data"]["label_names"] = None  # the run's labels, and behind them new ones
    return resolve_recipe(parse(values | {"name": "continued"}), settings)
