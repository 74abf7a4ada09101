"""OpenVINO: its conversion of the transformers model, asynchronous requests, int8 by NNCF's post-training quantization.

https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference.html and
https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from .length_sorted import BATCH_SIZES, batches, fastest, feed, in_order, load_tokenizer

PLAIN, INT8 = "openvino.xml", "openvino-int8.xml"
NAMES = ("input_ids", "attention_mask")


class OpenVino:
    """Many texts by the better of its hints for throughput and latency, one by the hint for latency.

    Args:
        folder: a transformers classifier with its tokenizer, and the files that `convert` or `quantize` wrote.
        file: which of them.
        precision: OpenVINO's name of the number format of what is not int8: f32 or bf16; None for its own choice.
        hint: THROUGHPUT or LATENCY.
        batch_size: texts at a time.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_length: int,
        threads: int,
        file: str,
        precision: str | None = None,
        hint: str = "THROUGHPUT",
        batch_size: int = 32,
    ) -> None:
        self.tokenizer = load_tokenizer(folder, max_length)
        self.core = ov.Core()
        self.model = self.core.read_model(Path(folder) / file)
        # The conversion leaves out inputs that change nothing.
        known = {name for each in self.model.inputs for name in each.get_names()}
        self.names = [name for name in NAMES if name in known]
        self.properties = {"INFERENCE_NUM_THREADS": threads}
        self.properties |= {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        self.hint, self.batch_size = hint, batch_size
        self.compiled: dict[str, Any] = {}
        self._compile(hint)

    def tune(self, texts: Sequence[str]) -> dict[str, Any]:
        """The fastest hint and batch size for many texts."""
        best = fastest([{"hint": self.hint, "batch_size": size} for size in BATCH_SIZES], self._label, texts)
        return fastest([best | {"hint": hint} for hint in ("THROUGHPUT", "LATENCY")], self._label, texts)

    def classes(self, texts: Sequence[str]) -> np.ndarray:
        """(N,) class numbers."""
        return self._label(texts, self.hint, self.batch_size)

    def class_of(self, text: str) -> int:
        """One text's class number."""
        request = self._compile("LATENCY")[1]
        return int(request.infer(feed([self.tokenizer.encode(text)], self.names))[0].argmax())

    def _compile(self, hint: str) -> tuple[Any, Any]:
        """The queue of requests, and one request of its own."""
        if hint not in self.compiled:
            compiled = self.core.compile_model(self.model, "CPU", self.properties | {"PERFORMANCE_HINT": hint})
            self.compiled[hint] = ov.AsyncInferQueue(compiled), compiled.create_infer_request()
        return self.compiled[hint]  # type: ignore[no-any-return]

    def _label(self, texts: Sequence[str], hint: str, batch_size: int) -> np.ndarray:
        queue, parts = self._compile(hint)[0], []  # type: ignore[var-annotated]
        queue.set_callback(lambda request, rows: parts.append((rows, request.get_output_tensor().data.copy())))
        for rows, inputs in batches(self.tokenizer, texts, batch_size, self.names):
            queue.start_async(inputs, rows)
        queue.wait_all()
        return in_order(parts, len(texts))


def convert(folder: str) -> None:
    """Write a classifier's intermediate representation into its folder, fp32."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    example = {name: torch.ones(2, 8, dtype=torch.long) for name in NAMES}
    ov.save_model(ov.convert_model(model, example_input=example), Path(folder) / PLAIN, compress_to_fp16=False)


def quantize(folder: str, texts: Sequence[str], max_length: int) -> None:
    """Write an int8 form of what `convert` wrote, calibrated on some texts."""
    import nncf

    tokenizer = load_tokenizer(folder, max_length)
    model = ov.Core().read_model(Path(folder) / PLAIN)
    data = nncf.Dataset([feed([tokenizer.encode(text)], NAMES) for text in texts])
    quantized = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts))
    ov.save_model(quantized, Path(folder) / INT8)
