"""A classifier that was exported as ONNX, run by ONNX Runtime: no torch, no transformers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..data.batching import Encoded, collate, collate_types, plan_batches
from ..data.input_spec import InputSpec
from ..data.input_texts import is_single_text
from ..data.load import apply_unknown_labels, read_labelled
from ..errors import ArtifactError, ResourceError
from ..evaluate.metrics.classification import Metrics, score
from ..evaluate.metrics.probabilities import sigmoid, softmax
from ..model.tokenizer import FastTokenizer, encode
from .onnx_files import OnnxFiles, read_onnx_files
from .onnx_spec import WEIGHTS
from .prediction_rows import KeptColumns, labels_reaching, predictions_frame
from .text_reader import TextReader

BATCH = 32  # texts run at once, of like length
# Sessions that a forked process has of its parent. They stay: their end would wait for threads that it lacks.
_OF_PARENTS: list[Any] = []


class OnnxClassifier(TextReader):
    """An exported classifier, ready to predict; its methods are those of `Classifier`, as far as the folder allows.

    What was measured in training, the adapter and the recipe stay with the classifier it was exported from.

    Attributes:
        spec: what the folder says of the model.
        identity: identifies the classifier, as JSON values: the checksums of the files it was loaded from.
        size: bytes of its model.
        temperature: 1: the fitted one is in the model's output layer.
        metrics: empty.
        fast_tokenizer: turns texts into token ids.
    """

    temperature = 1.0

    def __init__(self, folder: Path, files: OnnxFiles, session: Any, tokenizer: Any) -> None:
        self.folder = folder
        self.spec = files.spec
        self.identity: list[Any] = list(files.digests)
        self.size = len(files.model) + len(files.weights or b"")
        self.metrics: dict[str, Any] = {}
        self._session, self._process = session, os.getpid()
        super().__init__()
        self._inputs = {one.name for one in session.get_inputs()}
        self.fast_tokenizer = FastTokenizer(tokenizer, files.spec.pad_id)

    def __getstate__(self) -> dict[str, Any]:
        """Without the session, which is opened again from the folder."""
        return self.__dict__ | {"folder": self.folder.absolute(), "_session": None, "_process": 0}

    def _own_session(self) -> Any:
        """The session of this process: one that was opened before a fork waits for threads that it lacks.

        Raises:
            ArtifactError: the folder, from which it is opened again, is gone or holds another model.
        """
        if self._process != os.getpid():
            files = read_onnx_files(self.folder)
            if list(files.digests) != self.identity:
                raise ArtifactError(
                    "the exported model was replaced since it was loaded", where=self.folder, remedy="load it again"
                )
            _OF_PARENTS.append(self._session)
            self._session, self._process = _open_session(files), os.getpid()
        return self._session

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities' columns."""
        return self.spec.labels.names

    @property
    def multi(self) -> bool:
        """Whether it is multi-label: a text may get any number of labels."""
        return self.spec.labels.multi

    @property
    def thresholds(self) -> np.ndarray:
        """(L,) the least probability at which each label is given, multi-label."""
        return np.array(self.spec.thresholds, dtype=np.float64)

    @property
    def delimiter(self) -> str:
        """Separates labels written into one cell."""
        return self.spec.delimiter

    @property
    def pair(self) -> bool:
        """Whether it reads two texts as one input."""
        return self.spec.input_spec.pair

    @property
    def input_spec(self) -> InputSpec:
        """How texts and labels are read from data: as in training."""
        return self.spec.input_spec

    def tokens(self, texts: Iterable[str]) -> Encoded:
        """N texts, already cleaned, as token ids."""
        return encode(self.fast_tokenizer, list(texts), self.spec.max_length, pair=self.pair)

    def logits(self, texts: Any) -> np.ndarray:
        """(N, L) fp32 logits of N texts, in their order, the temperature in them; (L,) of a single string.

        `texts` and errors as for `Classifier.logits`.
        """
        found = self.logits_of(self._read(texts))
        return found[0] if is_single_text(texts, self.pair) else found

    def logits_of(self, encoded: Encoded) -> np.ndarray:
        """(N, L) fp32 logits of texts that are already token ids, computed in batches of like length."""
        rows = np.empty((len(encoded), len(self.labels)), dtype=np.float32)
        session = self._own_session()
        for indices in plan_batches(encoded.lengths, batch_size=BATCH, bucket=1, seed=None):
            ids, mask = collate(
                encoded, indices, pad_id=self.fast_tokenizer.pad_token_id, bucket=1, max_length=self.spec.max_length
            )
            feed = {"input_ids": ids, "attention_mask": mask}
            if "token_type_ids" in self._inputs:
                types = collate_types(encoded, indices, mask)
                feed["token_type_ids"] = np.zeros_like(ids) if types is None else types
            rows[indices] = session.run(["logits"], feed)[0]
        if not np.isfinite(rows).all():
            raise ArtifactError(
                "the exported model's logits are not finite numbers", where=self.folder, remedy="export it again"
            )
        return rows

    def predict_proba(self, texts: Any) -> np.ndarray:
        """(N, L) probabilities, columns in the order of `labels`; (L,) of a single string."""
        found = self.probabilities_of(self._read(texts))
        return found[0] if is_single_text(texts, self.pair) else found

    def probabilities_of(self, encoded: Encoded) -> np.ndarray:
        """(N, L) probabilities of texts that are already token ids."""
        return self.probabilities(self.logits_of(encoded))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(N, L) probabilities of logits (N, L)."""
        return sigmoid(logits) if self.multi else softmax(logits)

    def __call__(self, texts: Any) -> Any:
        """As `predict`."""
        return self.predict(texts)

    def predict(self, texts: Any, *, as_frame: bool = False) -> Any:
        """N class names; multi-label, a list of names for each text. Of a single string, its own.

        Args:
            as_frame: a DataFrame instead, see `prediction_rows.predictions_frame`.
        """
        if as_frame:
            return predictions_frame(self, texts)
        found = self.probabilities_of(self._read(texts))
        names: list[Any] = (
            [labels_reaching(self.labels, row, self.thresholds) for row in found]
            if self.multi
            else [self.labels[index] for index in found.argmax(axis=1)]
        )
        return names[0] if is_single_text(texts, self.pair) else names

    def predict_file(
        self,
        source: str | Path,
        out: str | Path,
        *,
        form: str | None = None,
        split: str = "test",
        input_columns: bool = True,
        text: bool = True,
        id_column: str | None = None,
        resume: bool = False,
    ) -> int:
        """Label the texts of a file of any size; arguments and errors as for `Classifier.predict_file`."""
        from .bulk import predict_source

        kept = KeptColumns(input_columns, text, id_column)
        return predict_source(self, source, out, form=form, split=split, kept=kept, resume=resume)

    def evaluate(self, data: Any, **columns: Any) -> Metrics:
        """Metrics on labelled texts; arguments and errors as for `Classifier.evaluate`."""
        split, unknown = columns.pop("split", "test"), columns.pop("unknown_labels", "error")
        table, _ = read_labelled(self.input_spec.changed(**columns), data, split=split)
        table, gone, _ = apply_unknown_labels(self.spec.labels, table, unknown)
        found = self.probabilities_of(self.tokens(table.texts))
        thresholds = self.thresholds if self.multi else None
        measured = score(self.spec.labels.encode(table), found, self.labels, thresholds)
        return measured.with_unknown(gone if unknown == "wrong" else 0)

    @property
    def artifact(self) -> NoReturn:
        """Not in the folder."""
        raise self._lacks("the recipe, the adapter or the training metrics")

    def scaled(self, factor: float) -> NoReturn:
        """Not possible: the adapter is merged."""
        raise self._lacks("an adapter to scale")

    def with_prior(self, shares: str, texts: Any = ()) -> NoReturn:
        """Not possible: the shares of the classes in training are not in the folder."""
        raise self._lacks("the class shares of the training data")

    def save(self, folder: str | Path) -> NoReturn:
        """Not possible: the folder itself can be copied."""
        raise self._lacks("the files of a saved classifier")

    def _lacks(self, what: str) -> ArtifactError:
        return ArtifactError(
            f"an exported ONNX model does not contain {what}",
            where=self.folder,
            remedy="use the original classifier",
        )


def load_onnx(folder: str | Path) -> OnnxClassifier:
    """Load a folder that `pennyweight export --format onnx` or `onnx-int8` wrote, to run on the CPU.

    Raises:
        ArtifactError: files that are missing, damaged, or not what exporting writes.
        ResourceError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            "ONNX Runtime is not installed", where=folder, remedy="pip install onnxruntime, or pennyweight[onnx]"
        ) from error
    from tokenizers import Tokenizer

    folder = Path(folder)
    files = read_onnx_files(folder)
    try:
        tokenizer = Tokenizer.from_str(files.tokenizer.decode())
        session = _open_session(files)
        _check(session, len(files.spec.labels.names))
    except MemoryError:
        raise
    except Exception as error:  # each library has errors of its own, and the Rust one bare ones
        raise ArtifactError(
            f"the exported model cannot be loaded ({str(error).splitlines()[0][:200] if str(error) else error!r})",
            where=folder,
            remedy="export it again",
        ) from error
    return OnnxClassifier(folder, files, session, tokenizer)


def _open_session(files: OnnxFiles) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of its own rewriting of graphs
    if files.weights is not None:
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [files.weights], [len(files.weights)])
    return onnxruntime.InferenceSession(files.model, options, providers=["CPUExecutionProvider"])


def _check(session: Any, labels: int) -> None:
    """Refuse a model that does not take token ids, or gives another number of logits than there are labels."""
    inputs = {one.name for one in session.get_inputs()}
    outputs = {one.name: one.shape for one in session.get_outputs()}
    if not {"input_ids", "attention_mask"} <= inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise ValueError(f"it takes {', '.join(sorted(inputs))}")
    if outputs.get("logits", [0])[-1] != labels:
        raise ValueError(f"its outputs are {outputs}, but there are {labels} labels")
