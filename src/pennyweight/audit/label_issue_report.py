"""The label issues of an audited file: ranked, and shown with their lines and texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.row_blocks import RowBlocks
from ..data.table import shown
from ..errors import BackboneError, InputError
from ..recipe.schema import Recipe
from .audit_report import unit, write_rows
from .findings import Audit, AuditedPart
from .label_issues import LabelIssues, frozen_features, rank_label_issues

SHOWN = 8
HEADER = ("row", "label", "likelier", "label quality", "flagged", "text")


@dataclass(frozen=True)
class LabelIssueReport:
    """Label issues of a file.

    Attributes:
        issues: their rows are indices into `rows`.
        rows: (N,) the labelled rows of the file.
        texts: N texts, of these rows.
        part: what the audit read of the file.
    """

    issues: LabelIssues
    rows: np.ndarray
    texts: list[str]
    part: AuditedPart

    def table(self) -> list[tuple[Any, ...]]:
        """A row an issue, worst first; its columns are `HEADER`."""
        issues, part = self.issues, self.part
        return [
            (
                int(part.lines[self.rows[row]]), part.classes[label], part.classes[guess], round(float(score), 4),
                "yes" if flagged else "", self.texts[row],
            )
            for row, label, guess, score, flagged in zip(
                issues.rows.tolist(), issues.labels.tolist(), issues.guesses.tolist(), issues.scores.tolist(),
                issues.flagged.tolist(), strict=True,
            )
        ]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Counts, and the lines of the issues listed."""
        return {
            "rows": self.issues.n,
            "listed": len(self.issues.rows),
            "likely_wrong": self.issues.estimated,
            "lines": self.part.lines[self.rows[self.issues.rows]].tolist(),
        }

    def write(self, path: Path) -> None:
        """Write the table as CSV.

        Raises:
            StorageError: when it cannot be written.
        """
        write_rows(path, HEADER, iter(self.table()))

    def __str__(self) -> str:
        """A count, then the worst of them."""
        lines = [
            f"Labels to check: {len(self.issues.rows):,} listed, worst first; confident learning estimates that "
            f"{self.issues.estimated:,} of {self.issues.n:,} are wrong"
        ]
        for line, label, guess, score, _, text in self.table()[:SHOWN]:
            doubt = f"{shown(label, 24)}, more likely {shown(guess, 24)} ({score:.3f})"
            lines.append(f"  {unit(self.part)} {line}: {doubt}: {shown(text, 80)}")
        return "\n".join(lines)


def report_label_issues(audit: Audit, data: str, blocks: RowBlocks, recipe: Recipe) -> LabelIssueReport:
    """Rank the labels of an audited file by how likely they are wrong.

    Args:
        audit: audit of the file; where the backbone is missing, its `left_out` says what that costs.
        data: the file, for messages.
        blocks: its rows.
        recipe: its frozen backbone gives features in addition to TF-IDF.

    Raises:
        InputError: without labels, or with several labels per row.
        DataError: as `rank_label_issues`.
    """
    part = audit.parts["data"]
    if part.codes is None:
        raise InputError("--suspects needs labels", where=data, remedy="name the label column with --label-column")
    if part.members is not None:
        raise InputError("--suspects needs one label per row", where=data, received="several")
    every = [text for table in blocks.tables() for text in table.texts]
    rows = np.flatnonzero(part.codes >= 0)
    texts = [every[row] for row in rows.tolist()]
    classes = len(part.classes)
    try:
        features = frozen_features(recipe, max(classes, 2))
    except BackboneError as error:
        features = None
        audit.left_out.append(f"label issues are ranked by TF-IDF alone: {error}")
    return LabelIssueReport(rank_label_issues(texts, part.codes[rows], classes, features), rows, texts, part)
