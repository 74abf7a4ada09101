"""What every benchmark starts from: AG News, the embedded backbone, shapes of random weights, and the machine."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("World", "Sports", "Business", "Sci/Tech")
Texts = tuple[list[str], list[int]]  # texts, and their places in LABELS

# Configurations as published, but for the special tokens: those of the embedded backbone's tokenizer, which comes with
# them.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta_base": ("roberta", {
        "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
        "pad_token_id": 0,
    }),
    "roberta_large": ("roberta", {
        "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
        "pad_token_id": 0, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    }),
    "distilbert_base": ("distilbert", {}),
    "modernbert_base": ("modernbert", {
        "pad_token_id": 0, "bos_token_id": 101, "cls_token_id": 101, "eos_token_id": 102, "sep_token_id": 102,
    }),
    "deberta_v3_base": ("deberta-v2", {
        "vocab_size": 128100, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 0, "layer_norm_eps": 1e-7,
        "relative_attention": True, "max_relative_positions": -1, "position_buckets": 256, "share_att_key": True,
        "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm", "position_biased_input": False, "pad_token_id": 0,
    }),
}  # fmt: skip


def news(folder: Path | None) -> tuple[Texts, Texts]:
    """AG News, training and test: `folder`, $PENNYWEIGHT_AGNEWS, a `shared` folder here or beside, else the hub."""
    places = [folder, os.environ.get("PENNYWEIGHT_AGNEWS")]
    places += [ROOT / "shared/data/agnews", ROOT.parent / "shared/data/agnews"]
    for place in places:
        if place is not None and (Path(place) / "train.csv").is_file():
            both = [list(csv.DictReader((Path(place) / f"{name}.csv").open())) for name in ("train", "test")]
            train, test = (
                ([row["text"] for row in rows], [LABELS.index(row["label"]) for row in rows]) for rows in both
            )
            return train, test
    from datasets import load_dataset

    hub = load_dataset("fancyzhx/ag_news")
    train, test = ((list(hub[name]["text"]), list(hub[name]["label"])) for name in ("train", "test"))
    return (train[0][:11600], train[1][:11600]), test


def parts(texts: Texts, *sizes: int) -> list[Texts]:
    """Samples of these sizes that share no row, drawn at random with one seed; the last comes first in the drawing.

    So the last part, which is measured on, stays the same whatever the sizes of the others.
    """
    import numpy as np

    order = np.random.default_rng(0).permutation(len(texts[0]))
    assert sum(sizes) <= len(order), "the parts share rows"
    found, at = [], 0
    for size in reversed(sizes):
        rows = order[at : at + size]
        found.append(([texts[0][row] for row in rows], [texts[1][row] for row in rows]))
        at += size
    return found[::-1]


def write_csv(file: Path, texts: Texts) -> Path:
    """A file of two columns, text and label, as a user would have it."""
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("text", "label"))
        writer.writerows((text, LABELS[label]) for text, label in zip(*texts, strict=True))
    return file


def embedded() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    from pennyweight.model.backbone import resolve

    return resolve("embedded").folder


def shape(name: str, tokenizer: Path, folder: str | Path | None = None) -> Path:
    """A folder with a model of random weights in one of SHAPES, and the tokenizer of another backbone."""
    import torch
    from transformers import AutoConfig, AutoModel

    kind, settings = SHAPES[name]
    folder = Path(folder or tempfile.mkdtemp(prefix=f"{name}-"))
    torch.manual_seed(0)
    poolerless = {"add_pooling_layer": False} if kind == "roberta" else {}
    AutoModel.from_config(AutoConfig.for_model(kind, **settings), **poolerless).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (tokenizer / file).is_file():
            shutil.copy(tokenizer / file, folder / file)
    own = folder / "tokenizer_config.json"
    # That of BERT makes token types, which these models do not take.
    own.write_text(json.dumps(json.loads(own.read_text()) | {"model_input_names": ["input_ids", "attention_mask"]}))
    return folder


def machine(device: str) -> dict[str, Any]:
    """What the figures were made on."""
    import torch

    from pennyweight.model.device import choose
    from pennyweight.model.device import machine as describe

    facts = describe(choose(device))
    facts.pop("peak_memory_mb", None)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return facts | {"torch": torch.__version__, "python": platform.python_version(), "load_average": load}


def versions(*packages: str) -> dict[str, str]:
    """The installed ones of these packages."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
