"""The saved classifier: what files it holds, how they are written, checked and read.

| file                                | holds                                                             |
|-------------------------------------|-------------------------------------------------------------------|
| pennyweight.json                    | the manifest: format, labels, backbone, versions, checksums, seal |
| recipe.yaml                         | the resolved recipe; trains the same again from the same data     |
| plan.json                           | what is trained, part by part                                     |
| metrics.json                        | what was measured                                                 |
| adapter/adapter_config.json         | the adapter as PEFT describes it (absent for head-only)           |
| adapter/adapter_model.safetensors   | the adapter as PEFT stores it                                     |
| head.safetensors                    | the classification head                                           |
| answers.safetensors                 | what it answered to the validation and test rows, and how surely  |
| tokenizer/                          | the tokenizer as transformers stores it                           |
| README.md                           | the model card                                                    |

The frozen backbone is not copied: it is named, and its weights' checksum is kept and compared.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as arrays
from safetensors.torch import save_file

from .. import __version__
from ..budget.plan import Plan
from ..data.input_spec import InputSpec
from ..data.labels import LabelSet
from ..data.provenance import SOURCES, source_name
from ..errors import ArtifactError, PennyweightError, ResourceError
from ..model.adapters import lora as adapt
from ..model.backbone import Backbone
from ..model.classifier import SequenceClassifier, build
from ..model.device import Runtime
from ..recipe.loading import Recipe, parse
from ..storage.atomic import atomic_items, recover
from ..storage.json_files import to_json
from . import manifest
from . import validation as untrusted
from .manifest import Saved, damaged

MANIFEST = manifest.NAME
RECIPE = "recipe.yaml"
PLAN = "plan.json"
METRICS = "metrics.json"
CARD = "README.md"
ADAPTER_CONFIG = "adapter/adapter_config.json"
ADAPTER = "adapter/adapter_model.safetensors"
HEAD = "head.safetensors"
ANSWERS = "answers.safetensors"
TOKENIZER = "tokenizer"
REQUIRED = (RECIPE, PLAN, METRICS, HEAD, "tokenizer/tokenizer.json")
# All that a save may write, as it lies in the folder.
ITEMS = (MANIFEST, RECIPE, PLAN, METRICS, CARD, HEAD, ANSWERS, *manifest.CLOSED)


@dataclass
class Artifact:
    """A trained classifier in memory, with all that describes it.

    Attributes:
        input_spec: how texts and labels are read, as it was resolved in training.
        answers: arrays as `reporting.rows` names them.
        run: the fingerprint of the run that made it: of data, recipe, backbone and versions.
    """

    model: SequenceClassifier
    tokenizer: Any
    backbone: Backbone
    labels: LabelSet
    recipe: Recipe
    plan: Plan
    metrics: dict[str, Any]
    input_spec: InputSpec = field(default_factory=InputSpec)
    card: str = ""
    answers: dict[str, np.ndarray] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """What computed the figures."""
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
    known = {"python": platform.python_version(), "pennyweight": __version__}
    return known | {name: importlib.metadata.version(name) for name in packages}


def save(artifact: Artifact, folder: str | Path, *, replace: bool = True) -> Path:
    """Write the artifact into `folder` (made if missing): everything aside first, then renamed, the manifest last.

    Whoever loads meanwhile, or after a save that failed or was killed, gets the former classifier or this one.

    Args:
        replace: whether what is in the folder under the same names may go.

    Raises:
        StorageError: when it cannot be written; what was there before is intact.
        ArtifactError: when something is there already and may not be replaced.
    """
    folder = Path(folder)
    taken = [name for name in ITEMS if os.path.lexists(folder / name)]
    if taken and not replace:
        raise ArtifactError(f"{taken[0]} is already there", where=folder, remedy="choose another folder")
    with atomic_items(folder, manifest.WRITER, MANIFEST, retired=ITEMS) as aside:
        _write(artifact, aside)
        files = sorted(file.relative_to(aside).as_posix() for file in aside.rglob("*") if file.is_file())
        (aside / MANIFEST).write_text(manifest.text(_facts(artifact), aside, files), encoding="utf-8")
    return folder


def made_by(folder: str | Path) -> dict[str, Any]:
    """The fingerprint of the run that made the classifier in a folder; empty where there is no whole one.

    What a save that was killed left is cleaned up first.
    """
    recover(Path(folder), manifest.WRITER)
    try:
        run = read(folder).facts.get("run")
    except ArtifactError:
        return {}  # not there yet, or damaged: then the run's checkpoints can make it again
    return run if isinstance(run, dict) else {}


def handed_on(recipe: Recipe) -> Recipe:
    """A recipe as it is saved: folders of this machine are of no use to others, and say more than they should.

    Of data files the names are left. The backbone's folder stays, since loading needs it; see `push`.
    """
    values = recipe.model_dump()
    for key in SOURCES:
        if values["data"][key] is not None:
            values["data"][key] = source_name(values["data"][key])
    values["train"]["cache_dir"] = None
    return parse(values)


def _write(artifact: Artifact, folder: Path) -> None:
    handed_on(artifact.recipe).save(folder / RECIPE)
    _dump(folder / PLAN, artifact.plan.to_json())
    _dump(folder / METRICS, artifact.metrics)
    (folder / CARD).write_text(artifact.card, encoding="utf-8")
    head = {name: tensor.detach().cpu().contiguous() for name, tensor in artifact.model.head.state_dict().items()}
    save_file(head, folder / HEAD)
    artifact.tokenizer.save_pretrained(folder / "tokenizer")
    if artifact.answers:
        arrays.save_file(
            {name: np.ascontiguousarray(rows) for name, rows in artifact.answers.items()}, folder / ANSWERS
        )
    if artifact.plan.adapter is not None:
        config = adapt.lora_config(artifact.plan.adapter, artifact.backbone.config)
        config.base_model_name_or_path = artifact.backbone.name
        config.inference_mode = True
        config.save_pretrained(folder / "adapter")
        save_file(adapt.adapter_state(artifact.model.module), folder / ADAPTER)


def _dump(path: Path, value: Any) -> None:
    path.write_text(to_json(value), encoding="utf-8")


def _facts(artifact: Artifact) -> dict[str, Any]:
    backbone = artifact.backbone
    return {
        "versions": versions(),
        "labels": artifact.labels.to_json(),
        "reading": artifact.input_spec.to_json(),
        "max_length": artifact.recipe.data.max_length,
        "pooling": artifact.recipe.model.pooling,
        "head": asdict(artifact.plan.head),
        "backbone": {
            "name": backbone.name,
            "revision": backbone.revision,
            "fingerprint": backbone.fingerprint(),
            "config": backbone.config,
        },
        "run": artifact.run,
    }


def read(folder: str | Path) -> Saved:
    """All files of a saved classifier, checked against its manifest; each is read once, here.

    Raises:
        ArtifactError: no artifact, a newer format, a missing, foreign or damaged file.
    """
    folder = Path(folder)
    with _one_line(folder):
        return manifest.read(folder, REQUIRED)


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe a saved classifier was trained with; its other files are not looked at.

    Raises:
        ArtifactError: as for `read`.
    """
    return recipe_of(manifest.read(Path(folder), REQUIRED, only=(RECIPE,)))


def read_input_spec(folder: str | Path) -> InputSpec:
    """How a saved classifier reads its data; its other files are not looked at.

    Nothing is said of a classifier that cannot be read: loading it will.
    """
    try:
        saved = manifest.read(Path(folder), REQUIRED, only=(RECIPE,))
        return untrusted.input_spec(saved.path(MANIFEST), saved.facts, recipe_of(saved))
    except ArtifactError:
        return InputSpec()


def recipe_of(saved: Saved) -> Recipe:
    """The recipe among files that were read."""
    return untrusted.recipe(saved, RECIPE)


def metrics_of(saved: Saved) -> dict[str, Any]:
    """The figures among files that were read, checked for their form."""
    labels = untrusted.labels(saved.path(MANIFEST), saved.facts)
    return untrusted.metrics(saved, METRICS, multi=labels.multi)


def answers_of(saved: Saved) -> dict[str, np.ndarray]:
    """What a saved classifier answered when it was trained; empty where nothing was kept."""
    return untrusted.answers(saved, ANSWERS, untrusted.labels(saved.path(MANIFEST), saved.facts))


def load(saved: Saved | str | Path, runtime: Runtime, backbone: str | None = None) -> Artifact:
    """Read and check a saved classifier.

    Args:
        saved: its folder, or its files as `read` gave them.
        runtime: device and number format to compute with.
        backbone: where the backbone is now, if not where it was when the classifier was trained.

    Raises:
        ArtifactError: damaged, foreign or newer files, or another backbone than the one it was trained on.
        ResourceError: when memory runs out.
    """
    saved = saved if isinstance(saved, Saved) else read(saved)
    with _one_line(saved.folder):
        facts, path = saved.facts, saved.path(MANIFEST)
        recipe = recipe_of(saved)
        plan = untrusted.plan(saved, PLAN)
        labels = untrusted.labels(path, facts)
        input_spec = untrusted.input_spec(path, facts, recipe)
        untrusted.check_agreement(path, facts, recipe, plan)
        metrics, answers = metrics_of(saved), answers_of(saved)
        found = untrusted.backbone(path, facts, backbone)
        head = saved.tensors(HEAD)
        adapter = untrusted.adapter(saved, ADAPTER_CONFIG, ADAPTER, plan, found)
        # Before anything of the plan's size is built: the numbers are there, and as many as the plan says.
        untrusted.check_numbers(saved.path(PLAN), plan, found, len(labels), (*head.values(), *adapter.values()))
        tokenizer = untrusted.tokenizer(saved, TOKENIZER, found)
        model = build(found, recipe.model, plan, len(labels), runtime)
        try:
            adapt.load_adapter_state(model.module, adapter)
        except ArtifactError as error:
            raise damaged(saved.path(ADAPTER), str(error)) from error
        if {key: held.shape for key, held in head.items()} != {k: v.shape for k, v in model.head.state_dict().items()}:
            raise damaged(saved.path(HEAD), "the head's tensors do not fit the plan")
        model.head.load_state_dict(head)
        card = saved.text(CARD) if CARD in saved else ""
    run = facts.get("run")
    return Artifact(
        model.eval(),
        tokenizer,
        found,
        labels,
        recipe,
        plan,
        metrics,
        input_spec,
        card,
        answers,
        run if isinstance(run, dict) else {},
    )


@contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """Whatever a stranger's values lead to further on is a refusal too, not a traceback; so is too little memory."""
    try:
        yield
    except PennyweightError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "memory" in str(error).lower() or "bad_alloc" in str(error):
            raise ResourceError(
                "not enough memory to load this classifier", where=folder, remedy="free some"
            ) from error
        raise damaged(folder, f"unexpected content: {type(error).__name__}: {str(error)[:200]}") from error
