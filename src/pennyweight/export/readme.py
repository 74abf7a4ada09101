"""The README.md of an exported folder: its contents, and working code."""

from __future__ import annotations

from ..artifact.artifact import Artifact
from ..artifact.model_card import base_model, block, code
from ..evaluate.metrics.thresholds import saved_thresholds
from .temperature import temperature_of

# What stands for the folder's own place in the code.
HERE = "this-folder"


def readme(artifact: Artifact, library: str, title: str, loading: str, *more: str) -> str:
    """Front matter, a title, a block of code and notes.

    Args:
        library: the hub's name of the library that loads the folder.
        loading: Python code that loads the folder `this-folder`.
        more: notes of the format, one sentence or more each.
    """
    notes = "\n".join(f"- {note}" for note in (*_notes(artifact), *more))
    return f"""---
library_name: {library}
{base_model(artifact)}pipeline_tag: text-classification
---

# {title}

{block(loading)}

{notes}
"""


def _notes(artifact: Artifact) -> list[str]:
    """Notes that apply to every format."""
    names, data = list(artifact.labels.names), artifact.recipe.data
    notes = [f"Labels, in the order of the logits: {', '.join(map(code, names))}."]
    temperature = temperature_of(artifact)
    if artifact.labels.multi:
        saved = saved_thresholds(artifact.metrics, len(names)).tolist()
        each = ", ".join(f"{code(name)} {value:.6g}" for name, value in zip(names, saved, strict=True))
        notes.append(f"A text gets every label whose sigmoid(logit) reaches its threshold ({each}).")
    elif temperature != 1.0:
        notes.append(
            f"softmax(logits) gives Pennyweight's probabilities: the output layer's weights and bias are already "
            f"divided by the fitted temperature, {temperature:.6g}."
        )
    moved = artifact.metrics.get("bias_offsets")
    threshold = moved.get("threshold") if isinstance(moved, dict) else None
    if isinstance(threshold, dict):
        label, wanted = code(str(threshold.get("label"))), threshold.get("wanted")
        notes.append(
            f"The output layer's bias is shifted so that the threshold of {label} is a probability of 0.5 ({wanted})."
        )
    if data.pair:
        notes.append("Inputs are pairs of texts: tokenizer(first, second).")
    if artifact.input_spec.markup == "strip":
        notes.append("HTML tags and entities were removed from the training texts; remove them from your texts, too.")
    if not data.pair and len(artifact.input_spec.text_columns or ()) > 1:
        columns = ", ".join(map(code, artifact.input_spec.text_columns or ()))
        notes.append(
            f"A text consists of the columns {columns}, joined by {code(repr(artifact.input_spec.separator))}."
        )
    notes.append(f"Texts are truncated to {data.max_length} tokens.")
    return notes


def pipeline_code(artifact: Artifact) -> str:
    """Code that loads a merged folder with transformers' pipeline and prints each text's labels and probabilities."""
    texts = (
        '[{"text": "Shares fell.", "text_pair": "The market rose."}]'
        if artifact.recipe.data.pair
        else ('["Shares fell after the bank\'s warning.", "The striker scored twice."]')
    )
    return f"""from transformers import pipeline

classify = pipeline("text-classification", model="{HERE}", top_k=None)
answers = classify({texts}, truncation=True, max_length={artifact.recipe.data.max_length})
for answer in answers:
    print({{each["label"]: round(each["score"], 4) for each in answer}})"""


def runtime_code(artifact: Artifact, segments: bool, imports: str, opening: str, running: str) -> str:
    """Code that needs tokenizers, numpy and a runtime alone: it prints each text's labels and probabilities.

    Args:
        segments: whether the model takes `token_type_ids`.
        imports: lines that import the runtime and tokenizers, in order.
        opening: lines that open the model.
        running: an expression for the logits (N, L) of the arrays in `feed`.
    """
    texts = '["Shares fell after the bank\'s warning.", "The striker scored twice."]'
    if artifact.recipe.data.pair:
        texts = '[("Shares fell.", "The market rose."), ("The striker scored.", "It was a goal.")]'
    arrays = {"input_ids": "ids", "attention_mask": "attention_mask"} | (
        {"token_type_ids": "type_ids"} if segments else {}
    )
    feed = "\n".join(
        f'    "{name}": np.array([each.{attribute} for each in encoded], dtype=np.int64),'
        for name, attribute in arrays.items()
    )
    softmax = """np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)"""
    tokenizer = artifact.tokenizer
    return f"""import json

import numpy as np
{imports}

with open("{HERE}/config.json", encoding="utf-8") as file:
    names = json.load(file)["id2label"]
labels = [names[str(number)] for number in range(len(names))]
tokenizer = Tokenizer.from_file("{HERE}/tokenizer.json")
tokenizer.enable_truncation(max_length={artifact.recipe.data.max_length})
tokenizer.enable_padding(pad_id={tokenizer.pad_token_id}, pad_token={str(tokenizer.pad_token)!r})
{opening}

texts = {texts}
encoded = tokenizer.encode_batch(texts)
feed = {{
{feed}
}}
logits = {running}
probabilities = {"1 / (1 + np.exp(-logits))  # each label on its own" if artifact.labels.multi else softmax}
for row in probabilities:
    print({{label: round(float(value), 4) for label, value in zip(labels, row)}})"""
