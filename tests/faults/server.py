"""A process that imports everything once and forks for each task, so that a hundred runs can be killed in minutes.

It reads one JSON task a line from standard input and answers with one JSON line. A task:

    do          name of a function below, called with `with` as keyword arguments in a child process
    kill_after  SIGKILL the child after so many seconds
    kill_at     the child kills itself at its Nth file system event below `watch`
    events      those that count; all of EVENTS if not given
    memory      MiB that the child may map beyond what it has
    file_size   bytes that a file may grow to
    user        run as this user id

The answer: `code` as from waitpid (negative: the signal), `seconds`, `stdout`, `stderr`, and either `result` or
`error` and `kind`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from pennyweight import pipeline
from pennyweight.artifact.save_artifact import save_artifact
from pennyweight.cli import app as cli
from pennyweight.data import sources
from pennyweight.errors import Interrupted, PennyweightError
from pennyweight.evaluate.metrics import epoch_metrics as quick
from pennyweight.predict import predictor as predict
from pennyweight.runs import reports
from pennyweight.train.observer import forward_log

# What a run would import on its way; none of it starts a thread or computes.
for module in (
    "accelerate", "pandas", "peft.tuners.lora", "pennyweight.train.accelerator", "pennyweight.train.batch_source",
    "pennyweight.train.loop", "scipy.stats", "sklearn.feature_extraction.text", "sklearn.linear_model",
    "sklearn.metrics", "transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
):  # fmt: skip
    importlib.import_module(module)
# Pictures take longer than the training of a toy, and are not what is tested here.
reports.write_reports = lambda *given, **more: None

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree"}


# --- tasks -------------------------------------------------------------------------------------------------------


def train(stop: tuple[int, int] | None = None, clock: float = 0.0, **settings: Any) -> dict[str, Any]:
    """One run.

    Args:
        stop: (evaluation, signal): this signal arrives in the middle of that evaluation.
        clock: how far the clock jumps at each look.
    """
    said: list[str] = []
    if stop:
        figures, left = quick.figures, iter(range(stop[0] - 1, -(10**9), -1))

        def interrupted(*arguments: Any) -> Any:
            if next(left) == 0:
                os.kill(os.getpid(), stop[1])
            return figures(*arguments)

        quick.figures = interrupted  # type: ignore[assignment]
    if clock:
        looks = iter(range(10**9))
        now = time.time
        time.time = lambda: now() + clock * (-1) ** next(looks)  # type: ignore[assignment]
    with forward_log(said.append):
        classifier = pipeline.train(**settings)
    return {"said": said, "labels": classifier.predict(["the bank", "the cup"])}


def load(folder: str, texts: list[str]) -> list[list[float]]:
    """Probabilities of a saved classifier."""
    return predict.load(folder, device="cpu").predict_proba(texts).tolist()


def save(source: str, folder: str) -> None:
    """A saved classifier saved once more, elsewhere."""
    save_artifact(predict.load(source, device="cpu").artifact, folder)


def read_data(path: str) -> int:
    """Rows of a file."""
    return len(sources.read(path, labelled=None))


def read_recipe(path: str) -> str:
    """A recipe's name."""
    from pennyweight.recipe import loading as recipe

    return recipe.load(path).name


def command(arguments: list[str]) -> None:
    """The command line itself, with its exit code."""
    sys.argv = ["pennyweight", *arguments]
    cli.main()


# --- the server --------------------------------------------------------------------------------------------------


def main() -> None:
    torch.set_num_threads(1)
    # As in a terminal, whatever this process inherited: in the background SIGINT comes as ignored, under nohup SIGHUP.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number, handler in zip(numbers, (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL), strict=True):
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but answers on standard output
    print(json.dumps({"ready": os.getpid()}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_serve(json.loads(line))), file=answers, flush=True)


def _serve(task: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pennyweight-faults-") as scratch:
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            _child(task, Path(scratch))
        if "kill_after" in task:
            time.sleep(task["kill_after"])
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        answer = {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - began}
        answer["stderr"] = (Path(scratch) / "stderr").read_text("utf-8", "replace")
        answer["stdout"] = (Path(scratch) / "stdout").read_text("utf-8", "replace")
        said = Path(scratch) / "answer"
        return answer | (json.loads(said.read_text()) if said.exists() and said.stat().st_size else {})


def _child(task: dict[str, Any], scratch: Path) -> None:
    """Never returns: leaves with the code that the command line would have left with."""
    code = 70
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(scratch / name, os.O_WRONLY | os.O_CREAT, 0o666), number)
        # Opened before limits and a change of user, which are the task's and not ours.
        answer = (scratch / "answer").open("w")
        _limit(task)
        found: dict[str, Any] = {}
        try:
            found["result"] = globals()[task["do"]](**task["with"])
            code = 0
        except (PennyweightError, Interrupted) as error:
            found |= {"error": str(error), "kind": type(error).__name__}
            code = error.exit_code
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException as error:
            found |= {"error": str(error), "kind": type(error).__name__}
            traceback.print_exc()
        with answer:
            json.dump(found, answer)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit(task: dict[str, Any]) -> None:
    if "memory" in task:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = mapped + (task["memory"] << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if "file_size" in task:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_size"], task["file_size"]))
    if "user" in task:
        os.setgroups([])
        os.setgid(task["user"])
        os.setuid(task["user"])
    if "kill_at" in task:
        left = iter(range(task["kill_at"], -1, -1))

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            if (
                event in task.get("events", EVENTS)
                and arguments
                and str(arguments[0]).startswith(task["watch"])
                and next(left) == 0
            ):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)


if __name__ == "__main__":
    main()
