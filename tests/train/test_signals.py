"""Signals: noted, not died of, and everybody's handlers given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
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
        assert stop.unless(lambda: 7) == 7
        assert stop.unless(evaluate) is None
        assert stop.unless(lambda: 7) is None
    assert done == []


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stop_requested() as stop, resumable(Path("runs/x")):
        os.kill(os.getpid(), number)
        assert not stop.is_set()
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_background_job_goes_on_when_the_terminal_interrupts() -> None:
    """A shell starts its background jobs with SIGINT ignored, nohup its command with SIGHUP ignored."""
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from pennyweight.train.signals import resumable, stop_requested\n"
        "with resumable(Path('x')), stop_requested() as stop:\n"
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


def test_outside_the_loop_a_signal_ends_the_run_with_the_way_on() -> None:
    with pytest.raises(Interrupted) as caught, resumable(Path("runs/x")):
        os.kill(os.getpid(), signal.SIGTERM)
    assert str(caught.value) == "runs/x: stopped by a signal; go on with the same command and --resume"
    assert caught.value.exit_code == 130


def test_other_threads_do_not_listen() -> None:
    found = []

    def work() -> None:
        with stop_requested() as stop, resumable(Path("x")):
            found.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
