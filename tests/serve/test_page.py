"""The page's files, and the page in a browser: Chromium, driven by Playwright, against a fake of the server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pennyweight.predict.formula_guard import escape_formula
from pennyweight.serve.page.static_files import CONTENT_SECURITY_POLICY, static_files

from ..server_process import TOKEN as SERVER_TOKEN
from ..server_process import ServerProcess
from .fake_server import SPECIFICATION, TOKEN, Served, described, fake_server

expect.set_options(timeout=20_000)

FILES = {address: file.content.decode() for address, file in static_files().items()}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Open = Callable[..., Page]


# --- the files ---------------------------------------------------------------------------------------------------


def test_the_files_have_fixed_addresses_and_media_types() -> None:
    types = {address: file.media_type for address, file in static_files().items()}
    assert types["/"] == types["/docs"] == "text/html; charset=utf-8"
    assert types["/static/style.css"] == "text/css; charset=utf-8"
    assert types["/static/app.js"] == "text/javascript; charset=utf-8"
    assert types["/static/icon.svg"] == "image/svg+xml"
    assert not [address for address in types if address.endswith((".py", ".html")) or "__" in address]
    assert len({file.etag for file in static_files().values()}) == len(types)


def test_what_the_files_name_is_there() -> None:
    named = {name for text in FILES.values() for name in re.findall(r"""["'](/static/[^"']+)["']""", text)}
    assert named == {address for address in FILES if address.startswith("/static/")}


def test_nothing_is_inline_or_from_elsewhere() -> None:
    for address in ("/", "/docs"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", FILES[address]), address
    for address, text in FILES.items():
        code = re.sub(r'xmlns="[^"]*"|^\s*(?://|\*|/\*\*).*$', "", text, flags=re.MULTILINE)
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", code), (
            address
        )


def test_no_script_is_too_long() -> None:
    assert {address: len(text.splitlines()) for address, text in FILES.items() if len(text.splitlines()) > 500} == {}


# --- a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def fake() -> Iterator[Served]:
    with fake_server() as served:
        yield served


@pytest.fixture
def open_page(browser: Browser, fake: Served) -> Iterator[Open]:
    """A function `(path, **options of the context) -> page`. Ends with what no page may do: leave its server, break the
    policy, or fail."""
    contexts, wrong = [], []

    def make(path: str = f"/#token={TOKEN}", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        watch(page, fake.url, wrong)
        page.goto(fake.url + path)
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []


def watch(page: Page, origin: str, wrong: list[str]) -> None:
    """Collects what no page may do: leave its server, break the policy, or fail."""
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda one: None if one.url.startswith((origin, "blob:")) else wrong.append(one.url))


def choose(page: Page, name: str, field: str = "classifier") -> None:
    page.locator(f"#{field}").click()
    page.locator(f"#{field}").fill(name)
    page.get_by_role("option", name=name).first.click()


def predict(page: Page) -> None:
    page.locator("#predict").click()
    expect(page.locator("#results")).to_be_visible()
    expect(page.locator("#predict")).to_be_visible()


def drop_in(page: Page, tmp_path: Path, content: str | bytes, name: str = "news.csv") -> None:
    page.get_by_text("CSV file", exact=True).click()
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    page.locator("#file").set_input_files(file)


def saved(page: Page, button: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_bytes().decode()


def slide(page: Page, percent: int) -> None:
    page.locator("#threshold").fill(str(percent))


# --- the token ---------------------------------------------------------------------------------------------------


def test_the_token_is_asked_for_and_kept_for_the_tab_alone(open_page: Open) -> None:
    page = open_page("/")
    field, problem = page.locator("#token"), page.locator("#token-problem")
    expect(field).to_be_focused()
    expect(problem).to_be_hidden()
    field.fill("wrong")
    field.press("Enter")
    expect(problem).to_have_text("the token is not this server's; expected: Authorization: Bearer TOKEN")
    field.fill("токен")
    field.press("Enter")
    expect(problem).to_have_text("A token contains only ASCII characters and no blanks.")
    field.fill(TOKEN)
    field.press("Enter")
    expect(page.locator("#classifier")).to_have_value("news-topics")
    expect(page.locator("#token-form")).to_be_hidden()
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    page.get_by_role("button", name="Sign out").click()
    expect(field).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_token_in_the_fragment_is_taken_and_leaves_the_address(open_page: Open, fake: Served) -> None:
    page = open_page(f"/#token={TOKEN}&classifier=tags")
    expect(page.locator("#classifier")).to_have_value("tags")
    assert page.url == f"{fake.url}/#classifier=tags"
    assert page.evaluate("history.length") == 2  # about:blank and this page: the token is in no entry


def test_a_token_that_ends_is_asked_for_again(open_page: Open) -> None:
    page = open_page()
    page.locator("#texts").fill("A goal.")
    page.evaluate("import('/static/server.js').then((server) => server.setToken('old'))")
    page.locator("#predict").click()
    expect(page.locator("#token")).to_be_focused()
    expect(page.locator("#texts")).to_have_value("A goal.")


# --- choosing ----------------------------------------------------------------------------------------------------


def test_one_of_thousands_is_found_by_keyboard(open_page: Open, fake: Served) -> None:
    fake.listed += [described(f"team-{number:04}") for number in range(3000)]
    fake.listed.append(described("zoo", ("Zebra", "Yak")))
    page = open_page()
    field = page.locator("#classifier")
    expect(field).not_to_have_value("")  # the list has come
    field.press("ArrowDown")
    expect(page.get_by_role("option")).to_have_count(50)
    expect(page.locator(".more").first).to_have_text("2,956 more: type a part of a name or a label")
    field.fill("team 2718")
    expect(page.get_by_role("option")).to_have_count(1)
    field.press("Enter")
    expect(field).to_have_value("team-2718")
    expect(field).to_have_attribute("aria-expanded", "false")
    field.fill("yak")  # by a label
    field.press("Enter")
    expect(page.locator("#facts .chips").first).to_have_text("ZebraYak")
    field.fill("nothing of the kind")
    expect(page.locator(".more").first).to_have_text("No classifier has such a name or label.")
    field.press("Escape")
    expect(field).to_have_value("zoo")


def test_one_that_cannot_be_used_is_not_chosen(open_page: Open) -> None:
    page = open_page()
    page.locator("#classifier").fill("broken")
    option = page.get_by_role("option")
    expect(option).to_have_attribute("aria-disabled", "true")
    expect(option).to_have_attribute("title", "broken: adapter.safetensors is truncated")
    page.locator("#classifier").press("Enter")
    page.locator("#classifier").press("Escape")
    expect(page.locator("#classifier")).to_have_value("news-topics")


def test_the_facts(open_page: Open, fake: Served) -> None:
    page = open_page()
    facts = page.locator("#facts")
    expect(facts).to_contain_text("Accuracy93.8%95% interval 88.9–96.6, 160 test texts")
    expect(facts).to_contain_text("Trained parameters199,684")
    facts.get_by_text("Model card").click()
    expect(facts.locator("pre")).to_contain_text("Trained on 432 news items.")
    fake.metrics = {"task": "multi", "test": {"n": 90, "micro_f1": 0.81, "intervals": {"micro_f1": [0.75, 0.86]}}}
    choose(page, "tags")
    expect(facts).to_contain_text("Micro F181.0%95% interval 75.0–86.0, 90 test texts")
    fake.metrics = {}
    choose(page, "news-small")
    expect(facts).to_contain_text("Accuracynot measured")


def test_a_server_without_classifiers_says_so(open_page: Open, fake: Served) -> None:
    fake.listed.clear()
    expect(open_page().locator("#problem")).to_contain_text("The server has no classifiers.")


# --- predicting --------------------------------------------------------------------------------------------------


def test_lines_are_classified_and_abstention_needs_no_second_request(open_page: Open, fake: Served) -> None:
    page = open_page()
    page.locator("#texts").fill(
        "The striker scored a late goal.\n\n  Interest rates.  \nThe bank's shares fell this morning."
    )
    expect(page.locator("#texts-count")).to_have_text("3 texts")
    page.locator("#texts").press("Control+Enter")
    cards = page.locator(".card")
    expect(cards).to_have_count(3)
    lines = ["The striker scored a late goal.", "Interest rates.", "The bank's shares fell this morning."]
    assert fake.asked == [("/v1/classifiers/news-topics/predict", {"texts": lines, "abstain_below": None})]
    expect(cards.nth(0).locator(".verdict")).to_have_text("Sports")
    expect(cards.nth(0).locator(".bars li").first).to_have_text("Sports97.0%")
    expect(page.locator("#status")).to_contain_text("3 texts classified in")
    slide(page, 60)
    expect(cards.nth(1).locator(".verdict")).to_have_text("No labelWorld at 55.0%")
    expect(cards.nth(2).locator(".verdict")).to_have_text("Business")
    expect(page.locator("#summary")).to_contain_text("2 with a label, 1 without")
    page.locator("#filter").select_option(label="No label (1)")
    expect(cards).to_have_count(1)
    slide(page, 50)
    expect(page.locator("#summary")).not_to_contain_text("1 without")
    assert len(fake.asked) == 1


def test_many_labels_are_folded(open_page: Open, fake: Served) -> None:
    fake.listed.append(described("wide", (*(f"label {number}" for number in range(150)), "World")))
    page = open_page("/#token=" + TOKEN + "&classifier=wide")
    page.locator("#texts").fill("A treaty of a hundred and fifty nations.")
    predict(page)
    card = page.locator(".card")
    expect(card.locator(".bars li")).to_have_count(3)
    card.get_by_text("148 more labels").click()
    expect(card.locator(".bars li")).to_have_count(151)


def test_texts_and_labels_are_never_markup(open_page: Open, fake: Served) -> None:
    evil = "<img src=x onerror=alert(1)><b>bold"
    fake.listed.append(described(evil, (evil, "World", "__proto__"), version=evil))
    page = open_page()
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    choose(page, evil)
    page.locator("#texts").fill(evil + " and more words than four")
    predict(page)
    page.get_by_role("button", name="Which words?").click()
    expect(page.locator(".marked")).to_have_text(evil + " and more words than four")
    expect(page.locator(".given-text .text")).to_have_text(evil + " and more words than four")
    assert page.locator("img:not(.brand img)").count() == 0


def test_multi_label(open_page: Open, fake: Served) -> None:
    page = open_page("/#token=" + TOKEN + "&classifier=tags")
    expect(page.locator("#threshold")).to_be_disabled()
    expect(page.locator("#threshold-hint")).to_contain_text("a separate threshold for each label")
    page.locator("#texts").fill("an urgent refund\nnothing at all")
    predict(page)
    expect(page.locator(".verdict").nth(0)).to_have_text("urgentrefund")
    expect(page.locator(".verdict").nth(1)).to_have_text("No label")
    assert saved(page, "Download CSV").splitlines() == [
        "text,labels,p_urgent,p_billing,p_refund,p_praise,p_spam",
        "an urgent refund,urgent|refund,0.9,0.04,0.9,0.04,0.04",
        "nothing at all,,0.04,0.04,0.04,0.04,0.04",
    ]


def test_pairs_have_two_fields(open_page: Open, fake: Served) -> None:
    page = open_page()
    choose(page, "same-question")
    expect(page.get_by_text("One text per line")).to_be_hidden()
    page.locator("#texts").fill("How old is it?")
    page.locator("#predict").click()
    expect(page.locator("#problem")).to_have_text("Both texts are needed.")
    expect(page.locator("#second-text")).to_be_focused()
    page.locator("#second-text").fill("What is its age?")
    predict(page)
    assert fake.asked[0][1]["texts"] == [["How old is it?", "What is its age?"]]
    expect(page.locator(".verdict")).to_have_text("different")
    page.get_by_role("button", name="Which words?").click()
    expect(page.locator(".marked")).to_have_text("How old is it?\n\nWhat is its age?")
    assert fake.asked[-1][1]["text"] == ["How old is it?", "What is its age?"]


def test_nothing_to_classify_is_said_where_it_is_missing(open_page: Open) -> None:
    page = open_page()
    page.locator("#predict").click()
    expect(page.locator("#problem")).to_have_text("Type or paste a text first.")
    expect(page.locator("#texts")).to_be_focused()
    page.get_by_text("CSV file", exact=True).click()
    page.locator("#predict").click()
    expect(page.locator("#problem")).to_have_text("Choose a CSV file first.")


def test_the_words_that_mattered(open_page: Open, fake: Served) -> None:
    page = open_page()
    page.get_by_text("One text", exact=True).click()
    page.locator("#texts").fill("🚀 The rocket maker's shares 𝕣ose after the goal.")
    predict(page)
    page.get_by_role("button", name="Which words?").click()
    expect(page.locator(".marked")).to_have_text("🚀 The rocket maker's shares 𝕣ose after the goal.")
    expect(page.locator("mark.for.level-3")).to_have_text("rocket")
    expect(page.locator("mark.against")).to_have_text(["shares", "goal"])
    expect(page.locator(".word-lists h4").nth(1)).to_have_text("Against Sci/Tech")
    expect(page.locator(".words").nth(1)).to_contain_text("goal−0.90")
    page.get_by_label("Words for and against").select_option("Business")
    expect(page.locator("mark.for.level-3")).to_have_text("shares")
    assert [body["label"] for path, body in fake.asked if path.endswith("/explain")] == ["Sci/Tech", "Business"]
    page.get_by_role("button", name="Which words?").click()
    expect(page.locator(".explanation")).to_have_count(0)


def test_two_classifiers_side_by_side(open_page: Open, fake: Served) -> None:
    page = open_page()
    page.locator("#second-classifier").click()
    expect(page.get_by_role("option", name="same-question")).to_have_count(0)  # reads pairs
    page.get_by_role("option", name="news-small").click()
    page.locator("#texts").fill("The treaty is signed at last, they say.\nThe telescope is in its orbit now.")
    predict(page)
    assert fake.asked[0] == (
        "/v1/predict",
        {"classifiers": ["news-topics", "news-small"], "abstain_below": None,
         "texts": ["The treaty is signed at last, they say.", "The telescope is in its orbit now."]},
    )  # fmt: skip
    expect(page.locator(".card").nth(0).locator(".verdict")).to_have_text(["World", "Business"])
    expect(page.locator(".differ").nth(0)).to_be_visible()
    expect(page.locator(".differ").nth(1)).to_be_hidden()
    expect(page.locator("#summary")).to_contain_text("the classifiers agree on 1")
    page.locator("#filter").select_option(label="The classifiers differ (1)")
    expect(page.locator(".card")).to_have_count(1)
    header, first, _ = saved(page, "Download CSV").splitlines()
    assert header.startswith("text,news-topics_label,news-topics_probability,news-topics_p_World,")
    assert first.startswith('"The treaty is signed at last, they say.",World,0.97,0.97,0.01,0.01,0.01,Business,0.97,')
    page.get_by_role("button", name="Clear: Compare with").click()
    predict(page)
    assert fake.asked[-1][0] == "/v1/classifiers/news-topics/predict"


def test_the_servers_words_are_shown(open_page: Open, fake: Served) -> None:
    page = open_page()
    page.locator("#texts").fill("A goal.\nA bank.")
    fake.failure = (503, "news-topics: adapter.safetensors has changed; reload the classifier")
    page.locator("#predict").click()
    expect(page.locator("#problem")).to_have_text("news-topics: adapter.safetensors has changed; reload the classifier")
    fake.failure = None
    predict(page)
    expect(page.locator("#problem")).to_be_hidden()
    page.context.set_offline(True)
    page.locator("#predict").click()
    expect(page.locator("#problem")).to_have_text(
        "The server does not answer. Check that it is running, then try again."
    )


# --- files -------------------------------------------------------------------------------------------------------

NEWS = (
    '\ufeffid;note;text\r\n1;=1+1;"The ""late"" goal;\r\nof the striker"\r\n'
    "2;-5;Shares of the bank fell again today\r\n\r\n3;;=cmd|calc and the rocket\r\n"
)


def test_a_csv_is_read_classified_and_taken_home(open_page: Open, fake: Served, tmp_path: Path) -> None:
    page = open_page()
    drop_in(page, tmp_path, NEWS)
    expect(page.locator("#csv-options")).to_contain_text("news.csv · 3 rows")
    expect(page.locator("#delimiter")).to_have_value(";")
    expect(page.locator("#header")).to_be_checked()
    expect(page.locator("#column-0 option:checked")).to_have_text("text")
    expect(page.locator("#predict")).to_have_text("Predict 3 texts")
    predict(page)
    texts = ['The "late" goal;\r\nof the striker', "Shares of the bank fell again today", "=cmd|calc and the rocket"]
    assert fake.asked[0][1]["texts"] == texts
    slide(page, 98)
    assert saved(page, "Download CSV") == (
        "id,note,text,label,probability,p_World,p_Sports,p_Business,p_Sci/Tech\r\n"
        '1,\'=1+1,"The ""late"" goal;\r\nof the striker",,0.97,0.01,0.97,0.01,0.01\r\n'
        "2,-5,Shares of the bank fell again today,,0.97,0.01,0.01,0.97,0.01\r\n"
        "3,,'=cmd|calc and the rocket,,0.97,0.01,0.01,0.01,0.97\r\n"
    )
    slide(page, 0)
    found = json.loads(saved(page, "Download JSON"))
    assert found["classifiers"] == [{"name": "news-topics", "version": "3f9a0c21b7de"}]
    assert [one["text"] for one in found["results"]] == texts
    assert found["results"][0]["predictions"][0]["label"] == "Sports"
    page.locator("#column-0").select_option(label="note")
    predict(page)
    assert fake.asked[-1][1]["texts"] == ["=1+1", "-5", ""]


def test_a_dropped_file_of_one_column_and_a_file_elsewhere(open_page: Open, fake: Served) -> None:
    page = open_page()
    page.get_by_text("CSV file", exact=True).click()
    dropping = """(node) => {
        const data = new DataTransfer();
        data.items.add(new File(['A goal, at last.\\nA bank, as ever.\\n'], 'lines.txt'));
        node.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.locator("h1").first.evaluate(dropping)
    expect(page.locator("#csv-options")).to_be_hidden()
    page.locator("#drop").evaluate(dropping)
    expect(page.locator("#csv-options")).to_contain_text("lines.txt · 2 rows")
    predict(page)
    assert fake.asked[0][1]["texts"] == ["A goal, at last.", "A bank, as ever."]


def test_pairs_of_a_file(open_page: Open, fake: Served, tmp_path: Path) -> None:
    page = open_page()
    choose(page, "same-question")
    drop_in(page, tmp_path, "question1,question2,id\nWhy?,Why?,1\nWhy?,When?,2\n")
    predict(page)
    assert fake.asked[0][1]["texts"] == [["Why?", "Why?"], ["Why?", "When?"]]
    expect(page.locator(".verdict")).to_have_text(["same", "different"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"text\ncaf\xe9\n", "news.csv: not UTF-8; save it again as “CSV UTF-8”"),
        (
            'text,id\n"open,1\n',
            "news.csv, line 2: a quote is opened and never closed; close it or double the quotes inside the cell",
        ),
        ("", "news.csv: no rows"),
        ("text,label\n", "news.csv: no rows"),
    ],
    ids=["latin-1", "an open quote", "empty", "a header alone"],
)
def test_a_file_that_cannot_be_read(open_page: Open, tmp_path: Path, content: str | bytes, words: str) -> None:
    page = open_page()
    drop_in(page, tmp_path, content)
    expect(page.locator("#problem")).to_have_text(words)
    expect(page.locator("#csv-options")).to_be_hidden()


def rows(count: int) -> str:
    return "text,row\n" + "".join(f"The goal of match number {row} was late,{row}\n" for row in range(count))


def test_a_full_queue_is_waited_for_and_parts_fit_the_server(open_page: Open, fake: Served, tmp_path: Path) -> None:
    fake.busy, fake.max_texts = 2, 10
    page = open_page()
    drop_in(page, tmp_path, rows(100))
    predict(page)
    expect(page.locator("#summary")).to_contain_text("100 texts classified")
    sizes = [len(body["texts"]) for _, body in fake.asked]
    assert max(sizes) == 32
    assert len(saved(page, "Download CSV").splitlines()) == 101
    assert all(line.split(",")[2] == "Sports" for line in saved(page, "Download CSV").splitlines()[1:])
    pages = page.locator(".pages")
    expect(pages).to_contain_text("1 to 25 of 100")
    pages.get_by_role("button", name="Next").click()
    expect(pages).to_contain_text("26 to 50 of 100")
    expect(page.locator(".card .place").first).to_have_text("26")


def test_a_text_that_the_server_refuses_does_not_stop_the_others(open_page: Open, fake: Served, tmp_path: Path) -> None:
    page = open_page()
    drop_in(page, tmp_path, f"text,row\n{'goal ' * 3000},1\nA late goal by the striker,2\n")
    predict(page)
    expect(page.locator("#summary")).to_contain_text("1 text classified in")
    expect(page.locator("#summary")).to_contain_text("1 refused")
    expect(page.locator(".card").nth(0).locator(".message")).to_have_text(
        "text 1: too long; expected at most 10,000 characters"
    )
    header, refused, _ = saved(page, "Download CSV").splitlines()
    assert header.endswith(",p_Sci/Tech,problem")
    assert refused.endswith(
        ',1,,,,,,,text 1: too long; expected at most 10,000 characters"'.replace("text 1", '"text 1')
    )


def test_a_run_that_is_refused_as_a_whole_ends_early(open_page: Open, fake: Served, tmp_path: Path) -> None:
    fake.failure = (422, "texts: not pairs")
    page = open_page()
    drop_in(page, tmp_path, rows(2000))
    page.locator("#predict").click()
    expect(page.locator("#problem")).to_have_text("texts: not pairs")
    assert len(fake.asked) < 100


def test_a_stopped_run_keeps_what_it_has(open_page: Open, fake: Served, tmp_path: Path) -> None:
    fake.delay = 0.15
    page = open_page()
    drop_in(page, tmp_path, rows(20_000))
    page.locator("#predict").click()
    expect(page.locator("#progress-text")).to_contain_text("of 20,000 texts")
    expect(page.locator("#progress-text")).not_to_contain_text(re.compile("^0 of"))
    page.locator("#stop").click()
    expect(page.locator("#summary")).to_contain_text("not reached")
    expect(page.locator("#predict")).to_be_visible()
    expect(page.locator("#stop")).to_be_hidden()
    asked = len(fake.asked)
    lines = saved(page, "Download CSV").splitlines()
    assert len(lines) == 20_001
    assert lines[1].startswith("The goal of match number 0 was late,0,Sports,0.97")
    assert lines[-1].endswith(",,,,,,")
    assert len(fake.asked) == asked < 600


PARSED = [
    ("a,b\n1,2", ",", [["a", "b"], ["1", "2"]]),
    ("a,b\r\n1,\r\n", ",", [["a", "b"], ["1", ""]]),
    ("a,b\r1,2\r", ",", [["a", "b"], ["1", "2"]]),
    ('"a ""x"", y","b\nc"\n', ",", [['a "x", y', "b\nc"]]),
    ('5" pipe,"x" y\n', ",", [['5" pipe', "x y"]]),
    ('"",a\n\n,\n', ",", [["", "a"], ["", ""]]),
    ("a\tb,c\n", "\t", [["a", "b,c"]]),
    ("a, b; c\n", "", [["a, b; c"]]),
    ("", ",", []),
    ("a,", ",", [["a", ""]]),
]
GUESSED = [
    ("id,text\n1,a\n", ","),
    ("id;text\n1;a, b, c\n2;d, e\n", ";"),
    ("id\ttext\n1\ta, b\n", "\t"),
    ("one line\nanother, with a comma\n", ""),
    ("First, we wait.\nThen, we go.\n", ""),
    ("1,5;a\n2,5;b\n", ";"),
]
HEADERS = [
    ("text\nA goal.\n", True),
    ("A goal.\nA bank.\n", False),
    ("1,A long text of a goal\n2,Another text of banks\n", False),
]
ESCAPED = [
    ("=1+1", "'=1+1"),
    ("-5", "-5"),
    ("+1.5e3%", "+1.5e3%"),
    ("@a", "'@a"),
    ("\u00e9=", "\u00e9="),
    ("-x", "'-x"),
    ("\uff1dA1", "'\uff1dA1"),
]


def test_the_csv_reader_and_writer(open_page: Open) -> None:
    page = open_page()

    def call(name: str, *arguments: Any) -> Any:
        return page.evaluate(
            "([name, given]) => import('/static/csv.js').then((csv) => csv[name](...given))", [name, arguments]
        )

    assert [(text, mark, call("parseCsv", text, mark)) for text, mark, _ in PARSED] == PARSED
    assert [(text, call("guessDelimiter", text)) for text, _ in GUESSED] == GUESSED
    assert [(text, call("guessHeader", call("parseCsv", text, ","))) for text, _ in HEADERS] == HEADERS
    assert [(cell, call("escapeFormula", cell)) for cell, _ in ESCAPED] == ESCAPED
    assert [(cell, escape_formula(cell)) for cell, _ in ESCAPED] == ESCAPED
    assert (
        call("writeCsv", ["user_id", "label", "=x"], [["=1", "=2", "=3"]], [1]) == "user_id,label,'=x\r\n=1,'=2,'=3\r\n"
    )
    assert call("guessColumns", ["id", "a", "b"], [["1", "short", "a much longer text"]], False) == [2]
    assert call("guessColumns", ["hypothesis", "premise"], [["x", "y"]], True) == [1, 0]


# --- the look ----------------------------------------------------------------------------------------------------


def serious(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_every_state_is_accessible_and_fits_the_window(
    open_page: Open, fake: Served, tmp_path: Path, scheme: str, width: int
) -> None:
    page = open_page("/", color_scheme=scheme, viewport={"width": width, "height": 800})
    seen = []

    def look(state: str) -> None:
        seen.extend(f"{state}: {what}" for what in serious(page))
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            seen.append(f"{state}: wider than the window")

    page.locator("#token").fill("wrong")
    page.locator("#token").press("Enter")
    expect(page.locator("#token-problem")).to_be_visible()
    look("token")
    page.locator("#token").fill(TOKEN)
    page.locator("#token").press("Enter")
    page.locator("#classifier").click()
    page.locator("#classifier").press("ArrowDown")
    look("choosing")
    page.locator("#classifier").press("Escape")
    choose(page, "news-small", "second-classifier")
    page.locator("#texts").fill("The treaty is signed at last, they say.\nInterest rates.\nUnbreakable" + "e" * 300)
    slide(page, 60)
    predict(page)
    page.get_by_role("button", name="Which words?").first.click()
    expect(page.locator(".marked")).to_be_visible()
    look("results")
    drop_in(page, tmp_path, rows(60))
    page.locator("#predict").focus()
    look("csv")
    page.locator("#predict").click()
    expect(page.locator(".pages")).to_be_visible()
    look("csv results")
    page.goto(f"{fake.url}/docs")
    expect(page.locator(".route")).to_have_count(2)
    look("docs")
    assert seen == []


def test_the_keyboard_alone_is_enough(open_page: Open) -> None:
    page = open_page()
    page.locator("#classifier").wait_for()
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        outline = page.evaluate("""() => {
            const focused = document.activeElement;
            const shown = focused.matches('.tabs input') ? focused.nextElementSibling : focused;
            return getComputedStyle(shown).outlineStyle;
        }""")
        assert outline != "none", order
    assert order[:2] == ["Skip to the content", "Pennyweight"]
    wanted = ["classifier", "second-classifier", "texts", "threshold", "predict"]
    assert [one for one in order if one in wanted] == wanted


# --- the API's page ----------------------------------------------------------------------------------------------


def test_the_api_page_draws_the_specification(open_page: Open, fake: Served) -> None:
    page = open_page(f"/docs#token={TOKEN}")
    predicting = page.locator("#post-v1-classifiers-name-predict")
    expect(predicting.locator("h2")).to_have_text("POST/v1/classifiers/{name}/predict")
    expect(predicting).to_contain_text("list of strings, not empty, or list of lists of 2 strings, not empty")
    expect(predicting).to_contain_text("number, 0 to 1, or null")
    expect(predicting).to_contain_text("object of numbers")
    expect(predicting).to_contain_text("The queue is full.")
    curl = predicting.locator("pre").first
    expect(curl).to_contain_text(f"curl -X POST {fake.url}/v1/classifiers/NAME/predict")
    expect(curl).to_contain_text("""-d '{"texts":["The bank'\\''s forecast."]}'""")
    expect(page.locator("#get-livez pre").first).not_to_contain_text("Bearer")
    assert page.url == f"{fake.url}/docs"
    assert (
        json.loads(saved(page, "openapi.json")) == SPECIFICATION
        if page.get_by_role("button", name="openapi.json").count()
        else True
    )
    page.goto(f"{fake.url}/docs#get-livez")
    expect(page.locator("#get-livez")).to_be_in_viewport()


def test_the_policy_allows_nothing_inline() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    )


def test_a_long_text_is_folded(open_page: Open) -> None:
    page = open_page()
    page.locator("#texts").fill("goal " * 300)
    predict(page)
    expect(page.locator(".given-text .text")).to_contain_text("… Show all 1,499 characters")
    page.get_by_role("button", name="Show all 1,499 characters").click()
    expect(page.locator(".given-text .text")).to_have_text(("goal " * 300).strip())


# --- the real server ---------------------------------------------------------------------------------------------


def test_the_real_server(browser: Browser, server: ServerProcess) -> None:
    """The page and the server fit each other; the server's classifiers are random."""
    origin, wrong = f"http://127.0.0.1:{server.port}", list[str]()
    context = browser.new_context()
    page = context.new_page()
    watch(page, origin, wrong)
    policy = page.goto(f"{origin}/#token={SERVER_TOKEN}&classifier=news")
    assert policy is not None
    assert policy.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    expect(page.locator("#facts")).to_contain_text("Accuracynot measured")
    page.locator("#texts").fill("A bank 🚀 and a match.\nThe cup\x00.")
    choose(page, "topics", "second-classifier")
    predict(page)
    expect(page.locator("#summary")).to_contain_text("2 texts classified in")
    expect(page.locator(".card").first.locator(".bars li")).to_have_count(7)
    page.get_by_role("button", name="Which words?").first.click()
    expect(page.locator(".marked")).to_have_text("A bank 🚀 and a match.")
    expect(page.locator(".words").first).to_be_visible()
    choose(page, "pairs")
    page.locator("#texts").fill("A bank.")
    page.locator("#second-text").fill("Another bank.")
    predict(page)
    expect(page.locator(".card .bars li")).to_have_count(2)
    page.get_by_role("button", name="Which words?").click()
    expect(page.locator(".marked")).to_have_text("A bank.\n\nAnother bank.")
    page.goto(f"{origin}/docs")
    expect(page.locator(".route h2").filter(has_text="/v1/classifiers/{name}/predict")).to_be_visible()
    expect(page.locator(".route h2").filter(has_text="/livez")).to_be_visible()
    assert serious(page) == []
    context.close()
    assert wrong == []
