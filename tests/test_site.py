"""The pages that `make site` built: they fetch nothing from elsewhere, lead somewhere, and can be read by everybody."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from .local_server import local_server

SITE = Path(__file__).parent.parent / "build" / "site"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make site` builds the pages")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with local_server(partial(Quiet, directory=str(SITE))) as found:
        yield found


def test_no_page_loads_anything_from_elsewhere() -> None:
    pages = sorted(SITE.rglob("*.html"))
    assert len(pages) > 25
    loads = re.compile(
        r"<(?:script|img|iframe|source|embed|object)[^>]*\s(?:src|data)=[\"']?(?:https?:)?//[^\"'\s>]*"
        r"|<link(?![^>]*rel=[\"']?(?:canonical|alternate))[^>]*\shref=[\"']?(?:https?:)?//[^\"'\s>]*"
        r"|class=\"?mermaid"
    )
    assert {
        page.name: loads.findall(page.read_text("utf-8")) for page in pages if loads.search(page.read_text("utf-8"))
    } == {}
    styles = re.compile(r"(?:url\([\"']?|@import\s*[\"'])(?:https?:)?//[^\"')]*")
    assert [found for sheet in SITE.rglob("*.css") for found in styles.findall(sheet.read_text("utf-8"))] == []


def test_every_link_between_pages_leads_to_a_page_and_a_place_on_it() -> None:
    ids = {
        page: set(re.findall(r"\sid=\"?([^\"\s>]+)", page.read_text("utf-8"))) for page in sorted(SITE.rglob("*.html"))
    }
    broken = []
    for page in ids:
        if page.name == "404.html":  # shown at any address, so that its links begin at the root
            continue
        for link in re.findall(r"<a\s[^>]*href=\"?([^\"\s>]+)", page.read_text("utf-8")):
            path, _, place = link.partition("#")
            if "://" in link or path.startswith("mailto:"):
                continue
            target = (page.parent / path).resolve() if path else page
            known = ids.get(target / "index.html" if target.is_dir() else target)
            if not target.exists() or (place and known is not None and place not in known and place != "__skip"):
                broken.append((page.relative_to(SITE).as_posix(), link))
    assert broken == []


def test_every_page_of_the_navigation_is_named_in_it() -> None:
    """A page called README would else become what the name of its section leads to."""
    pages = re.findall(r"^ +- ([^:\n]+): \S+\.md$", (SITE.parents[1] / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert len(pages) > 25
    start = (SITE / "index.html").read_text("utf-8")
    shown = {unescape(name).strip() for name in re.findall(r'<span class="md-ellipsis">([^<]+)</span>', start)}
    assert [page for page in pages if page not in shown] == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_asks_nobody_else_search_finds_and_axe_finds_nothing_serious(address: str) -> None:
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((1280, "light"), (390, "dark")):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            for name in ("index", "tutorial", "evidence", "api"):
                page.goto(f"{address}/{name}.html")
                page.wait_for_load_state("networkidle")
                found = Axe().run(page).response["violations"]
                serious = [
                    (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
                ]
                assert serious == [], (name, width, scheme)
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            context.close()
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/index.html")
        page.locator("input.md-search__input").fill("LoRA-XS")
        page.locator(".md-search-result__item").first.wait_for()
        browser.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
