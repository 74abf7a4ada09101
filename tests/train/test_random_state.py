"""Random generators: saved, set again, and left as they were."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from pennyweight.train.random_state import preserved_random_state, random_state, set_random_state

CPU = torch.device("cpu")


def test_the_generators_go_on_where_they_were() -> None:
    before = random_state(CPU)
    first = torch.rand(3)
    torch.rand(5)
    set_random_state(before, CPU)
    assert torch.equal(torch.rand(3), first)


def test_what_is_drawn_in_between_changes_nothing_afterwards() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with preserved_random_state():
        torch.manual_seed(5)
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)


def test_of_two_threads_each_draws_its_own_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    other_began, found = threading.Event(), []

    def draw() -> None:
        other_began.set()
        with preserved_random_state():
            torch.manual_seed(3)
            found.append(torch.rand(4))

    other = threading.Thread(target=draw)
    with preserved_random_state():
        torch.manual_seed(3)
        other.start()
        other_began.wait()
        other.join(timeout=0.2)
        assert not found
        with preserved_random_state():  # within one's own turn
            torch.rand(5)
        assert torch.equal(torch.rand(4), expected)
    other.join()
    assert torch.equal(found[0], expected)


FORKS = """
import os, signal, threading
from pennyweight.train.random_state import preserved_random_state
begun, end = threading.Event(), threading.Event()
def hold():
    with preserved_random_state():
        begun.set()
        end.wait()
other = threading.Thread(target=hold)
other.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    with preserved_random_state():
        os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
end.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_lacks() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_a_checkpoint_holds_the_state_of_the_runs_own_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {0: torch.tensor([1], dtype=torch.uint8), 1: torch.tensor([2], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: cards[device.index])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: cards.update({device.index: state}))
    assert set(random_state(CPU)) == {"cpu"}
    saved = random_state(torch.device("cuda", 1))
    assert set(saved) == {"cpu", "cuda"}
    set_random_state(saved, torch.device("cuda", 0))  # the other card, after a restart
    assert cards[0].item() == cards[1].item() == 2
    set_random_state(saved, CPU)
