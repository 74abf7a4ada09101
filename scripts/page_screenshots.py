"""Screenshots of the server's page: `python scripts/page_screenshots.py URL TOKEN OUT`.

URL is a running `pennyweight serve` with at least two classifiers of single texts. Start, results, explanation, side by
side, a CSV run, an error, the token form and /docs, at 1280 and 390 pixels, light and dark, are written to OUT as PNG.
"""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from pennyweight.data import sample

WIDTHS = {"wide": 1280, "phone": 390}
TEXTS = """\
The striker scored in the last minute, and the cup final went to extra time.
Shares in the bank fell after it cut its forecast for the quarter.
A ceasefire was signed, and the treaty now goes to both parliaments.
The telescope found water vapour around a planet 120 light years away.
The rocket maker wants to sell shares before its next launch.
The minister opened the new stadium."""
ONE = "Shares in the rocket maker rose after the telescope reached its orbit, although no treaty on launches is signed."


def write_csv(path: Path) -> Path:
    """The test items of the built-in sample, their labels left out."""
    items = sample.load("test")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "source", "text"])
        writer.writerows(zip(items.extras["id"], items.extras["source"], items.texts, strict=True))
    return path


class Camera:
    """One browser window: its width, its colours, and where its pictures go."""

    def __init__(self, browser: Browser, url: str, token: str, out: Path, width: str, scheme: str) -> None:
        self.url, self.token, self.out, self.suffix = url, token, out, f"{width}-{scheme}"
        size = {"width": WIDTHS[width], "height": 900 if width == "wide" else 844}
        self.context = browser.new_context(
            viewport=size, color_scheme=scheme, device_scale_factor=1 if width == "wide" else 2
        )
        self.page: Page = self.context.new_page()

    def take(self, name: str, *, whole: bool = True) -> None:
        self.page.wait_for_timeout(400)
        self.page.screenshot(path=self.out / f"{name}-{self.suffix}.png", full_page=whole)

    def start(self, fragment: str = "") -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#token={self.token}{fragment}")
        self.page.locator(".about").wait_for(state="attached")
        self.page.locator(".card-text").wait_for(state="attached")

    def predict(self) -> None:
        self.page.locator("#predict").click()
        self.page.locator("#predict").wait_for()
        self.page.locator("#results").wait_for()

    def all(self, news: Path, names: dict[str, str]) -> None:
        """Every picture."""
        page = self.page
        page.goto(self.url)
        page.locator("#token").wait_for()
        self.take("token")
        self.start(f"&classifier={names['first']}")
        self.take("start")
        page.locator("#classifier").click()
        self.take("choose", whole=False)
        page.keyboard.press("Escape")
        page.locator("#texts").fill(TEXTS)
        page.locator("#threshold").fill("80")
        self.predict()
        self.take("results")
        page.locator("label:has(input[value=text])").click()
        page.locator("#texts").fill(ONE)
        self.predict()
        page.get_by_role("button", name="Which words?").first.click()
        page.locator(".marked").wait_for()
        self.take("explanation")
        page.locator("#second-classifier").click()
        page.get_by_role("option", name=names["second"]).click()
        page.locator("label:has(input[value=lines])").click()
        page.locator("#texts").fill(TEXTS)
        self.predict()
        self.take("side-by-side")
        for kind in ("multi-label", "pair"):
            if kind in names:
                self.start(f"&classifier={names[kind]}")
                page.locator("#texts").fill(TEXTS if kind == "multi-label" else TEXTS.splitlines()[1])
                if kind == "pair":
                    page.locator("#second-text").fill(TEXTS.splitlines()[4])
                self.predict()
                page.get_by_role("button", name="Which words?").first.click()
                page.locator(".marked").wait_for()
                self.take(kind)
        self.start(f"&classifier={names['first']}")
        page.locator("label:has(input[value=csv])").click()
        page.locator("#file").set_input_files(news)
        page.locator("#csv-options table").wait_for()
        self.predict()
        self.take("csv")
        self.start(f"&classifier={names['first']}")
        page.locator("label:has(input[value=text])").click()
        page.locator("#texts").fill("word " * 60_000)
        page.locator("#predict").click()
        page.locator("#problem:not([hidden])").wait_for()
        page.locator("#texts").fill("A text that is too long for the server, shortened here.")
        self.take("error", whole=False)
        page.goto(f"{self.url}/docs")
        page.locator(".route").first.wait_for()
        self.take("docs", whole=False)
        page.locator(".route").nth(3).scroll_into_view_if_needed()
        self.take("docs-route", whole=False)
        self.context.close()


def listed(browser: Browser, url: str, token: str) -> dict[str, str]:
    """Names of usable classifiers: `first` and `second` of one label per text; if any, `multi-label` and `pair`."""
    answer = browser.new_context().request.get(f"{url}/v1/classifiers", headers={"Authorization": f"Bearer {token}"})
    usable = [item for item in answer.json()["classifiers"] if item["state"] != "unusable"]
    single = [item["name"] for item in usable if item["task"] == "single-label" and not item["pair"]]
    found = {"first": single[0], "second": single[1]}
    for item in usable:
        if item["pair"] or item["task"] == "multi-label":
            found["pair" if item["pair"] else "multi-label"] = item["name"]
    return found


def main(url: str, token: str, out: Path) -> None:
    """Take every picture at every width in both schemes."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        news = write_csv(Path(folder) / "news.csv")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        names = listed(browser, url, token)
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                Camera(browser, url, token, out, width, scheme).all(news, names)
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1].rstrip("/"), sys.argv[2], Path(sys.argv[3]))
