"""How labels are written in a source: one label per row, lists, joined by a delimiter, or a column for each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..recipe.schema import DataRecipe

#: The delimiter between labels in one cell where none was given.
DELIMITER = "|"


@dataclass(frozen=True)
class LabelFormat:
    """How labels are written in a source.

    Attributes:
        task: `auto` is multi where columns or a delimiter are given or the label column holds lists.
        delimiter: between the labels of one cell.
        columns: one column of 0 and 1 for each label, instead of a label column.
        allow_unlabelled: whether a row may be without any label.
        vectors: the length of the label vectors of 0 and 1; 0, lists are lists of labels; None, inferred from the
            cells.
    """

    task: Literal["auto", "single", "multi"] = "auto"
    delimiter: str | None = None
    columns: tuple[str, ...] | None = None
    allow_unlabelled: bool = False
    vectors: int | None = None

    @classmethod
    def of_recipe(cls, settings: DataRecipe) -> LabelFormat:
        """As a recipe's data section says."""
        columns = None if settings.label_columns is None else tuple(settings.label_columns)
        return cls(settings.task, settings.label_delimiter, columns, settings.allow_unlabelled)

    def changed(
        self,
        *,
        label_column: str | None = None,
        label_columns: Sequence[str] | None = None,
        label_delimiter: str | None = None,
        allow_unlabelled: bool = False,
    ) -> LabelFormat:
        """The same for data that differ from the training data; what is not given stays as it was in training.

        A label column or a delimiter replaces columns of 0 and 1.
        """
        columns = None if label_column or label_delimiter else self.columns
        other = label_column or label_columns or label_delimiter
        return replace(
            self,
            vectors=None if other else self.vectors,
            columns=tuple(label_columns) if label_columns else columns,
            delimiter=label_delimiter or self.delimiter,
            allow_unlabelled=allow_unlabelled or self.allow_unlabelled,
        )
