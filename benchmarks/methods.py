"""Which adapter for which budget? LoRA, LoRA-XS by both bases, `auto` and the frozen head, at budgets from 2k to 1M.

    python benchmarks/methods.py --train FILE --out RUNS.jsonl [--seeds 3] [--budgets 2k,10k] [--methods auto,lora]
                                 [--rows 4000] [--validation 1500] [--epochs 2] [--rates 1e-3,2e-3] [--threads 1]
                                 [--test TEST.csv]
    python benchmarks/methods.py --table RUNS.jsonl [--json TABLE.json] [--against METHOD@BUDGET] [--plot PICTURE]

Trains on the first --rows of a random order of the file and measures on the --validation rows behind them: another
order for each seed, the same for every method and budget. Each run adds a line to RUNS.jsonl, and runs that are there
already are not repeated. The table names the best rate of each method and budget, its accuracy over the seeds, and the
difference from `lora` at that budget, paired by row. Seconds are wall-clock, bases included. --test, for a last figure
with one rate alone, measures the same classifiers on a file that nothing was chosen on; --against METHOD@BUDGET
compares all others with that one, and --plot draws them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from budget_plot import Series, plot
from evidence import difference
from runs import done, in_words, keep

import pennyweight as pw

BUDGETS = ("2k", "5k", "10k", "20k", "50k", "200k", "1M")
METHODS: dict[str, dict[str, Any]] = {
    "head-only": {"strategy": "head-only"},
    "lora": {"adapter": "lora"},
    "lora-r-drop": {"adapter": "lora", "r_drop": 2.0},
    "lora-xs-svd": {"adapter": "lora-xs", "bases": "svd"},
    "lora-xs-gradient": {"adapter": "lora-xs", "bases": "gradient"},
    "auto": {},
}
# In `peers/peft_methods.py`; named `peft-vera` and so on.
PEFT = ("lora", "loraplus", "pissa", "bitfit", "vera", "vblora", "unilora", "tinylora", "c3a", "ia3")
# What says whether a run is in the file already.
IDENTITY = ("budget", "method", "rate", "seed", "rows", "validation", "epochs")


def split(file: Path, rows: int, validation: int, seed: int) -> tuple[Any, Any]:
    """The training and the validation rows of a seed, as data frames with the file's columns."""
    import pandas

    table = pandas.read_csv(file)
    if len(table) < rows + validation:
        raise SystemExit(f"{file}: expected {rows + validation:,} rows or more, received {len(table):,}")
    order = np.random.default_rng(seed).permutation(len(table))
    return table.iloc[order[:rows]], table.iloc[order[rows : rows + validation]]


def run(wanted: dict[str, Any], file: Path, test: Path | None, threads: int | None) -> dict[str, Any]:
    """Train one method at one budget with one seed, and measure it on that seed's validation rows and on the test's."""
    from pennyweight.data.sources import read

    if wanted["method"].startswith("peft-"):
        return run_peft(wanted, file, test)
    train, validation = split(file, wanted["rows"], wanted["validation"], wanted["seed"])
    with tempfile.TemporaryDirectory() as folder:
        places = {"train": Path(folder) / "train.csv", "validation": Path(folder) / "validation.csv"}
        train.to_csv(places["train"], index=False)
        validation.to_csv(places["validation"], index=False)
        began = time.perf_counter()
        classifier = pw.train(
            places["train"], validation=str(places["validation"]), budget=wanted["budget"], seed=wanted["seed"],
            learning_rate=wanted["rate"], epochs=wanted["epochs"], audit="off", inference_precision="fp32",
            threads=threads, **METHODS[wanted["method"]],
        )  # fmt: skip
        seconds = time.perf_counter() - began
        found = {"": measure(classifier, read(places["validation"]))}
    if test is not None:
        found["test_"] = measure(classifier, read(test))
    spec = classifier.artifact.plan.adapter
    return wanted | {
        **{prefix + key: value for prefix, figures in found.items() for key, value in figures.items()},
        "adapter": None if spec is None else spec.method,
        "trainable": classifier.metrics["trainable"],
        "stored": classifier.metrics["stored"],
        "seconds": round(seconds, 1),
    }


def run_peft(wanted: dict[str, Any], file: Path, test: Path | None) -> dict[str, Any]:
    """The same for one of PEFT's methods, with at most as many parameters."""
    import pandas
    from peers.peft_methods import LORAPLUS_RATIO, PeftClassifier, configs

    from pennyweight.budget.plan import parse_budget
    from pennyweight.model.backbone import resolve

    recipe = pw.Recipe()
    backbone = resolve(recipe.model.backbone, None)
    train, validation = split(file, wanted["rows"], wanted["validation"], wanted["seed"])
    names = sorted(train["label"].unique())
    head = (backbone.config["hidden_size"] + 1) * len(names)
    room = (parse_budget(wanted["budget"]) or 0) - head
    found = configs(room, backbone.config["hidden_size"], backbone.config["num_hidden_layers"])
    method = wanted["method"].removeprefix("peft-")
    if method not in found:
        raise SystemExit(f"{wanted['method']}: no setting of it fits {wanted['budget']}; leave it out")
    began = time.perf_counter()
    peer = PeftClassifier(
        str(backbone.folder), found[method], len(names), recipe.model.pooling, wanted["seed"],
        b_ratio=LORAPLUS_RATIO if method == "loraplus" else 1.0,
    )  # fmt: skip
    numbers = {name: number for number, name in enumerate(names)}
    labels = train["label"].map(numbers).to_numpy()
    peer.fit(train["text"].tolist(), labels, rate=wanted["rate"], epochs=wanted["epochs"], seed=wanted["seed"])
    seconds = time.perf_counter() - began
    tables = {"": validation} | ({} if test is None else {"test_": pandas.read_csv(test)})
    figures: dict[str, Any] = {}
    for prefix, table in tables.items():
        right = peer.predict(table["text"].tolist()) == table["label"].map(numbers).to_numpy()
        figures |= {prefix + key: value for key, value in as_figures(right).items()}
    count = sum(each.numel() for each in peer.parameters)
    return wanted | figures | {
        "adapter": wanted["method"], "trainable": count, "stored": count, "seconds": round(seconds, 1)
    }  # fmt: skip


def measure(classifier: Any, rows: Any) -> dict[str, Any]:
    """Accuracy, and which rows were right, one bit each."""
    return as_figures(classifier.logits(rows.texts).argmax(axis=1) == classifier.artifact.labels.encode(rows))


def as_figures(right: np.ndarray) -> dict[str, Any]:
    """What a file of runs says of rows that were right or wrong."""
    return {"accuracy": float(right.mean()), "right": np.packbits(right).tobytes().hex(), "measured": len(right)}


def summary(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each budget and method the rate of the best mean accuracy, with its runs compared with those of `lora`."""
    groups: dict[tuple[str, str], dict[float, list[dict[str, Any]]]] = {}
    for line in sorted(lines, key=lambda each: each["seed"]):
        groups.setdefault((line["budget"], line["method"]), {}).setdefault(line["rate"], []).append(line)
    best = {
        place: max(rates.values(), key=lambda runs: (len(runs), np.mean([each["accuracy"] for each in runs])))
        for place, rates in groups.items()
    }
    rows = []
    for (budget, method), runs in sorted(best.items(), key=_place):
        lora = {each["seed"]: each for each in best.get((budget, "lora"), ())}
        pairs = [(each, lora[each["seed"]]) for each in runs if each["seed"] in lora and method != "lora"]
        rows.append(
            {
                "budget": budget,
                "method": method,
                "rate": runs[0]["rate"],
                "trainable": runs[0]["trainable"],
                "stored": runs[0]["stored"],
                "seeds": len(runs),
                "accuracy": [100 * each["accuracy"] for each in runs],
                "against_lora": None if not pairs else paired(pairs),
                "seconds": float(np.mean([each["seconds"] for each in runs])),
            }
        )
    return rows


def paired(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[float]:
    """Low end, mean and high end of the difference in points, over all seeds' rows: each seed has rows of its own."""
    size = pairs[0][0]["validation"]
    bits = [
        np.concatenate([np.unpackbits(np.frombuffer(bytes.fromhex(each["right"]), np.uint8))[:size] for each in side])
        for side in zip(*pairs, strict=True)
    ]
    one, other = ({"right": np.packbits(side).tobytes().hex(), "rows": size * len(pairs)} for side in bits)
    return list(difference([one], [other]))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    text = [
        "| budget | method | rate | trained | stored | validation accuracy, % | against LoRA, points | seconds |",
        "|---|---|---:|---:|---:|---|---|---:|",
    ]
    for row in rows:
        low, mean, high = row["against_lora"] or (None, None, None)
        against = "" if mean is None else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
        text.append(
            f"| {row['budget']} | {row['method']} | {row['rate']:g} | {row['trainable']:,} | {row['stored']:,} | "
            f"{in_words(row['accuracy'])} | {against} | {row['seconds']:.0f} |"
        )
    return "\n".join(text)


def tested(lines: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Runs that were measured on the test rows, by budget and method, in the order of the seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda each: each["seed"]):
        if "test_accuracy" in line:
            groups.setdefault((line["budget"], line["method"]), []).append(line)
    return groups


def test_table(lines: Sequence[dict[str, Any]], against: str) -> str:
    """Test accuracy of every budget and method as Markdown, and the difference from `METHOD@BUDGET`, paired by row."""
    groups = tested(lines)
    method, _, budget = against.partition("@")
    peer = groups.get((budget, method))
    if peer is None:
        raise SystemExit(f"--against {against}: expected one of " + ", ".join(f"{m}@{b}" for b, m in groups))
    text = [
        f"| budget | method | rate | trained | test accuracy, % | against {against}, points | seconds |",
        "|---|---|---:|---:|---|---|---:|",
    ]
    for (where, name), runs in sorted(groups.items(), key=_place):
        if len({run["rate"] for run in runs}) > 1:
            raise SystemExit(
                f"{name}@{where} was measured on the test rows with several rates: choose on validation rows"
            )
        both = [[{"right": run["test_right"], "rows": run["test_measured"]} for run in side] for side in (runs, peer)]
        low, mean, high = difference(*both)
        text.append(
            f"| {where} | {name} | {runs[0]['rate']:g} | {runs[0]['trainable']:,} | "
            f"{in_words([100 * run['test_accuracy'] for run in runs])} | "
            + ("" if runs is peer else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})")
            + f" | {np.mean([run['seconds'] for run in runs]):.0f} |"
        )
    return "\n".join(text)


# How the picture names and draws a method.
DRAWN = {
    "head-only": ("frozen backbone, linear head", "#6b7280", "D"),
    "lora": ("LoRA", "#c2410c", "s"),
    "lora-xs-svd": ("LoRA-XS, bases by SVD", "#2a9d8f", "^"),
    "lora-xs-gradient": ("LoRA-XS, gradient bases", "#0b5cad", "o"),
    "peft-unilora": ("Uni-LoRA (PEFT)", "#7c3aed", "v"),
}


def draw(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the test accuracies of all methods against what they train."""
    groups = tested(lines)
    if not groups:
        raise SystemExit("--plot: expected runs that were measured with --test, received none")
    series = []
    for name in dict.fromkeys(method for _, method in sorted(groups, key=lambda place: _place((place, None)))):
        runs = sorted((each for (_, method), each in groups.items() if method == name), key=_trained)
        label, colour, marker = DRAWN.get(name, (name, "#7c3aed", "v"))
        points = [(_trained(each), [100 * run["test_accuracy"] for run in each]) for each in runs]
        series.append(Series(label, points, colour, marker, joined=len(points) > 1, nudge=1.06 ** (len(series) - 1)))
    rows = next(iter(groups.values()))[0]["rows"]
    plot(series, path, f"AG News, {rows:,} training texts: mean over seeds with 95% interval")


def _trained(runs: Sequence[dict[str, Any]]) -> int:
    return int(runs[0]["trainable"])


def _place(item: tuple[tuple[str, str], Any]) -> tuple[int, int]:
    (budget, method), _ = item
    known = [*METHODS, *(f"peft-{each}" for each in PEFT)]
    return BUDGETS.index(budget) if budget in BUDGETS else len(BUDGETS), known.index(method)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="a CSV file of texts and labels")
    parser.add_argument("--out", type=Path, help="the file of runs")
    parser.add_argument("--table", type=Path, help="print the table of a file of runs")
    parser.add_argument("--json", type=Path, help="also write the table as JSON")
    parser.add_argument("--budgets", type=_listed, default=list(BUDGETS))
    parser.add_argument(
        "--methods",
        type=_listed,
        default=list(METHODS),
        help=", ".join(METHODS) + f"; peft-METHOD for {', '.join(PEFT)}",
    )
    parser.add_argument("--rates", type=lambda text: [float(part) for part in text.split(",")], default=[1e-3])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--validation", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--test", type=Path, help="also measure on this file: for a last figure, with one rate")
    parser.add_argument("--against", metavar="METHOD@BUDGET", help="print test accuracies, compared with this one's")
    parser.add_argument("--plot", type=Path, metavar="PICTURE", help="draw the test accuracies as .svg or .png")
    options = parser.parse_args()
    if options.table is None and (options.train is None or options.out is None):
        parser.error("give --train and --out, or --table")
    if options.test is not None and len(options.rates) > 1:
        parser.error("--test: expected one of --rates, chosen on validation rows before")
    runs = options.table or options.out
    if options.table is None:
        found = {tuple(line[key] for key in IDENTITY) for line in done(runs)}
        for seed, budget, method, rate in product(
            range(options.seeds), options.budgets, options.methods, options.rates
        ):
            wanted = {
                "budget": budget, "method": method, "rate": rate, "seed": seed, "rows": options.rows,
                "validation": options.validation, "epochs": options.epochs,
            }  # fmt: skip
            if tuple(wanted[key] for key in IDENTITY) not in found:
                keep(runs, [run(wanted, options.train, options.test, options.threads)])
    rows = summary(done(runs))
    print(table(rows) if options.against is None else test_table(done(runs), options.against))
    if options.plot is not None:
        draw(done(runs), options.plot)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
