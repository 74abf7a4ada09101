"""The saved classifier: what files it holds, how they are written, checked and read.

| file                                | holds                                                             |
|-------------------------------------|-------------------------------------------------------------------|
| pennyweight.json                    | the manifest: format, labels, backbone, versions, checksums, seal |
| recipe.yaml                         | the resolved recipe; trains the same again                        |
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
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as arrays
from safetensors.torch import save_file

from . import __version__, manifest, untrusted
from .budget.plan import Plan
from .data.labels import LabelSet
from .data.reading import Reading
from .errors import ArtifactError, PennyweightError, ResourceError
from .files import flush_tree, fsync_folder, make_folder, scratch_folder, storage_errors, to_json
from .manifest import damaged, read_json, tensors
from .model import adapt
from .model.backbone import Backbone
from .model.build import Classifier, build
from .model.runtime import Runtime
from .recipe import Recipe

MANIFEST = manifest.NAME
RECIPE = "recipe.yaml"
PLAN = "plan.json"
METRICS = "metrics.json"
CARD = "README.md"
ADAPTER_CONFIG = "adapter/adapter_config.json"
ADAPTER = "adapter/adapter_model.safetensors"
HEAD = "head.safetensors"
ANSWERS = "answers.safetensors"
REQUIRED = (RECIPE, PLAN, METRICS, HEAD, "tokenizer/tokenizer.json")


@dataclass
class Artifact:
    """A trained classifier in memory, with all that describes it.

    Attributes:
        reading: how texts and labels are read, as it was resolved in training.
        answers: arrays as `reporting.rows` names them.
        run: the fingerprint of the run that made it: of data, recipe, backbone and versions.
    """

    model: Classifier
    tokenizer: Any
    backbone: Backbone
    labels: LabelSet
    recipe: Recipe
    plan: Plan
    metrics: dict[str, Any]
    reading: Reading
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

    Until the manifest is there the folder counts as no classifier; a former one's manifest goes first.

    Args:
        replace: whether what is in the folder under the same names may go.

    Raises:
        StorageError: when it cannot be written; what was there before is intact.
        ArtifactError: when something is there already and may not be replaced.
    """
    folder = Path(folder)
    taken = [name for name in (MANIFEST, RECIPE, HEAD, *manifest.CLOSED) if (folder / name).exists()]
    if taken and not replace:
        raise ArtifactError(f"{taken[0]} is already there", where=folder, remedy="choose another folder")
    with storage_errors(folder), scratch_folder(folder / "artifact") as aside:
        _write(artifact, aside)
        files = sorted(file.relative_to(aside).as_posix() for file in aside.rglob("*") if file.is_file())
        written = sorted(aside.iterdir())
        (aside / MANIFEST).write_text(manifest.text(_facts(artifact), aside, files), encoding="utf-8")
        flush_tree(aside)
        retire(folder)
        for closed in manifest.CLOSED:
            shutil.rmtree(folder / closed, ignore_errors=True)
        for item in written:
            item.replace(folder / item.name)
        fsync_folder(folder)
        (aside / MANIFEST).replace(folder / MANIFEST)
        fsync_folder(folder)
    return folder


def retire(folder: str | Path) -> None:
    """A run that starts in `folder` takes the former classifier's manifest away: it is no longer what the run made."""
    folder = Path(folder)
    with storage_errors(folder):
        make_folder(folder)
        (folder / MANIFEST).unlink(missing_ok=True)
        fsync_folder(folder)


def made_by(folder: str | Path) -> dict[str, Any]:
    """The fingerprint of the run that made the classifier in a folder; empty where there is no whole one."""
    try:
        run = read_manifest(folder).get("run")
    except ArtifactError:
        return {}  # not there yet, or damaged: then the run's checkpoints can make it again
    return run if isinstance(run, dict) else {}


def _write(artifact: Artifact, folder: Path) -> None:
    artifact.recipe.save(folder / RECIPE)
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
        "reading": artifact.reading.to_json(),
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


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a saved classifier, after every file was checked against it.

    Raises:
        ArtifactError: no artifact, a newer format, a missing, foreign or damaged file.
    """
    return manifest.read(Path(folder), REQUIRED)


def load(folder: str | Path, runtime: Runtime, backbone: str | None = None) -> Artifact:
    """Read and check a saved classifier.

    Args:
        runtime: device and number format to compute with.
        backbone: where the backbone is now, if not where it was when the classifier was trained.

    Raises:
        ArtifactError: damaged, foreign or newer files, or another backbone than the one it was trained on.
        ResourceError: when memory runs out.
    """
    folder = Path(folder)
    with _one_line(folder):
        facts = read_manifest(folder)
        recipe = untrusted.recipe(folder / RECIPE)
        plan = untrusted.plan(folder / PLAN)
        labels = untrusted.labels(folder / MANIFEST, facts)
        reading = untrusted.reading(folder / MANIFEST, facts, recipe)
        untrusted.check_agreement(folder / MANIFEST, facts, recipe, plan)
        found = untrusted.backbone(folder / MANIFEST, facts, backbone)
        head = tensors(folder / HEAD)
        adapter = untrusted.adapter(folder / ADAPTER_CONFIG, folder / ADAPTER, plan, found)
        # Before anything of the plan's size is built: the numbers are there, and as many as the plan says.
        untrusted.check_numbers(folder / PLAN, plan, found, len(labels), (*head.values(), *adapter.values()))
        tokenizer = untrusted.tokenizer(folder / "tokenizer", found)
        model = build(found, recipe.model, plan, len(labels), runtime)
        try:
            adapt.load_adapter_state(model.module, adapter)
        except ArtifactError as error:
            raise damaged(folder / ADAPTER, str(error)) from error
        if {key: held.shape for key, held in head.items()} != {k: v.shape for k, v in model.head.state_dict().items()}:
            raise damaged(folder / HEAD, "the head's tensors do not fit the plan")
        model.head.load_state_dict(head)
        card = manifest.read_text(folder / CARD) if (folder / CARD).is_file() else ""
        metrics, answers = read_json(folder / METRICS), read_answers(folder)
    run = facts.get("run")
    return Artifact(
        model.eval(),
        tokenizer,
        found,
        labels,
        recipe,
        plan,
        metrics,
        reading,
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


def read_answers(folder: str | Path) -> dict[str, np.ndarray]:
    """What a saved classifier answered when it was trained; empty where nothing was kept.

    Raises:
        ArtifactError: when the file is damaged.
    """
    path = Path(folder) / ANSWERS
    if not path.is_file():
        return {}
    try:
        found: dict[str, np.ndarray] = arrays.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise damaged(path, f"not a readable safetensors file ({error})") from error
    return found


def read_reading(folder: str | Path) -> Reading:
    """How a saved classifier reads its data, known before its other files are checked."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return Reading()  # loading the classifier will say what is missing
    return untrusted.reading(path, manifest.unchecked(path), untrusted.recipe(Path(folder) / RECIPE))


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe a saved classifier was trained with, after the files were checked."""
    read_manifest(folder)
    return untrusted.recipe(Path(folder) / RECIPE)
