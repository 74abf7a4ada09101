"""One recipe with several seeds: how much of a figure is due to chance."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, Interrupted
from ..evaluate.metrics.bootstrap import MeanAndDeviation, over_seeds
from ..evaluate.report.text_table import TERMINAL, text_table
from ..pipeline import train
from ..recipe.loading import resolve_recipe
from ..recipe.schema import Recipe
from ..storage.json_files import write_json
from ..train.observer import say_to_logging

logger = logging.getLogger(__name__)

FIGURES = ("accuracy", "macro_f1", "log_loss", "ece")
MULTI_LABEL_FIGURES = ("micro_f1", "macro_f1", "exact_match", "log_loss")
NAMES = {
    "accuracy": "accuracy %",
    "micro_f1": "micro F1 %",
    "macro_f1": "macro F1 %",
    "exact_match": "exact %",
    "log_loss": "log loss",
    "ece": "ECE %",
}


@dataclass(frozen=True)
class SeedSpread:
    """Several runs of one recipe: their seeds and folders, and each figure's spread on the rows called `measured`."""

    measured: str
    seeds: tuple[int, ...]
    folders: tuple[str, ...]
    figures: dict[str, MeanAndDeviation]
    seconds: MeanAndDeviation

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in seeds.json."""
        return asdict(self)

    def __str__(self) -> str:
        """A plain text table: mean, standard deviation, and each seed's value."""
        rows = []
        for key, spread in self.figures.items():
            scale, digits = (1, 4) if key == "log_loss" else (100, 2)
            mean = f"{scale * spread.mean:.{digits}f} ± {scale * spread.deviation:.{digits}f}"
            rows.append([NAMES[key], mean, *(f"{scale * value:.{digits}f}" for value in spread.values)])
        seconds = f"{self.seconds.mean:.1f} ± {self.seconds.deviation:.1f}"
        rows.append(["seconds", seconds, *(f"{value:.1f}" for value in self.seconds.values)])
        header = ["", "mean ± SD", *(f"seed {seed}" for seed in self.seeds)]
        return f"{len(self.seeds)} seeds, measured on {self.measured}\n{text_table(header, rows, width=TERMINAL)}"


def train_seeds(
    data: Any = None,
    *,
    count: int,
    out: str | Path,
    recipe: str | Path | Recipe = "default",
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> SeedSpread:
    """Train a recipe with `count` seeds, from the recipe's own on, each into `out/seed-N`; write `out/seeds.json`.

    The split stays the same, so that the spread is that of training alone; what frozen layers compute is shared.

    Args:
        data: as in `pennyweight.train`, like `recipe`, `overwrite`, `say` and `settings`.

    Raises:
        InputError: for fewer than two seeds.
        Interrupted: by a signal; the seeds trained so far lie in their folders.
        PennyweightError: whatever training raises.
    """
    if count < 2:
        raise InputError("the spread needs at least two seeds", received=count)
    folder = Path(out)
    resolved = resolve_recipe(recipe, {key: value for key, value in settings.items() if key != "test"})
    _check_measurable(resolved, settings.get("test"))
    seeds = tuple(range(resolved.train.seed, resolved.train.seed + count))
    own = resolved.train.prefix_cache != "auto" or resolved.train.cache_dir is not None
    shared = {} if own else {"prefix_cache": "disk", "cache_dir": str(folder / ".prefix")}
    metrics, folders = [], []
    try:
        with say_to_logging(say):
            for seed in seeds:
                logger.info(f"seed {seed}")
                folders.append(str(folder / f"seed-{seed}"))
                run = {**settings, **shared, "seed": seed}
                metrics.append(train(data, recipe=recipe, out=folders[-1], overwrite=overwrite, **run).metrics)
    except Interrupted as stop:
        remedy = "a run with several seeds cannot be resumed: run the same command again with --overwrite"
        raise Interrupted(stop.problem, where=stop.where, remedy=remedy) from None
    finally:
        shutil.rmtree(folder / ".prefix", ignore_errors=True)
    found = _spread(seeds, folders, metrics)
    write_json(folder / "seeds.json", found.to_json())
    return found


def _check_measurable(recipe: Recipe, test: Any) -> None:
    """Raise `InputError` where there are neither validation nor test rows."""
    if not (recipe.data.validation_size or recipe.data.validation or recipe.data.test or test is not None):
        raise InputError(
            "there are no rows for measuring the spread",
            expected="validation rows, or --test FILE",
            received="validation_size 0",
        )


def _spread(seeds: tuple[int, ...], folders: list[str], metrics: list[dict[str, Any]]) -> SeedSpread:
    measured = "test" if "test" in metrics[0] else "validation"
    figures = MULTI_LABEL_FIGURES if metrics[0].get("task") == "multi" else FIGURES
    return SeedSpread(
        measured,
        seeds,
        tuple(folders),
        {key: over_seeds([one[measured][key] for one in metrics]) for key in figures},
        over_seeds([one["train"]["seconds"] for one in metrics]),
    )
