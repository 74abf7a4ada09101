import re
import shutil
from collections import Counter
from dataclasses import fields, replace
from functools import cache
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from pennyweight.budget.plan_table import PlanRow, PlanTable
from pennyweight.evaluate.baselines.comparison import compare_with_baselines
from pennyweight.evaluate.baselines.majority import majority
from pennyweight.evaluate.metrics.calibration import calibrate
from pennyweight.evaluate.metrics.classification import score
from pennyweight.evaluate.metrics.probabilities import softmax
from pennyweight.evaluate.metrics.selective import Abstention, answered, risk_coverage, threshold_for
from pennyweight.evaluate.misclassified import likely_mislabelled, most_confident
from pennyweight.evaluate.report.html import ReportInput, render, write_html
from pennyweight.evaluate.slices import by_column

pytestmark = pytest.mark.usefixtures("rendered")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</pre><script>alert('x')</script>\"'&{{ 7 * 7 }}"


@cache
def full(*, classes: int = 4, name: str = "class", text: str = "a text", skill: float = 4.0) -> ReportInput:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 600)
    logits = random.normal(size=(600, classes)) + skill * np.eye(classes)[labels]
    probabilities = softmax(logits)
    labels[:10] = (labels[:10] + 1) % classes  # labels to check
    predicted = probabilities.argmax(axis=1)
    names, texts = [f"{name} {index}" for index in range(classes)], [text] * 600
    pick = threshold_for(labels, probabilities, 0.3, sure=0.5)
    return ReportInput(
        title=f"{name} report",
        metrics=score(labels, probabilities, names),
        intervals={"macro_f1": (0.5, 0.625), "ece": (0.01, 0.02), "log_loss": (0.1, 0.2)},
        baselines=compare_with_baselines(labels, predicted, [majority(labels, 600, classes)]),
        plan=PlanTable(
            (PlanRow(name, "layers 3 to 5", 8, 900, 0.45), PlanRow("linear", "head", None, 100, 0.05)),
            1000,
            10**7,
            2000,
        ),
        data={"rows": {"train": 480, name: text}, "labels": [name, "b"], "seed": None},
        splits={"train": {"source": text, "texts": 480}, name: {"source": text, "texts": 600}},
        history=[{"step": step, "train_loss": 1 / step, "validation_loss": 1.2 / step} for step in (1, 2, 3)],
        calibration=calibrate(labels, logits, 1.3),
        abstention=Abstention(
            risk_coverage(labels, probabilities), 0.3, pick, answered(labels, probabilities, pick.value)
        ),
        slices={name: by_column(labels == predicted, [name] * 600)},
        misclassified=most_confident(labels, probabilities, texts, names),
        mislabelled=likely_mislabelled(labels, probabilities, texts, names),
        command=f"pennyweight train {text}",
        recipe=f"backbone: {text}",
        seconds={"training": 187.0},
        machine={"processor": name, "accelerator": None},
        versions={"python": "3.11.9"},
        created="today",
    )


class Tags(HTMLParser):
    """Collects tags, ids and addresses, and checks that every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str | None] = Counter()
        self.addresses: list[str | None] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.ids.update(value for key, value in attrs if key == "id")
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_times_have_units_and_the_names_of_files_are_no_numbers() -> None:
    page = render(full(name="held out", text="news.csv"))
    assert re.search(r"<h3>Time</h3>\s*<dl class=\"facts\">\s*<dt>training</dt>\s*<dd>3 min 7 s</dd>", page)
    assert '<td data-name="source">news.csv</td><td class="n" data-name="texts">480</td>' in page


@pytest.mark.parametrize(
    ("threshold", "words"), [(0.0, ", without a threshold"), (0.74, " have a confidence of at least 0.74")]
)
def test_a_target_that_is_reached_on_all_texts_needs_no_threshold(threshold: float, words: str) -> None:
    report = full()
    abstention = report.abstention
    assert abstention is not None
    assert abstention.picked is not None
    changed = replace(abstention, picked=replace(abstention.picked, value=threshold))
    page = render(replace(report, abstention=changed))
    assert f"<small>of the texts{words}; the classifier is right on " in page


def test_the_whole_report_has_every_section_and_is_well_formed() -> None:
    page = render(full())
    assert headings(page) == [
        "All figures",
        "Baselines",
        "Trained parameters by part",
        "Data",
        "Training",
        "Classes",
        "Calibration and abstention",
        "Slices",
        "Most confident errors",
        "Possible label issues",
        "Reproducing this run",
        "Time, machine and versions",
        "How to read the metrics",
    ]
    tags = Tags(page)
    assert tags.open == []
    assert tags.tags["svg"] == 4
    assert set(tags.ids.values()) == {1}
    assert "3 min 7 s" in page
    assert "95% interval 50.0 to 62.5" in page
    assert '<td class="n" data-name="texts">480</td>' in page
    assert "0.01% of 10,000,000 parameters" in page


def test_parts_that_are_none_are_left_out() -> None:
    optional = {one.name: None for one in fields(ReportInput) if one.default is None}
    bare = replace(full(), **optional)
    page = render(bare)
    assert headings(page) == ["All figures", "Classes", "How to read the metrics"]
    assert "This classifier was not compared with any baseline (accuracy " in page
    for name in optional:
        Tags(render(replace(bare, **{name: getattr(full(), name)})))


def test_the_verdict_stands_on_top() -> None:
    page = render(full())
    assert page.index("Better than every baseline.") < page.index("<h2>")
    useless = render(full(skill=0.0))
    assert useless.index("This classifier is no better than the majority class (") < useless.index("<h2>")
    assert 'class="verdict no-better"' in useless


def test_biases_that_stayed_are_not_called_adjusted() -> None:
    stayed = render(replace(full(), decision="biases left as trained"))
    assert "biases on the validation texts: biases left as trained.<" in stayed
    assert "All probabilities include it." in render(replace(full(), decision="raised", adjusted=True))


def test_one_label_to_read_is_one() -> None:
    found = replace(full(), folder="run")
    one = render(replace(found, mislabelled=found.mislabelled[:1], rows="validation"))
    assert ">1 label that may be wrong</a>" in one
    assert "For each of these validation texts" in one
    assert "labels that may be wrong</a>" in render(found)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = render(full())
    tags = Tags(page)
    assert tags.tags["script"] == tags.tags["img"] == tags.tags["iframe"] == 0
    assert all(address.startswith(("#", "data:")) for address in tags.addresses if address)
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "default-src 'none'" in page


def test_every_text_is_escaped() -> None:
    page = render(full(name=HOSTILE, text=HOSTILE))
    tags = Tags(page)
    assert tags.tags["script"] == 0
    assert tags.open == []
    assert "{{ 7 * 7 }}" in page
    assert "alert(&#39;x&#39;)" in page


def test_long_texts_and_many_classes_stay_far_below_three_megabytes() -> None:
    page = render(full(classes=300, name="n" * 500, text="x" * 100_000, skill=6.0))
    assert len(page.encode()) < 1_000_000
    assert "The other 260 classes have an F1 of at least " in page


def test_a_lone_surrogate_does_not_break_the_file(tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", full(text="broken \ud800 text"))
    assert "broken ? text" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_speed_of_prediction_is_shown_where_test_rows_were_timed() -> None:
    assert "texts per second" not in render(full())
    page = render(replace(full(), seconds={"training": 187.0, "predicting": 0.25}))
    assert "<dd>2,400<small>texts per second on this machine" in page


def test_a_single_evaluation_is_no_curve() -> None:
    page = render(replace(full(), history=[{"step": 1, "train_loss": 1.0, "validation_loss": 1.2}]))
    assert "Training" not in headings(page)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_nothing_serious_is_found_by_axe_and_nothing_overflows_on_a_phone_or_a_desk(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render(full(name="a class with a longer name")), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in product((1280, 390), ("light", "dark")):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
            )
            page = context.new_page()
            page.goto((tmp_path / "report.html").as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            found = Axe().run(page).response["violations"]
            assert [one for one in found if one["impact"] in ("serious", "critical")] == [], (width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            context.close()
        browser.close()


@pytest.mark.parametrize(("seconds", "words"), [(3.21, "3.2 s"), (59.96, "1 min 0 s"), (3600, "1 h 0 min")])
def test_durations(seconds: float, words: str) -> None:
    assert f"<dd>{words}<small>" in render(replace(full(), seconds={"training": seconds}))
