"""Random generators: saved, set again, and left as they were."""

from __future__ import annotations

import torch

from pennyweight.train.random_state import preserved_random_state, random_state, set_random_state


def test_the_generators_go_on_where_they_were() -> None:
    before = random_state()
    first = torch.rand(3)
    torch.rand(5)
    set_random_state(before)
    assert torch.equal(torch.rand(3), first)


def test_what_is_drawn_in_between_changes_nothing_afterwards() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with preserved_random_state():
        torch.manual_seed(5)
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)
