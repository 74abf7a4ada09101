"""Sources of batches: token ids, or the frozen lower layers' outputs for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.batching import Encoded
from ..model.classifier import SequenceClassifier
from ..model.encoders.encoder import Encoder
from ..model.inference import Feed, TokenFeed
from ..model.text_model import TextModel
from ..recipe.schema import TrainRecipe
from ..storage.user_cache import cache_folder
from .frozen_features import FrozenBackbone
from .prefix_cache import Prefix, PrefixSpec, estimate, first_trained_layer, prepare
from .prefix_placement import computing_is_quicker, place_prefix, stays_in_main_memory
from .process_group import ProcessGroup


@dataclass(frozen=True)
class BatchSources:
    """Sources of the training and validation batches.

    Attributes:
        train: batches to train on.
        validation: batches to validate on; None if nothing is held out.
        exact: whether a prefix has the number format of the training.
    """

    train: Feed
    validation: Feed | None
    exact: bool = True

    def held_out(self, model: TextModel, tokens: Mapping[str, Encoded]) -> Feed | None:
        """Validation batches for the final figures: those of training, where these are computed as in prediction."""
        return self.validation if self.exact or "validation" not in tokens else model.batches(tokens["validation"])

    @property
    def prefixes(self) -> dict[str, Prefix]:
        """Those that read a prefix, by name: computed in other batches than training's, the last bit may differ."""
        sources = {"train": self.train, "validation": self.validation}
        return {name: source for name, source in sources.items() if isinstance(source, Prefix)}

    def to_json(self) -> dict[str, Any] | None:
        """The `prefix` part of metrics.json, None when nothing was kept."""
        prefixes = list(self.prefixes.values())
        if not prefixes:
            return None
        return {
            "first_layer": prefixes[0].first,
            "bytes": sum(prefix.bytes for prefix in prefixes),
            "seconds": round(sum(prefix.seconds for prefix in prefixes), 3),
            "reused": all(prefix.reused for prefix in prefixes),
            "precision": "as in training" if self.exact else "int8",
        }

    def __str__(self) -> str:
        values = self.to_json()
        if values is None:
            return "prefix: nothing kept"
        how = "found" if values["reused"] else f"computed in {values['seconds']:.1f} s"
        return f"prefix: layers below {values['first_layer']} {how} and kept, {values['bytes'] / 1e6:,.0f} MB"


def choose_batch_sources(
    model: SequenceClassifier,
    tokens: Mapping[str, TokenFeed],
    settings: TrainRecipe,
    *,
    backbone: str,
    frozen: FrozenBackbone | None = None,
    kept: Sequence[str] | None = None,
) -> BatchSources:
    """Token ids as they are, or prefixes where lower layers are frozen and would be computed more than once.

    Args:
        tokens: batches of token ids by name, `train` and perhaps `validation`.
        backbone: fingerprint of the frozen weights, and of the engine that computes them.
        frozen: knows whether frozen layers have dropout, so that each pass is different, and has those of another
            number format, if the recipe asks for one.
        kept: of a run that is resumed, the names of what it kept: what it measured is not measured again. None for a
            new run.
    """
    first = first_trained_layer(model.module, model.encoder.num_layers)
    in_windows = tokens["train"].encoded.windows is not None  # a text has one row per window: too much to keep
    if settings.prefix_cache == "off" or first == 0 or in_windows or (frozen is not None and frozen.stochastic):
        return BatchSources(tokens["train"], tokens.get("validation"))
    # One pooled vector a text is little, and mean pooling gives it in fp32: it is kept so.
    dtype = model.encoder.dtype if first < model.encoder.num_layers else torch.float32
    layers = None if frozen is None or first == model.encoder.num_layers else frozen.prefix_layers()
    spec = PrefixSpec(first, model.pooling, dtype, backbone if layers is None else f"{backbone}/int8")
    folder = _cache_folder(settings)
    group = ProcessGroup() if frozen is None else frozen.group
    chosen: dict[str, Feed] = dict(tokens)
    for name, source in tokens.items():
        # One epoch reads each training text once: keeping it would only cost memory.
        if name == "train" and settings.epochs == 1 and folder is None:
            continue
        if not _worth_keeping(model.encoder, source, spec, settings, group, None if kept is None else name in kept):
            continue
        limit = None if folder is None else int(settings.cache_gb * 1e9)
        found = prepare(model.encoder, source, spec, folder=folder, limit=limit, layers=layers, group=group)
        chosen[name] = source if found is None else place_prefix(found)
    return BatchSources(chosen["train"], chosen.get("validation"), exact=layers is None)


def _worth_keeping(
    encoder: Encoder, feed: TokenFeed, spec: PrefixSpec, settings: TrainRecipe, group: ProcessGroup, before: bool | None
) -> bool:
    """Whether to keep a prefix: yes if asked to, else unless a GPU would read it slower than it computes it.

    A CPU always reads: a timing must not decide its last bits (docs/decisions.md).

    Args:
        before: what was decided in the run that is resumed; None for a new one.
    """
    if before is not None:
        return before
    if spec.first >= encoder.num_layers or settings.prefix_cache != "auto":
        return True
    needed = estimate(feed.encoded.lengths, encoder.hidden_size, spec.first, encoder.num_layers, spec.dtype)
    quicker = stays_in_main_memory(needed, feed.device) and computing_is_quicker(
        encoder, feed, spec.first, spec.dtype, settings.batch_size
    )
    return not all(group.gather(quicker))  # one reading of the texts for all


def _cache_folder(settings: TrainRecipe) -> Path | None:
    """Where prefixes are kept on disk; None if they stay in memory."""
    if settings.cache_dir is not None and settings.prefix_cache in ("auto", "disk"):
        return Path(settings.cache_dir)
    return default_folder() if settings.prefix_cache == "disk" else None


def default_folder() -> Path:
    """Where prefixes are kept on disk unless the recipe says otherwise."""
    return cache_folder() / "prefix"
