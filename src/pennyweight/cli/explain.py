"""`pennyweight explain`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from .command_help import short_help
from .flags import BACKBONE, DEVICE, JSON, MODEL, PRECISION, Device, Precision
from .output import echo, echo_json


@short_help(examples=('explain runs/first "The match ended two to one"',))
def explain(
    model: Path = MODEL,
    text: str = typer.Argument(..., help="The text."),
    label: str = typer.Option(None, "--label", help="Label to explain; the predicted one if not given."),
    backbone: str = BACKBONE,
    device: Device = DEVICE,
    precision: Precision = PRECISION,
    as_json: bool = JSON,
) -> None:
    """Show which words speak for and against a label."""
    from ..predict import explanation
    from ..predict.load_classifier import load

    classifier: Any = load(model, backbone=backbone, device=device, precision=precision)
    found = explanation.explain(classifier, text, label)
    echo_json(asdict(found)) if as_json else echo(str(found))
