"""The form of metrics.json, as types; docs/metrics.schema.json is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Ends = Annotated[list[float], Field(min_length=2, max_length=2, description="Lower and upper end, 95%.")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Open(BaseModel):
    """A part to which later stages may add fields."""

    model_config = ConfigDict(extra="allow")


class AveragesEntry(_Closed):
    precision: Share
    recall: Share
    f1: Share


class ClassEntry(AveragesEntry):
    name: str
    support: Count = Field(description="Rows of this class.")


class IntervalsEntry(_Closed):
    accuracy: Ends = Field(description="Wilson.")
    macro_f1: Ends = Field(description="Percentile bootstrap over rows.")
    log_loss: Ends = Field(description="Normal.")
    ece: Ends = Field(description="Basic bootstrap over rows.")


class OrdinalEntry(_Closed):
    """Where the classes have an order; intervals by percentile bootstrap over rows."""

    mean_absolute_error: float = Field(ge=0, description="Ranks.")
    mean_absolute_error_interval: Ends
    quadratic_kappa: float = Field(ge=-1, le=1, description="Cohen's kappa with quadratic weights.")
    quadratic_kappa_interval: Ends


class RankingEntry(_Closed):
    """How well probabilities rank the texts of a label before all others; null where all rows carry it, or none."""

    roc_auc: Share | None = Field(description="The mean over the labels; with two classes, both have the same value.")
    average_precision: Share | None = Field(description="The mean over labels.")
    roc_auc_by_label: list[Share | None]
    average_precision_by_label: list[Share | None]


class MetricsEntry(_Closed):
    """Figures on one set of rows, the temperature applied."""

    n: Count
    accuracy: Share
    accuracy_interval: Ends
    macro_f1: Share
    weighted_f1: Share
    macro: AveragesEntry
    weighted: AveragesEntry
    log_loss: float = Field(ge=0, description="Nats a row.")
    ece: Share = Field(description="Expected calibration error, 15 bins of equal width.")
    per_class: list[ClassEntry]
    confusion: list[list[Count]] = Field(description="Rows: true class; columns: predicted class.")
    ordinal: OrdinalEntry | None = None
    ranking: RankingEntry | None = Field(None, description="Of two classes.")
    intervals: IntervalsEntry | None = None
    rows_sha256: str | None = Field(None, description="The rows' identity, whatever their order.")
    unknown: Count | None = Field(None, description="Further rows with unknown labels: wrong in the accuracy only.")


class CalibrationEntry(_Closed):
    temperature: float = Field(gt=0, description="Logits are divided by it; it changes no label.")
    fitted_on: Literal["validation"] | None = Field(description="null: no rows were held out; the temperature is 1.")
    not_fitted: str | None = Field(None, description="Why the temperature is 1; null if one was fitted.")
    measured_on: Literal["test", "validation"] | None = Field(None, description="null: merged, and not measured.")
    ece_before: Share | None = None
    ece_after: Share | None = None


class VerdictEntry(_Closed):
    standing: Literal["better", "unclear", "no better", "not compared"]
    headline: str


class BaselineEntry(_Closed):
    name: str
    rows: Count = Field(description="Training rows.")
    accuracy: Share
    accuracy_interval: Ends
    macro_f1: Share
    seconds: Seconds
    difference: float = Field(ge=-1, le=1, description="Accuracy of the classifier minus the baseline's.")
    difference_interval: Ends = Field(description="Paired bootstrap.")
    p: Share = Field(description="McNemar's exact test.")
    macro_f1_difference: float | None = Field(
        None, ge=-1, le=1, description="Macro F1 of the classifier minus the baseline's; the verdict judges it too."
    )
    macro_f1_difference_interval: Ends | None = Field(None, description="Paired bootstrap.")


class SliceEntry(_Closed):
    name: str
    n: Count
    accuracy: Share
    interval: Ends


class ThresholdEntry(_Closed):
    value: Share = Field(description="Texts with at least this confidence are answered.")
    n: Count
    coverage: Share
    accuracy: Share
    interval: Ends


class AbstentionEntry(_Closed):
    target: Share
    picked: ThresholdEntry = Field(description="On the validation rows.")
    test: ThresholdEntry | None = None
    validation: ThresholdEntry | None = None


class LeakageEntry(_Closed):
    """Texts of a split that are also in training."""

    exact: Count
    near: Count


class BalanceEntry(_Closed):
    ratio: float = Field(ge=0, description="Rows of the largest class over those of the smallest.")
    smallest: str
    smallest_rows: Count
    entropy: Share = Field(description="Entropy of the class shares, divided by that of equal classes.")


class AuditEntry(_Closed):
    """The results of the short audit before training."""

    mode: Literal["short", "off", "skipped"]
    rows: Count = Field(description="Of all splits.")
    exact_duplicates: Count | None = Field(None, description="Training texts that repeat an earlier one.")
    near_duplicates: Count | None = None
    conflicting_labels: Count | None = Field(
        None, description="Training rows whose text also occurs with another label."
    )
    leakage: dict[str, LeakageEntry] | None = None
    truncated: Share | None = Field(None, description="Of the training texts, at the recipe's max_length.")
    unknown_tokens: Share | None = Field(None, description="Of the training texts' tokens.")
    similar_classes: list[list[str]] | None = Field(None, description="Class names that look alike.")
    without_validation: list[str] | None = Field(None, description="Classes without a validation row.")
    balance: BalanceEntry | None = None
    warnings: list[str] | None = None
    seconds: Seconds | None = None


class ShiftRowEntry(_Closed):
    name: str
    severity: int = Field(ge=0, le=5, description="0: not corrupted.")
    n: Count
    accuracy: Share
    interval: Ends = Field(description="Wilson.")
    ece: Share


class CorruptionEntry(ShiftRowEntry):
    family: Literal["training", "held out"] = Field(description="Training may draw from the first, never the second.")


class FamilyMeanEntry(_Closed):
    family: Literal["training", "held out"]
    severity: int = Field(ge=1, le=5)
    corruptions: Count
    accuracy: Share
    interval: Ends = Field(description="Normal, over rows.")
    loss: float = Field(ge=-1, le=1, description="Clean accuracy minus this one.")
    ece: Share


class ShiftEntry(_Closed):
    """Figures on corrupted texts and on other files."""

    seed: int
    clean: ShiftRowEntry
    corruptions: list[CorruptionEntry]
    means: list[FamilyMeanEntry]
    ood: list[ShiftRowEntry]
    measured_on: Literal["test", "validation"] | None = None


class UnlabelledEntry(_Closed):
    """Texts that only a teacher labels."""

    rows: Count = Field(description="After cleaning.")
    labelled_elsewhere: Count = Field(description="Left out: texts of the training, validation or test rows.")
    abstained: Count = Field(description="Left out: the teacher is less sure of their labels than `confidence`.")
    used: Count
    confidence: Share


class TeacherEntry(_Closed):
    """Teacher and classifier on the validation rows; of texts with any number of labels the exact matches."""

    n: Count
    agreement: Share = Field(description="Rows for which both predict the same.")
    teacher_accuracy: Share
    student_accuracy: Share


class DistillationEntry(_Closed):
    teacher: str = Field(description="Name of the run's folder or of the table.")
    kind: Literal["classifier", "table"]
    temperature: float = Field(ge=1)
    weight: Share = Field(description="Of the teacher's probabilities in the loss.")
    agreement_with_labels: Share = Field(description="Training rows whose label the teacher predicts.")
    shares: list[Share] | None = Field(
        None, description="Share of each class in the targets, unlabelled texts included; not multi-label."
    )
    unlabelled: UnlabelledEntry | None = None
    validation: TeacherEntry | None = Field(None, description="Absent where no rows were held out or known.")


class ForgettingEntry(_Closed):
    """Accuracy of the run that the training began at, and of what came of it; multi-label, the exact matches."""

    rows: Literal["of its test", "of its labels"]
    n: Count
    before: Share
    after: Share
    difference: float = Field(ge=-1, le=1, description="Accuracy after minus before.")
    difference_interval: Ends = Field(description="Paired bootstrap.")


class ContinuedEntry(_Closed):
    start: str = Field(description="Name of the run's folder.")
    new_labels: list[str]
    test: ForgettingEntry | None = Field(None, description="Absent without test rows of its labels.")


class MergedEntry(_Closed):
    method: Literal["soup", "compose"]
    runs: list[str] = Field(description="Names of the runs' folders.")
    weights: list[float] = Field(description="Of the runs, of sum 1.")
    kept: Share = Field(description="Of the summed update's squared norm, after its ranks were cut.")
    bias_offsets: list[float] | None = Field(None, description="Weighted mean of the runs', if they have any.")


class TrainingEntry(_Open):
    steps: Count
    texts: Count
    seconds: Seconds
    rows: Count
    best: dict[str, Any]
    history: list[dict[str, Any]]


class SourceEntry(_Closed):
    """Where texts came from."""

    name: str = Field(description="Of a file or folder its last part, or a hub name; `data` for Python objects.")
    rows: Count = Field(description="Before cleaning.")
    sha256: str | None
    sha256_of: Literal["file", "rows"] = Field(description="The file, or the rows as they were used.")


class DataEntry(_Open):
    """The data of a run."""

    labels: list[str]
    counts: list[Count] | None = Field(None, description="Training rows of each class.")
    cleaning: dict[str, dict[str, Any]]
    sources: dict[str, SourceEntry] | None = None


class SecondsEntry(_Closed):
    """Wall-clock seconds."""

    training: Seconds
    tokenizing: Seconds
    baselines: Seconds
    measuring: Seconds
    predicting: Seconds | None = Field(
        None, description="Of measuring: the test rows' logits. Absent without test rows."
    )


class LabelEntry(ClassEntry):
    threshold: float = Field(gt=0, lt=1, description="The label is given from this probability on.")


class MultiLabelIntervalsEntry(_Closed):
    micro_f1: Ends = Field(description="Percentile bootstrap over rows, as macro_f1 and hamming_loss.")
    macro_f1: Ends
    hamming_loss: Ends
    exact_match: Ends = Field(description="Wilson.")


class MultiLabelMetricsEntry(_Closed):
    """Figures on one set of rows that may carry any number of labels each."""

    n: Count
    exact_match: Share = Field(description="Rows whose labels are all right.")
    exact_match_interval: Ends
    hamming_loss: Share
    micro_f1: Share
    macro_f1: Share
    weighted_f1: Share
    samples_f1: Share
    micro: AveragesEntry
    macro: AveragesEntry
    weighted: AveragesEntry
    samples: AveragesEntry
    log_loss: float = Field(ge=0, description="Binary cross-entropy, nats per row and label.")
    per_label: list[LabelEntry]
    ranking: RankingEntry | None = Field(None, description="Absent in runs of earlier versions.")
    intervals: MultiLabelIntervalsEntry | None = None
    rows_sha256: str | None = Field(None, description="The rows' identity, whatever their order.")
    unknown: Count | None = Field(None, description="Further rows with unknown labels: wrong in the exact match only.")


class ThresholdsEntry(_Closed):
    values: list[float] = Field(description="In the order of the labels.")
    tuned_for: str = Field(
        pattern=r"^(macro_f1|micro_f1|fixed|(precision|recall)=[0-9.]+)$",
        description="macro_f1, micro_f1, fixed, or what each label has to reach, such as precision=0.9.",
    )
    tuned_on: Literal["validation"] | None = Field(description="null: no rows were held out; all are 0.5.")
    not_reached: list[str] | None = Field(None, description="Labels whose precision could not be reached there.")


class MultiLabelBaselineEntry(_Closed):
    name: str
    rows: Count = Field(description="Training rows.")
    micro_f1: Share
    macro_f1: Share
    exact_match: Share
    exact_match_interval: Ends
    seconds: Seconds
    difference: float = Field(ge=-1, le=1, description="Micro F1 of the classifier minus the baseline's.")
    difference_interval: Ends = Field(description="Paired bootstrap.")


class _RunFile(_Open):
    """The fields of metrics.json that every run has."""

    verdict: VerdictEntry | None = None
    slices: dict[str, list[SliceEntry]] | None = None
    trainable: Count
    total: Count
    stored: Count | None = Field(
        None, description="Numbers in the saved adapter and head; absent in runs of version 0.1."
    )
    budget: Count | None
    train: TrainingEntry
    data: DataEntry
    machine: dict[str, Any]
    seconds: SecondsEntry
    continued: ContinuedEntry | None = Field(None, description="Where the training began at an earlier run.")
    merged: MergedEntry | None = Field(None, description="Where it was merged from other runs.")
    distillation: DistillationEntry | None = Field(None, description="Absent where there was no teacher.")


class OffsetsFiguresEntry(_Closed):
    """Figures on the validation rows, without the offsets or with them."""

    accuracy: Share
    macro_f1: Share


class TargetEntry(_Closed):
    """The threshold of one of two classes; with the offsets it stands at a probability of 0.5."""

    label: str
    wanted: str = Field(description="Such as precision=0.9.")
    probability: Share = Field(description="Without the offsets and before a temperature.")
    precision: Share = Field(description="On the validation rows, as recall.")
    recall: Share
    reached: bool


class BiasOffsetsEntry(_Closed):
    """The offsets added to the head's biases after training; they are part of the saved classifier."""

    values: list[float] = Field(description="In the order of the labels; all 0 where nothing was gained.")
    fitted_on: Literal["validation"]
    summary: str
    strength: float | None = Field(None, ge=0, description="Of the logit adjustment; null for a threshold.")
    threshold: TargetEntry | None = None
    before: OffsetsFiguresEntry
    after: OffsetsFiguresEntry


class MetricsFile(_RunFile):
    """metrics.json of a run."""

    test: MetricsEntry | None = None
    validation: MetricsEntry | None = Field(None, description="Absent where no rows were held out.")
    calibration: CalibrationEntry | None = Field(None, description="Absent where nothing was measured.")
    baselines: list[BaselineEntry] | None = None
    bias_offsets: BiasOffsetsEntry | None = Field(
        None, description="Where a class is rare, or a precision or recall was asked for with two classes."
    )
    abstention: list[AbstentionEntry] | None = None
    shift: ShiftEntry | None = None
    audit: AuditEntry | None = None

    @model_validator(mode="after")
    def _calibrated(self) -> MetricsFile:
        if self.calibration is None and (self.test or self.validation):
            raise ValueError("the metrics use a temperature, but the calibration is missing")
        return self


class MultiLabelMetricsFile(_RunFile):
    """metrics.json of a run whose texts may carry any number of labels."""

    task: Literal["multi"]
    test: MultiLabelMetricsEntry | None = None
    validation: MultiLabelMetricsEntry | None = Field(None, description="Absent where no rows were held out.")
    thresholds: ThresholdsEntry
    baselines: list[MultiLabelBaselineEntry] | None = None


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of metrics.json: of one label per text, or of any number."""
    both: TypeAdapter[Any] = TypeAdapter(MetricsFile | MultiLabelMetricsFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | both.json_schema()
