"""The remedy for each kind of finding: a flag of `audit` or `train`, or a manual step."""

from __future__ import annotations

from .findings import Finding

# For findings in the data. `--fix` and `--merge-labels` are flags of audit, the others of train.
_IN_DATA = {
    "empty-text": "--fix OUT drops them",
    "near-empty-text": "train --min-chars N drops short texts",
    "encoding-damage": "--fix OUT repairs what it can; use --encoding NAME if the file was read with the wrong "
    "encoding",
    "markup": "--fix OUT or train --markup strip removes it",
    "exact-duplicate": "--fix OUT keeps the first of each",
    "near-duplicate": "--fix OUT keeps the first of those with the same label",
    "conflicting-labels": "--fix OUT drops all of them; correct them in the file to keep them",
    "near-conflicting-labels": "check them by hand, since either may be right; --suspects ranks labels that look wrong",
    "tell-tale": "remove them from the texts, or measure on texts from another source: train --ood FILE",
    "imbalance": "train --class-weights balanced or --oversample",
    "rare-class": "add rows, or train --oversample; --rare-classes drop leaves out classes with only one row",
    "missing-label": "--fix OUT drops them",
    "similar-classes": "--fix OUT --merge-labels uses the most frequent spelling",
    "unknown-tokens": "choose another backbone: --backbone NAME",
}
# For findings in the test set, which `--fix` of the data leaves as it is.
_IN_TEST = {
    "exact-leak": "--fix OUT drops the rows of the data that are also in the test set",
    "near-leak": "--fix OUT drops the rows of the data that are similar to a row of the test set",
    "imbalance": "look at macro F1, which weighs all classes equally",
    "rare-class": "add test rows: the metrics of such a small class mean little",
    "tell-tale": _IN_DATA["tell-tale"],
    "near-conflicting-labels": _IN_DATA["near-conflicting-labels"],
    "unknown-tokens": _IN_DATA["unknown-tokens"],
    "similar-classes": "audit TEST --fix OUT --merge-labels uses the most frequent spelling",
}


def mend(one: Finding) -> str:
    """The remedy for a finding, in one clause; empty if there is none."""
    if one.part == "data":
        return _IN_DATA.get(one.name, "")
    return _IN_TEST.get(
        one.name, "audit TEST --fix OUT, as for the data" if "--fix" in _IN_DATA.get(one.name, "") else ""
    )
