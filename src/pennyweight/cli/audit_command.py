"""What `pennyweight audit` does: audit, label issues, the folder, the cleaned copy; told in a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..audit import audit_report as output
from ..audit import fix as fixing
from ..audit.audit import INFERRED, CountTokens, audit, open_source
from ..audit.findings import Audit
from ..audit.label_issues import LabelIssues, frozen_features, rank_label_issues
from ..data.batching import count_token
from ..data.file_options import AS_NAMED, FileOptions
from ..data.input_spec import InputSpec
from ..data.row_blocks import RowBlocks
from ..data.table import shown
from ..errors import BackboneError, InputError
from ..recipe import loading as recipes
from ..recipe.schema import Recipe
from ..storage.json_files import to_json

SHOWN = 8
HEADER = ("row", "label", "likelier", "label quality", "flagged", "text")


def run(
    data: str,
    test: str | None = None,
    *,
    input_spec: InputSpec = INFERRED,
    recipe: str = "default",
    model: Path | None = None,
    settings: dict[str, Any] | None = None,
    wanted: bool = False,
    fix: Path | None = None,
    merge_labels: bool = False,
    csv_guard: bool = True,
    out: Path | None = None,
    as_json: bool = False,
    options: FileOptions = AS_NAMED,
) -> str:
    """Audit files and say what was found.

    Args:
        data, test, input_spec: as for `audit`; with `model` the columns that it names instead of the model's.
        recipe, settings: whose backbone counts tokens and whose `max_length` truncates.
        model: a run, whose recipe is taken instead, and whose columns where none are named.
        wanted: rank the labels too.
        fix: where to write a cleaned copy; merge_labels: in it, class names that look alike become one;
            csv_guard: in it, texts do not start a spreadsheet's formulas.
        out: a folder for audit.json, rows.csv, the pictures and suspects.csv.
        options: encoding and header of the files, where their content does not say.

    Raises:
        PennyweightError: as `audit`, `rank_label_issues` and `fix` do.
    """
    if fix is not None:
        fixing.check_target(fix, data, test)
    elif merge_labels:
        raise InputError("--merge-labels changes the cleaned copy", remedy="name the copy with --fix OUT")
    if model is not None:
        from ..artifact.load_artifact import read_input_spec, read_recipe

        settled = read_recipe(model)
        input_spec = read_input_spec(model).changed(
            text_columns=input_spec.text_columns,
            label_column=input_spec.label_column,
            label_delimiter=input_spec.form.delimiter,
        )
    else:
        settled = recipes.load(recipe, **(settings or {}))
    count_tokens, without = token_counter(settled)
    found = audit(
        data, test, input_spec=input_spec, count_tokens=count_tokens,
        max_length=settled.data.max_length, options=options,
    )  # fmt: skip
    found.left_out[:] = [f"lengths in tokens: {without}" if "no tokenizer" in words else words
                         for words in found.left_out]  # fmt: skip
    answer, lines = found.to_json(), [output.table(found)]
    ranked, texts = None, list[str]()
    if wanted:
        opened, _ = open_source(data, input_spec, "train", options)
        ranked, rows, texts = _rank(found, data, opened, settled)
        answer["suspects"] = _suspects_json(ranked, rows, found)
        lines.append(_suspects_told(ranked, rows, texts, found))
    if out is not None:
        output.write(found, out, answer)
        if ranked is not None:
            output.write_rows(out / "suspects.csv", HEADER, iter(_suspect_rows(ranked, rows, texts, found)))
        lines.append(f"written: {out}")
    if fix is not None:
        fixed = fixing.fix(found, data, fix, input_spec, options, merge_labels=merge_labels, csv_guard=csv_guard)
        answer["fixed"] = {"file": str(fix), "kept": fixed.kept, "changed": fixed.changed, "dropped": fixed.dropped}
        lines.append(f"{fix}: {fixed}\nwhat went and why: {fixing.dropped_name(fix)}")
    return to_json(answer).rstrip() if as_json else "\n".join(lines)


def token_counter(recipe: Recipe) -> tuple[CountTokens | None, str]:
    """What counts tokens with the tokenizer of a recipe's backbone; without it None, and why."""
    from ..model.backbone import resolve
    from ..model.tokenizer import encode, load_tokenizer

    try:
        tokenizer = load_tokenizer(resolve(recipe.model.backbone, recipe.model.revision).folder)
    except BackboneError as error:
        return None, str(error)

    def count(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = encode(tokenizer, list(texts), 1 << 20)
        return encoded.lengths, count_token(encoded, tokenizer.unk_token_id)

    return count, ""


def _rank(found: Audit, data: str, walked: RowBlocks, recipe: Recipe) -> tuple[LabelIssues, np.ndarray, list[str]]:
    """The label issues, the labelled rows they are indices of, and those rows' texts."""
    part = found.parts["data"]
    if part.codes is None:
        raise InputError("--suspects needs labels", where=data, remedy="name the label column with --label-column")
    if part.members is not None:
        raise InputError("--suspects needs one label a row", where=data, received="several")
    every = [text for table in walked.tables() for text in table.texts]
    rows = np.flatnonzero(part.codes >= 0)
    texts = [every[row] for row in rows.tolist()]
    classes = len(part.classes)
    try:
        features = frozen_features(recipe, max(classes, 2))
    except BackboneError as error:
        features = None
        found.left_out.append(f"label issues are ranked by TF-IDF alone: {error}")
    return rank_label_issues(texts, part.codes[rows], classes, features), rows, texts


def _suspect_rows(ranked: LabelIssues, rows: np.ndarray, texts: list[str], found: Audit) -> list[tuple[Any, ...]]:
    part = found.parts["data"]
    return [
        (
            int(part.lines[rows[row]]), part.classes[label], part.classes[guess], round(float(score), 4),
            "yes" if flagged else "", texts[row],
        )
        for row, label, guess, score, flagged in zip(
            ranked.rows.tolist(), ranked.labels.tolist(), ranked.guesses.tolist(), ranked.scores.tolist(),
            ranked.flagged.tolist(), strict=True,
        )
    ]  # fmt: skip


def _suspects_json(ranked: LabelIssues, rows: np.ndarray, found: Audit) -> dict[str, Any]:
    part = found.parts["data"]
    return {
        "rows": ranked.n,
        "listed": len(ranked.rows),
        "likely_wrong": ranked.estimated,
        "lines": part.lines[rows[ranked.rows]].tolist(),
    }


def _suspects_told(ranked: LabelIssues, rows: np.ndarray, texts: list[str], found: Audit) -> str:
    part = found.parts["data"]
    lines = [
        f"Labels to check: {len(ranked.rows):,} listed, worst first; confident learning counts "
        f"{ranked.estimated:,} of {ranked.n:,} as likely wrong"
    ]
    for line, label, guess, score, _, text in _suspect_rows(ranked, rows, texts, found)[:SHOWN]:
        doubt = f"{shown(label, 24)}, likelier {shown(guess, 24)} ({score:.3f})"
        lines.append(f"  {output.unit(part)} {line}: {doubt}: {shown(text, 80)}")
    return "\n".join(lines)
