"""What mends each kind of finding: a flag of `audit` or of `train`, or what a person has to do."""

from __future__ import annotations

from .findings import Finding

# For findings in the data. `--fix` and `--merge-labels` are flags of audit, the others of train.
_IN_DATA = {
    "empty-text": "--fix OUT drops them",
    "near-empty-text": "train --min-chars N drops short texts",
    "encoding-damage": "--fix OUT repairs what can be undone; --encoding NAME if the file was read in a wrong one",
    "markup": "--fix OUT or train --markup strip takes it out",
    "exact-duplicate": "--fix OUT keeps the first of each",
    "near-duplicate": "--fix OUT keeps the first of those with the same label",
    "conflicting-labels": "--fix OUT drops all of them; correct them in the file to keep them",
    "near-conflicting-labels": "read them, since either may be right; --suspects ranks labels that look wrong",
    "tell-tale": "take them out of the texts, or measure on texts from elsewhere: train --ood FILE",
    "imbalance": "train --class-weights balanced or --oversample",
    "rare-class": "more rows, or train --oversample; --rare-classes drop leaves out classes of one row",
    "missing-label": "--fix OUT drops them",
    "similar-classes": "--fix OUT --merge-labels writes each as most rows do",
    "unknown-tokens": "another backbone: --backbone NAME",
}
# For findings in the test set, which `--fix` of the data leaves as it is.
_IN_TEST = {
    "exact-leak": "--fix OUT drops the rows of the data that are also in the test set",
    "near-leak": "--fix OUT drops the rows of the data that are like one of the test set",
    "imbalance": "read macro F1, which weighs all classes alike",
    "rare-class": "more test rows: figures of so small a class say little",
    "tell-tale": _IN_DATA["tell-tale"],
    "near-conflicting-labels": _IN_DATA["near-conflicting-labels"],
    "unknown-tokens": _IN_DATA["unknown-tokens"],
    "similar-classes": "audit TEST --fix OUT --merge-labels writes each as most rows do",
}


def mend(one: Finding) -> str:
    """What mends a finding, in one clause; empty where nothing is known."""
    if one.part == "data":
        return _IN_DATA.get(one.name, "")
    return _IN_TEST.get(
        one.name, "audit TEST --fix OUT, as for the data" if "--fix" in _IN_DATA.get(one.name, "") else ""
    )
