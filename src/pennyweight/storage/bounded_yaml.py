"""YAML with limits, which are checked event by event before anything is built.

PyYAML's time grows with the square of the depth of nested collections: 20 KB of brackets take it longer than any recipe
should. A recipe is three levels deep, so what goes far deeper is refused where it begins to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MOST_DEPTH = 20
MOST_EVENTS = 250_000  # a scalar is one; a mapping or a list is two and what it holds


def bounded_events(text: str, loader: Any = yaml.SafeLoader) -> Iterator[yaml.Event]:
    """The events of a YAML text, one by one.

    Args:
        loader: `SafeLoader`, or libyaml's `CSafeLoader`, which takes a 25th of the time and words its errors otherwise.

    Raises:
        yaml.YAMLError: no YAML, or nested deeper than `MOST_DEPTH`, or longer than `MOST_EVENTS`.
    """
    depth = 0
    for number, event in enumerate(yaml.parse(text, loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            problem = f"lists and mappings nested more than {MOST_DEPTH} levels deep"
        elif number >= MOST_EVENTS:
            problem = f"more than {MOST_EVENTS:,} elements"
        else:
            yield event
            continue
        mark: Any = event.start_mark
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def check_bounds(text: str) -> None:
    """Refuse a text that is too deep or too long; raises as `bounded_events`."""
    for _ in bounded_events(text):
        pass
