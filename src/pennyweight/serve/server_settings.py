"""Every limit of the server with its default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """What the server allows.

    Attributes:
        memory: bytes that the trained tensors of loaded classifiers may take; the least recently used go first.
        admin: whether classifiers may be loaded, unloaded and reloaded by request.
        max_body_bytes: of a request.
        max_texts: a request.
        max_classifiers: that one request sends its texts to.
        max_characters: a text; of a pair, both together.
        lanes: rounds computed side by side, with an equal part of the threads each; None for one a thread.
        max_wait_ms: how long an idle lane waits for company of the first request that arrives.
        max_round_tokens: computed in one round, over all texts and the classifiers that read them; None for 2,048 a
            thread of its lane.
        deadline_seconds: from a request's arrival; it is answered in this time or refused.
        max_queue_seconds: a request that would wait longer is refused at once. Well below the deadline: the estimate is
            one.
        max_queued_texts: a hard limit beside the estimate.
        drain_seconds: how long a stopping server computes what it has accepted.
        max_requests: that are read, waited for or computed at once.
        max_held_bytes: of their bodies.
        max_connections: open at once, idle ones too.
        max_pipelined: requests that wait in one connection for the answer to a former one; with more it is closed.
        max_header_bytes: a request's first line and headers.
        header_seconds: in which these must have arrived, counted from the connection or the first byte.
        body_seconds: in which the body must have arrived.
        write_seconds: in which a client must have taken something of an answer that waits for it.
        idle_seconds: that a connection without a request stays open.
        text_threads: that parse and tokenize.
        disk_threads: that read what is not in memory.
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
    write_seconds: float = 30.0
    idle_seconds: float = 75.0
    text_threads: int = 2
    disk_threads: int = 2
    log_texts: bool = False
