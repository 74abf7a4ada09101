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
    """What other stages may add to."""

    model_config = ConfigDict(extra="allow")


class Averages(_Closed):
    precision: Share
    recall: Share
    f1: Share


class ClassFigures(Averages):
    name: str
    support: Count = Field(description="Rows of this class.")


class Intervals(_Closed):
    accuracy: Ends = Field(description="Wilson.")
    macro_f1: Ends = Field(description="Percentile bootstrap over rows.")
    log_loss: Ends = Field(description="Normal.")
    ece: Ends = Field(description="Basic bootstrap over rows.")


class OrdinalFigures(_Closed):
    """Where the classes have an order; intervals by percentile bootstrap over rows."""

    mean_absolute_error: float = Field(ge=0, description="Ranks.")
    mean_absolute_error_interval: Ends
    quadratic_kappa: float = Field(ge=-1, le=1, description="Cohen's kappa with quadratic weights.")
    quadratic_kappa_interval: Ends


class Figures(_Closed):
    """Figures on one set of rows, the temperature applied."""

    n: Count
    accuracy: Share
    accuracy_interval: Ends
    macro_f1: Share
    weighted_f1: Share
    macro: Averages
    weighted: Averages
    log_loss: float = Field(ge=0, description="Nats a row.")
    ece: Share = Field(description="Expected calibration error, 15 bins of equal width.")
    per_class: list[ClassFigures]
    confusion: list[list[Count]] = Field(description="Rows: true class; columns: predicted class.")
    ordinal: OrdinalFigures | None = None
    intervals: Intervals | None = None
    rows_sha256: str | None = Field(None, description="The rows' identity, whatever their order.")
    unknown: Count | None = Field(None, description="Further rows with unknown labels: wrong in the accuracy only.")


class Calibration(_Closed):
    temperature: float = Field(gt=0, description="Logits are divided by it; it changes no label.")
    fitted_on: Literal["validation"] | None = Field(description="null: no rows were held out; the temperature is 1.")
    not_fitted: str | None = Field(None, description="Why no temperature was kept and it is 1; null where one was.")
    measured_on: Literal["test", "validation"]
    ece_before: Share
    ece_after: Share


class Verdict(_Closed):
    standing: Literal["better", "unclear", "no better", "not compared"]
    headline: str


class Baseline(_Closed):
    name: str
    rows: Count = Field(description="Training rows.")
    accuracy: Share
    accuracy_interval: Ends
    macro_f1: Share
    seconds: Seconds
    difference: float = Field(ge=-1, le=1, description="Accuracy of the classifier minus the baseline's.")
    difference_interval: Ends = Field(description="Paired bootstrap.")
    p: Share = Field(description="McNemar's exact test.")


class Slice(_Closed):
    name: str
    n: Count
    accuracy: Share
    interval: Ends


class Threshold(_Closed):
    value: Share = Field(description="Texts with at least this confidence are answered.")
    n: Count
    coverage: Share
    accuracy: Share
    interval: Ends


class Abstention(_Closed):
    target: Share
    picked: Threshold = Field(description="On the validation rows.")
    test: Threshold | None = None
    validation: Threshold | None = None


class Leaks(_Closed):
    """Texts of a split that stand in training too."""

    exact: Count
    near: Count


class Balance(_Closed):
    ratio: float = Field(ge=0, description="Rows of the largest class over those of the smallest.")
    smallest: str
    smallest_rows: Count
    entropy: Share = Field(description="Of the class shares, as a share of that of equal classes.")


class ShortAudit(_Closed):
    """What the short audit before training found."""

    mode: Literal["short", "off", "skipped"]
    rows: Count = Field(description="Of all splits.")
    exact_duplicates: Count | None = Field(None, description="Training texts that repeat an earlier one.")
    near_duplicates: Count | None = None
    conflicting_labels: Count | None = Field(None, description="Training rows whose text has another label too.")
    leakage: dict[str, Leaks] | None = None
    truncated: Share | None = Field(None, description="Of the training texts, at the recipe's max_length.")
    unknown_tokens: Share | None = Field(None, description="Of the training texts' tokens.")
    similar_classes: list[list[str]] | None = Field(None, description="Class names that look alike.")
    without_validation: list[str] | None = Field(None, description="Classes without a validation row.")
    balance: Balance | None = None
    warnings: list[str] | None = None
    seconds: Seconds | None = None


class ShiftRow(_Closed):
    name: str
    severity: int = Field(ge=0, le=5, description="0: not corrupted.")
    n: Count
    accuracy: Share
    interval: Ends = Field(description="Wilson.")
    ece: Share


class CorruptionRow(ShiftRow):
    family: Literal["training", "held out"] = Field(description="Training may draw from the first, never the second.")


class FamilyMean(_Closed):
    family: Literal["training", "held out"]
    severity: int = Field(ge=1, le=5)
    corruptions: Count
    accuracy: Share
    interval: Ends = Field(description="Normal, over rows.")
    loss: float = Field(ge=-1, le=1, description="Clean accuracy minus this one.")
    ece: Share


class Shift(_Closed):
    """Figures on corrupted texts and on other files."""

    seed: int
    clean: ShiftRow
    corruptions: list[CorruptionRow]
    means: list[FamilyMean]
    ood: list[ShiftRow]
    measured_on: Literal["test", "validation"] | None = None


class Training(_Open):
    steps: Count
    texts: Count
    seconds: Seconds
    rows: Count
    best: dict[str, Any]
    history: list[dict[str, Any]]


class Source(_Closed):
    """Where texts came from."""

    name: str = Field(description="Of a file or folder its last part, or a hub name; `data` for Python objects.")
    rows: Count = Field(description="Before cleaning.")
    sha256: str | None
    sha256_of: Literal["file", "rows"] = Field(description="The file, or the rows as they were used.")


class DataFacts(_Open):
    """What a run learnt from."""

    labels: list[str]
    counts: list[Count] | None = Field(None, description="Training rows of each class.")
    cleaning: dict[str, dict[str, Any]]
    sources: dict[str, Source] | None = None


class Spent(_Closed):
    """Wall-clock seconds."""

    training: Seconds
    tokenizing: Seconds
    baselines: Seconds
    measuring: Seconds


class LabelFigures(ClassFigures):
    threshold: float = Field(gt=0, lt=1, description="The label is given from this probability on.")


class SeveralIntervals(_Closed):
    micro_f1: Ends = Field(description="Percentile bootstrap over rows, as macro_f1 and hamming_loss.")
    macro_f1: Ends
    hamming_loss: Ends
    exact_match: Ends = Field(description="Wilson.")


class SeveralFigures(_Closed):
    """Figures on one set of rows that may carry any number of labels each."""

    n: Count
    exact_match: Share = Field(description="Rows whose labels are all right.")
    exact_match_interval: Ends
    hamming_loss: Share
    micro_f1: Share
    macro_f1: Share
    weighted_f1: Share
    samples_f1: Share
    micro: Averages
    macro: Averages
    weighted: Averages
    samples: Averages
    log_loss: float = Field(ge=0, description="Binary cross-entropy, nats a row and label.")
    per_label: list[LabelFigures]
    intervals: SeveralIntervals | None = None
    rows_sha256: str | None = Field(None, description="The rows' identity, whatever their order.")
    unknown: Count | None = Field(None, description="Further rows with unknown labels: wrong in the exact match only.")


class Thresholds(_Closed):
    values: list[float] = Field(description="In the order of the labels.")
    tuned_for: Literal["macro_f1", "micro_f1", "fixed"]
    tuned_on: Literal["validation"] | None = Field(description="null: no rows were held out; all are 0.5.")


class SeveralBaseline(_Closed):
    name: str
    rows: Count = Field(description="Training rows.")
    micro_f1: Share
    macro_f1: Share
    exact_match: Share
    exact_match_interval: Ends
    seconds: Seconds
    difference: float = Field(ge=-1, le=1, description="Micro F1 of the classifier minus the baseline's.")
    difference_interval: Ends = Field(description="Paired bootstrap.")


class MetricsFile(_Open):
    """metrics.json of a run."""

    test: Figures | None = None
    validation: Figures | None = Field(None, description="Absent where no rows were held out.")
    calibration: Calibration | None = Field(None, description="Absent where nothing was measured.")
    verdict: Verdict | None = None
    baselines: list[Baseline] | None = None
    slices: dict[str, list[Slice]] | None = None
    abstention: list[Abstention] | None = None
    shift: Shift | None = None
    trainable: Count
    total: Count
    budget: Count | None
    train: Training
    data: DataFacts
    audit: ShortAudit | None = None
    machine: dict[str, Any]
    seconds: Spent

    @model_validator(mode="after")
    def _calibrated(self) -> MetricsFile:
        if self.calibration is None and (self.test or self.validation):
            raise ValueError("what was measured was measured with a temperature, and calibration is missing")
        return self


class SeveralMetricsFile(_Open):
    """metrics.json of a run whose texts may carry any number of labels."""

    task: Literal["multi"]
    test: SeveralFigures | None = None
    validation: SeveralFigures | None = Field(None, description="Absent where no rows were held out.")
    thresholds: Thresholds
    verdict: Verdict | None = None
    baselines: list[SeveralBaseline] | None = None
    slices: dict[str, list[Slice]] | None = None
    trainable: Count
    total: Count
    budget: Count | None
    train: Training
    data: DataFacts
    machine: dict[str, Any]
    seconds: Spent


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of metrics.json: of one label a text, or of any number."""
    both: TypeAdapter[Any] = TypeAdapter(MetricsFile | SeveralMetricsFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | both.json_schema()
