"""How the frozen matrices are multiplied while a classifier is trained: as they are, in int8, or from 4 bits."""

from __future__ import annotations

from ..budget.architecture import describe
from ..budget.cost import NARROWEST_INT8
from ..budget.plan import Plan
from ..errors import RecipeError
from .classifier import ModelSettings
from .device import Runtime
from .encoders import choose_engine
from .encoders.encoder import Config
from .kernels.int8_rows import check_int8_rows, int8_rows_are_faster

WHERE = "train -> quantization"


def choose_quantization(settings: ModelSettings, config: Config, plan: Plan, runtime: Runtime) -> str:
    """Resolve `auto`: int8 where the fast encoder trains in fp32 on a CPU whose int8 products are faster; else none.

    Args:
        settings: with the wanted quantization: `auto`, `none`, `int8` or `nf4`.
        config: the backbone's config.json.

    Raises:
        RecipeError: int8 does not go with the rest of the recipe, or with the number format that `auto` chose here.
        ResourceError: this CPU does not compute in int8.
    """
    wanted = settings.quantization
    if wanted in ("none", "nf4"):
        return wanted
    suits = runtime.device.type == "cpu" and runtime.precision == "fp32"
    fast = suits and choose_engine(config, settings.encoder, settings.of_encoder(plan, runtime)) == "fast"
    if wanted == "auto":
        useful = fast and describe(config).hidden >= NARROWEST_INT8 and int8_rows_are_faster()
        return "int8" if useful else "none"
    if not suits:
        raise RecipeError(
            "training steps in int8 need a CPU that computes in fp32",
            where=WHERE,
            expected="cpu in fp32",
            received=f"{runtime.device.type} in {runtime.precision}",
            remedy="use --device cpu --precision fp32, or --quantization auto",
        )
    check_int8_rows()
    if not fast:
        raise RecipeError(
            "training steps in int8 need the fast encoder, which the recipe or the backbone rules out",
            where=WHERE,
            remedy="use --quantization auto",
        )
    return wanted
