"""Python code in a process of its own, forked from one that has imported what takes seconds to import.

For tests that kill a process, or need several: what they look at begins after the imports.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

# What a run imports on its way; none of it starts a thread or computes.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "accelerate", "pandas", "peft.tuners.lora", "pennyweight.pipeline", "pennyweight.predict.predictor",
        "pennyweight.train.accelerator", "pennyweight.train.batch_source", "pennyweight.train.loop", "scipy.stats",
        "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.metrics", "torch.distributed",
        "transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert",
        "transformers.models.bert.tokenization_bert",
    ]
)  # fmt: skip

COMMAND = "import pennyweight.__main__"  # code that runs the program on its arguments

_BEGIN = """
import os, signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
for number, name in ((1, {out!r}), (2, {err!r})):
    os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), number)
os.environ.clear()
os.environ.update({environment!r})
os.chdir({folder!r})
sys.argv, sys.path[:] = {words!r}, {path!r}
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
del number, name
"""


class ForkedPython:
    """`python -c code arguments...`, with the folder and environment of now and with `more` in it.

    SIGINT is not ignored, whoever started the tests.
    """

    def __init__(self, code: str, *arguments: object, **more: object) -> None:
        self._streams = tempfile.TemporaryDirectory(prefix="pennyweight-tests-")
        self._words = ["-c", *map(str, arguments)]
        out, err = (str(Path(self._streams.name) / name) for name in ("out", "err"))
        begin = _BEGIN.format(
            out=out, err=err, words=self._words, path=sys.path, folder=os.getcwd(),
            environment=os.environ | {name: str(value) for name, value in more.items()},
        )  # fmt: skip
        self._process = _SERVER.Process(target=exec, args=(begin + code, {"__name__": "__main__"}))
        # The server, begun by the first process, looks for what it imports where this process does.
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)):
            self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """How it ended and what it wrote; it is killed, and `TimeoutError` raised, when it takes too many seconds."""
        self._process.join(timeout)
        late = self._process.is_alive()
        if late:
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self._process.close()
        out, err = ((Path(self._streams.name) / name).read_text("utf-8", "replace") for name in ("out", "err"))
        self._streams.cleanup()
        if late:
            raise TimeoutError(f"{self._words} took more than {timeout} seconds: {out}{err}")
        return subprocess.CompletedProcess(self._words, -99 if code is None else code, out, err)
