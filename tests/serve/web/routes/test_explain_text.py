"""Explanations by the server are those of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import pennyweight as pw
from pennyweight.predict.explanation import explain


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        ("news", "The bank <b>cut</b> its rate.", None),
        ("news", "The bank cut its rate.", "World"),
        ("topics", "The bank cut its rate.", "other"),
        ("pairs", ("The bank", "the cup"), None),
    ],
)
def test_words_have_the_weights_that_the_command_gives(
    client: TestClient, served_folder: Path, name: str, text: Any, label: str | None
) -> None:
    classifier = pw.load(served_folder / name, device="cpu", precision="fp32")
    wanted = explain(classifier, text, label)
    answer = client.post(f"/v1/classifiers/{name}/explain", json={"text": text, "label": label})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["classifier"], found["label"], found["predicted"]) == (name, wanted.label, wanted.predicted)
    assert found["probability"] == pytest.approx(wanted.probability, abs=1e-4)
    assert [(word["text"], word["start"], word["end"]) for word in found["words"]] == [
        (word.text, word.start, word.end) for word in wanted.words
    ]
    for word, other in zip(found["words"], wanted.words, strict=True):
        assert word["weight"] == pytest.approx(other.weight, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"text": "  "}, "the text has no words; received"),
        ({"text": "a bank", "label": "Weather"}, "unknown label; expected Business, Sports, World; received Weather"),
        ({"text": ["a", "b"]}, 'text 1: news reads a single text at a time; expected "..."; received a pair of texts'),
    ],
)
def test_what_cannot_be_explained_is_refused(client: TestClient, body: Any, error: str) -> None:
    answer = client.post("/v1/classifiers/news/explain", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, error)
