"""Error messages for a recipe's values: from pydantic's errors to `section -> key: expected, received`."""

from __future__ import annotations

import difflib
from typing import Any

from ..budget.plan import BUDGET_AS_WRITTEN
from .schema import SECTIONS, Recipe

# What pydantic calls wrong, in words; `{}` is the limit it names.
EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "names with numbers, such as query=8,value=4",
    "invalid_key": "a key that is a word",
    "model_type": "a mapping of settings",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
}
# Where the type alone would not say how the value is written.
WRITTEN = {
    "plan -> budget": BUDGET_AS_WRITTEN,
    "plan -> layers": "all, top:N or layer numbers such as 3,4,5",
    "plan -> r": "a rank of at least 1 (for no adapter at all: strategy head-only)",
    "plan -> rank_pattern": "names with ranks, such as query=8,output.dense=4",
    "plan -> alpha_pattern": "names with numbers, such as query=8,output.dense=4",
    "train -> epochs": "auto or at least 1",
    "train -> class_weights": "balanced, none, or classes with weights above 0, such as Sports=2,World=0.5",
    "train -> thresholds": "macro_f1, micro_f1, fixed, or precision=X or recall=X with X above 0 and at most 1",
    "data -> max_length": "auto or at least 4",
    "data -> validation_size": "a share such as 0.1 or a number of rows such as 640",
}


def describe_problem(detail: Any) -> tuple[str, str]:
    """One pydantic error as `section -> key` and `expected ..., received ...`."""
    path = [str(part) for part in detail["loc"]]
    # Union members and validators show up as path parts that are no keys of ours.
    place = " -> ".join(path[:2] if path and path[0] in SECTIONS else path[:1]) or "recipe"
    if detail["type"] == "extra_forbidden":
        known = SECTIONS[path[0]].model_fields if len(path) > 1 else Recipe.model_fields
        return place, f"expected {suggest(path[-1], known)}, received an unknown key"
    if detail["type"] == "literal_error":
        expected = WRITTEN.get(place) or detail["ctx"]["expected"].replace("'", "")
    else:
        words = EXPECTED.get(detail["type"], "").format(**detail.get("ctx", {}))
        expected = WRITTEN.get(place) or words or detail["msg"].removeprefix("Input should be ")
    return place, f"expected {expected}, received {_shown(detail['input'])}"


def _shown(value: object) -> str:
    """A value as it was written, short."""
    value = ",".join(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value
    text = value if isinstance(value, str) and value.strip() else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def suggest(word: str, known: Any) -> str:
    """The known name nearest to an unknown one, or all of them."""
    near = difflib.get_close_matches(word, list(known), n=1) or [name for name in known if word and word in name][:1]
    return f"{near[0]} (nearest known name)" if near else "one of " + ", ".join(known)
