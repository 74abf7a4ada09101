"""Figures as SVG inside a page, in the page's colours, so that one drawing works in light and dark mode."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

from .figures import Palette, styled

# Colours no drawing uses otherwise; each becomes a variable of the page's style sheet.
_VARIABLES = {
    "#010101": "--ink",
    "#010102": "--muted",
    "#010103": "--line",
    "#010104": "--paper",
    "#010105": "--first",
    "#010106": "--second",
    "#010107": "--on-first",
}
PAGE = Palette(*_VARIABLES)


def inline_svg(figure: Any, name: str, description: str) -> str:
    """A figure drawn with `PAGE` as an `<svg>` element for HTML.

    Args:
        name: unique in the page; set before every id of the drawing.
        description: what the picture shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    with styled(PAGE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<[^>]*>", lambda tag: _adapt(tag[0], name), svg)  # tags only: a class may be called "#010101"
    width = float(figure.get_figwidth())
    # The drawing shrinks with a narrow page but is never blown up past its own size.
    label = f'role="img" aria-label="{escape(description)}" style="width:{width * 96:.0f}px;max-width:100%;height:auto"'
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" width="[\d.]+pt"', label, svg, count=1)


def _adapt(tag: str, name: str) -> str:
    tag = re.sub(r"#01010[1-7]", lambda found: f"var({_VARIABLES[found[0]]})", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)  # the page's own
    return re.sub(r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"{name}-", tag)
