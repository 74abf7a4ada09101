"""The `pennyweight` command: its subcommands, one file each, and how it ends."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import Interrupted
from . import ctrl_c_came
from .audit import audit
from .command_help import DocumentedCommand
from .compare import compare
from .demo import demo
from .evaluate import evaluate
from .explain import explain
from .export import export
from .failures import drop_output, failure, fill_streams, is_told_elsewhere
from .leaderboard import leaderboard
from .merge import merge
from .output import note
from .plan import plan
from .predict import predict
from .recipes import recipes
from .search import search
from .serve import serve
from .train import train
from .train_many import train_many


class _Commands(TyperGroup):
    """Returns `Interrupted` as the program's result: Typer would turn it into an exit code and lose its message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted as stop:
            return stop


app = typer.Typer(
    name="pennyweight",
    cls=_Commands,
    help="Fine-tune a text classifier under a hard budget of trainable parameters.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# In the order of the help.
for _command in (
    train, train_many, plan, predict, serve, demo, search, audit, recipes, evaluate, compare, merge, explain,
    leaderboard, export,
):  # fmt: skip
    app.command(cls=DocumentedCommand)(_command)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Every expected failure is one line on stderr and an exit code; only a fault of ours shows a traceback."""
    try:
        yield
        sys.stdout.flush()
    except (Exception, Interrupted) as error:
        known = failure(error)
        if known is None:
            if ctrl_c_came():
                _end_stopped()
            raise
        if isinstance(error, OSError):
            drop_output(sys.stdout)
        if known.message and not is_told_elsewhere(error):
            note(f"error: {known.message}")
        sys.exit(known.code)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):  # Typer's way of ending when nobody reads on
            raise
        drop_output(sys.stdout)
        sys.exit(0)
    except KeyboardInterrupt:
        _end_stopped()


def _end_stopped() -> NoReturn:
    note("stopped")
    sys.exit(130)


def _one_line_warning(message: Warning | str, *place: Any, **more: Any) -> str:
    """Without the place in the source, which is ours and of no use to who runs a command."""
    return f"warning: {' '.join(str(message).split())}\n"


def main() -> None:
    """The `pennyweight` command."""
    # The libraries' half million objects are never garbage: search them for cycles seldom, and not at all on leaving.
    gc.set_threshold(20_000, 20, 20)
    atexit.register(gc.freeze)
    fill_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # answers are UTF-8 whatever the locale; a file name may be anything
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if len(sys.argv) == 2 and sys.argv[1] == "--version":
        typer.echo(__version__)
        return
    # Libraries' deprecation notes are for us (the tests make them errors), not for who runs a command; nor is the hub
    # client's account of its retries: what comes of them is told in one line.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.formatwarning = _one_line_warning
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with _one_line_errors():
        code = app(sys.argv[1:] or ["--help"], prog_name="pennyweight", standalone_mode=False)
        if isinstance(code, Interrupted):
            raise code
        if code == 130:  # how Typer hands over Ctrl-C
            raise KeyboardInterrupt
