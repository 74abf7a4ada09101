"""Names that would be paths: none reaches a file. Every route asks for the token. Over real sockets."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from ..server_process import Answer, ServerProcess, message
from .conftest import CANARY

# As they stand in the request's first line, latin-1 for bytes. Where a client would have escaped them, it did not.
TRICKS = {
    "up": "../outside",
    "up two": "../../outside",
    "up and back": "news/../../outside",
    "up to a file": "../canary.txt",
    "up to a file within": "news/../canary.txt",
    "many up": "../" * 30 + "etc/passwd",
    "many up and NUL": "../" * 30 + "etc/passwd%00",
    "here": "./news",
    "a dot": ".",
    "two dots": "..",
    "three dots": "...",
    "two dots and a slash": "../",
    "dots and slashes doubled": "....//....//outside",
    "slash": "/outside",
    "two slashes": "//outside",
    "absolute": "/etc/passwd",
    "absolute, encoded": "%2Fetc%2Fpasswd",
    "encoded dots": "%2e%2e/outside",
    "encoded slash": "..%2Foutside",
    "encoded all": "%2e%2e%2foutside",
    "half encoded": ".%2e/outside",
    "double encoded": "%252e%252e%252foutside",
    "triple encoded": "%25252e%25252e%25252foutside",
    "backslash": "..\\outside",
    "encoded backslash": "..%5Coutside",
    "double encoded backslash": "..%255coutside",
    "mixed slashes": "..%5C../outside",
    "overlong slash": "..%c0%afoutside",
    "overlong slash of three bytes": "..%e0%80%afoutside",
    "overlong dots": "%c0%ae%c0%ae/outside",
    "overlong dots of four bytes": "%f0%80%80%ae%f0%80%80%ae/outside",
    "IIS's unicode": "..%u2215outside",
    "not UTF-8": "%ff%feoutside",
    "raw bytes": "news\xff\xfe",
    "half a surrogate": "%ed%a0%80",
    "NUL": "news%00",
    "NUL and a suffix": "news%00.json",
    "raw NUL": "news\x00",
    "line break": "news%0a",
    "carriage return and a header": "news%0d%0aX-Injected:%20yes",
    "tab": "news%09",
    "trailing space": "news%20",
    "leading space": "%20news",
    "trailing dot": "news.",
    "trailing slash": "news/",
    "trailing slash, encoded": "news%2f",
    "capital": "NEWS",
    "full width": "%EF%BD%8Eews",
    "Cyrillic e": "n%D0%B5ws",
    "one-dot leader": "%E2%80%A4%E2%80%A4/outside",
    "fraction slash": "..%E2%81%84outside",
    "division slash": "..%E2%88%95outside",
    "full width dots and slash": "%EF%BC%8E%EF%BC%8E%EF%BC%8Foutside",
    "combining mark": "news%CC%81",
    "zero width space": "ne%E2%80%8Bws",
    "right to left": "%E2%80%AEswen",
    "semicolon": "..;/outside",
    "path parameter": "news;x=../../outside",
    "encoded question mark": "news%3Fx",
    "encoded number sign": "news%23x",
    "drive": "C:%5CWindows%5Cwin.ini",
    "drive, relative": "C:outside",
    "network share": "%5C%5Clocalhost%5Cc$",
    "Windows device": "CON",
    "Windows device with a suffix": "nul.json",
    "Windows device COM1": "COM1",
    "alternate stream": "news::$DATA",
    "short name": "OUTSID~1",
    "home": "~",
    "home of root": "~root",
    "variable": "$HOME",
    "template": "%7B%7B7*7%7D%7D",
    "format": "%25s%25n",
    "star": "*",
    "bracket": "[a-z]*",
    "file scheme": "file:///etc/passwd",
    "http scheme": "http://127.0.0.1/outside",
    "manifest": "news/pennyweight.json",
    "weights": "news/head.safetensors",
    "adapter": "news%2fadapter",
    "canary within": "canary.txt",
    "proc": "/proc/self/environ",
    "dev": "/dev/zero",
    "long": "a" * 5_000,
    "very long": "a" * 60_000,
    "long in UTF-8": "%F0%9F%98%80" * 2_000,
    "deep": "a/" * 5_000,
    "bad escapes": "%",
    "bad escapes in hex": "%zz%1",
    "empty": "",
}
PREDICTION = {"texts": ["a bank"]}
# Routes with a place for a name, and what is sent to them.
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/v1/classifiers/{}", None),
    ("POST", "/v1/classifiers/{}/predict", PREDICTION),
    ("POST", "/v1/classifiers/{}/explain", {"text": "a bank"}),
    ("POST", "/v1/classifiers/{}/load", {}),
    ("POST", "/v1/classifiers/{}/unload", {}),
    ("POST", "/v1/classifiers/{}/reload", {}),
    ("GET", "/static/{}", None),
    ("GET", "/docs/{}", None),
    ("GET", "/v1/{}", None),
]
# The only names that lead somewhere: of a route, or of what a trick is cut down to before it is a name.
HARMLESS = {("GET", "/v1/classifiers/{}", ""), ("GET", "/docs/{}", "")}


def no_file(answer: Answer) -> None:
    assert answer.status in (400, 401, 403, 404, 405, 414, 431), (answer.status, answer.body[:300])
    assert CANARY.encode() not in answer.body
    assert b"root:" not in answer.body
    assert "x-injected" not in answer.headers
    assert len(answer.body) < 2_000


def test_there_are_enough_tricks() -> None:
    assert len(set(TRICKS.values())) >= 50


@pytest.mark.parametrize(("method", "route", "body"), ROUTES, ids=[f"{method} {route}" for method, route, _ in ROUTES])
def test_no_trick_in_a_path_reaches_a_file(healthy: ServerProcess, method: str, route: str, body: Any) -> None:
    content = None if body is None else json.dumps(body).encode()
    wrong = {}
    for name, trick in TRICKS.items():
        if (method, route, trick) in HARMLESS:
            continue
        sent = message(method, route.format(trick), content, connection="close")
        answers = healthy.exchange(sent)
        try:
            # A request that is none may be answered by closing the connection.
            assert len(answers) <= 1
            for answer in answers:
                no_file(answer)
        except AssertionError as error:
            wrong[name] = str(error).splitlines()[0]
    assert wrong == {}


@pytest.mark.parametrize("route", ["/v1/predict", "/predict"])
def test_no_trick_in_a_body_reaches_a_file(healthy: ServerProcess, route: str) -> None:
    from urllib.parse import unquote

    wrong = {}
    for name, trick in TRICKS.items():
        for given in {trick, unquote(trick, errors="replace")}:
            body = {"model": given, "inputs": "a"} if route == "/predict" else {"classifiers": [given], "texts": ["a"]}
            answer = healthy.post(route, body)
            if answer.status not in (400, 404, 422) or CANARY.encode() in answer.body:
                wrong[name] = (answer.status, answer.body[:200])
    assert wrong == {}


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/etc/passwd",
        "//evil.example/etc/passwd",
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "/canary.txt",
        "/.git/config",
        "/static",
        "/static/",
        "/static/./page.js",
        "/static//etc/passwd",
        "/static/%2e%2e/server_settings.py",
        "/static/../server_settings.py",
        "*",
        "evil.example:80",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT"])
def test_no_target_reaches_a_file(healthy: ServerProcess, method: str, target: str) -> None:
    answers = healthy.exchange(message(method, target, connection="close"), method=method)
    assert len(answers) <= 1
    for answer in answers:
        no_file(answer)


# --- the token

EXEMPT = {"/livez", "/readyz", "/health", "/", "/docs"}
WRONG = {
    "none": {"authorization": ""},
    "another": {"authorization": "Bearer wrong"},
    "empty": {"authorization": "Bearer"},
    "only a space": {"authorization": "Bearer  "},
    "its start": {"authorization": "Bearer correct-horse-battery-stapl"},
    "its start and more": {"authorization": "Bearer correct-horse-battery-stapler"},
    "other case": {"authorization": "Bearer CORRECT-HORSE-BATTERY-STAPLE"},
    "no scheme": {"authorization": "correct-horse-battery-staple"},
    "another scheme": {"authorization": "Basic correct-horse-battery-staple"},
    "not ASCII": {"authorization": "Bearer \xff\xfe"},
    "another header": {"authorization": "", "x-api-key": "correct-horse-battery-staple"},
    "long": {"authorization": "Bearer " + "a" * 8_000},
}


def routes_of(server: ServerProcess) -> list[tuple[str, str]]:
    """What the server says it has, names filled in, and what it does not say."""
    found = [
        (method.upper(), path.replace("{name}", "news"))
        for path, methods in server.get("/openapi.json").json["paths"].items()
        for method in methods
    ]
    assert len(found) >= 12
    return [
        *found,
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/info"),
        ("GET", "/unknown"),
        ("POST", "/v1/classifiers/unknown/predict"),
        ("DELETE", "/v1/classifiers/news"),
        ("OPTIONS", "/v1/classifiers"),
        ("HEAD", "/metrics"),
    ]


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_every_route_asks_for_the_token(healthy: ServerProcess, headers: dict[str, str]) -> None:
    wrong = []
    for method, path in routes_of(healthy):
        answer = healthy.ask(method, path, b"{}" if method == "POST" else None, **headers)
        if path in EXEMPT:
            assert answer.status != 401
        elif answer.status != 401 or answer.headers.get("www-authenticate", "").split()[:1] != ["Bearer"]:
            wrong.append((method, path, answer.status))
    assert wrong == []


def test_a_token_in_the_query_or_sent_twice_does_not_count(healthy: ServerProcess) -> None:
    token = quote(str(healthy.token))
    assert healthy.get(f"/v1/classifiers?token={token}&access_token={token}", authorization="").status == 401
    twice = (
        "GET /v1/classifiers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n"
        f"Authorization: Bearer {healthy.token}\r\nConnection: close\r\n\r\n"
    )
    (answer,) = healthy.exchange(twice.encode())
    assert answer.status in (400, 401)


def test_the_token_is_asked_for_before_a_body_is_read(healthy: ServerProcess) -> None:
    """A stranger cannot make the server take in megabytes: it answers a request whose body never comes."""
    sent = message("POST", "/v1/predict", b"", authorization="", content_length="8000000", connection="close")
    (answer,) = healthy.exchange(sent)
    assert answer.status == 401


def test_what_needs_no_token_says_nothing_about_what_is_served(healthy: ServerProcess) -> None:
    for path in ("/livez", "/readyz", "/health", "/"):
        answer = healthy.get(path, authorization="")
        assert answer.status == 200, path
        assert not any(word in answer.body for word in (b'"news"', b"topics", b"safetensors")), path


def test_the_log_holds_neither_the_token_nor_a_text(healthy: ServerProcess) -> None:
    healthy.predict("news", "an unmistakable sentence")
    healthy.get("/v1/classifiers?token=a-token-in-a-query", authorization="")
    assert str(healthy.token) not in healthy.output
    assert "unmistakable" not in healthy.output
    assert "a-token-in-a-query" not in healthy.output
