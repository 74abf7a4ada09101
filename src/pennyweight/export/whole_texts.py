"""Refusing exports of classifiers that read more of a text than its beginning."""

from __future__ import annotations

from ..artifact.artifact import Artifact
from ..errors import ArtifactError


def refuse_long_texts(artifact: Artifact) -> None:
    """Refuse a classifier that reads long texts in another way than from their beginning.

    An exported model takes one sequence of tokens; what its tokenizer can do with a longer text is to cut the end.

    Raises:
        ArtifactError: for one.
    """
    long_texts = artifact.recipe.data.long_texts
    if long_texts != "truncate":
        raise ArtifactError(
            "an exported model reads one sequence of tokens, and its tokenizer can only cut off the end of longer "
            "texts",
            expected="a classifier trained with --long-texts truncate",
            received=f"--long-texts {long_texts}",
            remedy="train with --long-texts truncate and a larger --max-length, or keep Pennyweight's own artifact",
        )
