"""How the texts and labels of one classifier are read: resolved in training, saved, used by every later command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from ..errors import DataError
from .cleaning import Markup, strip_markup
from .columns import require_column
from .label_format import LabelFormat
from .table import Columns, Table, shown

if TYPE_CHECKING:
    from ..recipe.schema import DataRecipe


@dataclass(frozen=True)
class InputSpec:
    """The data half of a classifier.

    Attributes:
        text_columns: the columns that are joined as the text; None if the training data had no column names.
        label_column: the label's column; None if there were no names, or where each label has a column of its own.
        separator: between joined texts.
        pair: whether two texts are one input of two segments.
        markup: what is done with tags and entities; `drop` leaves rows out of training and evaluation, never out of
            predictions.
        min_chars, max_chars: texts shorter or longer than this are left out of training and evaluation.
        form: how labels are written in the source.
        label_map: labels in the source to class names.
        label_base: the number of the first class in the training data; None, inferred from each source.
        named_by_user: whether the columns were named by the user for this source, and not by the training data.
    """

    text_columns: tuple[str, ...] | None = None
    label_column: str | None = None
    separator: str = " "
    pair: bool = False
    markup: Markup = "keep"
    min_chars: int = 1
    max_chars: int | None = None
    form: LabelFormat = field(default_factory=LabelFormat)
    label_map: dict[str, str] = field(default_factory=dict)
    label_base: int | None = None
    named_by_user: bool = True

    @classmethod
    def of_recipe(cls, settings: DataRecipe) -> InputSpec:
        """The settings of a recipe; columns that it does not name are inferred."""
        return cls(
            text_columns=None if settings.text_columns is None else tuple(settings.text_columns),
            label_column=settings.label_column,
            separator=settings.separator,
            pair=settings.pair,
            markup=settings.markup,
            min_chars=settings.min_chars,
            max_chars=settings.max_chars,
            form=LabelFormat.of_recipe(settings),
        )

    def resolved(self, training: Table) -> InputSpec:
        """With what the training data turned out to have: columns, where it names any, and the form of its labels."""
        form = replace(self.form, task="multi" if training.multi else "single", vectors=training.vectors)
        found = replace(self, form=form, label_base=training.label_base)
        if not training.named:
            return found
        if form.columns is not None:
            form = replace(form, columns=training.label_names)
        label = None if form.columns is not None else training.label_column
        return replace(found, text_columns=training.text_columns, label_column=label, form=form, named_by_user=False)

    def changed(
        self,
        *,
        text_columns: Sequence[str] | None = None,
        label_column: str | None = None,
        label_columns: Sequence[str] | None = None,
        label_delimiter: str | None = None,
        allow_unlabelled: bool = False,
        separator: str | None = None,
        markup: Markup | None = None,
        label_map: Mapping[str, str] | None = None,
    ) -> InputSpec:
        """The same for a source that differs from the training data; what is not given stays as in training."""
        form = self.form.changed(
            label_column=label_column,
            label_columns=label_columns,
            label_delimiter=label_delimiter,
            allow_unlabelled=allow_unlabelled,
        )
        named = text_columns is not None or label_column is not None
        return replace(
            self,
            text_columns=self.text_columns if text_columns is None else tuple(text_columns),
            label_column=self.label_column if label_column is None else label_column,
            form=form,
            separator=self.separator if separator is None else separator,
            markup=self.markup if markup is None else markup,
            label_map=self.label_map if label_map is None else dict(label_map),
            named_by_user=self.named_by_user or named,
        )

    def columns_for(self, source: Columns) -> tuple[tuple[str, ...] | None, str | None]:
        """The text columns and the label column to look for in a source; None, to infer them.

        Names that come from the training data mean nothing in a source without column names, and are no positions in
        one that has them.

        Raises:
            DataError: a text column of the training is missing.
        """
        if self.named_by_user:
            return self.text_columns, self.label_column
        if not source.named:
            return None, None
        for name in self.text_columns or ():
            require_column(source, name, "--text-columns a,b", positions=False)
        return self.text_columns, self.label_column

    def cleaned(self, text: str) -> str:
        """A text as the classifier reads it."""
        return strip_markup(text) if self.markup == "strip" else text

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`."""
        values = asdict(self)
        del values["named_by_user"]
        return values

    @classmethod
    def from_json(cls, value: Any) -> InputSpec:
        """The inverse of `to_json`.

        Raises:
            DataError: the value is something else.
        """
        try:
            return cls(**_checked(value), named_by_user=False)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "not an input specification",
                expected=", ".join(cls().to_json()),
                received=shown(value),
            ) from error


def _checked(value: Any) -> dict[str, Any]:
    """The arguments of `InputSpec` in a JSON value; `TypeError`, `KeyError` or `ValueError` for anything else."""
    kinds: dict[str, tuple[type, ...]] = {
        "label_column": (str, type(None)),
        "separator": (str,),
        "pair": (bool,),
        "markup": (str,),
        "min_chars": (int,),
        "max_chars": (int, type(None)),
        "label_base": (int, type(None)),
    }
    found = {key: _one_of(value[key], kind) for key, kind in kinds.items()}
    if found["markup"] not in get_args(Markup):
        raise ValueError("markup")
    form = value["form"]
    if form["task"] not in ("auto", "single", "multi"):
        raise ValueError("task")
    label_map = _one_of(value["label_map"], (dict,))
    for name in label_map.values():
        _one_of(name, (str,))
    return found | {
        "label_map": label_map,
        "text_columns": _names(value["text_columns"]),
        "form": LabelFormat(
            form["task"],
            _one_of(form["delimiter"], (str, type(None))),
            _names(form["columns"]),
            _one_of(form["allow_unlabelled"], (bool,)),
            _one_of(form["vectors"], (int, type(None))),
        ),
    }


def _one_of(value: Any, kinds: tuple[type, ...]) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(type(value))
    return value


def _names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise TypeError("names")
    return tuple(_one_of(name, (str,)) for name in value)
