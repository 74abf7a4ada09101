"""YAML is looked through before anything is built of it, and no further than it is deep."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pennyweight.artifact.file_contents import parse_yaml
from pennyweight.errors import ArtifactError
from pennyweight.storage import bounded_yaml
from pennyweight.storage.bounded_yaml import MOST_DEPTH, bounded_events, check_bounds


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_what_is_as_deep_as_allowed_is_read() -> None:
    check_bounds(deep(MOST_DEPTH))
    check_bounds("a: {b: [1, 2, {c: d}]}\n")
    check_bounds("- [[[]]]\n" * 1000)  # many, but none deep


def test_a_deeper_text_is_left_at_the_first_level_too_many() -> None:
    events = bounded_events(deep(10_000))
    seen = []
    with pytest.raises(yaml.YAMLError) as caught:
        seen.extend(next(events) for _ in range(10_000))
    assert str(getattr(caught.value, "problem", "")) == "lists and mappings nested more than 20 levels deep"
    assert caught.value.problem_mark.column == MOST_DEPTH  # type: ignore[attr-defined]


def test_the_parser_is_asked_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    parse = yaml.parse

    def counted(*given: object) -> object:
        for event in parse(*given):
            asked.append(event)
            yield event

    monkeypatch.setattr(bounded_yaml.yaml, "parse", counted)
    with pytest.raises(yaml.YAMLError):
        check_bounds(deep(10_000))
    assert len(asked) == 2 + MOST_DEPTH + 1  # the stream's start, the document's, and one bracket too many


def test_a_text_of_too_many_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_yaml, "MOST_EVENTS", 10)
    check_bounds("[1, 2, 3, 4]")
    with pytest.raises(yaml.YAMLError, match="more than 10 elements"):
        check_bounds("[1, 2, 3, 4, 5, 6, 7]")


@pytest.mark.parametrize("text", ["a: " + deep(10_000), "- " * 10_000, "{a: " * 5_000])
def test_a_saved_classifiers_recipe_is_refused_as_deep(text: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse_yaml(text.encode(), tmp_path / "recipe.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/recipe.yaml: not a plain YAML file (lists and mappings nested more than 20 levels deep); "
        "copy the folder again from its source, or train again"
    )
