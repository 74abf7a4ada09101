"""A server with the routes that the page asks, answers that are easy to foresee, and faults on demand."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from pennyweight.serve.page.static_files import CONTENT_SECURITY_POLICY, static_files

from ..local_server import local_server

TOKEN = "a-token-for-tests"
TOPICS = ("World", "Sports", "Business", "Sci/Tech")
# A word that is in a text decides its label.
WORDS = {
    "treaty": "World", "ceasefire": "World", "goal": "Sports", "striker": "Sports", "shares": "Business",
    "bank": "Business", "rocket": "Sci/Tech", "telescope": "Sci/Tech",
}  # fmt: skip


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


SPECIFICATION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Pennyweight", "version": "0.1.0", "description": "Many classifiers over one `frozen` backbone."},
    "paths": {
        "/v1/classifiers/{name}/predict": {
            "post": {
                "tags": ["Predictions"],
                "summary": "Classify texts",
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
                "requestBody": {"content": {"application/json": {"schema": _reference("PredictBody")}}},
                "responses": {
                    "200": {
                        "description": "Labels.",
                        "content": {"application/json": {"schema": _reference("Answer")}},
                    },
                    "429": {"description": "The queue is full."},
                },
            }
        },
        "/livez": {
            "get": {
                "tags": ["Health"],
                "summary": "Whether the process is alive",
                "security": [],
                "responses": {"200": {"description": "It does."}},
            }
        },
    },
    "components": {
        "schemas": {
            "PredictBody": {
                "type": "object",
                "required": ["texts"],
                "properties": {
                    "texts": {
                        "type": "array",
                        "minItems": 1,
                        "description": "One or more texts.",
                        "anyOf": [
                            {"items": {"type": "string"}},
                            {"items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}},
                        ],
                    },
                    "abstain_below": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
                    "again": _reference("PredictBody"),
                },
                "examples": [{"texts": ["The bank's forecast."]}],
            },
            "Answer": {
                "type": "object",
                "properties": {"probabilities": {"type": "object", "additionalProperties": {"type": "number"}}},
            },
        }
    },
}


def described(name: str, labels: tuple[str, ...] = TOPICS, **more: Any) -> dict[str, Any]:
    """A classifier as GET /v1/classifiers lists it."""
    return {
        "name": name, "version": "3f9a0c21b7de", "state": "loaded", "problem": None, "task": "single-label",
        "labels": list(labels), "pair": False, "max_length": 256, "parameters": 199_684,
    } | more  # fmt: skip


def classifiers() -> list[dict[str, Any]]:
    """Two of topics, one multi-label, one of pairs, one that cannot be used."""
    return [
        described("news-topics"),
        described("news-small", parameters=19_996),
        described("tags", ("urgent", "billing", "refund", "praise", "spam"), task="multi-label"),
        described("same-question", ("different", "same"), pair=True),
        described("broken", state="unusable", problem="broken: adapter.safetensors is truncated")
        | {"labels": None, "pair": None},
    ]


@dataclass
class Served:
    """What a fake serves, and what it was asked.

    Attributes:
        listed: what GET /v1/classifiers lists.
        busy: so many predictions are answered 429 first.
        max_texts: more texts per request are refused with 413.
        delay: seconds before each prediction.
        asked: (path, body) of every POST.
    """

    url: str = ""
    listed: list[dict[str, Any]] = field(default_factory=classifiers)
    busy: int = 0
    max_texts: int = 1000
    delay: float = 0.0
    failure: tuple[int, str] | None = None
    metrics: dict[str, Any] = field(
        default_factory=lambda: {"test": {"n": 160, "accuracy": 0.9375, "accuracy_interval": [0.889, 0.966]}}
    )
    openapi: dict[str, Any] = field(default_factory=lambda: SPECIFICATION)
    asked: list[tuple[str, Any]] = field(default_factory=list)


def label_of(text: str | list[str], small: bool = False) -> tuple[str, float]:
    """The label and its probability: surer the longer the text is; `news-small` takes a treaty for business."""
    words = re.findall(r"\w+", (" ".join(text) if isinstance(text, list) else text).lower())
    label = next((WORDS[word] for word in words if word in WORDS), "World")
    return ("Business" if small and "treaty" in words else label), 0.97 if len(words) > 4 else 0.55


def predicted(item: dict[str, Any], text: str | list[str]) -> dict[str, Any]:
    """One prediction, as the server answers it."""
    labels = item["labels"]
    if "multi" in item["task"]:
        shares = {label: 0.9 if label in text else 0.04 for label in labels}
        return {"labels": [label for label, share in shares.items() if share > 0.5], "probabilities": shares}
    label, sure = label_of(text, item["name"] == "news-small")
    if item["pair"]:
        label, sure = ("same" if text[0] == text[1] else "different"), 0.9
    rest = round((1 - sure) / (len(labels) - 1), 6)
    return {
        "label": label,
        "probability": sure,
        "probabilities": {one: sure if one == label else rest for one in labels},
    }


class _Refused(Exception):
    def __init__(self, status: int, words: str, **headers: str) -> None:
        super().__init__(words)
        self.status, self.headers = status, headers


class _Handler(BaseHTTPRequestHandler):
    served: Served
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""

    def answer(self, status: int, content: bytes, media_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        page = static_files().get(self.path)
        if page is not None:
            self.answer(200, page.content, page.media_type, Content_Security_Policy=CONTENT_SECURITY_POLICY)
        else:
            self.respond(None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.served.asked.append((self.path, body))
        self.respond(body)

    def respond(self, body: Any) -> None:
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise _Refused(401, "the token is not this server's; expected: Authorization: Bearer TOKEN")
            self.answer(200, json.dumps(self.routed(unquote(self.path), body)).encode())
        except _Refused as refused:
            content = json.dumps({"error": str(refused), "error_type": "refused"}).encode()
            self.answer(refused.status, content, **refused.headers)

    def routed(self, path: str, body: Any) -> Any:
        served = self.served
        known = {item["name"]: item for item in served.listed}
        if path == "/v1/classifiers":
            return {"backbone": {"name": "all-MiniLM-L6-v2"}, "classifiers": served.listed}
        if path == "/openapi.json":
            return served.openapi
        if path == "/v1/predict":
            return {"results": [self.predictions(known[name], body["texts"]) for name in body["classifiers"]]}
        name, _, verb = path.removeprefix("/v1/classifiers/").partition("/")
        if name not in known:
            raise _Refused(
                404, f"unknown classifier; received '{name}'; GET /v1/classifiers lists those that are served"
            )
        if verb == "predict":
            return self.predictions(known[name], body["texts"])
        if verb == "explain":
            return self.explained(known[name], body)
        return known[name] | {"metrics": served.metrics, "card": f"# {name}\n\nTrained on 432 news items."}

    def predictions(self, item: dict[str, Any], texts: list[Any]) -> dict[str, Any]:
        served = self.served
        time.sleep(served.delay)
        if served.failure is not None:
            raise _Refused(*served.failure)
        if served.busy > 0:
            served.busy -= 1
            raise _Refused(429, "the queue is full; try again in 1 s", Retry_After="1")
        if len(texts) > served.max_texts:
            raise _Refused(413, f"too many texts; expected at most {served.max_texts}; received {len(texts)}")
        long = [number for number, text in enumerate(texts, start=1) if len(text) > 10_000]
        if long:
            raise _Refused(413, f"text {long[0]}: too long; expected at most 10,000 characters")
        return {
            "classifier": item["name"],
            "version": item["version"],
            "predictions": [predicted(item, text) for text in texts],
        }

    def explained(self, item: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        text = "\ufdd0".join(body["text"]) if isinstance(body["text"], list) else body["text"]
        found = predicted(item, body["text"])
        label = body["label"] or found["label"]
        words = []
        for match in re.finditer(r"\w+", text):
            speaks = WORDS.get(match[0].lower())
            weight = 0.02 * len(match[0]) if speaks is None else 3.1 if speaks == label else -0.9
            words.append({"text": match[0], "start": match.start(), "end": match.end(), "weight": weight})
        return {
            "classifier": item["name"], "version": item["version"], "text": text, "label": label,
            "predicted": found.get("label"), "probability": found["probabilities"][label], "words": words,
        }  # fmt: skip


@contextmanager
def fake_server(**settings: Any) -> Iterator[Served]:
    """A fake on a free port, until the block ends."""
    served = Served(**settings)
    handler = type("Handler", (_Handler,), {"served": served})
    with local_server(handler) as served.url:
        yield served
