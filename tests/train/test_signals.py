"""Signals: noted, not died of, and everybody's handlers given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pennyweight.errors import Interrupted
from pennyweight.train.signals import SIGNALS, resumable, stop_requested

pytestmark = pytest.mark.usefixtures("default_signals")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted(number: int) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with stop_requested() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.is_set()
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_second_interrupt_stops_at_once_a_second_term_does_not() -> None:
    with stop_requested() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_evaluation_is_broken_off() -> None:
    done = []

    def evaluate() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append(1)
        return 1

    with stop_requested() as stop:
        assert stop.interruptible(lambda: 7) == 7
        assert stop.interruptible(evaluate) is None
        assert stop.interruptible(lambda: 7) is None
    assert done == []


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stop_requested() as stop, resumable(Path("runs/x"), str):
        os.kill(os.getpid(), number)
        assert not stop.is_set()
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_background_job_goes_on_when_the_terminal_interrupts() -> None:
    """A shell starts its background jobs with SIGINT ignored, nohup its command with SIGHUP ignored."""
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from pennyweight.train.signals import resumable, stop_requested\n"
        "with resumable(Path('x'), str), stop_requested() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print(stop.is_set())\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(stop.is_set())\n"
    )
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT HUP; exec "$0" -c "$1"', sys.executable, code],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")


def test_outside_the_loop_a_signal_ends_the_run_with_how_to_resume() -> None:
    begun = iter(["", "this run"])
    with pytest.raises(Interrupted) as caught, resumable(Path("runs/x"), lambda: next(begun)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert str(caught.value) == (
        "runs/x: stopped by a signal; continue with the same command and --out runs/x --resume"
    )
    assert caught.value.exit_code == 130


@pytest.mark.parametrize("name", ["", "an earlier run"])
def test_before_training_has_begun_there_is_nothing_to_resume(name: str) -> None:
    with pytest.raises(Interrupted) as caught, resumable(Path("runs/x"), lambda: name):
        os.kill(os.getpid(), signal.SIGINT)
    assert str(caught.value) == "runs/x: stopped by a signal; run the same command again"


def test_who_overwrites_goes_on_without_overwriting() -> None:
    begun = iter(["", "this run", ""])
    with pytest.raises(Interrupted) as caught, resumable(Path("runs/x"), lambda: next(begun), overwrite=True):
        raise KeyboardInterrupt
    assert str(caught.value).endswith("and --out runs/x --resume in place of --overwrite")
    told = Interrupted("stopped by a signal after step 3 of 8", where="runs/x/checkpoints/step-3", remedy="go on")
    with pytest.raises(Interrupted) as caught, resumable(Path("runs/x"), lambda: next(begun), overwrite=True):
        raise told
    assert str(caught.value) == (
        "runs/x/checkpoints/step-3: stopped by a signal after step 3 of 8; the state is saved; "
        "continue with the same command and --out runs/x --resume in place of --overwrite"
    )
    with pytest.raises(Interrupted) as caught, resumable(Path("runs/x"), str):
        raise told
    assert caught.value is told


def test_code_that_goes_on_after_failures_does_not_go_on_after_a_signal() -> None:
    assert not issubclass(Interrupted, Exception)
    assert issubclass(Interrupted, KeyboardInterrupt)
    tried = []

    def sweep() -> None:
        for setting in range(3):
            tried.append(setting)
            with suppress(Exception), resumable(Path("runs/x"), str):
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        sweep()
    assert tried == [0]


def test_other_threads_do_not_listen() -> None:
    found = []

    def work() -> None:
        with stop_requested() as stop, resumable(Path("x"), str):
            found.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_these_tests_pass_where_signals_come_ignored() -> None:
    """As in a shell's background job, under nohup, or as the first process of a container."""
    run = 'trap "" INT TERM HUP; exec "$0" -m pytest -q -p no:cacheprovider -k "not come_ignored" "$1"'
    done = subprocess.run(
        ["sh", "-c", run, sys.executable, __file__],
        capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
