"""Every limit of the server with its default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """The settings and limits of the server.

    Attributes:
        memory: maximum bytes of the trained tensors of loaded classifiers; the least recently used are unloaded first.
        admin: whether requests may load, unload and reload classifiers.
        max_body_bytes: maximum size of a request's body.
        max_texts: maximum number of texts per request.
        max_classifiers: maximum number of classifiers to which one request sends its texts.
        max_characters: maximum length of a text, or of both texts of a pair together.
        lanes: batches that are computed in parallel, each with an equal share of the threads; None for one per thread.
        max_wait_ms: how long an idle thread waits for more requests after the first.
        max_round_tokens: maximum number of tokens in a batch, counted once per classifier that reads them; None for
            2,048 per thread that computes the batch.
        deadline_seconds: time from a request's arrival within which it is answered or refused.
        max_queue_seconds: a request that would wait longer than this is refused at once. It is well below the deadline,
            because the waiting time is an estimate.
        max_queued_texts: maximum number of waiting texts, whatever the estimate.
        drain_seconds: how long a stopping server continues to answer accepted requests.
        max_requests: maximum number of requests that are being read, waiting or being computed.
        max_held_bytes: maximum size of the bodies of all these requests together.
        max_connections: maximum number of open connections, including idle ones.
        max_pipelined: maximum number of requests that wait in one connection for earlier answers; a connection with
            more is closed.
        max_header_bytes: maximum size of a request's first line and headers.
        header_seconds: time within which these must arrive, from the connection or from their first byte.
        body_seconds: time within which the body must arrive.
        drop_seconds: a request that is refused is answered before its body has arrived; for this long, and up to
            `max_body_bytes`, the rest is read and dropped, then the connection is closed.
        write_seconds: a client that reads nothing of its answer for this long is disconnected.
        idle_seconds: how long a connection without a request stays open.
        text_threads: threads that parse and tokenize.
        disk_threads: threads that read classifiers from disk.
        log_texts: whether the log shows texts.
    """

    memory: int = 2_000_000_000
    admin: bool = False
    max_body_bytes: int = 8 << 20
    max_texts: int = 1024
    max_classifiers: int = 64
    max_characters: int = 100_000
    lanes: int | None = None
    max_wait_ms: float = 2.0
    max_round_tokens: int | None = None
    deadline_seconds: float = 10.0
    max_queue_seconds: float = 3.0
    max_queued_texts: int = 16_384
    drain_seconds: float = 30.0
    max_requests: int = 1024
    max_held_bytes: int = 256 << 20
    max_connections: int = 4096
    max_pipelined: int = 256
    max_header_bytes: int = 32 << 10
    header_seconds: float = 10.0
    body_seconds: float = 10.0
    drop_seconds: float = 2.0
    write_seconds: float = 30.0
    idle_seconds: float = 75.0
    text_threads: int = 2
    disk_threads: int = 2
    log_texts: bool = False
