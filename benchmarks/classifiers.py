"""The classifiers that benchmarks/predict.py measures, and the forms of them that the peers read, each made once."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contender import in_child
from inputs import LABELS, ROOT, Texts, embedded, versions

# Head as the stock class has it, so that the peers compute exactly the model that was trained.
PLAN: dict[str, Any] = {
    "budget": "none", "target_modules": ["query", "key", "value"], "r": 16, "lora_alpha": 32, "head": "full",
    "epochs": 1,
}  # fmt: skip
LONGEST = 128  # tokens, the recipes' own


@dataclass(frozen=True)
class Forms:
    """A classifier, in every form.

    Attributes:
        run: as Pennyweight saved it.
        merged: as a transformers model, with the files of ONNX Runtime and OpenVINO beside it.
        failed: package to why its form could not be made.
    """

    run: Path
    merged: Path
    failed: dict[str, str]


def cache() -> Path:
    """Where classifiers are kept between runs of the benchmark."""
    folder = Path(tempfile.gettempdir()) / "pennyweight-benchmarks"
    folder.mkdir(exist_ok=True)
    return folder


def forms(name: str, train: Texts, run: Path | None, installed: set[str]) -> Forms:
    """Make, or find, a classifier and its forms.

    Args:
        name: `minilm`, or one of `inputs.SHAPES`.
        train: texts to train on; of the shapes' random weights only few are used.
        run: a trained classifier to take instead.
        installed: the peers' packages that there are.
    """
    if run is None:
        run = cache() / f"{name}-{_source_hash()}"
        if not run.exists():
            backbone = "embedded" if name == "minilm" else str(_backbone(name))
            _aside(run, "classifiers:train_classifier", backbone, train)
        key = run.name
    else:
        weights = sorted(run.glob("*.safetensors"))
        key = "given-" + hashlib.sha256(b"".join(file.read_bytes() for file in weights)).hexdigest()[:12]
    made = versions("torch", "transformers", "onnxruntime", "openvino", "nncf")
    merged = cache() / f"{key}-merged-{hashlib.sha256(repr(made).encode()).hexdigest()[:12]}"
    if not merged.exists():
        _aside(merged, "classifiers:merge", str(run))
    return Forms(run, merged, _write_missing(merged, train[0][:300], installed))


def _source_hash() -> str:
    """Of Pennyweight's source: a classifier that older code trained does not show what today's does."""
    files = sorted((ROOT / "src" / "pennyweight").rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _write_missing(merged: Path, calibration: list[str], installed: set[str]) -> dict[str, str]:
    """Write the peers' files that are not there yet; why some cannot be."""
    failed: dict[str, str] = {}
    for key, needs, file, function, given in (
        ("onnxruntime", {"onnxruntime", "onnx"}, "int8-model.onnx", "peers.onnx_runtime:export", ()),
        ("openvino", {"openvino"}, "openvino.xml", "peers.open_vino:convert", ()),
        ("nncf", {"openvino", "nncf"}, "openvino-int8.xml", "peers.open_vino:quantize", (calibration, LONGEST)),
    ):
        if needs <= installed and not (merged / file).exists():
            print(f"  writing {merged.name}/{file}", file=sys.stderr, flush=True)
            try:
                for remark in in_child(function, str(merged), *given) or ():
                    print(f"  {remark}", file=sys.stderr)
            except Exception as error:  # a peer that cannot be had must not stop the others
                failed[key] = f"{file} could not be made: {type(error).__name__}: {last_line(error)}"
    return failed


def last_line(error: Exception) -> str:
    """Where a child failed, its traceback's own conclusion."""
    return (str(error).strip().splitlines() or [""])[-1][:300]


def _aside(folder: Path, function: str, *args: Any) -> None:
    """Have a folder made beside its place, so that it is whole where it is found."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        in_child(function, *args, str(Path(scratch) / folder.name))
        shutil.move(Path(scratch) / folder.name, folder)


def _backbone(name: str) -> Path:
    folder = cache() / f"{name}-backbone"
    if not folder.exists():
        _aside(folder, "inputs:shape", name, embedded())
    return folder


def train_classifier(backbone: str, train: Texts, folder: str) -> None:
    """Train and save; a backbone of random weights for one step only."""
    import pennyweight as pw
    from pennyweight.model.kernels.int8_linear import has_int8

    settings = PLAN | {"backbone": backbone, "max_length": LONGEST, "audit": "off", "seed": 0, "device": "cpu"}
    texts, labels = train
    if backbone != "embedded":
        texts, labels = texts[:64], labels[:64]
        settings |= {"max_steps": 1, "layers": "top:1", "lp_ft": False, "validation_size": 0}
    if has_int8():
        settings["inference_precision"] = "int8"  # so that what it rounds by is measured and saved
    pw.train([(text, LABELS[label]) for text, label in zip(texts, labels, strict=True)], **settings).save(folder)


def merge(run: str, folder: str) -> None:
    """Write the transformers form of a saved classifier."""
    import pennyweight as pw
    from pennyweight.export.merged import to_merged

    to_merged(pw.load(run, device="cpu", precision="fp32").artifact, folder)
