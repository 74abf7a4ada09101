"""ONNX Runtime with many classifiers: each adapter merged into a model of its own, each with a session of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import torch
from adapter_batches import by_reader, calls
from onnx import numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from torch import Tensor, nn
from transformers import AutoModel

from pennyweight.artifact.load_artifact import load_artifact
from pennyweight.model.backbone import resolve
from pennyweight.model.device import choose
from pennyweight.model.inference.merge import backbone_state, merged_state

from .length_sorted import batches, load_tokenizer

NAMES = ("input_ids", "attention_mask")
BATCH_SIZE = 32
MOST_MEMORY = 8 << 30  # bytes of the process, after which no further session is made


class Pooled(nn.Module):
    """An encoder with a linear head on the first token."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.out = encoder, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.out(self.encoder(input_ids, attention_mask).last_hidden_state[:, 0])
        return logits


class OnnxSessions:
    """One session an adapter, all graph optimizations, `threads` threads within an operator.

    torch exports the first; in the others the merged matrices take the place of the first's, found by their values.

    Args:
        folders: of saved classifiers with linear heads on the first token.
        backbone: a transformers folder.

    Attributes:
        held: how many sessions there are: fewer than asked for where memory ended first.
    """

    def __init__(self, folders: Sequence[str], *, backbone: str, max_length: int, threads: int) -> None:
        self.folders, self.backbone, self.threads = [Path(folder) for folder in folders], backbone, threads
        self.tokenizer = load_tokenizer(backbone, max_length)
        self.sessions: list[InferenceSession] = []
        self.held = 0
        self._frozen = dict(backbone_state(resolve(backbone)))
        self._first = self._state(0)
        self._model = self._export()
        self._places = self._find()

    def load(self, count: int) -> None:
        """Hold the first `count` sessions, or as many as memory allows."""
        while len(self.sessions) < count and psutil.Process().memory_info().rss < MOST_MEMORY:
            self.sessions.append(self._session(len(self.sessions)))
        self.held = len(self.sessions)

    def mixed(self, texts: Sequence[str], readers: Sequence[int], size: int) -> list[int]:
        """N class numbers, `size` texts per call."""
        found: list[int] = []
        for some, theirs in calls(texts, readers, size):
            classes = np.empty(len(some), dtype=np.int64)
            for reader, places in by_reader(theirs).items():
                group = [some[place] for place in places]
                for rows, inputs in batches(self.tokenizer, group, BATCH_SIZE, NAMES):
                    logits = self.sessions[reader].run(None, inputs)[0]
                    classes[np.array(places)[rows]] = logits.argmax(1)
            found += classes.tolist()
        return found

    def _state(self, number: int) -> dict[str, np.ndarray]:
        """The encoder's matrices, the adapter merged, and the head, by their names in `Pooled`."""
        saved = load_artifact(self.folders[number], choose("cpu", "fp32"), self.backbone)
        merged = merged_state(saved.backbone.config, self._frozen, saved.plan.adapter, saved.tensors.adapter)
        state = {name: values for name, values in merged.items() if ".dense." in name or ".self." in name}
        return {f"encoder.{name}": values.numpy() for name, values in state.items() if name.endswith("weight")} | {
            name: values.numpy() for name, values in saved.tensors.head.items()
        }

    def _export(self) -> onnx.ModelProto:
        encoder = AutoModel.from_pretrained(
            self.backbone, dtype=torch.float32, add_pooling_layer=False, attn_implementation="eager"
        )
        labels, width = self._first["out.weight"].shape
        model = Pooled(encoder, nn.Linear(width, labels)).eval()
        # At their merged values, by which they are found in the graph.
        model.load_state_dict({name: torch.from_numpy(each) for name, each in self._first.items()}, strict=False)
        both = {0: "batch", 1: "length"}
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "model.onnx"
            torch.onnx.export(
                model, tuple(torch.ones(2, 8, dtype=torch.long) for _ in NAMES), str(file), input_names=list(NAMES),
                output_names=["logits"], dynamo=False, opset_version=17,
                dynamic_axes={name: both for name in NAMES} | {"logits": {0: "batch", 1: "labels"}},
            )  # fmt: skip
            return onnx.load(str(file))

    def _find(self) -> dict[str, tuple[int, bool]]:
        """Each tensor's place among the graph's initializers, and whether it lies there transposed."""
        held = [numpy_helper.to_array(each) for each in self._model.graph.initializer]
        places = {}
        for name, values in self._first.items():
            for place, each in enumerate(held):
                if each.shape == values.shape and np.array_equal(each, values):
                    places[name] = place, False
                elif each.shape == values.T.shape and np.array_equal(each, values.T):
                    places[name] = place, True
        missing = self._first.keys() - places
        if missing:
            raise RuntimeError(f"not in the exported graph: {', '.join(sorted(missing))}")
        return places

    def _session(self, number: int) -> InferenceSession:
        for name, values in self._state(number).items():
            place, transposed = self._places[name]
            tensor = self._model.graph.initializer[place]
            laid_out = np.ascontiguousarray(values.T if transposed else values)
            tensor.CopyFrom(numpy_helper.from_array(laid_out, tensor.name))
        options: Any = SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        return InferenceSession(self._model.SerializeToString(), options, providers=["CPUExecutionProvider"])
