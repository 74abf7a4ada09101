"""Thousands of saved classifiers over one backbone, without training: planned as the recipes plan, of random values.

    python benchmarks/fleet.py FOLDER --count 64             the default recipe at 200k, 2 to 20 labels
    python benchmarks/fleet.py FOLDER --count 64 --varied    other budgets, strategies, heads, poolings and tasks, too

Each goes through the code that saves trained classifiers: its checksums hold, and a server loads it as any other. Speed
and memory depend on shapes alone. The tokenizer's file, the same for all, is linked where the file system can.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from inputs import ROOT, versions

sys.path.insert(0, str(ROOT / "src"))

BUDGET, MOST_LABELS = "200k", 20
# Where a fleet is cut into folders, so that a server can be given the first 8, 64, 512 or 2,048 classifiers.
CUTS = (0, 8, 64, 512, 2048)
SCALE = 0.02  # of the values of B, the size that training gives them
FORMAT = 1  # of a fleet; another number makes all anew


@dataclass(frozen=True)
class Variety:
    """What the classifiers of the varied fleet are drawn from; each setting on its own."""

    budget: tuple[str, ...] = ("50k", "100k", "200k", "400k")
    strategy: tuple[str, ...] = ("auto", "uniform", "top", "graded", "attention", "all-linear")
    head: tuple[str, ...] = ("linear", "linear", "low_rank")
    pooling: tuple[str, ...] = ("cls", "mean")

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """The settings of one classifier."""
        return {name: values[int(random.integers(len(values)))] for name, values in vars(self).items()}


class LinkedTokenizer:
    """The backbone's tokenizer, as it lies in a folder.

    Args:
        folder: what transformers saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_pretrained(self, folder: Path) -> None:
        """Put its files into another folder."""
        folder.mkdir()
        for file in self.folder.iterdir():
            try:
                os.link(file, folder / file.name)
            except OSError:  # another file system, or one without links
                shutil.copy(file, folder / file.name)


def fleet(place: Path, count: int, *, varied: bool = False, backbone: str = "embedded") -> list[Path]:
    """Make, or find, `count` classifiers of random values.

    Args:
        place: folder that keeps fleets between runs.
        varied: of several budgets, strategies, heads, poolings and tasks, not of the default recipe alone.
        backbone: over which.

    Returns:
        Their folders. Classifier i is the same whatever `count` is, and lies with those of the same step of `CUTS`.
    """
    key = f"fleet-{'varied' if varied else 'default'}-{Path(backbone).name}-{versions('pennyweight')['pennyweight']}"
    root = place / f"{key}-{FORMAT}"
    folders = [root / _part(number) / f"{'varied' if varied else 'topic'}-{number:04}" for number in range(count)]
    missing = [number for number, folder in enumerate(folders) if not (folder / "pennyweight.json").is_file()]
    if missing:
        print(f"  making {len(missing)} classifiers in {root}", file=sys.stderr, flush=True)
        write = _writer(root, backbone)
        with patch("os.fsync"):  # nobody misses a fleet after a power cut
            for number in missing:
                write(folders[number], number, varied)
    return folders


def parts_of(folders: Sequence[Path]) -> list[Path]:
    """The folders that hold these classifiers, in order: what `pennyweight serve` is given."""
    return list(dict.fromkeys(folder.parent for folder in folders))


def own_bytes(folder: Path) -> int:
    """What a classifier's trained values take as they are saved, in fp32."""
    return 4 * int(json.loads((folder / "plan.json").read_text("utf-8"))["trainable"])


def _part(number: int) -> str:
    return f"from-{max(cut for cut in CUTS if cut <= number):04}"


def _writer(root: Path, backbone: str) -> Any:
    """A function that writes classifier number n into a folder."""
    from pennyweight.artifact.artifact import Artifact, TrainedTensors
    from pennyweight.artifact.model_card import model_card
    from pennyweight.artifact.save_artifact import save_artifact
    from pennyweight.data.input_spec import InputSpec
    from pennyweight.data.labels import LabelSet
    from pennyweight.evaluate.evaluation import unmeasured
    from pennyweight.model.backbone import resolve
    from pennyweight.model.on_demand import OnDemand
    from pennyweight.model.tokenizer import FastTokenizer, load_tokenizer
    from pennyweight.recipe.loading import resolve_recipe
    from pennyweight.recipe.planning import plan_for

    found = resolve(backbone)
    tokenizer = load_tokenizer(found.folder)
    saved = root / "tokenizer-of-all"
    if not (saved / "tokenizer_config.json").is_file():  # written last
        tokenizer.save_pretrained(saved)
    fast, linked = FastTokenizer.of(tokenizer), OnDemand.of(LinkedTokenizer(saved))

    def write(folder: Path, number: int, varied: bool) -> None:
        random = np.random.default_rng([FORMAT, number, varied])
        labels = int(random.integers(2, MOST_LABELS + 1))
        settings = Variety().draw(random) if varied else {"budget": BUDGET}
        multi = varied and number % 4 == 3
        recipe = resolve_recipe("default", settings | {"backbone": backbone, "task": "multi" if multi else "single"})
        plan = plan_for(recipe, found.config, labels)
        names = tuple(f"label {each}" for each in range(labels))
        metrics = unmeasured(names, multi_label=multi) | {"trainable": plan.count.trainable}
        spec = InputSpec.of_recipe(recipe.data)
        artifact = Artifact(
            TrainedTensors(*random_values(found.config, plan, labels, random)), fast, OnDemand(_no_model), linked,
            found, LabelSet(names, multi), recipe, plan, metrics,
            replace(spec, form=replace(spec.form, task="multi" if multi else "single")),
        )  # fmt: skip
        save_artifact(replace(artifact, card=model_card(artifact)), folder)

    return write


def random_values(config: dict[str, Any], plan: Any, labels: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Tensors of an adapter, by PEFT's names, and of a head, as a plan asks for them.

    A as PEFT initializes it; B, biases and head normal, so that no adapter leaves the backbone as it is.
    """
    import torch

    from pennyweight.budget.count import adapter_shapes
    from pennyweight.model.adapters.lora import PREFIX
    from pennyweight.model.heads import head_of

    def drawn(shape: tuple[int, ...], scale: float) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    shapes = {} if plan.adapter is None else adapter_shapes(config, plan.adapter)
    adapter = {
        f"{PREFIX}{name}": drawn(shape, shape[-1] ** -0.5 if ".lora_A." in name else SCALE)
        for name, shape in shapes.items()
    }
    own = head_of(plan.head, config, labels).state_dict()
    head = {name: drawn(tuple(values.shape), values.shape[-1] ** -0.5) for name, values in own.items()}
    return adapter, head


def _no_model() -> Any:
    raise RuntimeError("a classifier of the fleet is read from its folder")


def main() -> None:
    """Make a fleet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to keep it")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--varied", action="store_true")
    parser.add_argument("--backbone", default="embedded")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for folder in parts_of(fleet(options.folder, options.count, varied=options.varied, backbone=options.backbone)):
        print(folder)


if __name__ == "__main__":
    main()
