"""Help of the commands: the flags most people need and two examples by `--help`, every flag by `--help-all`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

Function = TypeVar("Function", bound=Callable[..., Any])

_ALL = "--help-all"
# What Trainer, PEFT, scikit-learn and other training scripts call a flag of ours.
_OTHER_NAMES = {
    "--lr": "--learning-rate",
    "--num-train-epochs": "--epochs",
    "--num-epochs": "--epochs",
    "--max-epochs": "--epochs",
    "--per-device-train-batch-size": "--batch-size",
    "--train-batch-size": "--batch-size",
    "--bs": "--batch-size",
    "--max-seq-length": "--max-length",
    "--max-seq-len": "--max-length",
    "--max-len": "--max-length",
    "--lora-r": "--r",
    "--rank": "--r",
    "--lora-rank": "--r",
    "--alpha": "--lora-alpha",
    "--adapter": "--strategy",
    "--dropout": "--lora-dropout",
    "--model": "--backbone",
    "--model-name": "--backbone",
    "--model-name-or-path": "--backbone",
    "--pretrained": "--backbone",
    "--checkpoint": "--backbone",
    "--output-dir": "--out",
    "--output": "--out",
    "--out-dir": "--out",
    "-o": "--out",
    "--train-file": "--train",
    "--validation-file": "--validation",
    "--eval-file": "--validation",
    "--dev": "--validation",
    "--test-file": "--test",
    "--max-params": "--budget",
    "--max-trainable": "--budget",
    "--parameters": "--budget",
    "--gradient-accumulation": "--gradient-accumulation-steps",
    "--fp16": "--precision",
    "--bf16": "--precision",
    "--dtype": "--precision",
    "--val-size": "--validation-size",
    "--text-column": "--text-columns",
    "--label": "--label-column",
    "--labels": "--label-names",
    "--lr-scheduler-type": "--scheduler",
    "--lr-scheduler": "--scheduler",
    "--warmup": "--warmup-ratio",
    "--random-state": "--seed",
    "--n-trials": "--trials",
    "--threshold": "--abstain-below",
    "--resume-from-checkpoint": "--resume",
    "--force": "--overwrite",
    "--overwrite-output-dir": "--overwrite",
}


# What Typer writes behind a flag, and the spelling of the recipe's flags beside it.
_KIND = re.compile(r"<([^<>]+)>")
_KINDS = {
    "str": "TEXT", "list[str]": "TEXT", "path": "PATH", "list[Path]": "PATH", "int": "N", "int range": "N",
    "float": "X", "float range": "X",
}  # fmt: skip


def short_help(*flags: str, examples: Iterable[str]) -> Callable[[Function], Function]:
    """Say what `--help` of a command shows.

    Args:
        flags: the command's most common flags, in the order of the help; none for all.
        examples: command lines without the program's name.
    """

    def decorate(function: Function) -> Function:
        function.common_flags = flags  # type: ignore[attr-defined]
        function.examples = tuple(examples)  # type: ignore[attr-defined]
        return function

    return decorate


class DocumentedCommand(TyperCommand):
    """A command with a short help, the whole of it by `--help-all`, flags under the recipe's section they belong to."""

    _whole = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self._common and _ALL in args[: args.index("--") if "--" in args else None]:
            self._whole = True
            try:
                typer.echo(ctx.get_help())
            finally:
                self._whole = False
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            record = (_KIND.sub(lambda kind: _KINDS.get(kind[1], kind[1]), record[0]), record[1])
            if parameter.param_type_name == "argument":
                groups.setdefault("Arguments", []).append(record)
            elif self._is_shown(parameter):
                title = (getattr(parameter, "rich_help_panel", None) if self._whole else None) or "Options"
                groups.setdefault(title, []).append(record)
        if self._common:
            groups["Options"].append((_ALL, "Show every flag and exit."))
        if self._common and not self._whole:
            groups["Options"].sort(key=lambda record: self._place(record[0]))
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        examples = getattr(self.callback, "examples", ())
        if examples:
            with formatter.section("Examples"):
                for line in examples:
                    formatter.write(f"{' ' * formatter.current_indent}pennyweight {line}\n")

    @property
    def _common(self) -> tuple[str, ...]:
        return getattr(self.callback, "common_flags", ())

    def _is_shown(self, parameter: Any) -> bool:
        return (
            self._whole or not self._common or "--help" in parameter.opts or bool({*self._common} & _names(parameter))
        )

    def _place(self, names: str) -> int:
        """Where a flag stands in the short help: as its command lists them, then those about help."""
        words = names.replace(",", " ").split()
        return next((place for place, flag in enumerate(self._common) if flag in words), len(self._common))


def _names(parameter: Any) -> set[str]:
    return {*parameter.opts, *parameter.secondary_opts}


def suggest_flag(unknown: str, command: Any, context: Any) -> str | None:
    """The flag of a command that was probably meant by one it does not have; None if none is near."""
    known = [name for parameter in command.get_params(context) for name in parameter.opts if name.startswith("--")]
    word = unknown.split("=")[0].replace("_", "-").lower()
    if word in known:
        return word
    if _OTHER_NAMES.get(word) in known:
        return _OTHER_NAMES[word]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.75)
    return near[0] if near else None
