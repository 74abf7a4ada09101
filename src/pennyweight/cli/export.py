"""`pennyweight export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from ..errors import InputError
from .flags import BACKBONE, MODEL
from .output import echo


def export(
    model: Path = MODEL,
    out: Path = typer.Argument(None, help="Folder to write."),
    form: Literal["peft", "merged"] = typer.Option(
        "peft", "--format", help="peft: an adapter for stock transformers and PEFT; merged: one whole model."
    ),
    backbone: str = BACKBONE,
    push: str = typer.Option(None, "--push", metavar="OWNER/NAME", help="A hub repository for the classifier itself."),
    send: bool = typer.Option(False, "--send", help="With --push: really send; else only list what would be sent."),
    public: bool = typer.Option(False, "--public", help="With --push: make a new repository public."),
    with_report: bool = typer.Option(
        False, "--with-report", help="With --push: report.html too; it quotes test texts."
    ),
) -> None:
    """Write a classifier for other tools to load.

    Or push it to the hub: --push OWNER/NAME.
    """
    if (out is None) == (push is None):
        raise InputError("say where to", expected="a folder to write, or --push OWNER/NAME")
    if push is not None:
        from ..export import hub

        echo(str(hub.push(model, push, send=send, private=not public, report=with_report)))
        return
    from ..export.merged import to_merged
    from ..export.peft import to_peft
    from ..predict.predictor import load

    classifier = load(model, backbone=backbone, device="cpu", precision="fp32")
    write = to_peft if form == "peft" else to_merged
    gap = write(classifier.artifact, out)
    echo(f"{out}: logits differ from Pennyweight's by at most {gap:.1e} in fp32")
