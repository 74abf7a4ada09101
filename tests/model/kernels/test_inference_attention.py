"""Attention of token rows against a softmax written out, text by text, and its independence of what lies beside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pennyweight.model.inference.token_rows import Group
from pennyweight.model.kernels.inference_attention import attend

HEADS, WIDTH = 2, 8


def random_rows(rows: int) -> Tensor:
    return torch.randn(rows, 3 * HEADS * WIDTH, generator=torch.Generator().manual_seed(0))


def expected(qkv: Tensor) -> Tensor:
    """What the tokens of one text get."""
    q, k, v = qkv.view(len(qkv), 3, HEADS, WIDTH).permute(1, 2, 0, 3)
    weights = torch.softmax(q @ k.transpose(1, 2) * WIDTH**-0.5, -1)
    return (weights @ v).transpose(0, 1).reshape(len(qkv), -1)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 53, 64])
@pytest.mark.parametrize("behind", [0, 3, 11, 20])
def test_one_text_whatever_comes_behind_it(rows: int, behind: int, apart: bool) -> None:
    qkv = random_rows(rows + behind)
    found = attend(qkv, [Group(0, 1, rows, None, apart)], HEADS)
    assert found.shape == (rows + behind, HEADS * WIDTH)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[:rows], expected(qkv[:rows]))


@pytest.mark.parametrize("behind", [0, 7, 30])
def test_groups_of_texts(behind: int) -> None:
    groups = [Group(0, 1, 33, None), Group(33, 3, 20, None), Group(93, 2, 5, None)]
    qkv = random_rows(103 + behind)
    found = attend(qkv, groups, HEADS)
    assert len(found) == len(qkv)
    for group in groups:
        for start in range(group.start, group.rows.stop, group.length):
            rows = slice(start, start + group.length)
            torch.testing.assert_close(found[rows], expected(qkv[rows]))


@pytest.mark.parametrize(("first", "second"), [(8, 2), (13, 3), (13, 1), (30, 2)])
def test_a_group_before_another_one_that_it_reads_to_the_end_of(first: int, second: int) -> None:
    """The first group's whole steps end where the block ends."""
    qkv = random_rows(-(-(first + second) // 16) * 16)
    found = attend(qkv, [Group(0, 1, first, None), Group(first, 1, second, None)], HEADS)
    assert len(found) == len(qkv)
    torch.testing.assert_close(found[:first], expected(qkv[:first]))
    torch.testing.assert_close(found[first : first + second], expected(qkv[first : first + second]))


def test_padding_is_not_seen() -> None:
    mask = torch.arange(9)[None, None, None] < torch.tensor([9, 4])[:, None, None, None]
    qkv = random_rows(30)
    found = attend(qkv, [Group(0, 2, 9, mask)], HEADS)
    torch.testing.assert_close(found[:9], expected(qkv[:9]))
    torch.testing.assert_close(found[9:13], expected(qkv[9:13]))


def test_texts_apart_do_not_touch_each_other() -> None:
    qkv = random_rows(48)
    qkv[20:40] = torch.inf
    found = attend(qkv, [Group(0, 2, 20, None, apart=True)], HEADS)
    torch.testing.assert_close(found[:20], expected(qkv[:20]))
