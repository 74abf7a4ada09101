"""The frozen prefix: same result as without it, found again, damaged files noticed, full disks survived."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pennyweight.data.batching import Encoded, pack
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, build
from pennyweight.model.device import Runtime
from pennyweight.model.encoders.bert import FastEncoder
from pennyweight.model.inference import TokenFeed
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for
from pennyweight.train import batch_source
from pennyweight.train import prefix_cache as prefix
from pennyweight.train.batch_source import choose_batch_sources
from pennyweight.train.prefix_cache import (
    Prefix,
    PrefixSpec,
    PrefixWarning,
    estimate,
    first_trained_layer,
    prefix_key,
    prepare,
)

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 64,
}
LENGTHS = [5, 17, 3, 9, 9, 30, 1, 12, 22, 8]
TOKENS = sum(LENGTHS)


@pytest.fixture
def encoder() -> FastEncoder:
    made = FastEncoder(CONFIG)
    generator = torch.Generator().manual_seed(0)
    made.load_weights(
        {name: torch.randn(value.shape, generator=generator) * 0.2 for name, value in made.module.named_parameters()}
    )
    made.module.train()
    return made


@pytest.fixture
def feed() -> TokenFeed:
    random = np.random.default_rng(0)
    rows = [random.integers(1, 50, length).tolist() for length in LENGTHS]
    return TokenFeed(pack(rows), 0, 8, 64, torch.device("cpu"))


def make(encoder: Any, feed: TokenFeed, *, first: int = 2, **options: Any) -> Prefix:
    settings: dict[str, Any] = {"pooling": "cls", "dtype": torch.float32, "backbone": "b", "batch_size": 4} | options
    spec = PrefixSpec(first, *(settings.pop(key) for key in ("pooling", "dtype", "backbone")))
    found = prepare(encoder, feed, spec, **settings)
    assert found is not None
    return found


def pooled(encoder: FastEncoder, batch: dict[str, Any], pooling: str = "cls") -> torch.Tensor:
    with torch.no_grad():
        hidden = batch["hidden"] if "hidden" in batch else encoder.embed(batch["input_ids"], batch["attention_mask"])
        return encoder.pooled(hidden, batch["attention_mask"], batch.get("first", 0), pooling)


@pytest.mark.parametrize("kept", ["memory", "file"])
@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_training_on_the_prefix_computes_what_it_computes_without(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path, kept: str, first: int, pooling: str
) -> None:
    found = make(encoder, feed, first=first, pooling=pooling, folder=tmp_path if kept == "file" else None)
    assert (found.file is not None) == (kept == "file")
    for indices in ([0, 5, 6], [9, 1], [3, 4], [6]):
        chosen = np.array(indices)
        expected = pooled(encoder, feed(chosen), pooling)
        torch.testing.assert_close(pooled(encoder, found(chosen), pooling), expected, atol=1e-5, rtol=1e-5)


def test_rows_are_kept_without_padding_and_batches_are_padded(encoder: FastEncoder, feed: TokenFeed) -> None:
    found = make(encoder, feed)
    assert found.hidden.shape == (TOKENS, 32)
    assert found.bytes == estimate(np.array(LENGTHS), 32, 2, 3, torch.float32) == TOKENS * 32 * 4
    batch: dict[str, Any] = found(np.array([1, 2]))
    assert batch["hidden"].shape == (2, 24, 32)
    assert batch["attention_mask"].sum(1).tolist() == [17, 3]
    assert batch["first"] == 2


def test_without_anything_trained_in_the_backbone_one_vector_a_text_is_kept(
    encoder: FastEncoder, feed: TokenFeed
) -> None:
    found = make(encoder, feed, first=3)
    assert found.hidden.shape == (10, 32)
    assert found.bytes == estimate(np.array(LENGTHS), 32, 3, 3, torch.float32)
    batch: dict[str, Any] = found(np.array([1, 2]))
    assert batch["hidden"].shape == (2, 1, 32)


def test_bf16_halves_it(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    exact, half = make(encoder, feed), make(encoder, feed, dtype=torch.bfloat16, folder=tmp_path)
    assert half.bytes * 2 == exact.bytes
    assert torch.equal(half.hidden, exact.hidden.bfloat16())


def test_dropout_is_off_while_it_is_computed_and_on_again_after(encoder: FastEncoder, feed: TokenFeed) -> None:
    seen: list[bool] = []
    before = encoder.run

    def run(*args: Any) -> torch.Tensor:
        seen.append(encoder.module.training)
        return before(*args)

    encoder.run = run  # type: ignore[method-assign]
    make(encoder, feed)
    assert seen
    assert not any(seen)
    assert encoder.module.training


def test_nothing_is_kept_when_the_lowest_layer_is_trained(encoder: FastEncoder, feed: TokenFeed) -> None:
    assert prepare(encoder, feed, PrefixSpec(0, "cls", torch.float32, "b")) is None


def test_the_lowest_trained_layer_is_read_from_the_parameters(encoder: FastEncoder) -> None:
    module = encoder.module
    assert first_trained_layer(module, 3) == 3
    module.get_submodule("encoder.layer.2.output.dense").requires_grad_(True)
    assert first_trained_layer(module, 3) == 2
    module.get_submodule("encoder.layer.1.attention.self.value").requires_grad_(True)
    assert first_trained_layer(module, 3) == 1
    module.get_submodule("embeddings.LayerNorm").requires_grad_(True)
    assert first_trained_layer(module, 3) == 0
    modern = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])})
    modern.get_submodule("layers.0").requires_grad_(False)
    assert first_trained_layer(modern, 2) == 1


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("strategy", ["top", "head-only"])
def test_in_bf16_what_is_kept_is_what_would_be_computed(
    kind: str, pooling: str, strategy: str, tiny_backbone: Callable[..., Path], feed: TokenFeed
) -> None:
    """Not rounded once more: states between layers as the encoder has them, pooled vectors in fp32."""
    wanted = recipe.load(
        backbone=str(tiny_backbone(kind)), budget="9k", strategy=strategy, pooling=pooling, epochs=2,
        pad_to_multiple_of=8, prefix_cache="memory",
    )  # fmt: skip
    plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
    runtime = Runtime(torch.device("cpu"), "bf16")
    model = build(resolve(wanted.model.backbone), plan, 3, runtime, ModelSettings(**wanted.model.settings()))
    sources = choose_batch_sources(model, {"train": feed, "validation": feed}, wanted.train, backbone="b")
    kept, _ = sources.prefixes.values()
    assert kept.first == (2 if strategy == "top" else 4)
    assert kept.hidden.dtype == (model.encoder.dtype if strategy == "top" else torch.float32)
    rows = np.array([3, 4])  # of one length, so that these are the batches they were kept in
    with torch.inference_mode():
        given: Any = feed(rows)
        found, expected = model(**sources.train(rows)), model(**given)
    assert float((found - expected).abs().max()) <= 4 * torch.finfo(torch.bfloat16).eps * float(expected.abs().max())
    if strategy == "head-only":
        vectors = kept.hidden[torch.from_numpy(kept.starts[rows])]
        with torch.inference_mode():
            pooled = model.pooled(**given).float()
        assert float((vectors - pooled).abs().max()) <= 2 * torch.finfo(torch.bfloat16).eps * float(pooled.abs().max())


@pytest.mark.parametrize(("where", "far", "quicker", "before", "kept"), [
    ("auto", True, True, None, []), ("auto", True, False, None, ["train", "validation"]),
    ("auto", False, True, None, ["train", "validation"]),
    ("auto", True, False, [], []), ("auto", True, True, ["train"], ["train"]),
    ("memory", True, True, None, ["train", "validation"]),
])  # fmt: skip
def test_what_is_quicker_to_compute_is_not_kept_and_a_resumed_run_decides_as_before(
    where: str, far: bool, quicker: bool, before: list[str] | None, kept: list[str],
    tiny_backbone: Callable[..., Path], feed: TokenFeed, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[int] = []
    monkeypatch.setattr(batch_source, "stays_in_main_memory", lambda needed, device: asked.append(needed) or far)
    monkeypatch.setattr(batch_source, "computing_is_quicker", lambda *given: quicker)
    wanted = recipe.load(
        backbone=str(tiny_backbone("bert")), budget="9k", strategy="top", epochs=2, pad_to_multiple_of=8,
        prefix_cache=where, precision="fp32",
    )  # fmt: skip
    plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
    runtime = Runtime(torch.device("cpu"), "fp32")
    model = build(resolve(wanted.model.backbone), plan, 3, runtime, ModelSettings(**wanted.model.settings()))
    both = {"train": feed, "validation": feed}
    sources = choose_batch_sources(model, both, wanted.train, backbone="b", kept=before)
    assert list(sources.prefixes) == kept
    assert sources.train is feed or isinstance(sources.train, Prefix)
    assert asked == ([TOKENS * 32 * 4] * 2 if before is None and where == "auto" else [])


def test_a_second_run_finds_the_file(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    one = make(encoder, feed, folder=tmp_path)
    two = make(asleep(encoder), feed, folder=tmp_path, batch_size=3)
    assert (one.reused, two.reused) == (False, True)
    assert torch.equal(one.hidden, two.hidden)
    assert torch.equal(one(np.array([3, 8]))["hidden"], two(np.array([3, 8]))["hidden"])  # type: ignore[arg-type]


def asleep(encoder: FastEncoder) -> Any:
    class Asleep:
        module, hidden_size, num_layers = encoder.module, encoder.hidden_size, encoder.num_layers

    return Asleep()


def test_the_key_depends_on_backbone_texts_layer_pooling_and_type(feed: TokenFeed) -> None:
    tokens = feed.encoded
    base = PrefixSpec(2, "cls", torch.float32, "b")
    ids = tokens.ids.copy()
    ids[7] += 1
    offsets = tokens.offsets.copy()
    offsets[1] += 1
    others = [
        (replace(base, backbone="c"), tokens),
        (base, Encoded(ids, tokens.offsets)),
        (base, Encoded(tokens.ids, offsets)),
        (replace(base, first=1), tokens),
        (replace(base, pooling="mean"), tokens),
        (replace(base, dtype=torch.bfloat16), tokens),
    ]
    keys = [prefix_key(spec, encoded) for spec, encoded in [(base, tokens), *others]]
    assert len(set(keys)) == len(keys)
    assert keys[0] == prefix_key(base, replace(tokens))


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"x",
        lambda raw: raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:],
        lambda raw: b"x" + raw[1:],
        lambda raw: b"",
    ],
    ids=["cut", "longer", "bit", "header", "empty"],
)
def test_a_damaged_file_is_noticed_and_written_anew(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path, damage: Any
) -> None:
    one = make(encoder, feed, folder=tmp_path)
    assert one.file is not None
    whole = one.file.read_bytes()
    expected = one.hidden.clone()
    one.file.write_bytes(damage(whole))
    two = make(encoder, feed, folder=tmp_path)
    assert not two.reused
    assert torch.equal(two.hidden, expected)
    assert one.file.read_bytes() == whole


def test_a_stale_file_under_the_right_name_is_noticed(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    other = make(encoder, feed, folder=tmp_path, backbone="another")
    one = make(encoder, feed, folder=tmp_path)
    assert one.file is not None
    assert other.file is not None
    one.file.write_bytes(other.file.read_bytes())
    assert not make(encoder, feed, folder=tmp_path).reused


def test_a_folder_that_cannot_be_written_gives_one_warning_and_the_same_result(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.warns(PrefixWarning, match=r"the frozen prefix is kept in memory instead$") as caught:
        found = make(encoder, feed, folder=blocked / "cache")
    assert len(caught) == 1
    assert found.file is None
    assert torch.equal(found.hidden, make(encoder, feed).hidden)


def test_a_disk_that_fills_up_gives_one_warning_and_the_same_result(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(prefix, "_header", full)
        with pytest.warns(PrefixWarning, match=r"the disk is full.*is kept in memory instead$") as caught:
            found = make(encoder, feed, folder=tmp_path)
    assert len(caught) == 1
    assert found.file is None
    assert torch.equal(found.hidden, make(encoder, feed).hidden)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_limit_too_small_for_the_folder_means_memory(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    with pytest.warns(PrefixWarning, match="expected at most 0.000 GB"):
        found = make(encoder, feed, folder=tmp_path, limit=100)
    assert found.file is None


def test_a_limit_too_small_for_memory_means_no_prefix(encoder: FastEncoder, feed: TokenFeed) -> None:
    with pytest.warns(PrefixWarning, match="lower layers are computed in every epoch; train on fewer or shorter texts"):
        found = prepare(encoder, feed, PrefixSpec(2, "cls", torch.float32, "b"), limit=100)
    assert found is None


def test_what_another_process_moves_away_while_it_is_looked_at_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, writing = tmp_path / f"a{prefix.SUFFIX}", tmp_path / f".b{prefix.SUFFIX}.1.part"
    kept.write_bytes(b"four")
    writing.mkdir()
    (writing / kept.name).write_bytes(b"two")
    assert [(path, size) for path, size, _ in prefix._sizes(tmp_path)] == [(kept, 4), (writing / kept.name, 3)]
    looked_at = Path.iterdir

    def moved_away(folder: Path) -> Iterator[Path]:
        if folder == writing:
            shutil.rmtree(folder)
        return looked_at(folder)

    monkeypatch.setattr(Path, "iterdir", moved_away)
    assert [(path, size) for path, size, _ in prefix._sizes(tmp_path)] == [(kept, 4)]


def test_files_unused_longest_make_room(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    one, two = (make(encoder, feed, folder=tmp_path, backbone=name) for name in ("one", "two"))
    assert one.file is not None
    assert two.file is not None
    size = one.file.stat().st_size
    os.utime(one.file, (1, 1))
    os.utime(two.file, (2, 2))
    make(encoder, feed, folder=tmp_path, backbone="one")  # used again, so `two` is now the older
    kept = one.file.name
    del one, two  # nobody uses them any more
    three = make(encoder, feed, folder=tmp_path, backbone="three", limit=2 * size)
    assert three.file is not None
    assert {path.name for path in tmp_path.iterdir()} == {kept, three.file.name}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_in_use_is_never_removed(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    one, two = (make(encoder, feed, folder=tmp_path, backbone=name) for name in ("one", "two"))
    assert one.file is not None
    assert two.file is not None
    size, oldest, newer = one.file.stat().st_size, one.file.name, two.file.name
    os.utime(one.file, (1, 1))
    os.utime(two.file, (2, 2))
    with pytest.warns(PrefixWarning, match=r"of it in use; free some space or raise the limit with --cache-gb"):
        assert make(encoder, feed, folder=tmp_path, backbone="three", limit=2 * size).file is None
    assert files(tmp_path) == {oldest, newer}
    del two  # of the two the one used last, but nobody uses it now
    three = make(encoder, feed, folder=tmp_path, backbone="three", limit=2 * size)
    assert three.file is not None
    assert files(tmp_path) == {oldest, three.file.name}


def test_a_file_that_another_process_uses_is_never_removed(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path
) -> None:
    one = make(encoder, feed, folder=tmp_path, backbone="one")
    assert one.file is not None
    size, name = one.file.stat().st_size, one.file.name
    del one
    code = f"""
import sys, torch
from pathlib import Path
from pennyweight.train import prefix_cache as prefix
file = Path({str(tmp_path / name)!r})
held = prefix._open(file, file.stem, ({TOKENS}, 32), torch.float32)
assert held is not None
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(prefix.__file__).parents[2])},
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.warns(PrefixWarning, match="kept in memory instead"):
            assert make(encoder, feed, folder=tmp_path, backbone="two", limit=size).file is None
        assert files(tmp_path) == {name}
        other.stdin.close()
    assert other.returncode == 0
    two = make(encoder, feed, folder=tmp_path, backbone="two", limit=size)
    assert two.file is not None
    assert files(tmp_path) == {two.file.name}


def test_what_cannot_fit_costs_no_other_its_place(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(encoder, feed, folder=tmp_path, backbone=name)
    before = files(tmp_path)
    with pytest.warns(PrefixWarning, match="the frozen prefix takes"):
        assert make(encoder, feed, folder=tmp_path, backbone="three", limit=100).file is None
    assert files(tmp_path) == before


def test_the_cache_leaves_half_of_the_free_disk_free(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = TOKENS * 32 * 4 + prefix.HEADER_BYTES

    def free(path: Path) -> Any:
        """A disk on which four such files have room."""
        used = sum(one.stat().st_size for one in path.rglob(f"*{prefix.SUFFIX}"))
        return SimpleNamespace(free=4 * size - used)

    monkeypatch.setattr(prefix.shutil, "disk_usage", free)
    for number in range(6):
        file = make(encoder, feed, folder=tmp_path, backbone=str(number), limit=100 * size).file
        assert file is not None
        os.utime(file, (number, number))
        assert file.name in files(tmp_path)
        assert len(files(tmp_path)) == min(2, number + 1)


def test_what_killed_writers_left_goes(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    left = tmp_path / ".abc.prefix.xyz.part"
    left.mkdir()
    (left / "abc.prefix").write_bytes(bytes(1000))
    found = make(encoder, feed, folder=tmp_path)
    assert found.file is not None
    assert files(tmp_path) == {found.file.name}


def test_files_that_others_own_are_let_be(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make(encoder, feed, folder=tmp_path, backbone="one")
    assert one.file is not None
    size = one.file.stat().st_size
    del one

    def forbidden(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", forbidden)
        make(encoder, feed, folder=tmp_path, backbone="two", limit=int(1.5 * size))
    assert len(files(tmp_path)) == 2  # as far as it goes


def test_neither_disk_nor_memory_is_one_warning(
    encoder: FastEncoder, feed: TokenFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix.psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    with pytest.warns(PrefixWarning, match=r"expected at most .* lower layers are computed in every epoch") as caught:
        found = prepare(encoder, feed, PrefixSpec(2, "cls", torch.float32, "b"), folder=tmp_path, limit=100)
    assert found is None
    assert len(caught) == 1


def test_writing_into_a_batch_does_not_reach_the_file(encoder: FastEncoder, feed: TokenFeed, tmp_path: Path) -> None:
    one = make(encoder, feed, folder=tmp_path)
    one.hidden.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(encoder, feed, folder=tmp_path).reused
