"""The routes of text-embeddings-inference, and Hugging Face's client over a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import pennyweight as pw

from ....server_process import TOKEN, ServerProcess

TEXT = "The bank cut its rate."


def post(client: TestClient, **body: Any) -> Any:
    answer = client.post("/predict", json={"model": "news"} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_gets_its_labels_best_first(client: TestClient, served_folder: Path) -> None:
    found = post(client, inputs=TEXT)
    classifier = pw.load(served_folder / "news", device="cpu", precision="fp32")
    wanted = dict(zip(classifier.labels, classifier.predict_proba([TEXT])[0], strict=True))
    assert [one["label"] for one in found] == sorted(wanted, key=lambda label: -wanted[label])
    np.testing.assert_allclose([one["score"] for one in found], sorted(wanted.values(), reverse=True), atol=1e-4)
    assert post(client, inputs=[TEXT]) == found


def test_a_batch_gets_a_list_of_lists(client: TestClient) -> None:
    both = post(client, inputs=[[TEXT], ["A cup."]])
    assert [len(one) for one in both] == [3, 3]
    alone = post(client, inputs=TEXT)
    for one, other in zip(both[0], alone, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
    pairs = post(client, model="pairs", inputs=[["a", "b"], ["c", "d"]])
    one = post(client, model="pairs", inputs=["a", "b"])
    assert [label["label"] for label in one] == [label["label"] for label in pairs[0]]


def test_raw_scores_are_logits(client: TestClient) -> None:
    raw = {one["label"]: one["score"] for one in post(client, inputs=TEXT, raw_scores=True)}
    scores = {one["label"]: one["score"] for one in post(client, inputs=TEXT)}
    sums = sum(np.exp(value) for value in raw.values())
    for label, value in raw.items():
        assert np.exp(value) / sums == pytest.approx(scores[label], abs=1e-6)


def test_hugging_face_parameters(client: TestClient) -> None:
    alone = post(client, inputs=TEXT)
    assert len(post(client, inputs=TEXT, parameters={})) == 1
    (best,) = post(client, inputs=TEXT, parameters={"top_k": 1})
    assert [one["label"] for one in best] == [alone[0]["label"]]
    (logits,) = post(client, inputs=TEXT, parameters={"function_to_apply": "none"})
    (sigmoid,) = post(client, inputs=TEXT, parameters={"function_to_apply": "sigmoid", "unknown": 1})
    for one, other in zip(logits, sigmoid, strict=True):
        assert 1 / (1 + np.exp(-one["score"])) == pytest.approx(other["score"], abs=1e-6)


@pytest.mark.parametrize(("raw", "function"), [(True, "sigmoid"), (True, "softmax"), (False, "none")])
def test_logits_and_probabilities_at_once_are_refused(client: TestClient, raw: bool, function: str) -> None:
    body = {"model": "news", "inputs": TEXT, "parameters": {"function_to_apply": function}}
    answer = client.post("/predict", json=body | {"raw_scores": raw})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "raw_scores and parameters -> function_to_apply contradict each other; expected one of them; received "
        f'raw_scores {str(raw).lower()} and "{function}"',
    )
    alone = post(client, **body)
    assert alone == post(client, **body, raw_scores=function == "none")  # the same, said twice


def test_truncation_may_be_refused(client: TestClient) -> None:
    long = "bank " * 1000
    assert len(post(client, inputs=long)) == 3
    answer = client.post("/predict", json={"model": "news", "inputs": long, "truncate": False})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("texts longer than the classifier's maximum length: 1; expected at most ")


def test_a_long_text_is_not_cut_at_the_other_end_than_asked(client: TestClient) -> None:
    long = "bank " * 1000
    assert post(client, inputs=long, truncation_direction="Right") == post(client, inputs=long)
    assert post(client, inputs=TEXT, truncation_direction="Left") == post(client, inputs=TEXT)
    for direction in ("Left", "left", "up"):
        answer = client.post("/predict", json={"model": "news", "inputs": long, "truncation_direction": direction})
        assert answer.status_code == 422
    answer = client.post("/predict", json={"model": "news", "inputs": long, "truncation_direction": "Left"})
    assert answer.json()["error"].endswith("; leave out truncation_direction: Left")


def test_one_of_several_must_be_named(client: TestClient) -> None:
    answer = client.post("/predict", json={"inputs": TEXT})
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "3 classifiers are served; expected the name of one as model; GET /v1/classifiers lists them",
    )
    assert client.post("/predict?model=news", json={"inputs": TEXT}).json() == post(client, inputs=TEXT)


def test_a_request_names_one_classifier(client: TestClient) -> None:
    for path, body in (
        ("/predict?model=news", {"model": "topics"}),
        ("/predict?model=news&model=topics", {}),
        ("/info?model=news&model=topics", None),
    ):
        answer = client.get(path) if body is None else client.post(path, json={"inputs": TEXT} | body)
        assert (answer.status_code, answer.json()["error"]) == (
            422,
            "model: the request names several classifiers; expected one, in the body or in the URL; received "
            "news, topics; POST /v1/predict takes several",
        )
    assert client.post("/predict?model=news", json={"inputs": TEXT, "model": "news"}).json() == post(
        client, inputs=TEXT
    )
    assert client.post("/predict?model=", json={"inputs": TEXT}).status_code == 404


def test_what_is_wrong_with_a_field_is_said_in_the_words_of_json(client: TestClient) -> None:
    for body, error in (
        ({"parameters": []}, "parameters: input should be an object; received an empty list"),
        (
            {"parameters": {"function_to_apply": "SOFTMAX"}},
            "parameters -> function_to_apply: input should be 'sigmoid', 'softmax' or 'none'; received \"SOFTMAX\"",
        ),
    ):
        answer = client.post("/predict", json={"model": "news", "inputs": TEXT} | body)
        assert (answer.status_code, answer.json()["error"]) == (422, error)


@pytest.mark.parametrize(
    "inputs", [[], {}, None, 1, [1], ["a", "b", "c"], [["a", "b", "c"]], [[]], [["a"], "b"]], ids=str
)
def test_other_inputs_are_refused(client: TestClient, inputs: Any) -> None:
    answer = client.post("/predict", json={"model": "news", "inputs": inputs})
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")


def test_info_tells_labels_and_limits(client: TestClient) -> None:
    found = client.get("/info?model=news").json()
    assert found["model_id"] == "news"
    assert found["model_type"]["classifier"]["id2label"] == {"0": "Business", "1": "Sports", "2": "World"}
    assert found["max_client_batch_size"] == 1024
    assert found["model_dtype"] == "float32"
    # All that its description requires.
    for name in ("max_concurrent_requests", "max_input_length", "max_batch_tokens", "tokenization_workers"):
        assert found[name] > 0
    assert client.get("/info").status_code == 422


def test_info_of_what_cannot_be_read_is_an_error(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = client.app.state.serving.registry._entries["news"]  # type: ignore[attr-defined]
    monkeypatch.setattr(entry, "summary", None)
    monkeypatch.setattr(entry, "problem", "pennyweight.json is damaged")
    answer = client.get("/info?model=news")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        "classifier 'news' cannot be used: pennyweight.json is damaged; repair its folder and reload it",
    )


def test_hugging_faces_client_works(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import InferenceClient, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it refuses loopback addresses, too
    ours = InferenceClient(model=f"http://127.0.0.1:{server.port}/predict?model=news", token=TOKEN)
    found = ours.text_classification(TEXT)
    wanted = server.predict("news", TEXT).json["predictions"][0]["probabilities"]
    assert {one.label: round(one.score, 6) for one in found} == pytest.approx(wanted, abs=2e-6)
    assert len(ours.text_classification(TEXT, top_k=2)) == 2
