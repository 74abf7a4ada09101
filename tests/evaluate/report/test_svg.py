import re

import pytest

from pennyweight.evaluate.report import figures
from pennyweight.evaluate.report.svg import PAGE, inline_svg

pytestmark = pytest.mark.usefixtures("rendered")


def drawing(name: str = "picture", label: str = "a") -> str:
    figure = figures.confusion([[1, 0], [0, 1]], [label, "b"], PAGE)
    return inline_svg(figure, name, 'shows "a" & <b>')


def test_colours_are_the_pages_own() -> None:
    svg = drawing()
    assert "var(--ink)" in svg
    assert "var(--first)" in svg
    assert not re.search(r"#[0-9a-f]{6}", svg)


def test_ids_and_references_carry_the_name() -> None:
    svg = drawing("one")
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids
    assert all(one.startswith("one-") for one in ids)
    references = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)
    assert references
    assert {first or second for first, second in references} <= set(ids)


def test_text_is_escaped_and_otherwise_left_alone() -> None:
    assert "&lt;/svg&gt;&lt;script&gt;" in drawing(label="</svg><script>")
    assert ">#010101 id=</text>" in drawing(label="#010101 id=")
    assert 'aria-label="shows &quot;a&quot; &amp; &lt;b&gt;"' in drawing()


def test_the_same_figure_gives_the_same_text() -> None:
    assert drawing() == drawing()
