"""A classifier as an ONNX model, in fp32 or int8, with everything that prediction needs next to it.

| file                | holds                                                                                  |
|---------------------|----------------------------------------------------------------------------------------|
| model.onnx          | the graph: `input_ids`, `attention_mask` (and `token_type_ids`), (batch, length) int64, |
|                     | to `logits`, (batch, labels) fp32, the temperature in them                             |
| model.onnx.data     | its weights, where they are too large for one file                                     |
| tokenizer.json      | the tokenizer, and the files that transformers adds                                    |
| config.json         | transformers' config of the backbone with `id2label` and `label2id`                    |
| classifier.json     | what `pennyweight.load` reads                                                          |
| README.md           | code that runs                                                                         |
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..artifact.artifact import Artifact
from ..data.label_format import DELIMITER
from ..errors import ResourceError
from ..evaluate.metrics.thresholds import saved_thresholds
from ..model.backbone import quiet_transformers
from ..predict.onnx_classifier import load_onnx
from ..predict.onnx_spec import MODEL, OnnxSpec, checksums_of
from ..storage.atomic import atomic_folder, write_text
from ..storage.folders import refuse_nonempty_folder
from .difference import checked_difference, example_texts, our_logits
from .graph import PlainClassifier, plain_classifier, reads_segments
from .readme import HERE, readme, runtime_code
from .stock_model import label_config
from .temperature import temperature_of
from .whole_texts import refuse_long_texts

# The operator set that torch's exporter is written for, LayerNormalization included; every later one is converted to.
OPSET = 18
# A protocol buffer holds 2 GiB; from here on weights lie in a file of their own.
LARGEST_MODEL = 1_800_000_000  # bytes


def to_onnx(artifact: Artifact, folder: str | Path) -> float:
    """Write a folder with an ONNX model in fp32, of dynamic batch and length.

    Returns:
        The largest difference between its logits in ONNX Runtime and ours divided by the temperature, on news items.

    Raises:
        InputError: when the folder holds anything.
        ArtifactError: when the difference is above 1e-3 of the largest logit; nothing is written then.
        ResourceError: when onnx, onnxscript or onnxruntime is not installed.
    """
    return _write(artifact, folder, "fp32")


def to_onnx_int8(artifact: Artifact, folder: str | Path) -> float:
    """As `to_onnx`, the weights of all matrix products in int8, one scale a column, by ONNX Runtime's own quantization.

    Activations are quantized as they come (dynamic quantization); embeddings, norms and the output layer stay fp32.

    Returns:
        The largest difference of logits as in `to_onnx`, which is the price of int8: it is reported and never refused.
    """
    return _write(artifact, folder, "int8")


def _write(artifact: Artifact, folder: str | Path, number_format: str) -> float:
    refuse_nonempty_folder(folder)
    refuse_long_texts(artifact)
    require("onnx", "onnxscript", "onnxruntime", extra="onnx")
    texts = example_texts(artifact)
    ours = our_logits(artifact, texts)
    with atomic_folder(folder) as aside:
        plain = plain_classifier(artifact)
        if number_format == "fp32":
            write_graph(plain, artifact, aside / MODEL)
        else:
            with tempfile.TemporaryDirectory(prefix="pennyweight-") as scratch:
                write_graph(plain, artifact, Path(scratch) / MODEL)
                _quantize(Path(scratch) / MODEL, aside / MODEL)
        write_companions(artifact, aside)
        spec = replace(_spec(artifact, number_format), checksums=checksums_of(aside))
        spec.write(aside)
        exported = load_onnx(aside)
        theirs = exported.logits_of(exported.tokens(texts))
        limit = 1e-3 if number_format == "fp32" else float("inf")
        difference = checked_difference(ours, theirs, limit=limit)
        replace(spec, difference=difference).write(aside)
        write_text(aside / "README.md", _readme(artifact, number_format, reads_segments(artifact, plain), difference))
    return difference


def require(*packages: str, extra: str) -> None:
    """Raise `ResourceError` unless packages can be imported; `extra` is the one of ours that brings them."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ResourceError(
            f"this format needs {', '.join(missing)}", remedy=f"pip install 'pennyweight[{extra}]', or only these"
        )


def write_graph(plain: PlainClassifier, artifact: Artifact, path: Path) -> None:
    """Trace a module into an ONNX file."""
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if reads_segments(artifact, plain) else [])]
    # No dimension of the example may be 0 or 1, which torch.export takes for constants, nor two of them equal.
    example = torch.arange(2 * 7).reshape(2, 7) % 5
    values = (example, torch.tensor([[1] * 7, [1] * 5 + [0] * 2]), torch.zeros_like(example))
    size = sum(tensor.numel() * tensor.element_size() for tensor in plain.state_dict().values())
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            plain,
            kwargs=dict(zip(names, values, strict=False)),
            input_names=names,
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={name: {0: "batch", 1: "length"} for name in names},
            verbose=False,
        )
        for node in program.model.graph:
            node.metadata_props.clear()  # lines of the source behind it, with the folders of this machine
        program.save(path, external_data=size > LARGEST_MODEL)


def write_companions(artifact: Artifact, folder: Path) -> None:
    """Write the tokenizer, and a config.json that names the labels."""
    from transformers import AutoConfig

    artifact.tokenizer.save_pretrained(folder)
    with quiet_transformers():
        AutoConfig.from_pretrained(artifact.backbone.folder, **label_config(artifact)).save_pretrained(folder)


def _quantize(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name("prepared.onnx")
    large = source.with_name(f"{source.name}.data").exists()
    with _quiet():
        # Folds constants, so that every weight is seen as one. Symbolic shapes are not needed for matrix products.
        quant_pre_process(source, prepared, skip_symbolic_shape=True, save_as_external_data=large)
        # Layers of the head, products of two dimensions with a bias; the tool renames them before it looks.
        head = [
            node.name for node in onnx.load(prepared, load_external_data=False).graph.node if node.op_type == "Gemm"
        ]
        quantize_dynamic(
            prepared, target, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
            nodes_to_exclude=[*head, *(f"{name}_MatMul" for name in head)], use_external_data_format=large,
        )  # fmt: skip


def _spec(artifact: Artifact, number_format: str) -> OnnxSpec:
    multi = artifact.labels.multi
    form = replace(artifact.input_spec.form, task="multi" if multi else "single")
    count = len(artifact.labels.names)
    return OnnxSpec(
        labels=artifact.labels,
        input_spec=replace(artifact.input_spec, form=form, pair=artifact.recipe.data.pair),
        max_length=artifact.recipe.data.max_length,
        pad_id=artifact.tokenizer.pad_token_id,
        delimiter=artifact.recipe.data.label_delimiter or DELIMITER,
        thresholds=tuple(saved_thresholds(artifact.metrics, count).tolist()) if multi else (),
        number_format=number_format,
        opset=OPSET,
        temperature=temperature_of(artifact),
    )


def _readme(artifact: Artifact, number_format: str, segments: bool, difference: float) -> str:
    loading = runtime_code(
        artifact,
        segments,
        "import onnxruntime\nfrom tokenizers import Tokenizer",
        f'session = onnxruntime.InferenceSession("{HERE}/{MODEL}", providers=["CPUExecutionProvider"])',
        'session.run(["logits"], feed)[0]',
    )
    figures = (
        f"{number_format}, opset {OPSET}, any batch and any length up to {artifact.recipe.data.max_length} tokens."
    )
    more = [
        figures,
        f"Its logits differed from Pennyweight's by at most {difference:.1e} on {len(example_texts(artifact))} texts.",
        "`pennyweight predict this-folder FILE` and `pennyweight.load` read this folder too.",
    ]
    if number_format == "int8":
        more.append(
            "On x86 processors without VNNI (before 2019, roughly) int8 sums may saturate and labels may change: "
            "measure there, or use fp32."
        )
    return readme(artifact, "onnx", f"A Pennyweight classifier for ONNX Runtime ({number_format})", loading, *more)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter and ONNX Runtime's tools print and warn of: their own progress and plans."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    loggers.append(logging.getLogger())
    levels, handlers = [one.level for one in loggers], [*loggers[-1].handlers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        loggers[-1].handlers[:] = handlers  # `logging.info` of a library gives the root logger one
