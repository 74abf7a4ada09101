"""Bodies, headers and framing of careless and hostile clients, over real sockets: an answer, and never a fault."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from ..server_process import TOKEN, ServerProcess, message

PREDICT = "/v1/classifiers/news/predict"
GOOD = b'{"texts": ["a bank"]}'
NOT_JSON = 400
TOO_LARGE = 413
NOT_JSON_TYPE = 415
NOT_VALID = 422

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", NOT_JSON),
    "a space": (b" ", NOT_JSON),
    "half an object": (b'{"texts": ["a"', NOT_JSON),
    "half a word": (b"nul", NOT_JSON),
    "single quotes": (b"{'texts': ['a']}", NOT_JSON),
    "a comma too many": (b'{"texts": ["a"],}', NOT_JSON),
    "a comment": (b'{"texts": ["a"]} // x', NOT_JSON),
    "two values": (GOOD * 2, NOT_JSON),
    "NUL": (b"\0", NOT_JSON),
    "NUL behind": (GOOD + b"\0", NOT_JSON),
    "UTF-16": ('{"texts": ["a"]}'.encode("utf-16"), NOT_JSON),
    "latin-1": ('{"texts": ["é"]}'.encode("latin-1"), NOT_JSON),
    "UTF-8 of half a surrogate": (b'{"texts": ["\xed\xa0\x80"]}', NOT_JSON),
    "overlong UTF-8": (b'{"texts": ["\xc0\x80"]}', NOT_JSON),
    "a raw control character": (b'{"texts": ["a\x01b"]}', NOT_JSON),
    "a raw line break in a text": (b'{"texts": ["a\nb"]}', NOT_JSON),
    "a name twice": (b'{"texts": ["a"], "texts": ["b"]}', NOT_JSON),
    "a name twice, escaped": (b'{"texts": ["a"], "\\u0074exts": ["b"]}', NOT_JSON),
    "a name twice among many": (
        b'{"a": {' + b",".join(b'"%x": 1' % n for n in range(300_000)) + b', "0": 1}}',
        NOT_JSON,
    ),
    "NaN": (b'{"texts": ["a"], "abstain_below": NaN}', NOT_JSON),
    "infinity": (b'{"texts": ["a"], "abstain_below": Infinity}', NOT_JSON),
    "minus infinity": (b'{"texts": ["a"], "abstain_below": -Infinity}', NOT_JSON),
    "a number of 100,000 digits": (b'{"texts": ["a"], "abstain_below": ' + b"9" * 100_000 + b"}", NOT_JSON),
    "lists in lists": (b"[" * 100_000, NOT_JSON),
    "lists in lists, closed": (b"[" * 100_000 + b"]" * 100_000, NOT_JSON),
    "objects in objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, NOT_JSON),
    "YAML": (b"texts: [a]", NOT_JSON),
    "XML": (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', NOT_JSON),
    "pickle": (b"cos\nsystem\n(S'touch hacked'\ntR.", NOT_JSON),
    "a list": (b"[]", NOT_VALID),
    "a string": (b'"a"', NOT_VALID),
    "a number": (b"1", NOT_VALID),
    "null": (b"null", NOT_VALID),
    "an empty object": (b"{}", NOT_VALID),
    "no texts": (b'{"texts": []}', NOT_VALID),
    "texts null": (b'{"texts": null}', NOT_VALID),
    "texts a string": (b'{"texts": "a"}', NOT_VALID),
    "texts an object": (b'{"texts": {"0": "a"}}', NOT_VALID),
    "a number among texts": (b'{"texts": ["a", 1]}', NOT_VALID),
    "null among texts": (b'{"texts": [null]}', NOT_VALID),
    "a list among texts": (b'{"texts": [["a"]]}', NOT_VALID),
    "a pair for a classifier of texts": (b'{"texts": [["a", "b"]]}', NOT_VALID),
    "an object among texts": (b'{"texts": [{"a": "b"}]}', NOT_VALID),
    "an unknown field": (b'{"texts": ["a"], "text": "a"}', NOT_VALID),
    "a field of Python's": (b'{"texts": ["a"], "__proto__": {"a": 1}, "__class__": "a"}', NOT_VALID),
    "a threshold in quotes": (b'{"texts": ["a"], "abstain_below": "0.5"}', NOT_VALID),
    "a threshold true": (b'{"texts": ["a"], "abstain_below": true}', NOT_VALID),
    "a threshold below 0": (b'{"texts": ["a"], "abstain_below": -0.1}', NOT_VALID),
    "a threshold above 1": (b'{"texts": ["a"], "abstain_below": 1.1}', NOT_VALID),
    "a threshold past every float": (b'{"texts": ["a"], "abstain_below": 1e999}', NOT_VALID),
    "a threshold of 1,000 digits": (b'{"texts": ["a"], "abstain_below": ' + b"9" * 1_000 + b"}", NOT_VALID),
    "half a surrogate": (b'{"texts": ["a \\ud800 b"]}', NOT_VALID),
    "the other half": (b'{"texts": ["a \\udc00 b"]}', NOT_VALID),
    "half a surrogate in a field": (b'{"texts": ["a"], "\\ud800": 1}', NOT_VALID),
    "too many texts": (json.dumps({"texts": ["a"] * 1025}).encode(), TOO_LARGE),
    "a text too long": (json.dumps({"texts": ["a" * 100_001]}).encode(), TOO_LARGE),
    "a text of 10 MB": (json.dumps({"texts": ["a " * 5_000_000]}).encode(), TOO_LARGE),
    "a body of 10 MB": (b" " * 10_000_000 + GOOD, TOO_LARGE),
}
FINE: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "white space around": b"\r\n\t " + GOOD + b" \n",
    "control characters": b'{"texts": ["a\\u0000\\u0007\\u001b[31m\\u007f\\r\\n"]}',
    "marks of direction": '{"texts": ["\u202eabc\u2066"]}'.encode(),
    "an escaped pair of surrogates": b'{"texts": ["\\ud83d\\ude00"]}',
    "no characters but U+FFFF": b'{"texts": ["\\uffff\\ufdd0"]}',
    "an empty text": b'{"texts": [""]}',
    "white space": b'{"texts": [" \\t\\n"]}',
    "a long text": json.dumps({"texts": ["bank " * 20_000]}).encode(),
    "a long word": json.dumps({"texts": ["b" * 100_000]}).encode(),
    "combining marks": json.dumps({"texts": ["e" + "\u0301" * 10_000]}).encode(),
    "as many texts as may be": json.dumps({"texts": ["a"] * 1024}).encode(),
    "abstain below 0": b'{"texts": ["a"], "abstain_below": 0}',
    "abstain below 1": b'{"texts": ["a"], "abstain_below": 1}',
    "null for a field": b'{"texts": ["a"], "abstain_below": null}',
}


def is_error(answer: Any, status: int) -> None:
    """An error in its one form: one line, and a short code for programs."""
    assert answer.status == status, (answer.status, answer.body[:300])
    assert answer.headers["content-type"].startswith("application/json")
    assert set(answer.json) == {"error", "error_type"}
    assert "\n" not in answer.json["error"]
    assert 10 < len(answer.json["error"]) < 600
    answer.body.decode("ascii")


def test_bad_bodies_are_refused_with_one_line(healthy: ServerProcess) -> None:
    wrong = {}
    for name, (body, status) in BODIES.items():
        try:
            is_error(healthy.post(PREDICT, body), status)
        except AssertionError as error:
            wrong[name] = str(error).splitlines()[0]
    assert wrong == {}


@pytest.mark.parametrize("path", ["/v1/predict", "/predict", "/v1/classifiers/news/explain"])
def test_bad_bodies_are_refused_on_every_route(healthy: ServerProcess, path: str) -> None:
    """What is JSON may be wrong there in another way, or right."""
    wrong = {}
    for name, (body, status) in BODIES.items():
        answer = healthy.post(path, body)
        try:
            is_error(answer, status if status in (NOT_JSON, TOO_LARGE) else answer.status)
        except AssertionError as error:
            wrong[name] = str(error).splitlines()[0]
    # Without a length of its own a long text is the body's business alone.
    assert {name: said for name, said in wrong.items() if not name.startswith(("too many", "a text too long"))} == {}


@pytest.mark.parametrize("name", ["news", "topics"])
def test_odd_bodies_that_are_fine_are_answered(healthy: ServerProcess, name: str) -> None:
    wrong = {}
    for what, body in FINE.items():
        if name == "topics" and b"abstain" in body:
            continue
        answer = healthy.post(f"/v1/classifiers/{name}/predict", body)
        texts = json.loads(body.decode("utf-8-sig"))["texts"]
        if answer.status != 200 or len(answer.json["predictions"]) != len(texts):
            wrong[what] = (answer.status, answer.body[:300])
        else:
            for one in answer.json["predictions"]:
                assert all(0 <= value <= 1 for value in one["probabilities"].values())
    assert wrong == {}


PAIRS = [
    ["a"],
    [["a"]],
    [["a", "b", "c"]],
    [[]],
    [["a", 1]],
    [["a", None]],
    [{"a": "b"}],
    [["a", "b"], "c"],
    [["a", ["b"]]],
]


@pytest.mark.parametrize("texts", PAIRS, ids=str)
def test_what_is_no_pair_is_refused(healthy: ServerProcess, texts: Any) -> None:
    is_error(healthy.post("/v1/classifiers/pairs/predict", {"texts": texts}), NOT_VALID)


def test_pairs_are_answered(healthy: ServerProcess) -> None:
    answer = healthy.post("/v1/classifiers/pairs/predict", {"texts": [["a", "b"], ["", ""]]})
    assert answer.status == 200, answer.body
    assert len(answer.json["predictions"]) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"classifiers": []},
        {"classifiers": "news"},
        {"classifiers": [1]},
        {"classifiers": [None]},
        {"classifiers": [["news"]]},
        {"classifiers": ["news"] * 1_000},
        {"classifiers": ["news", "news"]},
        {"classifiers": ["news", "pairs"]},
        {"classifiers": ["news", "nobody"]},
        {"classifiers": [""]},
        {"classifiers": ["n" * 1_000_000]},
        {"classifiers": ["\ud800"]},
    ],
    ids=lambda body: str(body)[:40],
)
def test_wrong_lists_of_classifiers_are_refused(healthy: ServerProcess, body: dict[str, Any]) -> None:
    answer = healthy.post("/v1/predict", body | {"texts": ["a"]})
    assert answer.status in (404, 413, 422), answer.body[:300]
    is_error(answer, answer.status)


# --- content types


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, 200),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "Application/JSON;charset=UTF-8"}, 200),
        ({"content_type": ""}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "text/html"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "multipart/form-data; boundary=a"}, 415),
        ({"content_type": "application/xml"}, 415),
        ({"content_type": "application/json, text/plain"}, 415),
        ({"content_type": "application/jsonp"}, 415),
        ({"content_type": "\xff"}, 415),
        ({"content_type": "application/json; charset=utf-16"}, 200),  # JSON has no such parameter: RFC 8259, section 11
        ({"content_encoding": "gzip"}, 415),
        ({"content_encoding": "br"}, 415),
        ({"content_encoding": "identity"}, 200),
        ({"content_encoding": "Identity "}, 200),
        ({"content_encoding": "identity\r\nContent-Encoding: gzip"}, 415),
        ({"content_type": "application/json\r\nContent-Type: text/plain"}, 415),
        ({"content_type": "application/json\r\nContent-Type: application/json"}, 200),
    ],
    ids=str,
)
def test_only_plain_json_is_read(healthy: ServerProcess, headers: dict[str, str], status: int) -> None:
    answer = healthy.post(PREDICT, GOOD, **headers)
    assert answer.status == status, answer.body
    if status != 200:
        is_error(answer, status)


def test_a_compressed_body_is_not_unpacked(healthy: ServerProcess) -> None:
    bomb = gzip.compress(b" " * 50_000_000 + GOOD)
    is_error(healthy.post(PREDICT, bomb, content_encoding="gzip"), 415)
    is_error(healthy.post(PREDICT, bomb), 400)


# --- framing


def framed(headers: str, body: bytes = b"", target: str = PREDICT) -> bytes:
    """A request with exactly these further headers."""
    return (
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\n{headers}\r\n"
    ).encode("latin-1") + body


CLOSE = "Connection: close\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
ONE_CHUNK = b"15\r\n" + GOOD + b"\r\n0\r\n\r\n"
SMUGGLED = b"GET /v1/classifiers HTTP/1.1\r\nHost: localhost\r\nX: " + b"\r\n\r\n"
LENGTH = f"Content-Length: {len(GOOD)}\r\n"
# Each is ambiguous: a proxy in front may see other borders between requests than the server.
AMBIGUOUS: dict[str, bytes] = {
    "two lengths": framed(f"Content-Length: 0\r\n{LENGTH}", GOOD),
    "two lengths, the other first": framed(f"{LENGTH}Content-Length: 0\r\n", GOOD),
    "two lengths in one": framed(f"Content-Length: {len(GOOD)}, 0\r\n", GOOD),
    "a length and chunks": framed(LENGTH + CHUNKED, ONE_CHUNK + SMUGGLED),
    "chunks and a length": framed(CHUNKED + "Content-Length: 4\r\n", ONE_CHUNK + SMUGGLED),
    "a negative length": framed("Content-Length: -1\r\n", GOOD),
    "a length with a sign": framed(f"Content-Length: +{len(GOOD)}\r\n", GOOD),
    "a length in hexadecimal": framed("Content-Length: 0x15\r\n", GOOD),
    "a length with a point": framed("Content-Length: 21.0\r\n", GOOD),
    "a length of 100 digits": framed(f"Content-Length: {'9' * 100}\r\n", GOOD),
    "an empty length": framed("Content-Length: \r\n", GOOD),
    "a length with a space in front of the colon": framed(f"Content-Length : {len(GOOD)}\r\n", GOOD),
    "an unknown coding": framed("Transfer-Encoding: xchunked\r\n", ONE_CHUNK),
    "chunked, then another": framed("Transfer-Encoding: chunked, gzip\r\n", ONE_CHUNK),
    "chunked twice": framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", ONE_CHUNK),
    "a chunk of no number": framed(CHUNKED, b"zz\r\n" + GOOD),
    "a chunk of a negative size": framed(CHUNKED, b"-15\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a chunk of 17 hexadecimal digits": framed(CHUNKED, b"f" * 17 + b"\r\n" + GOOD),
    "a chunk that is longer than said": framed(CHUNKED, b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a header folded": framed(f"X: a\r\n b\r\n{LENGTH}\x00: c\r\n", GOOD),
    "a header without a colon": framed(f"nonsense\r\n{LENGTH}", GOOD),
    "a header without a name": framed(f": nonsense\r\n{LENGTH}", GOOD),
    "NUL in a header": framed(f"X: a\0b\r\n{LENGTH}", GOOD),
    "a carriage return in a header": framed(f"X: a\rb\r\n{LENGTH}", GOOD),
}
NO_HTTP: dict[str, bytes] = {
    "garbage": bytes(range(256)) * 16,
    "zeros": bytes(10_000),
    "HTTP/0.9": b"GET /v1/classifiers\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(500),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "a method of its own": message("HACK", "/v1/classifiers"),
    "a method in small letters": message("get", "/v1/classifiers"),
    "a space too many": b"GET  /v1/classifiers  HTTP/1.1\r\nConnection: close\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "a first line of 200 kB": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header of 1 MB": b"GET /v1/classifiers HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "20,000 headers": b"GET /v1/classifiers HTTP/1.1\r\n"
    + b"".join(b"X%d: a\r\n" % n for n in range(20_000))
    + b"\r\n",
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_requests_are_refused_and_end_the_connection(healthy: ServerProcess, sent: bytes) -> None:
    """No request is answered that another could have been smuggled in."""
    answers = healthy.exchange(sent + message("GET", "/livez"))
    assert [answer.status for answer in answers] in ([400], [])


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused_or_hung_up_on(healthy: ServerProcess, sent: bytes) -> None:
    answers = healthy.exchange(sent)
    assert len(answers) <= 1
    assert all(answer.status in (400, 401, 405, 413, 414, 431, 501, 505) for answer in answers), answers


def test_chunks_are_read(healthy: ServerProcess) -> None:
    in_bytes = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"
    for body in (ONE_CHUNK, in_bytes, b"15;name=value\r\n" + GOOD + b"\r\n0\r\nTrailer: x\r\n\r\n"):
        (answer,) = healthy.exchange(framed(CHUNKED + CLOSE, body))
        assert answer.status == 200, answer.body


def test_a_trailer_is_no_header(healthy: ServerProcess) -> None:
    """A proxy that sets or removes headers does not look there."""
    bare = b"POST /v1/classifiers/news/predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    (answer,) = healthy.exchange(
        bare
        + b"Content-Type: application/json\r\nConnection: close\r\n\r\n"
        + ONE_CHUNK.removesuffix(b"\r\n")
        + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    assert answer.status == 401
    (answer,) = healthy.exchange(
        bare
        + f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
        + ONE_CHUNK.removesuffix(b"\r\n")
        + b"Content-Type: application/json\r\n\r\n"
    )
    is_error(answer, 415)


def test_who_offers_http_2_is_answered_in_http_1(healthy: ServerProcess) -> None:
    offer = LENGTH + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    answers = healthy.exchange(framed(offer, GOOD) + framed(LENGTH + CLOSE, GOOD))
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body


def test_chunks_without_end_are_cut_off(healthy: ServerProcess) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answers = healthy.exchange(framed(CHUNKED, chunk * 1_000))
    assert [answer.status for answer in answers] in ([413], [])  # it may close while we still send


def test_a_body_that_is_too_long_is_refused_before_it_comes(healthy: ServerProcess) -> None:
    for length in (8 * 2**20 + 1, 2**40, 2**63 - 1):
        (answer,) = healthy.exchange(framed(f"Content-Length: {length}\r\nExpect: 100-continue\r\n"))
        is_error(answer, 413)


def test_a_body_shorter_than_said_is_no_request(healthy: ServerProcess) -> None:
    answers = healthy.exchange(framed("Content-Length: 1000\r\n", GOOD), finish=True)
    assert [answer.status for answer in answers] in ([400], [])


def test_a_body_longer_than_said_is_not_read_as_a_text(healthy: ServerProcess) -> None:
    answers = healthy.exchange(framed("Content-Length: 10\r\n", GOOD))
    assert [answer.status for answer in answers] in ([400, 400], [400])


def test_what_follows_a_body_is_a_request_of_its_own(healthy: ServerProcess) -> None:
    """It needs a token of its own, whatever the one before had."""
    bare = b"GET /v1/classifiers HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = healthy.exchange(framed(LENGTH, GOOD) + bare)
    assert [answer.status for answer in answers] == [200, 401]


def test_pipelined_requests_are_answered_in_order(healthy: ServerProcess) -> None:
    words = ["bank", "cup", "rate", "match", "polls"] * 10
    one_by_one = {word: healthy.predict("news", word).json for word in set(words)}
    sent = b"".join(
        message("POST", PREDICT, json.dumps({"texts": [word]}).encode()) if number % 3 else message("GET", "/livez")
        for number, word in enumerate(words)
    )
    *answers, _ = healthy.exchange(sent + message("GET", "/livez", connection="close"))
    assert [answer.status for answer in answers] == [200] * len(words)
    for number, (word, answer) in enumerate(zip(words, answers, strict=True)):
        if number % 3:
            assert answer.json["predictions"] == one_by_one[word]["predictions"]


def test_what_is_whole_is_answered_before_the_connection_ends(healthy: ServerProcess) -> None:
    """An error behind a request is not taken for its answer."""
    for behind in (b"\0\0\0", b"GARBAGE\r\n\r\n", framed("Content-Length: x\r\n"), framed(CHUNKED, b"zz\r\n")):
        answers = healthy.exchange(framed(LENGTH, GOOD) * 3 + behind)
        assert [answer.status for answer in answers] == [200, 200, 200]


def test_too_long_a_pipeline_ends_the_connection(healthy: ServerProcess) -> None:
    before = healthy.facts.memory_info().rss
    for headers in (f"Authorization: Bearer {TOKEN}\r\n", ""):
        flood = f"GET /v1/classifiers HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode() * 50_000
        answers = healthy.exchange(flood)
        assert 0 < len(answers) < 10_000
        assert {answer.status for answer in answers} == {200 if headers else 401}
    assert healthy.facts.memory_info().rss < before + (200 << 20)


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("HEAD", "/livez", (200, 405)),
        ("HEAD", "/v1/classifiers", (200, 405)),
        ("OPTIONS", "/v1/classifiers", (405,)),
        ("TRACE", "/v1/classifiers", (405,)),
        ("PUT", "/v1/classifiers/news", (405,)),
        ("DELETE", "/v1/classifiers/news", (405,)),
        ("PATCH", PREDICT, (405,)),
        ("GET", PREDICT, (405,)),
        ("GET", "/v1/predict", (405,)),
        ("POST", "/v1/classifiers", (405,)),
        ("POST", "/livez", (405,)),
        ("POST", "/metrics", (405,)),
    ],
)
def test_other_methods_are_refused(healthy: ServerProcess, method: str, path: str, statuses: tuple[int, ...]) -> None:
    answer = healthy.ask(method, path)
    assert answer.status in statuses, answer.body
    if answer.status == 405:
        assert answer.headers["allow"]


def test_a_websocket_is_not_opened(healthy: ServerProcess) -> None:
    answer = healthy.get(
        "/v1/classifiers", connection="Upgrade", upgrade="websocket", sec_websocket_version="13",
        sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    assert answer.status in (200, 400, 404, 426)


def test_headers_of_proxies_change_nothing(healthy: ServerProcess) -> None:
    answer = healthy.get(
        "/v1/classifiers", x_forwarded_for="127.0.0.1", x_forwarded_host="evil.example", x_forwarded_prefix="/../..",
        x_original_url="/metrics", x_rewrite_url="/metrics", x_http_method_override="DELETE", host="evil.example",
    )  # fmt: skip
    assert answer.status == 200
    assert "evil" not in answer.body.decode()


def test_the_server_says_neither_its_name_nor_allows_other_sites(healthy: ServerProcess) -> None:
    answer = healthy.get("/v1/classifiers", origin="https://evil.example")
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert "uvicorn" not in str(answer.headers).lower()
