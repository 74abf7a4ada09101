"""Options for reading a file whose name and content leave its format, encoding or header open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..recipe.schema import DataRecipe

#: The most bytes read from one source after decompression, unless the caller says otherwise.
MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class FileOptions:
    """The caller's options for a file.

    Attributes:
        format: the file's format, such as `csv`; None, by its content and its name.
        encoding: the character encoding of a text file, as Python names it; None for UTF-8.
        header: whether the first row of a delimited file holds column names; None, by its content.
    """

    format: str | None = None
    encoding: str | None = None
    header: bool | None = None

    @classmethod
    def of_recipe(cls, settings: DataRecipe) -> FileOptions:
        """As a recipe's data section says."""
        return cls(settings.format, settings.encoding, settings.header)


#: Nothing is said: by the file's name and content.
AS_NAMED = FileOptions()
