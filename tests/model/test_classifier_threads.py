"""One classifier in several threads at once: each gets the answers that it would get alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

import pennyweight as pw
from pennyweight.model.backbone import config_of, resolve
from pennyweight.model.classifier import ModelSettings, SequenceClassifier, build
from pennyweight.model.device import Runtime
from pennyweight.model.kernels import frozen_linear as frozen
from pennyweight.model.tokenizer import encode, load_tokenizer
from pennyweight.recipe import loading as recipe
from pennyweight.recipe.planning import plan_for

THREADS, ROUNDS = 4, 5
KINDS = ["bert", "xlm-roberta", "distilbert", "electra", "deberta-v2", "modernbert", "mpnet"]
FAST = [(kind, "fast") for kind in ("bert", "distilbert", "electra", "mpnet", "modernbert")]


def built(folder: Path, precision: str, **settings: Any) -> SequenceClassifier:
    """A classifier whose adapter counts, the same every time."""
    wanted = recipe.load(backbone=str(folder), budget="9k", strategy="all-linear", **settings)
    plan = plan_for(wanted, config_of(wanted.model.backbone), 3)
    model = build(
        resolve(str(folder)), plan, 3, Runtime(torch.device("cpu"), precision), ModelSettings(**wanted.model.settings())
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def batches() -> list[dict[str, Tensor]]:
    """Texts of other lengths for each thread, some of them padded."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for thread in range(THREADS):
        ids = torch.randint(5, 40, (3, 9 + 8 * thread), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 4 + thread :] = 0
        made.append({"input_ids": ids, "attention_mask": mask})
    return made


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("kind", "encoder"), FAST + [(kind, "reference") for kind in KINDS])
def test_a_forward_pass_in_four_threads_gives_what_it_gives_alone(
    kind: str,
    encoder: str,
    precision: str,
    pooling: str,
    tiny_backbone: Callable[..., Path],
    near: Callable[..., None],
) -> None:
    settings = {"encoder": encoder, "pooling": pooling}
    given = batches()
    alone = built(tiny_backbone(kind), precision, **settings)
    with torch.inference_mode():
        expected = [alone(**batch) for batch in given]
    fresh = built(tiny_backbone(kind), precision, **settings)  # what is made in a first pass is made in these threads
    together = Barrier(THREADS)

    def run(batch: dict[str, Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            together.wait()
            return [fresh(**batch) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for found, wanted in zip(pool.map(run, given), expected, strict=True):
            for each in found:
                near(each, wanted, 8)


def test_threads_may_start_and_stop_layers_anywhere(tiny_backbone: Callable[..., Path]) -> None:
    """One runs the lower layers, another the upper: neither sees which the other runs."""
    encoder = built(tiny_backbone("modernbert"), "fp32", encoder="reference").encoder
    (batch, *_) = batches()
    mask = batch["attention_mask"]
    with torch.inference_mode():
        start = encoder.embed(batch["input_ids"], mask)
    spans = [(0, 1), (1, 3), (2, 4), (0, 4)]

    def run(span: tuple[int, int]) -> Tensor:
        with torch.inference_mode():
            return torch.stack([encoder.run(start, mask, *span) for _ in range(ROUNDS)])

    expected = [run(span) for span in spans]
    with ThreadPoolExecutor(THREADS) as pool:
        for found, wanted in zip(pool.map(run, spans), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_weights_are_laid_out_once_however_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(frozen.FrozenMatrix):
        def __init__(self, weight: Tensor, prepack: bool, int8: bool = False) -> None:
            time.sleep(0.05)  # long enough for the others to ask meanwhile
            super().__init__(weight, prepack, int8)

    monkeypatch.setattr(frozen, "FrozenMatrix", Slow)
    modules = [frozen.Linear(64, 64).requires_grad_(False) for _ in range(3)]
    expected = torch.cat([module.weight.clone() for module in modules])
    together = Barrier(THREADS)

    def run(_: int) -> frozen.FrozenMatrix:
        together.wait()
        return frozen.frozen_matrix(modules)

    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(run, range(THREADS)))
    assert len({id(each) for each in made}) == 1
    assert torch.equal(made[0].weight, expected)


def test_texts_are_answered_in_four_threads_as_alone(tiny_backbone: Callable[..., Path], news: Path) -> None:
    trained = pw.train(
        news / "train.csv", backbone=str(tiny_backbone("distilbert")), budget="5k", epochs=1, batch_size=16,
        precision="fp32",
    )  # fmt: skip
    texts = [
        [f"The {word} and the bank of {number}" for number in range(40)] for word in ("cup", "rate", "polls", "of")
    ]
    expected = [trained.predict_proba(each) for each in texts]
    together = Barrier(THREADS)

    def run(given: list[str]) -> Any:
        together.wait()
        return [trained.predict_proba(given) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(THREADS) as pool:
        for found, wanted in zip(pool.map(run, texts), expected, strict=True):
            for each in found:
                assert each == pytest.approx(wanted, abs=1e-6)
    assert not any(module.training for module in trained.artifact.model.modules())


def test_a_tokenizer_that_is_set_is_not_set_again(tiny_backbone: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(tiny_backbone("bert"))
    tokenizer(["The bank", "The cup and the bank"], padding=True, truncation=True, max_length=7)
    assert encode(tokenizer, ["The bank", "The cup and the bank of it"], 5).lengths.tolist() == [4, 5]
    backend = tokenizer.backend_tokenizer
    assert backend.padding is None
    assert backend.truncation["max_length"] == 5

    class Set:
        padding, truncation = None, backend.truncation

        def encode_batch_fast(self, texts: list[str]) -> Any:
            return backend.encode_batch_fast(texts)

    class Tokenizer:
        backend_tokenizer = Set()  # has nothing to set

    assert encode(Tokenizer(), ["The bank"], 5).lengths.tolist() == [4]
