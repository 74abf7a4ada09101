"""The model card is Hugging Face's form, drawn from the same numbers as metrics.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt  # comes with rich

import pennyweight as pw
from pennyweight.artifact.artifact import Artifact
from pennyweight.artifact.model_card import block, code, model_card, prose
from pennyweight.data.labels import LabelSet
from pennyweight.errors import ArtifactError
from pennyweight.export.peft import to_peft

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "a | b | c",
    "one\n---\nlicense: mine\n---\n# two",
    "```\nrun me\n```",
    "`code`",
    "[x](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "[x]: http://example.org",
    "# heading",
    "- item",
    "7. item",
    "===",
    "---",
    "> quote",
    "    indented",
    "*a* _b_ ~~c~~ $d$",
    "&lt;b&gt;",
    "back\\slash \\* end\\",
    "\x1b[31mred",
    "\u2028line\u2029",
)
render = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render


class Read(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def plain(text: str) -> str:
    """As it is shown: line breaks and control characters are blanks."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


@pytest.fixture(scope="module")
def classifier(tiny_run: Path) -> pw.Classifier:
    return pw.load(tiny_run, device="cpu")


def test_the_card_is_of_this_classifier(tiny_run: Path) -> None:
    card = (tiny_run / "README.md").read_text("utf-8")
    metrics = json.loads((tiny_run / "metrics.json").read_text("utf-8"))
    _, front, body = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["library_name"] == "pennyweight"
    assert head["pipeline_tag"] == "text-classification"
    assert f"# Text classifier, {metrics['trainable']:,} trained parameters" in body
    assert f"Accuracy {metrics['test']['accuracy']:.1%}" in body
    assert "on 15 test texts" in body
    assert "a budget of 5,000" in body
    assert "Business" in body
    assert "Texts are truncated to 128 tokens." in body


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_shown_as_it_reads(text: str) -> None:
    for page, tags in ((render(prose(text)), ["p"]), (render(code(text)), ["p", "code"])):
        assert Read(page).tags == tags
        assert Read(page).words.strip() == plain(text)
    row = Read(render(f"| a | b |\n|---|---|\n| {prose(text)} | 2 |\n"))
    assert row.tags.count("td") == 2
    item = Read(render(f"1. {prose(text)}\n2. next\n"))
    assert item.tags == ["ol", "li", "li"]


def test_a_program_ends_where_it_ends() -> None:
    page = Read(render(block("x = '```'\n```\n# not a heading")))
    assert page.tags == ["pre", "code"]


def hostile(artifact: Artifact) -> Artifact:
    """The same figures with names that a stranger chose."""
    names = tuple(HOSTILE[: len(artifact.labels)])
    headline = f"Better than {' and '.join(HOSTILE)}"
    metrics = artifact.metrics | {"verdict": artifact.metrics["verdict"] | {"headline": headline}}
    metrics["baselines"] = [one | {"name": name} for one, name in zip(metrics["baselines"], HOSTILE[2:], strict=False)]
    backbone = replace(artifact.backbone, name='org/"x"\n---\n<b>|')
    return replace(artifact, labels=LabelSet(names), metrics=metrics, backbone=backbone)


def test_the_card_of_hostile_names_has_the_structure_of_any_other(classifier: pw.Classifier) -> None:
    ours, theirs = classifier.artifact, hostile(classifier.artifact)
    _, front, body = model_card(theirs).split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == 'org/"x"\n---\n<b>|'
    _, _, plain_body = model_card(ours).split("---\n", 2)
    assert Read(render(body)).tags == Read(render(plain_body)).tags
    assert [plain(name) in Read(render(body)).words for name in theirs.labels.names] == [True] * 3


def test_the_readme_of_an_export_shows_hostile_names_as_they_read(
    tiny_backbone: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = HOSTILE[0], HOSTILE[3].replace("\n", " ")
    rows = [(f"{word} number {number}", label) for number in range(6) for word, label in
            (("bank", first), ("goal", second))]  # fmt: skip
    made = pw.train(
        rows, backbone=str(tiny_backbone("bert", num_hidden_layers=1)), strategy="manual", r=1, budget="none",
        max_steps=1, head="full", device="cpu", precision="fp32", report="short",
    )  # fmt: skip
    to_peft(made.artifact, tmp_path / "peft")
    page = Read(render((tmp_path / "peft" / "README.md").read_text("utf-8").split("---\n", 2)[2]))
    assert page.tags == ["h1", "pre", "code", "ul", "li", "code", "code", "li"]
    assert first in page.words
    assert second in page.words


def test_a_local_backbone_is_named_without_its_folder(classifier: pw.Classifier) -> None:
    card = model_card(classifier.artifact)
    assert "base_model" not in card
    assert classifier.artifact.backbone.name not in card
    assert f"{classifier.artifact.backbone.folder.name} frozen, with an adapter" in card


def test_a_head_alone_is_not_called_an_adapter(classifier: pw.Classifier) -> None:
    artifact = classifier.artifact
    alone = model_card(replace(artifact, plan=replace(artifact.plan, adapter=None)))
    assert f"frozen, with a {artifact.plan.head.kind} head trained" in alone
    assert yaml.safe_load(alone.split("---\n")[1])["tags"] == ["text-classification"]
    assert yaml.safe_load(model_card(artifact).split("---\n")[1])["tags"] == ["text-classification", "lora", "peft"]


def test_figures_that_are_not_there_are_refused_in_one_line(classifier: pw.Classifier) -> None:
    short = replace(classifier.artifact, metrics={"test": {"n": 3}})
    with pytest.raises(ArtifactError, match="the saved metrics lack a value that the model card needs"):
        model_card(short)
