"""Bodies of requests and answers. They are checked here, and `/openapi.json` describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ...data.table import shown
from ...data.table_builder import check_text
from ..classifiers.served_folders import same_name
from .refusals import MOST_SHOWN, Refusal
from .strict_json import parse_json

Text = str | tuple[str, str]
Body = TypeVar("Body", bound=BaseModel)

_PAIR_SCHEMA = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
_EXPECTED = "a string, or [string, string] for a classifier of pairs"


def check_one(value: Any, where: str = "text") -> Text:
    """One text, or the two of a pair, out of JSON.

    Raises:
        Refusal: status 422 for anything else.
        DataError: half of a surrogate pair.
    """
    if isinstance(value, str):
        return check_text(value, where)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return check_text(value[0], where), check_text(value[1], where)
    raise Refusal(422, "validation", f"{where}: not a text", expected=_EXPECTED, received=_json_word(value))


def check_texts(value: Any) -> list[Text]:
    """The texts of a request; errors as for `check_one`, with the text's position from 1."""
    if not isinstance(value, list) or not value:
        raise Refusal(
            422, "validation", "texts: not a list of texts", expected='["...", ...] or [["...", "..."], ...]',
            received=_json_word(value),
        )  # fmt: skip
    return [check_one(text, f"text {number}") for number, text in enumerate(value, start=1)]


def check_inputs(value: Any) -> Text | list[Text]:
    """`inputs` as text-embeddings-inference reads them: a text, a pair, or a list of [text] and [text, text]."""
    if isinstance(value, str):
        return check_text(value, "inputs")
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value) and len(value) <= 2:
        return check_one(value[0] if len(value) == 1 else value, "inputs")
    if isinstance(value, list) and value and all(isinstance(part, list) for part in value):
        return [
            check_one(part[0] if len(part) == 1 else part, f"inputs {number}")
            for number, part in enumerate(value, start=1)
        ]
    raise Refusal(
        422, "validation", "inputs: neither a text, a pair nor a list of these", received=_json_word(value),
        expected='"...", ["...", "..."] for a pair, or [["..."], ["...", "..."], ...]',
    )  # fmt: skip


_TextField = Annotated[
    Text, PlainValidator(check_one), WithJsonSchema({"anyOf": [{"type": "string"}, _PAIR_SCHEMA]})
]  # fmt: skip
_Texts = Annotated[
    list[Text],
    PlainValidator(check_texts),
    WithJsonSchema({
        "type": "array",
        "minItems": 1,
        "anyOf": [{"items": {"type": "string"}}, {"items": _PAIR_SCHEMA}],
    }),
]  # fmt: skip
_Inputs = Annotated[
    Text | list[Text],
    PlainValidator(check_inputs),
    WithJsonSchema({
        "anyOf": [
            {"type": "string"},
            _PAIR_SCHEMA,
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            },
        ]
    }),
]  # fmt: skip
_Probability = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
_Abstain = Annotated[
    _Probability | None,
    Field(description="Texts whose most likely label has a lower probability get the label null. "
                      "Not for multi-label classifiers, which have a threshold for each label."),
]  # fmt: skip
_Name = Annotated[str, Field(strict=True, min_length=1), AfterValidator(same_name)]


class PredictBody(BaseModel):
    """Texts for one classifier."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"texts": ["Shares fell after the bank cut its forecast."]}]},
    )

    texts: _Texts = Field(description="One or more texts; for a classifier of pairs, one or more [text, text].")
    abstain_below: _Abstain = None


class PredictAllBody(BaseModel):
    """The same texts for several classifiers; the layers they share are computed once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"classifiers": ["topics"], "texts": ["Shares fell after the forecast."]}]},
    )

    classifiers: Annotated[list[_Name], Field(min_length=1)] = Field(
        description="Names of classifiers, without repetition."
    )
    texts: _Texts = Field(description="One or more texts; for classifiers of pairs, one or more [text, text].")
    abstain_below: _Abstain = None


class ExplainBody(BaseModel):
    """One text, and the label to explain."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "Shares fell after the bank cut its forecast."}]}
    )

    text: _TextField = Field(description="The text; for a classifier of pairs, [text, text].")
    label: Annotated[str, Field(strict=True)] | None = Field(
        None, description="The label to explain; the most likely one if null."
    )


class HuggingFaceParameters(BaseModel):
    """Parameters that Hugging Face's clients send; other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    top_k: Annotated[int, Field(strict=True, ge=1)] | None = Field(None, description="Return only the k best labels.")
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="sigmoid, softmax or none; the classifier's own if null."
    )


class InputsBody(BaseModel):
    """A request as sent by clients of text-embeddings-inference and of Hugging Face's inference API.

    Other fields are ignored, as they are there.
    """

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"inputs": "Shares fell after the bank cut its forecast."}]}
    )

    inputs: _Inputs = Field(description="A text, a pair [text, text], or a list of [text] and [text, text].")
    model: _Name | None = Field(None, description="The classifier's name; not needed if there is only one.")
    raw_scores: StrictBool = Field(
        False, description="Return logits instead of probabilities. Not together with a function_to_apply that differs."
    )
    truncate: StrictBool | None = Field(
        None, description="Texts longer than the classifier reads are refused if false, and truncated otherwise."
    )
    truncation_direction: Literal["Left", "left", "Right", "right"] | None = Field(
        None, description="Texts are truncated at the right; with Left, texts that are too long are refused."
    )
    parameters: HuggingFaceParameters | None = Field(
        None,
        description="Sent by Hugging Face's clients; if present, the answer for a single text is a list of one list.",
    )

    @model_validator(mode="after")
    def _scores_are_asked_for_once(self) -> InputsBody:
        """Refuse logits in one field and probabilities in the other; no field has precedence."""
        function = self.parameters.function_to_apply if self.parameters is not None else None
        if function is not None and "raw_scores" in self.model_fields_set and self.raw_scores != (function == "none"):
            raise Refusal(
                422, "validation", "raw_scores and parameters -> function_to_apply contradict each other",
                expected="one of them", received=f"raw_scores {_json_word(self.raw_scores)} and {_json_word(function)}",
            )  # fmt: skip
        return self


def read_body(kind: type[Body], body: bytes) -> Body:
    """The body of a request.

    Raises:
        Refusal: status 400 for what is no JSON, 422 for what does not fit.
        DataError: a text with half of a surrogate pair.
    """
    value = parse_json(body)
    if not isinstance(value, dict):
        fields = ", ".join(kind.model_fields)
        raise Refusal(422, "validation", "the body is not a JSON object", expected=f"an object with {fields}",
                      received=_json_word(value))  # fmt: skip
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _first_problem(error) from None


def _first_problem(error: ValidationError) -> Refusal:
    """The first of pydantic's findings in the words of the house."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = " -> ".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    words = (
        "input should be an object" if first["type"] == "model_type" else first["msg"][:1].lower() + first["msg"][1:]
    )
    known = first["type"] not in ("missing", "extra_forbidden")
    where = shown(place, MOST_SHOWN) or "the body"
    return Refusal(
        422, "validation", f"{where}: {words}", received=_json_word(first["input"]) if known else None
    )  # fmt: skip


def _json_word(value: Any) -> str:
    """A value of JSON for a message, without writing out all of a large one."""
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {len(value)} fields"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else (
        f'"{shown(value, MOST_SHOWN - 2)}"' if isinstance(value, str) else shown(value, MOST_SHOWN)
    )  # fmt: skip


# --- answers: what is described; they are written by `answers.py` --------------------------------------------------


class ErrorAnswer(BaseModel):
    """Every error: one line that says what is wrong, what was expected, what was received and what to do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": "unknown classifier; received 'topic'; GET /v1/classifiers lists those that are served",
                    "error_type": "unknown_classifier",
                }
            ]
        }
    )

    error: str
    error_type: str


_ANSWERED_BY: Any = Field(description="The classifier's name.", examples=["topics"])
_VERSION: Any = Field(
    description="The first 12 digits of the SHA-256 of the classifier's manifest.", examples=["3f9a0c21b7de"]
)


class Prediction(BaseModel):
    """The prediction for one text: `label` and `probability`, or `labels` if multi-label."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "Business",
                    "probability": 0.97,
                    "probabilities": {"Business": 0.97, "Sports": 0.01, "World": 0.02},
                }
            ]
        }
    )

    label: str | None = Field(None, description="The most likely label; null below `abstain_below`. Single-label only.")
    probability: float | None = Field(None, description="Probability of the most likely label. Single-label only.")
    labels: list[str] | None = Field(None, description="All labels that reach their thresholds. Multi-label only.")
    probabilities: dict[str, float] = Field(description="Probability of each label, rounded to six decimals.")


class PredictAnswer(BaseModel):
    """Predictions in the order of the texts."""

    classifier: str = _ANSWERED_BY
    version: str = _VERSION
    predictions: list[Prediction]


class PredictAllAnswer(BaseModel):
    """One result per classifier, in the order of the request."""

    results: list[PredictAnswer]


class WordWeight(BaseModel):
    """A word at text[start:end]. Its weight is the drop in the label's log odds without the word, in nats."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Shares", "start": 0, "end": 6, "weight": 2.31}]}
    )

    text: str
    start: int
    end: int
    weight: float


class ExplainAnswer(BaseModel):
    """The words of `text`, the text as the classifier reads it, with weights for `label`."""

    classifier: str = _ANSWERED_BY
    version: str = _VERSION
    text: str = Field(examples=["Shares fell after the bank cut its forecast."])
    label: str = Field(description="The requested label, or the most likely one.", examples=["Business"])
    predicted: str = Field(description="The most likely label.", examples=["Business"])
    probability: float = Field(description="Probability of `label`.", examples=[0.97])
    words: list[WordWeight]


class Score(BaseModel):
    """A label with its probability or logit, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"score": 0.97, "label": "Business"}]})

    score: float
    label: str


class ClassifierFacts(BaseModel):
    """A summary of a classifier."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "name": "topics", "version": "3f9a0c21b7de", "state": "loaded", "problem": None,
                    "task": "single-label", "labels": ["Business", "Sports", "World"], "pair": False,
                    "max_length": 128, "parameters": 199_684,
                }
            ]
        },
    )  # fmt: skip

    name: str
    state: str = Field(description="loaded, on disk or unusable.")


class ClassifierList(BaseModel):
    """All served classifiers."""

    model_config = ConfigDict(extra="allow")

    backbone: dict[str, Any]
    classifiers: list[ClassifierFacts]


class ClassifierDetails(ClassifierFacts):
    """A classifier with its metrics from training and its model card."""


class StateAnswer(BaseModel):
    """The state of the server."""

    state: str


class ModelInfo(BaseModel):
    """Facts about the model, under the names that text-embeddings-inference uses."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
