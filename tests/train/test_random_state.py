"""Random generators: saved, set again, and left as they were."""

from __future__ import annotations

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
