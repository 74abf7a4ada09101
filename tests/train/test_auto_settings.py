"""What `auto` comes to: lengths by the training texts, within the backbone's limit and a share of time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import RecipeError
from pennyweight.recipe.loading import load, parse
from pennyweight.train.auto_settings import MOST_TIMES, choose_max_length, relative_time


def test_the_95th_percentile_in_steps() -> None:
    lengths = np.array([100] * 90 + [300] * 10)
    assert choose_max_length(lengths, 512, 384) == 320
    assert choose_max_length(lengths, 256, 384) == 256, "the backbone's limit"
    assert choose_max_length(np.array([10, 20]), 512, 384) == 64
    assert choose_max_length(np.empty(0), 512, 384) == 64


def test_no_longer_than_the_stated_share_of_time() -> None:
    lengths = np.full(10, 4000)
    found = choose_max_length(lengths, 8192, 384)
    assert relative_time(lengths, found, 384) <= MOST_TIMES < relative_time(lengths, found + 64, 384)


def test_auto_is_said_and_kept_as_a_number(
    tiny_backbone: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(f"{word} " * 40, word) for word in ("bank", "river") for _ in range(8)]
    with caplog.at_level(logging.INFO, "pennyweight"):
        found = pw.train(rows, backbone=str(tiny_backbone("bert")), budget="5k", max_steps=1, max_length="auto")
    assert found.artifact.recipe.data.max_length == 64
    assert "max_length: 64 tokens (auto; half of the training texts have at most 42" in caplog.text


def test_what_is_cut_is_warned_of(tiny_backbone: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    rows = [("bank " * (40 if label == "long" else 4), label) for label in ("long", "short") for _ in range(8)]
    with caplog.at_level(logging.INFO, "pennyweight"):
        pw.train(rows, backbone=str(tiny_backbone("bert")), budget="5k", max_steps=1, max_length=12, audit="off")
    said = "warning: 62% of the tokens of the training texts are cut at 12 tokens (of the class long 71%)"
    assert said in caplog.text
    assert "--max-length auto or --long-texts windows" in caplog.text


def test_auto_in_recipes() -> None:
    chosen = load(None, max_length="auto")
    assert chosen.model_dump(mode="json")["data"]["max_length"] == "auto"
    assert parse(chosen.model_dump()) == chosen
    with pytest.raises(RecipeError, match="max_length: expected auto or at least 4, received 3"):
        load(None, max_length="3")
