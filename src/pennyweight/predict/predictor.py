"""The classifier: from texts to labels and probabilities."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifact.artifact import Artifact
from ..artifact.file_contents import damage_as_errors
from ..artifact.layout import MANIFEST, RANGES
from ..artifact.load_artifact import load_artifact, metrics_of, recipe_of
from ..artifact.save_artifact import save_artifact
from ..artifact.saved_files import read_files
from ..data.batching import Encoded
from ..data.html_table import html_table
from ..data.input_spec import InputSpec
from ..data.input_texts import is_single_text, to_texts
from ..data.label_format import DELIMITER
from ..data.load import apply_unknown_labels, read_labelled
from ..data.table import listed
from ..errors import ArtifactError, InputError
from ..evaluate.metrics.calibration import saved_temperature
from ..evaluate.metrics.classification import Metrics, score
from ..evaluate.metrics.probabilities import sigmoid, softmax
from ..evaluate.metrics.thresholds import saved_thresholds
from ..model.device import Runtime, choose_for_inference, usual_torch
from ..model.inference.build import inference_weights
from ..model.inference.cascade import CascadeEngine
from ..model.inference.engine import InferenceEngine
from ..model.inference.workers import in_a_thread_that_computes
from ..model.on_demand import OnDemand
from ..model.text_model import TextModel, refuse_not_finite
from ..model.tokenizer import encode
from .label_shift import bias_factors, learnt_shares, prior_weights, training_shares
from .prediction_rows import KeptColumns, labels_reaching, predictions_frame
from .text_reader import TextReader

if TYPE_CHECKING:
    from .explanation import Explanation


class Classifier(TextReader):
    """A trained classifier, ready to use.

    Attributes:
        artifact: the model with its description.
        runtime: the device and the number format it computes in.
        weights: (L,) factors of the classes' probabilities, before they are normalised to a sum of 1; None for 1. See
            `with_prior`.
        digest: the SHA-256 of the loaded files, see `load`; None for a classifier that was not loaded.
    """

    def __init__(
        self, artifact: Artifact, runtime: Runtime, weights: np.ndarray | None = None, digest: str | None = None
    ) -> None:
        self.artifact = artifact
        self.runtime = runtime
        self.weights = weights
        self.digest = digest
        super().__init__()
        self._engine = OnDemand(self._build_engine)

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine: its weights are laid out for this processor and are made again from the artifact."""
        return {name: value for name, value in self.__dict__.items() if name != "_engine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._engine = OnDemand(self._build_engine)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities' columns."""
        return self.artifact.labels.names

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics from training, as in metrics.json."""
        return self.artifact.metrics

    @property
    def temperature(self) -> float:
        """Divides the logits before the softmax; fitted on validation rows, otherwise 1. It changes no label."""
        return saved_temperature(self.metrics)

    @property
    def multi(self) -> bool:
        """Whether the classifier is multi-label: a text may get any number of labels."""
        return self.artifact.labels.multi

    @property
    def thresholds(self) -> np.ndarray:
        """(L,) multi-label: the lowest probability at which each label is predicted; 0.5 before training.

        Raises:
            ArtifactError: when the saved ones are not L numbers between 0 and 1.
        """
        return saved_thresholds(self.metrics, len(self.labels))

    @property
    def delimiter(self) -> str:
        """The separator of several labels written to one cell."""
        return self.artifact.recipe.data.label_delimiter or DELIMITER

    @property
    def pair(self) -> bool:
        """Whether the classifier reads two texts as one input."""
        return self.input_spec.pair

    @cached_property
    def input_spec(self) -> InputSpec:
        """How texts and labels are read from data: as in training."""
        form = self.artifact.input_spec.form
        return replace(self.artifact.input_spec, form=replace(form, task="multi" if self.multi else "single"))

    def logits(self, texts: Any) -> np.ndarray:
        """(N, L) fp32 logits of N texts, in their order; (L,) of a single string.

        Args:
            texts: a string; a list, tuple, array of shape (N,) or (N, 1), Series or generator of strings; a DataFrame,
                a `datasets.Dataset`, a dict of columns or a list of dicts. For a classifier of pairs: a tuple of two
                strings, a list of such tuples, or data with two text columns.

        Raises:
            InputError: a value that is not a text (missing, a number, bytes), with its position from 1; text columns
                that cannot be detected; single texts instead of pairs, or the reverse.
            ArtifactError: a logit that is not a finite number.
        """
        found = self.logits_of(self._read(texts))
        return found[0] if is_single_text(texts, self.pair) else found

    @property
    def text_model(self) -> TextModel:
        """The model with its tokenizer, from texts to the logits as trained."""
        artifact, recipe = self.artifact, self.artifact.recipe
        return TextModel(
            artifact.model, artifact.fast_tokenizer, self.runtime, recipe.data.max_length,
            recipe.data.pad_to_multiple_of, recipe.train.eval_batch_size, self.pair,
            long_texts=recipe.data.long_texts,
        )  # fmt: skip

    def tokens(self, texts: Iterable[str]) -> Encoded:
        """N texts as token ids; texts that `data.load.read_labelled` read, already cleaned."""
        data = self.artifact.recipe.data
        tokenizer = self.artifact.fast_tokenizer
        return encode(tokenizer, list(texts), data.max_length, pair=self.pair, long_texts=data.long_texts)

    def logits_of(self, encoded: Encoded) -> np.ndarray:
        """(N, L) fp32 logits of texts that are already token ids."""
        if not len(encoded):
            return np.empty((0, len(self.labels)), dtype=np.float32)
        # Dividing by the temperature later multiplies the probabilities by the weights.
        offsets = None if self.weights is None else self.temperature * np.log(self.weights)
        found = in_a_thread_that_computes(partial(self._computed, encoded, offsets))
        return found if offsets is None else (found + offsets).astype(np.float32)

    @usual_torch()
    def _computed(self, encoded: Encoded, offsets: np.ndarray | None) -> np.ndarray:
        """(N, L) fp32 logits of the model itself; `offsets` (L,) will be added to them."""
        engine = self._engine.get()
        if engine is None:
            return self.text_model.logits(encoded)
        found = engine.logits(encoded, offsets) if isinstance(engine, CascadeEngine) else engine.logits(encoded)
        refuse_not_finite(found, self.runtime.precision)
        return found

    def _build_engine(self) -> InferenceEngine | CascadeEngine | None:
        """None if the model computes the logits as it was trained: on a GPU, or where its family has no engine."""
        artifact = self.artifact
        if self.runtime.device.type != "cpu" or artifact.recipe.model.encoder == "reference":
            return None
        weights = inference_weights(
            artifact.backbone, artifact.plan, artifact.tensors.adapter, artifact.tensors.head,
            artifact.recipe.model.pooling, artifact.fast_tokenizer.pad_token_id,
        )  # fmt: skip
        return None if weights is None else weights.engine(self.runtime, artifact.ranges)

    def predict_proba(self, texts: Any) -> np.ndarray:
        """(N, L) probabilities, with columns in the order of `labels`; (L,) for a single string.

        They sum to 1 unless the classifier is multi-label. `texts` and errors as for `logits`.
        """
        found = self.probabilities_of(self._read(texts))
        return found[0] if is_single_text(texts, self.pair) else found

    def probabilities_of(self, encoded: Encoded) -> np.ndarray:
        """(N, L) probabilities of texts that are already token ids."""
        return self.probabilities(self.logits_of(encoded))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(N, L) probabilities of logits (N, L)."""
        return sigmoid(logits) if self.multi else softmax(logits, self.temperature)

    def __call__(self, texts: Any) -> Any:
        """As `predict`."""
        return self.predict(texts)

    def predict(self, texts: Any, *, as_frame: bool = False) -> Any:
        """N class names; a single class name for a single string.

        If multi-label, a list of names for each text. `texts` and errors as for `logits`.

        Args:
            as_frame: return a DataFrame instead, see `prediction_rows.predictions_frame`.
        """
        if as_frame:
            return predictions_frame(self, texts)
        encoded = self._read(texts)
        names: list[Any]
        if self.multi:
            names = [labels_reaching(self.labels, row, self.thresholds) for row in self.probabilities_of(encoded)]
        else:
            names = [self.labels[index] for index in self.logits_of(encoded).argmax(axis=1)]
        return names[0] if is_single_text(texts, self.pair) else names

    def explain(self, text: Any, label: str | None = None) -> Explanation:
        """Show which words speak for a label and which speak against it; see `explanation.explain`.

        Args:
            text: one text; for a classifier of pairs, a tuple of two.
            label: the label to explain; the predicted one if not given.
        """
        from .explanation import explain

        return explain(self, text, label)

    def report(self, data: Any, path: str | Path = "report.html", *, split: str = "test") -> Path:
        """Write an HTML report on labelled texts, as `pennyweight evaluate --report` does.

        Args:
            data: a path, or anything `pennyweight.train` takes.
            path: the page to write; an existing file is replaced.
            split: the split to read, if the source has several.

        Raises:
            DataError: when a label was not seen in training, or the data cannot be read.
        """
        from ..runs.saved_evaluation import evaluate_saved, read_evaluation_data

        evaluate_saved(self, read_evaluation_data(self, data, split=split)).write_report(path)
        return Path(path)

    def train_more(self, data: Any, **settings: Any) -> Classifier:
        """Continue training on other rows from this classifier's weights. New labels are added after the others.

        As `pennyweight.train(data, start_from=RUN)`: uses this classifier's recipe, backbone and plan.

        Args:
            data: labelled texts, as for `pennyweight.train`; include the old rows to forget less.
            **settings: as for `pennyweight.train`: `test` (give the old test rows to measure what is forgotten),
                `out`, `budget`, `epochs`, `learning_rate`...

        Returns:
            A new classifier; `metrics["continued"]` has the figures on forgetting.
        """
        from ..pipeline import train

        with tempfile.TemporaryDirectory() as folder:
            return train(data, start_from=str(self.save(Path(folder) / "classifier")), **settings)

    def push_to_hub(self, repository: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the classifier to a hub repository, for `pennyweight.load(repository)`.

        Args:
            repository: `owner/name`; created if it does not exist.
            private: make a new repository private.
            token: None for the one stored by `hf auth login`.

        Returns:
            The repository's address.

        Raises:
            ArtifactError: the backbone is a folder on this machine, so others cannot load it.
            StorageError: the hub cannot be reached or refuses the upload.
        """
        from ..export.hub import push

        with tempfile.TemporaryDirectory() as folder:
            saved = self.save(Path(folder) / "classifier")
            return str(push(saved, repository, send=True, private=private, token=token).address)

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
        """Label the texts of a file of any size, as `pennyweight predict` does. `out` appears only when it is complete.

        Args:
            source: a file in any format that training reads.
            out: the file to write; an existing file is replaced.
            form: csv, jsonl or parquet; if None, by the suffix of `out`.
            split: the split to read, if the source has several.
            input_columns: keep all input columns, or only the id and the text.
            text: keep the text columns.
            id_column: the column with the ids; the one called id if not given.
            resume: continue where the same call was interrupted; no row is repeated.

        Returns:
            The number of rows.

        Raises:
            DataError: a row that cannot be read, with its place.
            InputError: an unfinished run, without `resume`; with it, an unfinished run of another job.
            StorageError: the disk is full, or another run writes the same file.
            Interrupted: by a signal; finished rows are kept for `resume`.
        """
        from .bulk import predict_source

        kept = KeptColumns(input_columns, text, id_column)
        return predict_source(self, source, out, form=form, split=split, kept=kept, resume=resume)

    @property
    def identity(self) -> list[Any] | None:
        """Identifies the classifier, as JSON values; None if it was never saved."""
        if self.digest is None:
            return None
        weights = None if self.weights is None else [float(weight) for weight in self.weights]
        return [self.digest, weights, str(self.runtime.device.type), str(self.runtime.precision)]

    def evaluate(self, data: Any, **columns: Any) -> Metrics:
        """Metrics on labelled texts.

        Args:
            data: a path, a `Table`, or anything `pennyweight.train` takes.
            **columns: `split`, by default `test`; if the data differ from the training data, text_columns,
                label_column, label_columns, label_delimiter, allow_unlabelled, separator, markup and label_map
                (label to class name); unknown_labels: `error`, `drop` or `wrong` for rows with other labels.

        Raises:
            DataError: when a label was not seen in training, or the data cannot be read.
        """
        split, unknown = columns.pop("split", "test"), columns.pop("unknown_labels", "error")
        table, _ = read_labelled(self.input_spec.changed(**columns), data, split=split)
        table, gone, _ = apply_unknown_labels(self.artifact.labels, table, unknown)
        wrong = gone if unknown == "wrong" else 0
        truth = self.artifact.labels.encode(table)
        probabilities = self.probabilities_of(self.tokens(table.texts))
        thresholds = self.thresholds if self.multi else None
        return score(truth, probabilities, self.labels, thresholds).with_unknown(wrong)

    def scaled(self, factor: float) -> Classifier:
        """A copy with the adapter's update times `factor`: 0 is the frozen encoder, 1 as trained (as in WiSE-FT).

        The temperature does not change.

        Raises:
            InputError: a factor outside 0 to 4, or an adapter with DoRA.
        """
        digest = None if self.digest is None else _digest(self.digest.encode(), factor)
        return Classifier(self.artifact.scaled(factor), self.runtime, self.weights, digest)

    def with_prior(self, shares: str, texts: Any = ()) -> Classifier:
        """The same classifier for texts with other class shares than in training (Saerens et al. 2002).

        Args:
            shares: `balanced`, a share for each class (`A=0.3,B=0.7`), or `em`, estimated from `texts`.
            texts: unlabelled texts of the new kind, for `em`, as for `predict`; the first 100,000 are used.

        Raises:
            InputError: shares that cannot be used, or `em` without texts.
            ArtifactError: the classifier has no record of the class shares in training.
        """
        if self.multi:
            raise InputError("multi-label classifiers have no class shares: their probabilities do not add up to 1")
        count, settings = len(self.labels), self.artifact.recipe.train
        counted = training_shares(self.metrics, self.artifact.predictions, count)
        trained = learnt_shares(counted, settings, self.labels)
        as_trained, kept = bias_factors(self.metrics, settings, count, self.temperature)
        plain = self._weighted(as_trained)
        some = texts if isinstance(texts, Iterator) else to_texts(texts, self.input_spec)

        def probabilities(given: list[Any]) -> np.ndarray:
            return plain.probabilities_of(plain.encoded(given))

        weights = prior_weights(shares, self.labels, trained, probabilities, some)
        return self._weighted(weights * kept)

    def _weighted(self, weights: np.ndarray) -> Classifier:
        """The same classifier, its engine too, with other factors of the classes' probabilities."""
        other = Classifier(self.artifact, self.runtime, weights, self.digest)
        other._engine = self._engine
        return other

    def __str__(self) -> str:
        """A summary in a few lines: task, labels, backbone, trained parameters, metrics."""
        return "\n".join(f"{name}: {value}" for name, value in self._described())

    def __repr__(self) -> str:
        return f"<Classifier of {len(self.labels)} labels on {self.artifact.backbone.name}>"

    def _repr_html_(self) -> str:
        return html_table(self._described())

    def _described(self) -> list[tuple[str, str]]:
        metrics, count = self.metrics, self.artifact.plan.count
        unit = "pair of texts" if self.pair else "text"
        found = [
            ("task", f"{'any number of labels' if self.multi else 'one label'} per {unit}"),
            (f"{len(self.labels):,} labels", listed(self.labels)),
            ("backbone", f"{self.artifact.backbone.name}, computed in {self.runtime.precision}"),
            ("trained", f"{count.trainable:,} of {count.total:,} parameters"),
        ]
        for name in ("test", "validation"):
            if name in metrics:
                key = "micro_f1" if self.multi else "accuracy"
                found.append(
                    (name, f"{key.replace('_f1', ' F1')} {metrics[name][key]:.1%} of {metrics[name]['n']:,} texts")
                )
                break
        return found

    def save(self, folder: str | Path) -> Path:
        """Save the classifier to a folder for `pennyweight.load`."""
        if (Path(folder) / MANIFEST).exists():
            raise ArtifactError("a classifier is already saved here", where=folder, remedy="choose another folder")
        return save_artifact(self.artifact, folder, replace=False)


def load(
    folder: str | Path,
    *,
    backbone: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    adapter_scale: float = 1.0,
) -> Classifier:
    """Load a saved classifier, and check every file against its checksum.

    Args:
        folder: a folder written by `pennyweight train` or `Classifier.save`.
        backbone: the current path of the backbone, if it was moved.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `fp32`, `bf16`, `fp16` or `int8`; if None, the one chosen in training if this machine supports it.
        adapter_scale: factor on the adapter's update, see `Classifier.scaled`.
    """
    return in_a_thread_that_computes(partial(_load, folder, backbone, device, precision, adapter_scale))


@usual_torch()
def _load(
    folder: str | Path, backbone: str | None, device: str, precision: str | None, adapter_scale: float
) -> Classifier:
    saved = read_files(Path(folder))
    recipe = recipe_of(saved)
    chosen = metrics_of(saved).get("inference", {}).get("precision")
    settings = recipe.train
    asked = settings.inference_precision if settings.inference_precision in ("fp32", "bf16") else settings.precision
    runtime = choose_for_inference(device, precision, asked, chosen, settings.threads)
    if runtime.precision == "int8" and RANGES not in saved:
        raise ArtifactError(
            "int8 was not tried when this classifier was trained",
            where=folder,
            remedy="train it again with --inference-precision int8, or use --precision fp32",
        )
    found = load_artifact(saved, runtime, backbone, recipe=recipe, adapter_scale=adapter_scale)
    classifier = Classifier(found, runtime, digest=_digest(saved.manifest, adapter_scale))
    with damage_as_errors(saved.folder):
        classifier._engine.get()  # now, so that too little memory shows here and the first answer does not wait
    return classifier


def _digest(manifest: bytes, adapter_scale: float) -> str:
    """The SHA-256 of a manifest, which holds that of all else, and the factor of the adapter's update."""
    return sha256(manifest + f" {float(adapter_scale)!r}".encode()).hexdigest()
