"""Few labels: draws of 8, 16 and 64 texts per class, by defaults, beside the frozen head and, where installed, SetFit.

    python benchmarks/few.py --agnews FOLDER --out FILE [--choose] [--draws 5] [--rows 8 16] [--names ours frozen]
                             [--labels topic|agency|mark]
    python benchmarks/few.py --table FILE

Every draw is of train.csv, all of it is trained on (`validation_size 0`), and everyone sees the same. With `--choose`
they are measured on 1,000 other rows of train.csv, which is what settings are chosen by; without it on test.csv. Each
run adds a line to the file; runs already in the file are not repeated. Seconds are of training and of predicting what
is measured; with `--command` also those of a whole command `pennyweight train` on the draw. SetFit (`pip install
setfit`) is left out, with a line, where it is not installed.

--labels other than topic are read off the texts, so that classes are something that the backbone knows little of: which
agency a text names near its beginning, or which of `?`, `$` and `percent` it contains.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runs import done, in_words, keep

import pennyweight as pw

Texts = tuple[list[str], list[str]]  # texts, labels
MEASURED_ON = 1_000


def agency(text: str) -> str:
    """The news agency that a text names in its first 120 characters."""
    return "Reuters" if "Reuters" in text[:120] else "AP" if re.search(r"\bAP\b", text[:120]) else "other"


def mark(text: str) -> str:
    """The first of three marks that a text contains."""
    return (
        "question" if "?" in text else "dollars" if "$" in text else "percent" if "percent" in text.lower() else "none"
    )


LABELS: dict[str, Callable[[str], str] | None] = {"topic": None, "agency": agency, "mark": mark}


def read(file: Path, labels: str = "topic") -> Texts:
    """Texts of a file, and their labels or those of `LABELS`."""
    from pennyweight.data.sources import read as read_table

    table, label_of = read_table(file), LABELS[labels]
    texts = list(table.texts)
    return texts, [str(label) for label in table.labels] if label_of is None else [label_of(text) for text in texts]


def draw(train: Texts, rows: int, number: int) -> tuple[Texts, Texts]:
    """`rows` texts of each class, and 1,000 others to choose settings by, which are the same in every draw."""
    texts, labels = train
    order = np.random.default_rng(99).permutation(len(texts))
    others, pool = order[:MEASURED_ON], order[MEASURED_ON:]
    random, names = np.random.default_rng([number, rows]), sorted(set(labels))
    found: dict[str, list[int]] = {name: [] for name in names}
    for row in random.permutation(pool).tolist():
        found[labels[row]].append(row)
    chosen = [row for name in names for row in found[name][:rows]]

    def taken(indices: Sequence[int]) -> Texts:
        return [texts[row] for row in indices], [labels[row] for row in indices]

    return taken(chosen), taken([int(row) for row in others])


def ours(train: Texts, asked: list[str], **settings: Any) -> list[str]:
    """Pennyweight by defaults."""
    pairs = list(zip(*train, strict=True))
    return [str(name) for name in pw.train(pairs, validation_size=0, **settings).predict(asked)]


def frozen(train: Texts, asked: list[str]) -> list[str]:
    """Logistic regression on the frozen backbone's mean embeddings, as unit vectors; C by cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import normalize

    features = normalize(embeddings(train[0] + asked))
    head = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1, 10, 100]}, cv=4)
    head.fit(features[: len(train[0])], train[1])
    return [str(label) for label in head.predict(features[len(train[0]) :])]


def embeddings(texts: list[str]) -> np.ndarray:
    """(N, H) mean embeddings of the embedded backbone."""
    import torch

    from pennyweight.model.backbone import resolve
    from pennyweight.model.device import Runtime
    from pennyweight.model.inference.build import frozen_weights
    from pennyweight.model.tokenizer import encode, load_tokenizer

    backbone = resolve("embedded", None)
    tokenizer = load_tokenizer(backbone.folder)
    weights = frozen_weights(backbone, tokenizer.pad_token_id)
    engine = None if weights is None else weights.plain_engine(Runtime(torch.device("cpu"), "fp32"))
    assert engine is not None
    return np.split(engine.features(encode(tokenizer, texts, 128)), 2, axis=1)[1]


def setfit(train: Texts, asked: list[str]) -> list[str]:
    """SetFit by its own defaults, all of the backbone's parameters trained."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from pennyweight.model.backbone import resolve

    model = SetFitModel.from_pretrained(str(resolve("embedded", None).folder))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(report_to="none", save_strategy="no"),
        train_dataset=Dataset.from_dict({"text": train[0], "label": train[1]}),
    )
    trainer.train()
    return [str(label) for label in model.predict(asked)]


PEERS: dict[str, Callable[..., list[str]]] = {
    "ours": ours,
    "ours, training loop": lambda train, asked: ours(train, asked, contrastive="off"),
    "frozen": frozen,
    "setfit": setfit,
}
NEEDS = {"setfit": ("setfit", "datasets")}


def installed(names: Sequence[str]) -> list[str]:
    """Those whose packages are installed; a line for each of the others."""
    found = []
    for name in names:
        missing = [need for need in NEEDS.get(name, ()) if importlib.util.find_spec(need) is None]
        if missing:
            print(f"{name}: left out, because {' and '.join(missing)} is not installed", file=sys.stderr)
        else:
            found.append(name)
    return found


def command_seconds(train: Texts) -> float:
    """Seconds of the whole command on a draw, report included."""
    import csv

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.csv"
        with file.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerows([("text", "label"), *zip(*train, strict=True)])
        began = time.perf_counter()
        command = [sys.executable, "-m", "pennyweight", "train", str(file), "--out", f"{folder}/run"]
        subprocess.run([*command, "--validation-size", "0"], check=True, capture_output=True)
        return time.perf_counter() - began


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy and seconds by labels and rows per class, as Markdown."""
    found = [
        "| labels | texts per class | trained by | draws | accuracy, % | seconds |", "|---|---:|---|---:|---|---:|"
    ]  # fmt: skip
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line.get("labels", "topic"), line["rows"], line["name"]), []).append(line)
    order = list(LABELS), list(PEERS)
    for (labels, rows, name), group in sorted(
        groups.items(), key=lambda item: (order[0].index(item[0][0]), item[0][1], order[1].index(item[0][2]))
    ):
        seconds = np.mean([line["seconds"] for line in group])
        shown = in_words([100 * line["accuracy"] for line in group])
        found.append(f"| {labels} | {rows} | {name} | {len(group)} | {shown} | {seconds:.1f} |")
    return "\n".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agnews", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 64])
    parser.add_argument("--labels", choices=LABELS, default="topic")
    parser.add_argument("--names", nargs="+", default=["ours", "frozen", "setfit"], choices=PEERS)
    options = parser.parse_args()
    if options.table is not None:
        print(table(done(options.table)))
        return
    train = read(options.agnews / "train.csv", options.labels)
    names = installed(options.names)
    finished = {
        (line.get("labels", "topic"), line["name"], line["rows"], line["draw"], line["measured_on"])
        for line in done(options.out)
    }
    for rows in options.rows:
        for number in range(options.draws):
            chosen, others = draw(train, rows, number)
            measured_on = "train.csv" if options.choose else "test.csv"
            asked = others if options.choose else read(options.agnews / "test.csv", options.labels)
            for name in names:
                if (options.labels, name, rows, number, measured_on) in finished:
                    continue
                began = time.perf_counter()
                predicted = PEERS[name](chosen, asked[0])
                line = {
                    "labels": options.labels, "name": name, "rows": rows, "draw": number, "measured_on": measured_on,
                    "accuracy": float(np.mean([a == b for a, b in zip(predicted, asked[1], strict=True)])),
                    "seconds": round(time.perf_counter() - began, 1),
                }  # fmt: skip
                if options.command and name == "ours":
                    line["command_seconds"] = round(command_seconds(chosen), 1)
                print(line, flush=True)
                keep(options.out, [line])


if __name__ == "__main__":
    main()
