"""A plain Trainer + PEFT script, from labelled texts to a saved and evaluated classifier, for `train.py --whole`.

    python benchmarks/peers/trainer_script.py --backbone FOLDER --train train.csv --validation validation.csv --out OUT

As https://huggingface.co/docs/transformers/tasks/sequence_classification and
https://huggingface.co/docs/peft/task_guides/lora_based_methods show it, with what makes it fast: texts tokenized once,
batches of similar length, dynamic padding, and bf16 where asked for. Its last line is a JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Train, evaluate, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()

    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    train, validation = read(options.train), read(options.validation)
    names = sorted({label for _, label in train})
    tokenizer = AutoTokenizer.from_pretrained(options.backbone)
    rows, held = (encoded(tokenizer, each, names, options.max_length) for each in (train, validation))
    model = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(
            options.backbone, id2label=dict(enumerate(names)), label2id={name: at for at, name in enumerate(names)}
        ),
        LoraConfig(
            task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.1, target_modules=["query", "key", "value"]
        ),
    )
    arguments = TrainingArguments(
        output_dir=options.out,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=64,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        warmup_steps=0.06,
        bf16=options.bf16,
        train_sampling_strategy="group_by_length",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=sorted(held, key=lambda row: -len(row["input_ids"])),
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
    )
    trained = trainer.train().metrics
    evaluated = trainer.evaluate()
    trainer.save_model(options.out)
    tokenizer.save_pretrained(options.out)
    print(json.dumps({
        "training_seconds": trained["train_runtime"],
        "texts_per_second": options.epochs * len(rows) / trained["train_runtime"],
        "trainable": sum(each.numel() for each in model.parameters() if each.requires_grad),
        "validation_accuracy": evaluated["eval_accuracy"],
    }))  # fmt: skip


def read(file: str) -> list[tuple[str, str]]:
    """Texts and labels of a CSV file."""
    with Path(file).open(encoding="utf-8", newline="") as handle:
        return [(row["text"], row["label"]) for row in csv.DictReader(handle)]


def encoded(tokenizer: Any, rows: list[tuple[str, str]], names: list[str], max_length: int) -> list[dict[str, Any]]:
    """Token ids and class numbers."""
    ids = tokenizer([text for text, _ in rows], truncation=True, max_length=max_length)["input_ids"]
    return [{"input_ids": row, "labels": names.index(label)} for row, (_, label) in zip(ids, rows, strict=True)]


def saved_labels(folder: str, names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Labels that a classifier saved by this script gives; `names` are those it was trained with."""
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    names, tokenizer = sorted(names), AutoTokenizer.from_pretrained(folder)
    base = AutoModelForSequenceClassification.from_pretrained(
        PeftConfig.from_pretrained(folder).base_model_name_or_path, num_labels=len(names)
    )
    model, found = PeftModel.from_pretrained(base, folder).eval(), []
    order = np.argsort([len(text) for text in texts], kind="stable")
    with torch.inference_mode():
        for at in range(0, len(order), 64):
            chunk = [texts[row] for row in order[at : at + 64]]
            batch = tokenizer(chunk, truncation=True, max_length=128, padding=True, return_tensors="pt")
            found += model(**batch).logits.argmax(1).tolist()
    classes = np.empty(len(texts), dtype=np.int64)
    classes[order] = found
    return [names[number] for number in classes.tolist()]


if __name__ == "__main__":
    main()
