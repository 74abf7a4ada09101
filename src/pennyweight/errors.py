"""Every error Pennyweight raises on purpose.

PennyweightError                 exit code 1
├── InputError                   exit code 2: what the user gave cannot be used
│   ├── RecipeError              a recipe, a flag or a combination of them
│   ├── DataError                a data file, a row, a label
│   │   └── ChangedFileError     a data file that something writes to while it is read
│   ├── BudgetError              the plan does not fit the budget
│   ├── BackboneError            an unknown, missing or unusable backbone
│   └── ArtifactError            a saved classifier that is damaged, foreign or too new
├── StorageError                 exit code 1: disk full, folder read-only or locked
└── ResourceError                exit code 1: out of memory, a device that is not there
Interrupted                      exit code 130: stopped by a signal, after saving

`Interrupted` is a `KeyboardInterrupt` and not an `Exception`: a request to stop must not be caught by code that goes on
after a failure (`except Exception`), be it a loop over settings or a retry.

The library raises; only the command line prints and exits. A message is one line: where, what is wrong, what was
expected, what was received, what to do.
"""

from __future__ import annotations

from pathlib import Path


class OneLineError(BaseException):
    """The base of all: `str(error)` is the whole one-line message.

    Args:
        problem: what is wrong, in one clause.
        expected: what would have been right.
        received: what was found instead.
        remedy: what the user can do about it.
        where: a file, `file:line` or `section -> key`.
    """

    exit_code = 1
    told = False  # whether another process of the same run tells of it

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        received: object = None,
        remedy: str | None = None,
        where: str | Path | None = None,
    ) -> None:
        self.problem = problem
        self.expected = expected
        self.received = received
        self.remedy = remedy
        self.where = None if where is None else str(where)
        super().__init__(self._message())

    def _message(self) -> str:
        message = self.problem if self.where is None else f"{self.where}: {self.problem}"
        if self.expected is not None:
            message += f"; expected {self.expected}"
        if self.received is not None:
            message += f"; received {self.received}"
        if self.remedy is not None:
            message += f"; {self.remedy}"
        # A message is one line even when a file name or a value carries line breaks.
        return " ".join(message.split())


class PennyweightError(OneLineError, Exception):
    """Root of the tree of failures."""


class InputError(PennyweightError):
    """The user's input cannot be used."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe, a flag or a combination of them is not valid."""


class DataError(InputError):
    """A data file, a row or a label cannot be used."""


class ChangedFileError(DataError):
    """A data file is no longer as it was when reading began."""


class BudgetError(InputError):
    """The plan does not fit the budget of trainable parameters."""


class BackboneError(InputError):
    """The backbone is unknown, missing, damaged or of a kind that is not supported."""


class ArtifactError(InputError):
    """A saved classifier is damaged, was written by another program or has a newer format."""


class StorageError(PennyweightError):
    """The disk is full, or a folder is read-only or locked. Nothing was left half-written."""


class ResourceError(PennyweightError):
    """The machine lacks what the run needs: memory or a device."""


class Interrupted(OneLineError, KeyboardInterrupt):
    """A signal stopped the run, which saved its state first. Not an `Exception`."""

    exit_code = 130
