"""Texts of more tokens than fit: cut at the end, in the middle, or read in windows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pennyweight as pw
from pennyweight.errors import ArtifactError, RecipeError
from pennyweight.model import long_texts
from pennyweight.model.tokenizer import encode, load_tokenizer
from pennyweight.predict.explanation import explain

LONG = " ".join(["bank", "river", "phone", "screen", "court"] * 8)


def rows_of(folder: Path, text: str, how: str, longest: int = 12) -> tuple[list[list[int]], int, list[int]]:
    """The windows of a text, how much of it is cut, and its tokens without special ones."""
    tokenizer = load_tokenizer(folder)
    found = encode(tokenizer, [text], longest, long_texts=how)  # type: ignore[arg-type]
    whole = encode(tokenizer, [text], 4096).row(0).tolist()[1:-1]
    lost = 0 if found.lost is None else int(found.lost[0])
    sequences = found.sequences
    return [sequences.row(row).tolist() for row in range(len(sequences))], lost, whole


def test_truncated_texts_keep_their_beginning(tiny_backbone: Callable[..., Path]) -> None:
    rows, lost, whole = rows_of(tiny_backbone("bert"), LONG, "truncate")
    assert [row[1:-1] for row in rows] == [whole[:10]]
    assert lost == len(whole) - 10


def test_head_and_tail_keep_both_ends(tiny_backbone: Callable[..., Path]) -> None:
    rows, lost, whole = rows_of(tiny_backbone("bert"), LONG, "head-tail")
    assert [row[1:-1] for row in rows] == [whole[:2] + whole[-8:]]
    assert lost == len(whole) - 10


def test_windows_cover_every_token_and_are_all_full(tiny_backbone: Callable[..., Path]) -> None:
    rows, lost, whole = rows_of(tiny_backbone("bert"), LONG, "windows")
    assert lost == 0
    assert len(rows) > 1
    assert {len(row) for row in rows} == {12}
    assert rows[0][1:-1] == whole[:10]
    assert rows[-1][1:-1] == whole[-10:]
    places = [next(at for at in range(len(whole)) if whole[at : at + 10] == row[1:-1]) for row in rows[:2]]
    assert places[1] < 10, "windows overlap"
    short, lost, _ = rows_of(tiny_backbone("bert"), "bank", "windows")
    assert (len(short), lost) == (1, 0)


def test_windows_have_a_limit_and_say_what_is_cut(
    tiny_backbone: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_texts, "MOST_WINDOWS", 2)
    rows, lost, whole = rows_of(tiny_backbone("bert"), LONG, "windows")
    assert len(rows) == 2
    assert lost == len(whole) - 19


@pytest.fixture(scope="module")
def trained(tiny_backbone: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that reads windows, of texts whose sign stands at the end."""
    rows = [(f"{LONG} {sign}", label) for sign, label in (("yes", "good"), ("no", "bad")) for _ in range(12)]
    folder = tmp_path_factory.mktemp("windows") / "run"
    pw.train(
        rows, test=rows[::4], out=folder, backbone=str(tiny_backbone("bert")), budget="5k", max_steps=3, batch_size=8,
        max_length=12, long_texts="windows", precision="fp32", inference_precision="fp32", report="tables",
    )  # fmt: skip
    return folder


def test_every_path_averages_the_windows(trained: Path) -> None:
    classifier = pw.load(trained, precision="fp32")
    texts = [f"{LONG} yes", "bank", f"{LONG} no {LONG}"]
    tokens = classifier.tokens(texts)
    assert tokens.windows is not None
    by_engine = classifier.logits(texts)
    alone = classifier.logits_of(tokens.sequences)  # (W, L)
    starts = tokens.windows.texts
    by_hand = [alone[start:stop].mean(axis=0) for start, stop in pairwise(starts.tolist())]
    assert np.allclose(by_engine, by_hand, atol=1e-5)
    assert np.allclose(by_engine, classifier.text_model.logits(tokens), atol=1e-4)
    batch = classifier.text_model.batches(tokens)(np.arange(3))
    assert np.allclose(by_engine, classifier.artifact.model(**batch).detach().numpy(), atol=1e-4)
    assert len(explain(classifier, texts[0]).words) == 41


def test_export_refuses_windows(trained: Path, tmp_path: Path) -> None:
    from pennyweight.export.onnx import to_onnx

    with pytest.raises(ArtifactError, match="an exported model reads one sequence of tokens") as found:
        to_onnx(pw.load(trained).artifact, tmp_path / "onnx")
    assert "--long-texts truncate" in str(found.value)


def test_pairs_are_truncated() -> None:
    with pytest.raises(RecipeError, match="long_texts: expected truncate with pair, received windows"):
        pw.plan(pair=True, long_texts="windows")
