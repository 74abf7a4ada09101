"""The application as clients see it, over real classifiers of a tiny backbone."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import pennyweight as pw
from pennyweight.serve.classifiers.registry import Registry
from pennyweight.serve.page.static_files import static_files
from pennyweight.serve.web.auth import HEALTH_PATHS

TEXTS = ["The bank cut its rate.", "The striker scored <b>twice</b>.", ""]
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")


def paths(client: TestClient) -> list[tuple[str, str]]:
    """Every route's path, with a name in it, and method."""
    return [
        (route.path.replace("{name}", "news"), method)
        for route in client.app.routes  # type: ignore[attr-defined]
        for method in route.methods
    ]


def test_every_route_asks_for_the_token_but_health_and_the_page(client: TestClient) -> None:
    known = paths(client)
    assert len(known) > 15
    free = {path for path, _ in known if path in HEALTH_PATHS | set(static_files())}
    assert {"/livez", "/readyz", "/health", "/"} <= free
    asked = [
        *known,
        *((path, method) for path in ("/nope", "/v1/nope", "/static/nope.js", "/v1/predict/") for method in METHODS),
    ]
    asked += [(path, method) for path, _ in known for method in METHODS]
    for path, method in asked:
        for given in (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Basic Y29ycmVjdA==",
            "Bearer correct-horse-battery-stapl",
        ):
            headers = {"Authorization": given} if given is not None else {"Authorization": ""}
            answer = client.request(method, path, headers=headers)
            if path in free:
                assert answer.status_code != 401, path
            else:
                assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, "Bearer"), (path, method)


def test_what_is_open_tells_nothing_of_what_is_served(client: TestClient) -> None:
    for path in [*HEALTH_PATHS, *static_files()]:
        answer = client.get(path, headers={"Authorization": ""})
        assert answer.status_code == 200
        assert not re.search("news|topics|Sports", answer.text) or path in static_files(), path


@pytest.mark.parametrize("name", ["news", "topics", "pairs"])
def test_texts_get_what_the_classifier_predicts_alone(client: TestClient, served_folder: Path, name: str) -> None:
    classifier = pw.load(served_folder / name, device="cpu", precision="fp32")
    texts: list[Any] = [["a bank", "a cup"], ["The rate.", ""]] if name == "pairs" else TEXTS
    answer = client.post(f"/v1/classifiers/{name}/predict", json={"texts": texts})
    assert answer.status_code == 200
    found = answer.json()
    assert found["classifier"] == name
    assert re.fullmatch("[0-9a-f]{12}", found["version"])
    wanted = classifier.predict_proba([tuple(text) for text in texts] if name == "pairs" else texts)
    rows = [list(one["probabilities"].values()) for one in found["predictions"]]
    np.testing.assert_allclose(rows, wanted, atol=1e-4)
    for one, row in zip(found["predictions"], wanted, strict=True):
        assert tuple(one["probabilities"]) == classifier.labels
        if name == "topics":
            assert one["labels"] == [label for label, p in zip(classifier.labels, row, strict=True) if p >= 0.5]
        else:
            assert one["label"] == classifier.labels[int(row.argmax())]
            assert one["probability"] == max(one["probabilities"].values())


def test_several_classifiers_read_the_same_texts(client: TestClient) -> None:
    body = {"classifiers": ["topics", "news"], "texts": TEXTS}
    results = client.post("/v1/predict", json=body).json()["results"]
    for name, result in zip(body["classifiers"], results, strict=True):
        alone = client.post(f"/v1/classifiers/{name}/predict", json={"texts": TEXTS}).json()
        assert result["classifier"] == name
        rows = [[list(one["probabilities"].values()) for one in found["predictions"]] for found in (result, alone)]
        np.testing.assert_allclose(rows[0], rows[1], atol=2e-6)


def test_below_the_threshold_there_is_no_label(client: TestClient) -> None:
    path = "/v1/classifiers/news/predict"
    one = client.post(path, json={"texts": TEXTS[:1]}).json()["predictions"][0]
    for threshold, label in ((one["probability"], one["label"]), (min(1.0, one["probability"] + 1e-6), None)):
        found = client.post(path, json={"texts": TEXTS[:1], "abstain_below": threshold}).json()["predictions"][0]
        assert found == one | {"label": label}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/v1/classifiers/nobody/predict", {"texts": ["a"]}, 404,
         "unknown classifier; received 'nobody'; GET /v1/classifiers lists those that are served"),
        ("/v1/classifiers/topics/predict", {"texts": ["a"], "abstain_below": 0.5}, 422,
         "topics is multi-label: it has a threshold for each label; leave out abstain_below: texts below all "
         "thresholds get no label"),
        ("/v1/classifiers/pairs/predict", {"texts": [["a", "b"], "c"]}, 422,
         'text 2: pairs reads a pair of texts at a time; expected ["...", "..."]; received a single text'),
        ("/v1/classifiers/news/predict", {"texts": [["a", "b"]]}, 422,
         'text 1: news reads a single text at a time; expected "..."; received a pair of texts'),
        ("/v1/predict", {"classifiers": ["news", "news"], "texts": ["a"]}, 422,
         "classifiers: a name is repeated; name each once"),
        ("/v1/predict", {"classifiers": ["n"] * 65, "texts": ["a"]}, 413,
         "too many classifiers; expected at most 64; received 65; send several requests"),
        ("/v1/classifiers/news/predict", {"texts": ["a"] * 1025}, 413,
         "too many texts; expected at most 1,024; received 1025; send several requests"),
        ("/v1/classifiers/news/predict", {"texts": ["a", "b" * 100_001]}, 413,
         "text 2: too long; expected at most 100,000 characters; received 100,001; "
         "shorten it, or send it in parts"),
        ("/v1/classifiers/news/load", {}, 403,
         "this server does not load, unload or reload classifiers on request; start the server with --allow-admin"),
        ("/v1/classifiers/news", {}, 405,
         "this path does not support the method; expected GET; received POST"),
        ("/livez", {}, 405, "this path does not support the method; expected GET, HEAD; received POST"),
        ("/v1/nowhere", {}, 404, "no such path; GET /openapi.json lists them"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(client: TestClient, path: str, body: Any, status: int, error: str) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "error_type"}


def test_a_refused_method_is_answered_with_all_that_the_path_has(client: TestClient) -> None:
    assert client.options("/livez").headers["allow"] == "GET, HEAD"
    assert client.options("/v1/classifiers").headers["allow"] == "GET"


def test_errors_repeat_little_of_what_was_sent(client: TestClient) -> None:
    word = "zq" * 10_000
    requests: list[tuple[str, Any]] = [
        (f"/v1/classifiers/{word}/predict", {"texts": ["a"]}),
        ("/v1/classifiers/news/predict", {"texts": ["a"], word: 1}),
        ("/v1/classifiers/news/predict", {"texts": ["a"], "abstain_below": word}),
        ("/v1/classifiers/news/predict", {"texts": word}),
        ("/v1/classifiers/news/explain", {"text": "a bank", "label": word}),
        ("/v1/predict", {"classifiers": [word], "texts": ["a"]}),
        ("/predict", {"inputs": "a", "model": word}),
        (f"/predict?model={word[:4000]}", {"inputs": "a"}),
        ("/predict", {"inputs": "a", "model": "news", "parameters": {"function_to_apply": word}}),
    ]
    for path, body in requests:
        answer = client.post(path, json=body)
        assert answer.status_code in (404, 422), path[:60]
        assert answer.json()["error"].count("zq") <= 40, (path[:60], answer.json()["error"][:300])


def test_every_answer_has_its_headers(client: TestClient) -> None:
    for path, status in (("/v1/classifiers", 200), ("/nope", 404), ("/livez", 200), ("/openapi.json", 200)):
        answer = client.get(path, headers={"X-Request-Id": "mine-1"})
        assert answer.status_code == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-request-id"] == "mine-1"
    given = client.get("/livez", headers={"X-Request-Id": "a" * 65}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", given)


def test_the_page_comes_with_a_policy_of_its_own(client: TestClient) -> None:
    for path, file in static_files().items():
        answer = client.get(path, headers={"Authorization": ""})
        assert answer.content == file.content
        assert answer.headers["content-type"] == file.media_type
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        again = client.get(path, headers={"Authorization": "", "If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_page_that_the_client_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', f'"other",W/{tag} , "x"', "*"):
        for method in ("GET", "HEAD"):
            answer = client.request(method, "/", headers={"If-None-Match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    for unknown in ('"other"', tag.strip('"'), f'"{tag}"', ""):
        assert client.get("/", headers={"If-None-Match": unknown}).status_code == 200
    head, whole = client.head("/"), client.get("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))


def test_a_fault_of_ours_is_told_to_the_log_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(type(client.app.state.serving), "backbone_facts", fail)  # type: ignore[attr-defined]
    answer = client.get("/v1/classifiers")
    assert (answer.status_code, answer.json()["error_type"]) == (500, "backend")
    assert "secret" not in answer.text
    assert "the secret of the house" in caplog.text


def test_without_a_token_only_this_machine_is_answered(make_client: Callable[..., TestClient]) -> None:
    open_client = make_client(token=None)
    body = {"texts": ["a bank"]}
    for host, status in (
        ("localhost", 200), ("localhost:8000", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200),
        ("evil.example", 421), ("localhost.evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421),
    ):  # fmt: skip
        answer = open_client.post("/v1/classifiers/news/predict", json=body, headers={"Host": host})
        assert answer.status_code == status, host


def test_without_a_token_a_page_of_another_site_changes_nothing(make_client: Callable[..., TestClient]) -> None:
    client = make_client(token=None, admin=True)
    here = {"Host": "localhost:8000"}
    for origin in ("https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8000"):
        answer = client.post("/v1/classifiers/pairs/unload", headers={**here, "Origin": origin})
        assert (answer.status_code, answer.json()["error_type"]) == (403, "forbidden")
        assert client.get("/v1/classifiers", headers={**here, "Origin": origin}).status_code == 200
    assert client.get("/v1/classifiers/pairs", headers=here).status_code == 200
    for origin in ({}, {"Origin": "http://localhost:8000"}):
        assert client.post("/v1/classifiers/pairs/reload", headers=here | origin).status_code == 200
    guarded = make_client(admin=True)  # whose token no other page has
    guarded.headers.update({"Origin": "https://evil.example"})
    assert guarded.post("/v1/classifiers/pairs/reload").status_code == 200


def test_health_is_told_without_a_body_where_none_is_wanted(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    for path in ("/livez", "/readyz", "/health"):
        answer = client.head(path, headers={"Authorization": ""})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"


def test_the_admin_may_unload_and_load(make_client: Callable[..., TestClient]) -> None:
    admin = make_client(admin=True)
    path = "/v1/classifiers/pairs"
    assert admin.post(f"{path}/reload").json()["state"] == "loaded"
    assert admin.post(f"{path}/unload").json() == {"name": "pairs", "state": "unloaded"}
    assert admin.get(path).status_code == 404
    loaded = admin.post(f"{path}/load")
    assert (loaded.status_code, loaded.json()["state"]) == (200, "loaded")
    assert admin.get(path).status_code == 200
    assert admin.post("/v1/classifiers/outside/load").status_code == 404


def test_counts_of_former_versions_are_not_kept(client: TestClient, registry: Registry) -> None:
    serving = client.app.state.serving  # type: ignore[attr-defined]
    served = registry.get("news")
    for version in range(200):
        one = replace(served, version=str(version))
        serving._count_cut(one, one.tokens(TEXTS))
    assert len(serving._cut) <= len(registry.names())


def test_texts_that_are_cut_are_warned_of_once(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    def said(text: str) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "pennyweight.serve"):
            for _ in range(6):
                answer = client.post("/v1/classifiers/news/predict", json={"texts": [text] * 10})
                assert answer.status_code == 200
        return [record.getMessage() for record in caplog.records if "are cut" in record.getMessage()]

    (line,) = said("bank " * 900)
    # The tests before this one may have asked with short texts.
    assert re.fullmatch(
        r"news: \d+% of the tokens of \d+ texts are cut off and not read; train with --max-length auto "
        r"or --long-texts windows to read them",
        line,
    )
    assert said("bank " * 900) == []
