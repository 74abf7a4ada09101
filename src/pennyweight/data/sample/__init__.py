"""The built-in corpus: 1,360 news items written for Pennyweight, four classes in four styles of writing.

Written by language models, 640 first (ids 0 to 639) and 720 later by other writers, each item with its label before any
classifier saw it. People, companies and teams are invented; a fifth to a quarter of the items lie near the border of
two classes and have the label that a news desk would file them under. `test.json` lists the ids of the 880 test items:
ten of each class in each style of the first 640, and all 720 later ones. The other 480 are for training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from ..sources import read
from ..table import Table

FOLDER = Path(__file__).parent
#: Three texts more, for a first answer to look at.
EXAMPLES = (
    "The central bank left its key rate unchanged, but bank shares slid on the warning about bad loans.",
    "After extra time and eleven penalties each, the goalkeeper scored the goal that sent them to the final.",
    "The probe's camera found ice in a crater that has not seen sunlight for two billion years.",
)


def load(split: Literal["train", "test"]) -> Table:
    """The training items (480) or the test items (880), with `extras` "id" and "source" (the style).

    Raises:
        ValueError: another split.
    """
    if split not in ("train", "test"):
        raise ValueError(f'the sample has the splits "train" and "test", not "{split}"')
    table = read(FOLDER / "newsroom.jsonl")
    held = set(json.loads((FOLDER / "test.json").read_text(encoding="utf-8")))
    return table.select(row for row, number in enumerate(table.extras["id"]) if (number in held) == (split == "test"))
