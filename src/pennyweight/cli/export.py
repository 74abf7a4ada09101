"""`pennyweight export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import typer

from ..errors import InputError
from .command_help import short_help
from .flags import BACKBONE, MODEL
from .output import echo


@short_help(examples=("export runs/first onnx-model --format onnx", "export runs/first --push me/news --send"))
def export(
    model: Path = MODEL,
    out: Path = typer.Argument(None, help="Folder to write."),
    form: Literal["peft", "merged", "onnx", "onnx-int8", "openvino"] = typer.Option(
        "peft",
        "--format",
        help="peft: an adapter for transformers and PEFT; merged: a complete transformers model; onnx, onnx-int8: "
        "for ONNX Runtime, in fp32 or int8; openvino: for OpenVINO.",
    ),
    backbone: str = BACKBONE,
    push: str = typer.Option(
        None, "--push", metavar="OWNER/NAME", help="Push the classifier itself to this hub repository."
    ),
    send: bool = typer.Option(False, "--send", help="With --push: send the files; without it, they are only listed."),
    public: bool = typer.Option(False, "--public", help="With --push: make a new repository public."),
    with_report: bool = typer.Option(
        False, "--with-report", help="With --push: also send report.html, which quotes test texts."
    ),
) -> None:
    """Export a classifier for other tools, or push it to the hub.

    The fitted temperature is folded into the exported weights: a plain softmax gives Pennyweight's probabilities.
    """
    if (out is None) == (push is None):
        raise InputError("no destination, or two", expected="either a folder to write or --push OWNER/NAME")
    if push is not None:
        from ..export import hub

        echo(str(hub.push(model, push, send=send, private=not public, report=with_report)))
        return
    from ..predict.predictor import load

    write = _writer(form)
    gap = write(load(model, backbone=backbone, device="cpu", precision="fp32").artifact, out)
    folded = "" if form == "onnx-int8" else " in fp32"
    echo(f"{out}: logits differ from Pennyweight's temperature-scaled logits by at most {gap:.1e}{folded}")


def _writer(form: str) -> Callable[[Any, Path], float]:
    """The function that writes a format."""
    if form == "peft":
        from ..export.peft import to_peft

        return to_peft
    if form == "merged":
        from ..export.merged import to_merged

        return to_merged
    if form == "openvino":
        from ..export.openvino import to_openvino

        return to_openvino
    from ..export.onnx import to_onnx, to_onnx_int8

    return to_onnx if form == "onnx" else to_onnx_int8
