"""Differences between the first process of a training run and the others."""

from __future__ import annotations

from ..errors import BackboneError
from ..model.backbone import Backbone, resolve
from ..recipe.schema import Recipe


def follow(recipe: Recipe, fingerprint: str) -> tuple[Recipe, Backbone]:
    """The first process's recipe without what that one does alone, and this machine's copy of its backbone.

    Args:
        fingerprint: of the first process's backbone.

    Raises:
        BackboneError: this machine's is missing, or another.
    """
    backbone = resolve(recipe.model.backbone, recipe.model.revision)
    if backbone.fingerprint() != fingerprint:
        raise BackboneError(
            "the backbone differs from that of the first process", where=backbone.folder,
            remedy="copy the same files to all machines, or name them on a shared file system",
        )  # fmt: skip
    alone = {"audit": "off", "track": []}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=alone)}), backbone
