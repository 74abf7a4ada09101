"""Column detection: which column is the text and which the label, by names, then by content; ties are refused."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

from ..errors import DataError
from .table import Columns, listed

_TITLES = ("title", "headline", "subject")
_BODIES = ("description", "content", "body", "abstract", "summary", "article")
_TEXTS = (
    *("sentence", "content", "review", "document", "comment", "message", "tweet", "post", "sms", "news", "article"),
    *("utterance", "query", "question", "body", "description", "abstract", "summary", "headline", "title", "subject"),
    *("texts", "full_text", "clean_text", "review_text", "tweet_text", "news_text"),
)
# Two texts of one row, whose values may repeat: one premise has several hypotheses.
_PAIRS = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("text_a", "text_b")),
    *(("question1", "question2"), ("text1", "text2"), ("sentence_a", "sentence_b"), ("text_1", "text_2")),
)
_LABELS = (
    *("labels", "class", "category", "target", "class_index", "class_label", "topic", "sentiment", "intent", "emotion"),
    *("y", "label_text", "gold_label", "is_duplicate"),
)

# Columns that are read where they hold lists; they are not taken for the label unless named.
_LABEL_LISTS = ("tags", "topics", "categories", "classes", "genres", "emotions", "intents", "targets", "keywords")

_IDS = ("id", "ids", "idx", "index", "uid", "uuid", "guid", "key")
# Names that the first row of a file may hold, besides those above.
_USUAL = {
    *("text", "label", "class_name", "labels", *_TEXTS, *_LABELS, *_LABEL_LISTS),
    *("id", "ids", "idx", "index", "uid", "guid", "row", "number", "url", "date", "time", "timestamp", "created_at"),
    *("author", "user", "username", "source", "lang", "language", "split", "fold", "score", "rating", "stars"),
    *("premise", "hypothesis", "genre", "text_a", "text_b", "annotator", "gold_label", "v"),
}
DATES = "turn dates into strings first, such as the month: a class needs several rows"

# Beside a column called label: its classes' names.
_NAMES = ("label_text", "label_name", "label_str")

# A column without a known name is taken as text if its cells are this long on average and mostly differ.
_LONG, _VARIED, _SAMPLE = 15, 0.5, 1_000


def choose_text_columns(
    columns: Columns, wanted: Sequence[str] | None, label: str | None, *, pair: bool = False
) -> tuple[str, ...]:
    """The text columns, in the order they are to be joined.

    Args:
        columns: the source.
        wanted: what `--text-columns` named, if anything.
        label: what `--label-column` named, if anything; never a text.
        pair: two columns that could be the text are the pair that is looked for.

    Raises:
        DataError: a named column is absent, or not exactly one could be the text.
    """
    if wanted is not None:
        names = tuple(require_column(columns, name, "--text-columns a,b") for name in wanted)
        if not names or len(set(names)) < len(names):
            raise DataError(
                "--text-columns is empty or names a column twice", received=listed(wanted), where=columns.source
            )
        return names
    label = None if label is None else _found(columns, label) or label
    if columns.headerless:
        return tuple(name for name in list(columns.values)[1:] if name != label)
    names = _text_names(columns, [name for name in columns.values if name != label])
    if len(names) > 1 and not _is_pair(names) and not (pair and len(names) == 2):
        or_pair = ", or add --pair if each row is a pair of texts" if len(names) == 2 and not pair else ""
        raise _unclear(columns, "several columns could be the text", names, "--text-columns a,b", or_pair)
    if not names:
        raise _unclear(columns, "cannot tell which column is the text", (), "--text-columns a,b")
    return names


def choose_label_column(columns: Columns, wanted: str | None, texts: Sequence[str], *, needed: bool) -> str | None:
    """The label column; None when there is none by name and none is `needed`.

    Raises:
        DataError: the named column is absent or is a text column; none (when needed) or several could be the label.
    """
    if wanted is not None:
        name = require_column(columns, wanted, "--label-column NAME")
        if name in texts:
            raise DataError(
                f"column {name} cannot be both text and label",
                remedy="name another with --label-column or --text-columns",
                where=columns.source,
            )
        return name
    if columns.headerless:
        return next(iter(columns.values))
    keys = {_key(name): name for name in columns.values if name not in texts}
    if "label" in keys:
        return keys["label"]
    known = [keys[key] for key in _LABELS if key in keys]
    if len(known) > 1:
        raise _unclear(columns, "several columns could be the label", known, "--label-column NAME")
    if not known and needed:
        for name in columns.unreadable:
            if _key(name) in ("label", *_LABELS):
                require_column(columns, name, "--label-column NAME", positions=False)
        # Columns without values, which spreadsheets append, and ids do not count.
        rest = [name for name in keys.values() if not _empty(columns.values[name])]
        rest = [name for name in rest if not is_id_name(name) and not _counts_rows(columns.values[name])]
        few = [name for name in rest if _few_values(columns.values[name])]
        # Among named columns, a second candidate without a known name makes it ambiguous.
        known = few if len(few) == 1 and (len(rest) == 1 or not columns.named) else []
        if not known:
            raise _unclear(columns, "cannot tell which column is the label", (), "--label-column NAME")
    return known[0] if known else None


def require_column(columns: Columns, name: str, flag: str, *, positions: bool = True) -> str:
    """`name` as the source spells it (case and outer blanks aside); where no column has it, a number is a position.

    Args:
        columns: the source; the first of its columns is number 1.
        name: the name or position asked for.
        flag: what asked for it, for messages.
        positions: whether a number may be a position.

    Raises:
        DataError: there is no such column, or it contains neither text nor numbers.
    """
    found = _found(columns, name, positions=positions)
    if found is not None:
        return found
    if name in columns.unreadable:
        kind = columns.unreadable[name]
        raise DataError(
            f"column {name} contains neither text nor numbers",
            received=kind,
            remedy=_to_readable(kind),
            where=columns.source,
        )
    close = difflib.get_close_matches(name, list(columns.values), n=1)
    raise DataError(
        f"no column named {name}",
        expected=f"one of {listed(columns.values)}",
        remedy=f"did you mean {close[0]}?" if close else f"name it with {flag}",
        where=columns.source,
    )


def _to_readable(kind: str) -> str | None:
    """What makes a column of that type one of text or numbers, if there is something to say."""
    if "list" in kind:
        return "lists are read only from columns named like labels, such as labels or tags: rename the column"
    return DATES if kind.startswith(("date", "time")) else None


def id_column(columns: Columns, wanted: str | None = None) -> str | None:
    """The column of row ids: the one that was `wanted`, otherwise one called `id`, in any case.

    Raises:
        DataError: there is no such column.
    """
    if wanted is not None:
        return require_column(columns, wanted, "--id-column c")
    return "id" if "id" in columns.values else next((name for name in columns.values if _key(name) == "id"), None)


def is_id_name(name: str) -> bool:
    """Whether a column's name says that it holds ids: `id`, `user_id`, `PassengerId`, `uuid`..."""
    return _key(name) in _IDS or _key(name).endswith("_id") or bool(re.search(r"[a-z]I[dD]$", name.strip()))


def _found(columns: Columns, name: str, *, positions: bool = True) -> str | None:
    """The column of that name, otherwise the one at that position; None if there is neither."""
    if name in columns.values:
        return name
    for column in columns.values:
        if _key(column) == _key(name):
            return column
    # Where columns could not be read, it is not known where these stood.
    if positions and re.fullmatch(r"[1-9][0-9]{0,8}", name.strip()) and not columns.unreadable:
        return next(itertools.islice(columns.values, int(name) - 1, None), None)
    return None


def find_class_name_column(columns: Columns, label: str) -> str | None:
    """The column that holds the names of the numbers in `label`, as SetFit writes `label` and `label_text`."""
    keys = {_key(name): name for name in columns.values}
    return next((keys[key] for key in _NAMES if key in keys), None) if _key(label) == "label" else None


def is_label_name(name: str) -> bool:
    """Whether a column's name says that it holds labels."""
    return _key(name) in ("label", *_LABELS, *_LABEL_LISTS)


def is_text_name(name: str) -> bool:
    """Whether a column's name says that it holds texts."""
    return _key(name) in ("text", *_TITLES, *_BODIES, *_TEXTS)


def is_column_name(cell: str) -> bool:
    """Whether a cell is a usual name of a column of a data set."""
    key = _key(cell)
    return key in _USUAL or re.sub(r"_?\d+$", "", key) in _USUAL


def is_null(value: object) -> bool:
    """Whether a cell is missing: None, NaN, pandas' NA or NaT. The strings "NA" and "null" are strings."""
    if value is None or isinstance(value, str):
        return value is None
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, Real) and bool(value != value))


def infer_label_base(name: str, numbers: list[int]) -> int:
    """1 for a column called "Class Index" that starts there (the contest's form, with or without a header), else 0."""
    return 1 if _key(name) == "class_index" and min(numbers, default=0) >= 1 else 0


def _key(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _text_names(columns: Columns, names: list[str]) -> tuple[str, ...]:
    keys = {_key(name): name for name in names}
    if "text" in keys:
        return (keys["text"],)
    titles = [keys[key] for key in _TITLES if key in keys]
    bodies = [keys[key] for key in _BODIES if key in keys]
    known = tuple(keys[key] for key in _TEXTS if key in keys)
    if len(titles) == 1 and len(bodies) == 1 and len(known) == 2:
        return (titles[0], bodies[0])
    if known:
        return known
    labels = {"label", *_LABELS}
    strings = [name for key, name in keys.items() if key not in labels and _strings(columns.values[name])]
    if len(strings) == 1 and len(columns.values) == 1:
        return (strings[0],)
    pair = next(([keys[key] for key in pair] for pair in _PAIRS if keys.keys() >= set(pair)), ())
    return tuple(name for name in strings if name in pair or _long_and_varied(columns.values[name]))


def _is_pair(names: Sequence[str]) -> bool:
    return len(names) == 2 and _key(names[0]) in _TITLES and _key(names[1]) in _BODIES


def _strings(values: Sequence[Any]) -> list[str]:
    sample = [value for value in values[:_SAMPLE] if not is_null(value)]
    return sample if all(isinstance(value, str) for value in sample) else []


def _long_and_varied(values: Sequence[Any]) -> bool:
    sample = _strings(values)
    return sum(map(len, sample)) >= _LONG * len(sample) and len(set(sample)) > _VARIED * len(sample)


def _few_values(values: Sequence[Any]) -> bool:
    sample = values[:_SAMPLE]
    return all(isinstance(value, (str, int)) for value in sample) and len(set(sample)) <= _VARIED * len(sample)


def _counts_rows(values: Sequence[Any]) -> bool:
    """Whether the values are 0, 1, 2... or 1, 2, 3..., as pandas and spreadsheets number rows."""
    try:
        numbers = [int(value) for value in values]
    except (TypeError, ValueError):
        return False
    return numbers[:1] in ([0], [1]) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _empty(values: Sequence[Any]) -> bool:
    return all(is_null(value) or (isinstance(value, str) and not value.strip()) for value in values[:_SAMPLE])


def _unclear(columns: Columns, problem: str, candidates: Sequence[str], flag: str, or_else: str = "") -> DataError:
    others = [f"{name} ({kind})" for name, kind in columns.unreadable.items()]
    received = f"columns {listed([*columns.values, *others])}"
    remedy = f"name it with {flag}"
    if not columns.named:
        remedy = f"name it by its position, such as {flag.replace('a,b', '2,3').replace(' c', ' 1')}"
    return DataError(
        f"{problem}: {listed(candidates)}" if candidates else problem,
        received=received,
        remedy=remedy + or_else,
        where=columns.source,
    )
