"""What helps under shift: recipes trained on AG News alone, measured there, on corrupted texts and on the newsroom.

    python benchmarks/robust.py --agnews FOLDER --choose --out choose.jsonl [--variants NAME...] [--seeds 0]
    python benchmarks/robust.py --agnews FOLDER --report --out report.jsonl --variants paper robust --seeds 0 1 2
    python benchmarks/robust.py --agnews FOLDER --both ...        one training, measured in both ways
    python benchmarks/robust.py --table report.jsonl

`--choose` looks at AG News' validation split, corrupted validation texts and the selection half of the newsroom; it
opens neither test.csv nor the reported half. `--report` looks at test.csv, corrupted test texts and the reported half.
Every run adds one line of JSON to --out; what is in there already is not run again. Variants come from VARIANTS below
and from --more FILE, a JSON object from names to recipe settings (`recipe` names the shipped recipe they stand on;
`scales` lists adapter scales that the same training is also measured at).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from runs import done, in_words, keep

import pennyweight as pw
from pennyweight.data import sample
from pennyweight.data.load import load as load_data
from pennyweight.data.sources import read
from pennyweight.data.split import split
from pennyweight.data.table import Table
from pennyweight.evaluate.metrics.shift import FAMILIES
from pennyweight.predict.label_shift import adjust, estimate_shares
from pennyweight.recipe.loading import resolve_recipe
from pennyweight.runs import robustness as shift

HALVES_SEED = 20240
SEVERITY = 3
ROWS = 1000

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"recipe": "paper"},
    "robust": {"recipe": "robust", "budget": "200k"},
    "gentle, mean pooling": {
        "recipe": "fast", "budget": "200k", "pooling": "mean", "lp_ft": False, "epochs": 1, "learning_rate": 3e-4,
    },
    "gentle, mean pooling, lp-ft": {
        "recipe": "fast", "budget": "200k", "pooling": "mean", "lp_ft": True, "epochs": 1, "learning_rate": 3e-4,
    },
    "upper half, mean pooling, lp-ft, augmented": {
        "recipe": "default", "budget": "200k", "strategy": "top", "pooling": "mean", "lp_ft": True, "augment": 0.5,
        "learning_rate": 3e-4, "epochs": 4, "scales": [0.7],
    },
    "gentle, mean pooling, 2 epochs": {
        "recipe": "fast", "budget": "200k", "pooling": "mean", "lp_ft": False, "epochs": 2, "learning_rate": 3e-4,
    },
    "gentle, mean pooling, 2 epochs, augmented": {
        "recipe": "fast", "budget": "200k", "pooling": "mean", "lp_ft": False, "epochs": 2, "learning_rate": 3e-4,
        "augment": 0.5,
    },
    "upper half, mean pooling, augmented": {
        "recipe": "fast", "budget": "200k", "pooling": "mean", "lp_ft": False, "epochs": 3, "learning_rate": 5e-4,
        "augment": 0.5,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What variants are measured on: rows of the training file's own kind, a suite of corruptions, half a newsroom."""

    plain: Table
    suite: shift.Suite
    newsroom: Table


def half_of_newsroom(selection: bool) -> Table:
    """The selection half (320 items) or the reported half, each class and style in equal numbers in both."""
    every = read(sample.FOLDER / "newsroom.jsonl")
    every = every.select(range(640))  # all there were when the runs in robust.jsonl were made
    kinds = [f"{label}/{style}" for label, style in zip(every.labels or (), every.extras["source"], strict=True)]
    numbers = np.unique(kinds, return_inverse=True)[1].astype(np.int64)
    one, other = split(numbers, size=len(every) // 2, seed=HALVES_SEED)
    return every.select(one if selection else other)


def prepare(agnews: Path, training: Table, choose: bool, rows: int) -> Bench:
    """Read and corrupt, once for all variants. The validation split is the one every variant chooses its epoch on."""
    data = load_data(resolve_recipe("default", {}).data, training)
    plain = data.validation if choose else read(agnews / "test.csv")
    suite = shift.prepare(plain.texts, data.labels.encode(plain), severities=[SEVERITY], rows=rows)
    return Bench(plain, suite, half_of_newsroom(choose))


def measure(classifier: pw.Classifier, bench: Bench) -> dict[str, Any]:
    """Every figure of one classifier."""
    labels = classifier.artifact.labels
    predict = shift.predict_distinct(classifier.tokens, classifier.probabilities_of)
    found = shift.measure(predict, bench.suite)
    plain = shift.measure_table(predict, labels, bench.plain)
    newsroom = shift.measure_table(predict, labels, bench.newsroom)
    truth = labels.encode(bench.newsroom)
    probabilities = predict(bench.newsroom.texts)
    trained = np.full(len(labels), 1 / len(labels))  # AG News is balanced
    corrected = adjust(probabilities, trained, estimate_shares(probabilities, trained))
    styles = np.array(bench.newsroom.extras["source"])
    right = probabilities.argmax(axis=1) == truth
    return {
        "agnews": plain.accuracy,
        "agnews_ece": plain.ece,
        "clean": found.clean.accuracy,
        **{family.replace(" ", "_"): found.mean(family).accuracy for family in FAMILIES},
        **{f"{family.replace(' ', '_')}_ece": found.mean(family).ece for family in FAMILIES},
        "newsroom": newsroom.accuracy,
        "newsroom_ece": newsroom.ece,
        "newsroom_em": float((corrected.argmax(axis=1) == truth).mean()),
        "styles": {style: float(right[styles == style].mean()) for style in np.unique(styles).tolist()},
        "corruptions": {row.name: row.accuracy for row in found.rows},
    }


def run(
    name: str, variant: dict[str, Any], seed: int, training: Table, benches: dict[str, Bench], shared: dict[str, Any]
) -> list[dict[str, Any]]:
    """Train one variant and measure it, at each of its adapter scales."""
    settings = {key: value for key, value in variant.items() if key not in ("recipe", "scales")}
    began = time.perf_counter()
    given = {"backbone": "embedded", "budget": "1M", "audit": "off"} | shared | settings
    classifier = pw.train(training, recipe=variant.get("recipe", "default"), seed=seed, **given)
    trained = time.perf_counter() - began
    lines = []
    for scale in (1.0, *variant.get("scales", ())):
        scaled = classifier if scale == 1 else classifier.scaled(scale)
        for mode, bench in benches.items():
            began = time.perf_counter()
            figures = measure(scaled, bench)
            lines.append(
                {"mode": mode, "variant": name if scale == 1 else f"{name} x{scale:g}", "seed": seed, **figures}
                | {"trainable": classifier.metrics["trainable"], "train_seconds": round(trained, 1)}
                | {
                    "measure_seconds": round(time.perf_counter() - began, 1),
                    "best": classifier.metrics["train"]["best"],
                }
            )
    return lines


def key(line: dict[str, Any]) -> str:
    """What makes a run the same run."""
    return json.dumps([line["mode"], line["of"], line["settings"], line["seed"], line["rows"], line["texts"]])


COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "AG News": lambda line: line["agnews"],
    "training family": lambda line: line["training"],
    "held-out family": lambda line: line["held_out"],
    "newsroom": lambda line: line["newsroom"],
    "newsroom, EM prior": lambda line: line["newsroom_em"],
    "ECE held out": lambda line: line["held_out_ece"],
}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Mean over seeds in percent, ± its standard deviation, with Student's 95% interval of the mean, as Markdown."""
    parts = []
    for mode in ("choose", "report"):
        groups: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            if line["mode"] == mode:
                groups.setdefault(f"{line['variant']}\x00{line['settings']}", []).append(line)
        if not groups:
            continue
        rows = [
            f"| variant | seeds | {' | '.join(COLUMNS)} | trained | seconds |",
            f"|---|---|{'---|' * (len(COLUMNS) + 2)}",
        ]
        for group in groups.values():
            cells = [in_words([100 * value(line) for line in group]) for value in COLUMNS.values()]
            seconds = statistics.mean(line["train_seconds"] for line in group)
            first = group[0]
            rows.append(
                f"| {first['variant']} | {len(group)} | {' | '.join(cells)} | {first['trainable']:,} | {seconds:.0f} |"
            )
        parts.append(f"mode: {mode}\n\n" + "\n".join(rows))
        plain = next((group for group in groups.values() if group[0]["variant"] == "paper"), [])
        others = [group for group in groups.values() if group is not plain and min(len(group), len(plain)) > 1]
        if others:
            rows = [f"| variant minus paper, points | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
            for group in others:
                cells = [beside(group, plain, value) for value in COLUMNS.values()]
                rows.append(f"| {group[0]['variant']} | {' | '.join(cells)} |")
            parts.append("\n".join(rows))
    return "\n\n".join(parts)


def beside(group: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]], value: Callable[..., float]) -> str:
    """Difference of means in points, with Welch's 95% interval."""
    from scipy.stats import ttest_ind

    one, other = ([100 * value(line) for line in lines] for lines in (group, plain))
    low, high = ttest_ind(one, other, equal_var=False).confidence_interval()
    return f"{statistics.mean(one) - statistics.mean(other):+.2f} ({low:+.2f} to {high:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--choose", action="store_true", help="validation rows and the selection half only")
    mode.add_argument("--report", action="store_true", help="test.csv and the reported half")
    mode.add_argument("--both", action="store_true", help="train once, measure both; choose by the lines of --choose")
    mode.add_argument("--table", type=Path, metavar="FILE", help="print what a file of runs holds")
    parser.add_argument("--agnews", type=Path, help="folder with train.csv and test.csv")
    parser.add_argument("--out", type=Path, help="file that each run adds a line to")
    parser.add_argument("--more", type=Path, help="JSON: further variants, name to settings")
    parser.add_argument("--variants", nargs="*", help="names, all if not given")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"texts the suite is measured on (default {ROWS})")
    parser.add_argument("--texts", type=int, help="train on so many rows only, to try the script out")
    parser.add_argument("--cache-dir", help="keep what frozen layers compute here, for variants that share it")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    chosen = parser.parse_args()
    if chosen.table is not None:
        print(table(done(chosen.table)))
        return
    if chosen.agnews is None or chosen.out is None:
        parser.error("--agnews and --out are needed")
    known = VARIANTS | (json.loads(chosen.more.read_text("utf-8")) if chosen.more else {})
    unknown = [name for name in chosen.variants or () if name not in known]
    if unknown:
        parser.error(f"no variant {unknown[0]!r}: one of {', '.join(known)}")
    training = replace(read(chosen.agnews / "train.csv"), extras={})
    if chosen.texts:
        training = training.select(range(chosen.texts))
    modes = ["choose"] * (chosen.choose or chosen.both) + ["report"] * (chosen.report or chosen.both)
    benches = {mode: prepare(chosen.agnews, training, mode == "choose", chosen.rows) for mode in modes}
    shared = {"precision": chosen.precision}
    if chosen.cache_dir:
        shared |= {"cache_dir": chosen.cache_dir, "prefix_cache": "disk"}
    finished = {key(line) for line in done(chosen.out)}
    for seed in chosen.seeds:
        for name in chosen.variants or known:
            what = {
                "mode": modes[-1],
                "of": name,
                "settings": known[name],
                "seed": seed,
                "rows": chosen.rows,
                "texts": len(training),
            }
            if key(what) in finished:
                continue
            lines = run(name, known[name], seed, training, benches, shared)
            keep(chosen.out, [what | line for line in lines])
            for line in lines:
                shown = "  ".join(f"{title} {100 * value(line):.2f}" for title, value in COLUMNS.items())
                print(
                    f"{line['mode']}: {line['variant']}, seed {seed}: {shown}  ({line['train_seconds']:.0f} s)",
                    file=sys.stderr,
                )


if __name__ == "__main__":
    main()
