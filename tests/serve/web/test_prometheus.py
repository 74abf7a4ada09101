"""The metrics, as Prometheus's own parser reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient


def samples(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def fresh(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_requests_texts_and_rounds_are_counted(fresh: TestClient) -> None:
    path = "/v1/classifiers/{name}/predict"
    for _ in range(3):
        fresh.post("/v1/classifiers/news/predict", json={"texts": ["a bank", "a cup"]})
    fresh.post("/v1/predict", json={"classifiers": ["news", "topics"], "texts": ["a bank"]})
    fresh.post("/v1/classifiers/news/predict", json={"texts": []})
    found = samples(fresh)
    assert found["pennyweight_requests_total", labelled(method="POST", route=path, status="200")] == 3
    assert found["pennyweight_requests_total", labelled(method="POST", route=path, status="422")] == 1
    assert found["pennyweight_request_seconds_count", labelled(route=path)] == 3
    assert found["pennyweight_texts_total", labelled(classifier="news")] == 7
    assert found["pennyweight_texts_total", labelled(classifier="topics")] == 1
    assert found["pennyweight_tokens_total", ()] > 8
    assert found["pennyweight_round_texts_sum", ()] >= 7
    assert found["pennyweight_round_seconds_count", ()] >= 1
    assert found["pennyweight_queued_texts", ()] == 0
    assert found["pennyweight_classifiers", labelled(state="loaded")] == 3
    assert found["pennyweight_loaded_bytes", ()] > 0


def test_what_strangers_make_up_gets_no_label_of_its_own(fresh: TestClient) -> None:
    before = samples(fresh)
    for number in range(50):
        fresh.get(f"/made/up/{number}")
        fresh.post(f"/v1/classifiers/made-up-{number}/predict", json={"texts": ["a"]})
        fresh.request(f"MADEUP{number}", "/v1/classifiers")
        fresh.get("/v1/classifiers", headers={"Authorization": f"Bearer {number}"})
    after = samples(fresh)
    new: set[Any] = {labels for name, labels in after.keys() - before.keys() if name == "pennyweight_requests_total"}
    assert new == {
        labelled(method="GET", route="other", status="404"),
        labelled(method="POST", route="/v1/classifiers/{name}/predict", status="404"),
        labelled(method="other", route="/v1/classifiers", status="405"),
        labelled(method="GET", route="/v1/classifiers", status="401"),
        labelled(method="GET", route="/metrics", status="200"),
    }
