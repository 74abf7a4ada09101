"""ONNX Runtime: torch's export of the transformers model, its own transformer optimizer and dynamic quantization.

https://onnxruntime.ai/docs/performance/transformers-optimization.html and
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from .length_sorted import BATCH_SIZES, Feed, batches, fastest, feed, in_order, load_tokenizer

PLAIN, FUSED = "model.onnx", "fused.onnx"
# Products only: a quantized table of embeddings saves no time and costs accuracy.
PRODUCTS = ["MatMul", "Gemm", "Attention"]


class OnnxRuntime:
    """One session with all graph optimizations, `threads` threads within an operator.

    Args:
        folder: a transformers classifier with its tokenizer, and the files that `export` wrote.
        files: the forms of the model to choose from.
        file: that used for many texts.
        file_alone: that used for one.
        batch_size: texts at a time.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_length: int,
        threads: int,
        files: Sequence[str],
        file: str | None = None,
        file_alone: str | None = None,
        batch_size: int = 32,
    ) -> None:
        self.folder, self.threads = Path(folder), threads
        self.tokenizer = load_tokenizer(folder, max_length)
        self.files = [name for name in files if (self.folder / name).is_file()]
        self.file, self.batch_size = file or self.files[0], batch_size
        self.file_alone = file_alone or self.file
        self.sessions: dict[str, InferenceSession] = {}
        self._session(self.file)

    def tune(self, texts: Sequence[str]) -> dict[str, Any]:
        """The fastest form and batch size for many texts, and the fastest form for one."""
        best = fastest([{"file": self.file, "batch_size": size} for size in BATCH_SIZES], self._label, texts)
        best = fastest([best | {"file": file} for file in self.files], self._label, texts)
        return best | {"file_alone": fastest([{"file": file} for file in self.files], self._singly, texts[:20])["file"]}

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) class numbers."""
        return self._label(texts, self.file, self.batch_size)

    def class_of(self, text: str) -> int:
        """One text's class number."""
        return self._class_of(text, self.file_alone)

    def _session(self, file: str) -> InferenceSession:
        if file not in self.sessions:
            options = SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
            options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
            options.log_severity_level = 3
            path = str(self.folder / file)
            self.sessions[file] = InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return self.sessions[file]

    def _names(self, file: str) -> list[str]:
        return [each.name for each in self._session(file).get_inputs()]

    def _logits(self, file: str, inputs: Feed) -> np.ndarray:
        logits: np.ndarray = self._session(file).run(None, inputs)[0]
        return logits

    def _label(self, texts: Sequence[str], file: str, batch_size: int) -> np.ndarray:
        found = batches(self.tokenizer, texts, batch_size, self._names(file))
        return in_order([(rows, self._logits(file, inputs)) for rows, inputs in found], len(texts))

    def _class_of(self, text: str, file: str) -> int:
        return int(self._logits(file, feed([self.tokenizer.encode(text)], self._names(file))).argmax())

    def _singly(self, texts: Sequence[str], file: str) -> None:
        for text in texts:
            self._class_of(text, file)


def export(folder: str) -> list[str]:
    """Write the forms of a classifier into its folder: exported, fused by the optimizer, and both in int8.

    Returns:
        What could not be made, in words.
    """
    path, failed = Path(folder), []
    _export(path, path / PLAIN)
    for file, make, source in (
        (FUSED, _fuse, PLAIN), (f"int8-{FUSED}", _quantize, FUSED), (f"int8-{PLAIN}", _quantize, PLAIN),
    ):  # fmt: skip
        try:  # optimizer and quantization do not know every architecture
            make(path / source, path / file)
        except Exception as error:
            failed.append(f"{file}: {type(error).__name__}: {error}")
    return failed


def _export(folder: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    # Attention written out, which the optimizer recognizes and fuses.
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask"]
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in names)
    both = {0: "batch", 1: "length"}
    torch.onnx.export(
        model, example, str(out), input_names=names, output_names=["logits"], dynamo=False, opset_version=17,
        dynamic_axes={"input_ids": both, "attention_mask": both, "logits": {0: "batch"}},
    )  # fmt: skip


def _fuse(plain: Path, out: Path) -> None:
    from onnxruntime.transformers.optimizer import optimize_model

    config = json.loads((plain.parent / "config.json").read_text())
    heads = config.get("num_attention_heads") or config["n_heads"]
    hidden = config.get("hidden_size") or config["dim"]
    fused = optimize_model(str(plain), model_type="bert", num_heads=heads, hidden_size=hidden)
    fused.save_model_to_file(str(out))


def _quantize(source: Path, out: Path) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source, out, op_types_to_quantize=PRODUCTS, per_channel=True, weight_type=QuantType.QInt8,
        # Shape inference does not see through the optimizer's own operators.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )  # fmt: skip
