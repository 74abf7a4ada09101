"""Inference, ours and peers side by side in one process tree, in turn, on the same texts with the same weights.

    python benchmarks/predict.py --quick          all-MiniLM-L6-v2, trained on AG News: minutes
    python benchmarks/predict.py                  also shapes of roberta-base and ModernBERT-base, random weights
    python benchmarks/predict.py --json           one JSON object on standard output

Every contender has a process of its own; tokenization is part of every figure, and nothing is kept between passes.
Peers are given the settings with which they are fastest on 128 texts (batch size, form of the graph, hint), found in a
process of its own, so that what was tried counts for nobody's memory. A contender's speed is that of its best round;
memory is the peak of its process, libraries included, after the first round. ONNX Runtime, OpenVINO and NNCF are
optional (`pip install onnx onnxruntime openvino nncf`); what is not there is listed under `skipped`.

`labels_changed` is the share of validation texts whose label is not that of transformers in fp32. Who changes less than
0.2 % of them and loses at most 0.1 points of accuracy passes the gate. Validation texts are rows of train.csv that were
not trained on; test.csv is read with --test only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import operator
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifiers import LONGEST, Forms, forms, last_line
from contender import Contender, prepare_process
from inputs import LABELS, ROOT, Texts, machine, news, parts, versions

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
PACKAGES = ("transformers", "tokenizers", "onnx", "onnxruntime", "openvino", "nncf")
REFERENCE = "transformers_fp32"
TRAINED, VALIDATION, TRIED = 4000, 2600, 128  # texts
CHANGED, POINTS = 0.002, 0.001  # the gate


@dataclass(frozen=True)
class Kind:
    """A way to be fast.

    Attributes:
        path: `module:Class`, see contender.py.
        settings: of the class.
        needs: packages without which it is skipped.
        threaded: whether it must be told the number of threads.
    """

    path: str
    settings: dict[str, Any]
    needs: tuple[str, ...] = ()
    threaded: bool = False


ORT, OV = "peers.onnx_runtime:OnnxRuntime", "peers.open_vino:OpenVino"
# The precision is what comes after the last underscore.
CONTENDERS = {
    "transformers_fp32": Kind("peers.hf_batched:HfBatched", {"dtype": "float32"}),
    "ours_fp32": Kind("ours_predict:OursPredict", {"precision": "fp32"}),
    "ours_bf16": Kind("ours_predict:OursPredict", {"precision": "bf16"}),
    "ours_int8": Kind("ours_predict:OursPredict", {"precision": "int8"}),
    "pipeline_fp32": Kind("peers.hf_pipeline:HfPipeline", {}),
    "transformers_bf16": Kind("peers.hf_batched:HfBatched", {"dtype": "bfloat16"}),
    "onnxruntime_fp32": Kind(ORT, {"files": ("model.onnx", "fused.onnx")}, ("onnxruntime", "onnx"), True),
    "onnxruntime_int8": Kind(ORT, {"files": ("int8-model.onnx", "int8-fused.onnx")}, ("onnxruntime", "onnx"), True),
    "openvino_fp32": Kind(OV, {"file": "openvino.xml", "precision": "f32"}, ("openvino",), True),
    "openvino_bf16": Kind(OV, {"file": "openvino.xml", "precision": "bf16"}, ("openvino",), True),
    "openvino_int8": Kind(OV, {"file": "openvino-int8.xml"}, ("openvino", "nncf"), True),
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="all-MiniLM-L6-v2 only")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--classifier", type=Path, metavar="RUN", help="a classifier of AG News to take")
    parser.add_argument("--test", action="store_true", help="also the accuracy on test.csv, for the last figure")
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--texts", type=int, default=2000, help="texts per round (default 2000)")
    parser.add_argument("--single", type=int, default=200, help="texts labelled one at a time (default 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads (default: OMP_NUM_THREADS, or physical cores)")
    options = parser.parse_args()
    options.threads = prepare_process(options.threads)
    result = measure(options)
    print(json.dumps(result, indent=2) if options.json else report(result))


def measure(options: Any) -> dict[str, Any]:
    """Every figure."""
    train, test = news(options.data)
    trained, validation = parts(train, TRAINED, VALIDATION)
    installed = {name for name in PACKAGES if importlib.util.find_spec(name)}
    made = forms("minilm", trained, options.classifier, installed)
    result = {"machine": machine("cpu") | versions(*PACKAGES), "classifier": str(made.run)}
    result |= compare(made, validation, test if options.test else None, options)
    result["cold_start_seconds"] = cold_start(made.run)
    if not options.quick:
        few = argparse.Namespace(**vars(options) | {"texts": 128, "single": 20, "rounds": 2})
        for name in ("roberta_base", "modernbert_base"):
            made = forms(name, trained, None, installed)
            result[f"{name}_shape"] = compare(made, tuple(each[:128] for each in validation), None, few)
    return result


def unavailable(name: str, made: Forms) -> str | None:
    """Why a contender cannot take part; None where it can."""
    from pennyweight.model.device import bf16_is_faster

    kind, precision = CONTENDERS[name], name.rpartition("_")[2]
    missing = [need for need in kind.needs if importlib.util.find_spec(need) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if precision == "bf16" and not bf16_is_faster():
        return "this processor emulates bf16, slower than fp32"
    return next((made.failed[need] for need in kind.needs if need in made.failed), None)


def start(made: Forms, texts: list[str], options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """The contenders at their best settings; these settings; and why others are not among them."""
    contenders, tuned, skipped = {}, {}, {}
    for name in options.only:
        reason = unavailable(name, made)
        if reason is None:
            kind = CONTENDERS[name]
            ours = name.startswith("ours")
            folder = str(made.run if ours else made.merged)
            settings = kind.settings | ({} if ours else {"max_length": LONGEST})
            settings |= {"threads": options.threads} if kind.threaded else {}
            try:
                trial = Contender(kind.path, options.threads, folder, **settings)
                chosen = trial.tune(texts[-min(TRIED, options.texts) :])
                trial.close()
                contenders[name] = Contender(kind.path, options.threads, folder, **settings | chosen)
                tuned[name] = chosen
            except RuntimeError as error:
                reason = last_line(error)
        if reason is not None:
            skipped[name] = reason
        print(f"  {name}: {reason or tuned[name]}", file=sys.stderr, flush=True)
    return contenders, tuned, skipped


def compare(made: Forms, validation: Texts, test: Texts | None, options: Any) -> dict[str, Any]:
    """Speed, memory and labels of every contender, and what follows from them."""
    contenders, tuned, skipped = start(made, validation[0], options)
    figures: dict[str, dict[str, Any]] = {name: {"settings": each} for name, each in tuned.items()}
    classes = race(contenders, validation[0], figures, options)
    labels = json.loads((made.merged / "config.json").read_text())["label2id"]
    truth = [[labels[LABELS[each]] for each in (part or ((), ()))[1]] for part in (validation, test)]
    for name, contender in contenders.items():
        figures[name] |= quality(classes[name], classes.get(REFERENCE), truth[0])
        if test is not None:
            right = [found == label for found, label in zip(contender.bulk(test[0])[1], truth[1], strict=True)]
            figures[name]["test_accuracy"] = round(sum(right) / len(right), 4)
        contender.close()
    count = min(options.texts, len(validation[0]))
    return {"texts": count, "contenders": figures, "skipped": skipped, **ratios(figures)}


def race(
    contenders: dict[str, Any], texts: list[str], figures: dict[str, dict[str, Any]], options: Any
) -> dict[str, list[int]]:
    """Fill in speed and memory; the classes that each contender gives all texts."""
    some, rest = texts[: options.texts], texts[options.texts :]
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    single: dict[str, list[float]] = {name: [] for name in contenders}
    classes: dict[str, list[int]] = {}
    for turn in range(options.rounds):
        for name, contender in contenders.items():
            if turn and name.startswith("pipeline"):  # the slowest by far
                continue
            seconds, found = contender.bulk(some)
            rounds[name].append(seconds)
            if not turn:
                figures[name]["peak_memory_mb"] = round(contender.peak())
                classes[name] = [*found, *(contender.bulk(rest)[1] if rest else ())]
                contender.alone(some[:10])  # warms up
            single[name] += contender.alone(some[turn :: options.rounds][: -(-options.single // options.rounds)])
            print(f"  round {turn + 1} {name}: {len(some) / seconds:.1f} texts/s", file=sys.stderr, flush=True)
    for name, each in figures.items():
        quantiles = statistics.quantiles([seconds * 1e3 for seconds in single[name]], n=100, method="inclusive")
        each |= {
            "texts_per_second": round(len(some) / min(rounds[name]), 1),
            "rounds": [round(len(some) / seconds, 1) for seconds in rounds[name]],
            "p50_ms": round(quantiles[49], 2),
            "p99_ms": round(quantiles[98], 2),
        }
    return classes


def quality(classes: list[int], reference: list[int] | None, truth: list[int]) -> dict[str, Any]:
    """Accuracy, labels that are not those of the reference, and whether both are near enough to it."""

    def accuracy(each: list[int]) -> float:
        return sum(map(operator.eq, each, truth)) / len(truth)

    found: dict[str, Any] = {"accuracy": round(float(accuracy(classes)), 4), "labels_changed": None}
    found["passes_gate"] = None
    if reference is not None:
        changed = sum(map(operator.ne, classes, reference)) / len(truth)
        passes = bool(changed < CHANGED and accuracy(reference) - accuracy(classes) <= POINTS + 1e-9)
        found |= {"labels_changed": round(float(changed), 5), "passes_gate": passes}
    return found


def ratios(figures: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """How many times as fast ours is; None where one of the two is missing.

    `ratio_fp32`, `ratio_bf16` and `ratio_int8` are to the fastest peer of the precision; `ratio_gate` is our fastest
    precision that passes the gate to the fastest peer that does; `ratio_p50` is ONNX Runtime's p50 in int8 to ours.
    """

    def speed(ours: bool, *, precision: str = "", gate: bool = False) -> float | None:
        speeds = [
            each["texts_per_second"]
            for name, each in figures.items()
            if name.startswith("ours") is ours and name.endswith(precision) and (each["passes_gate"] or not gate)
        ]
        return max(speeds, default=None)

    def ratio(above: float | None, below: float | None) -> float | None:
        return round(above / below, 2) if above and below else None

    found = {
        f"ratio_{precision}": ratio(speed(True, precision=precision), speed(False, precision=precision))
        for precision in ("fp32", "bf16", "int8")
    }
    found["ratio_gate"] = ratio(speed(True, gate=True), speed(False, gate=True))
    p50 = {name: each["p50_ms"] for name, each in figures.items()}
    found["ratio_p50"] = ratio(p50.get("onnxruntime_int8"), p50.get("ours_int8"))
    return found


def cold_start(run: Path, times: int = 3) -> list[float]:
    """Seconds from starting `pennyweight predict RUN -` to its first line; the first start may read the disk."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "pennyweight", "predict", str(run), "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"The striker scored twice in extra time.\n")
            process.stdin.flush()
            line = process.stdout.readline()
            found.append(round(time.perf_counter() - began, 2))
            process.stdin.close()
        if not line.strip():
            raise RuntimeError(f"pennyweight predict {run} - gave no answer")
    return found


def report(result: dict[str, Any]) -> str:
    """The same, for reading."""
    lines = [f"{key}: {value}" for key, value in result["machine"].items()]
    for title in ("all-MiniLM-L6-v2", "roberta_base_shape", "modernbert_base_shape"):
        part = result if title.startswith("all") else result.get(title)
        if part is None:
            continue
        lines += ["", f"{title}, {part['texts']} texts"]
        lines += [
            f"{'contender':<19}{'texts/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'MB':>7}{'accuracy':>10}{'changed':>9}  gate"
        ]
        for name, each in part["contenders"].items():
            changed = "" if each["labels_changed"] is None else f"{each['labels_changed']:.2%}"
            passes = {None: "", True: "passes", False: "fails"}[each["passes_gate"]]
            lines.append(
                f"{name:<19}{each['texts_per_second']:>9}{each['p50_ms']:>8}{each['p99_ms']:>8}"
                f"{each['peak_memory_mb']:>7}{each['accuracy']:>10.2%}{changed:>9}  {passes}"
            )
        lines += [f"skipped: {name}: {reason}" for name, reason in part["skipped"].items()]
        lines += [f"{key}: {value}" for key, value in part.items() if key.startswith("ratio_")]
    return "\n".join([*lines, "", f"cold start, seconds: {result['cold_start_seconds']}"])


if __name__ == "__main__":
    main()
