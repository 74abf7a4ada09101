"""Where batches come from: token ids, or what the frozen lower layers left of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.batching import Encoded
from ..model.classifier import SequenceClassifier
from ..model.device import Runtime
from ..model.inference import Feed, TokenFeed
from ..recipe.loading import Recipe
from ..storage.user_cache import cache_folder
from .prefix_cache import Prefix, first_trained_layer, prepare


@dataclass(frozen=True)
class Feeds:
    """Feeds of the training and validation texts, and what was kept for them.

    Attributes:
        train: batches to train on.
        validation: batches to validate on; None where nothing is held out.
        kept: the prefixes behind them; empty when token ids are fed.
    """

    train: Feed
    validation: Feed | None
    kept: tuple[Prefix, ...]

    def names(self) -> list[str]:
        """Whose prefixes were kept: computed in other batches than training's, they may differ in the last bit."""
        fed = {"train": self.train, "validation": self.validation}
        return [name for name, feed in fed.items() if isinstance(feed, Prefix)]

    def to_json(self) -> dict[str, Any] | None:
        """The `prefix` part of metrics.json, None when nothing was kept."""
        if not self.kept:
            return None
        return {
            "first_layer": self.kept[0].first,
            "bytes": sum(prefix.bytes for prefix in self.kept),
            "seconds": round(sum(prefix.seconds for prefix in self.kept), 3),
            "reused": all(prefix.reused for prefix in self.kept),
        }

    def __str__(self) -> str:
        facts = self.to_json()
        if facts is None:
            return "prefix: nothing kept"
        how = "found" if facts["reused"] else f"computed in {facts['seconds']:.1f} s"
        return f"prefix: layers below {facts['first_layer']} {how} and kept, {facts['bytes'] / 1e6:,.0f} MB"


def make(
    model: SequenceClassifier, tokens: dict[str, Encoded], pad_id: int, recipe: Recipe, runtime: Runtime, backbone: str
) -> Feeds:
    """Token feeds, or prefixes where lower layers are frozen and would be computed more than once.

    Args:
        tokens: token ids by name, `train` and perhaps `validation` among them.
        backbone: fingerprint of the frozen weights.
    """
    wanted = recipe.train.prefix_cache
    bucket, max_length = recipe.data.pad_to_multiple_of, recipe.data.max_length
    plain = {
        name: TokenFeed(tokens[name], pad_id, bucket, max_length, runtime.device)
        for name in ("train", "validation")
        if name in tokens
    }
    first = first_trained_layer(model.module, model.encoder.num_layers)
    random = recipe.model.hidden_dropout or recipe.model.attention_dropout  # then each pass is different
    if wanted == "off" or first == 0 or random:
        return Feeds(plain["train"], plain.get("validation"), ())
    on_disk = wanted == "disk" or (wanted == "auto" and recipe.train.cache_dir is not None)
    folder = (Path(recipe.train.cache_dir) if recipe.train.cache_dir else default_folder()) if on_disk else None
    kept: dict[str, Prefix] = {}
    for name, feed in plain.items():
        # One epoch reads each training text once: keeping it would only cost memory.
        if name == "train" and recipe.train.epochs == 1 and folder is None:
            continue
        prefix = prepare(
            model.encoder,
            feed,
            first=first,
            pooling=model.pooling,
            # One pooled vector a text is little, and mean pooling gives it in fp32: it is kept so.
            dtype=model.encoder.dtype if first < model.encoder.num_layers else torch.float32,
            backbone=f"{backbone}/{model.engine}/{runtime.precision}",
            folder=folder,
            limit=None if folder is None else int(recipe.train.cache_gb * 1e9),
        )
        if prefix is not None:
            kept[name] = prefix
    found: dict[str, Feed] = {name: kept.get(name, feed) for name, feed in plain.items()}
    return Feeds(found["train"], found.get("validation"), tuple(kept.values()))


def default_folder() -> Path:
    """Where prefixes are kept on disk unless the recipe says otherwise."""
    return cache_folder() / "prefix"
