"""The description of the routes."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient


def test_every_route_is_described_with_its_errors_and_examples(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    computing = [
        "/v1/classifiers/{name}/predict", "/v1/classifiers/{name}/explain", "/v1/predict", "/predict",
    ]  # fmt: skip
    for path in computing:
        operation = document["paths"][path]["post"]
        assert {"200", "400", "401", "404", "408", "413", "415", "422", "429", "503", "504"} <= set(
            operation["responses"]
        )
        content = operation["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert set(content["example"]) <= set(schemas[name]["properties"])
        assert operation["security"] == [{"token": []}]
    for path in ("/v1/classifiers", "/v1/classifiers/{name}", "/info", "/metrics"):  # while it loads, for example
        assert {"200", "401", "503"} <= set(document["paths"][path]["get"]["responses"])
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert "500" not in operation["responses"]
            assert (operation["security"] == []) == (path in ("/livez", "/readyz", "/health"))
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert response["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")
    assert "HTTPValidationError" not in str(document)


def test_the_limits_of_the_server_are_described(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["PredictBody"]["properties"]["texts"]["maxItems"] == 1024
    assert schemas["PredictAllBody"]["properties"]["classifiers"]["maxItems"] == 64


def test_references_lead_somewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                place: Any = document
                for part in value["$ref"].removeprefix("#/").split("/"):
                    place = place[part]
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(document)


def test_examples_are_answered(client: TestClient) -> None:
    """With a name that is served in place of the example's."""
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["example"]
                body |= {"classifiers": ["news"]} if "classifiers" in body else {}
                body |= {"model": "news"} if path == "/predict" else {}
                answer = client.request(method, path.replace("{name}", "news"), json=body)
                assert answer.status_code == 200, answer.text
