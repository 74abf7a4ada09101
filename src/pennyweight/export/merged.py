"""A classifier as one transformers model, the adapter merged into its weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..artifact.artifact import Artifact
from ..storage.atomic import atomic_folder, write_text
from ..storage.folders import refuse_nonempty_folder
from .difference import logit_difference
from .peft import to_peft
from .readme import pipeline_code, readme
from .stock_head import stock_head
from .stock_model import stock_base, stock_model
from .whole_texts import refuse_long_texts


def to_merged(artifact: Artifact, folder: str | Path) -> float:
    """Write one stock transformers model with the adapter merged into its weights, for `pipeline` and all else.

    Returns:
        The largest difference of logits, as in `to_peft`.

    Raises:
        InputError, ArtifactError: as in `to_peft`.
    """
    refuse_nonempty_folder(folder)
    refuse_long_texts(artifact)
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as aside:
        if artifact.plan.adapter is None:
            model = stock_base(artifact)
            missing = model.load_state_dict(stock_head(artifact), strict=False).unexpected_keys
            assert not missing, missing
        else:
            to_peft(artifact, Path(scratch) / "peft")
            model = stock_model(artifact, Path(scratch) / "peft").merge_and_unload()
        model.save_pretrained(aside)
        artifact.tokenizer.save_pretrained(aside)
        title = "A Pennyweight classifier as a transformers model"
        write_text(aside / "README.md", readme(artifact, "transformers", title, pipeline_code(artifact)))
        return logit_difference(artifact, model)
