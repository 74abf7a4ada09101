"""A load generator: requests over HTTP/1.1 connections that stay open, in closed or open loop, from one thread.

It runs as a process of its own (`python benchmarks/load.py`, a `Load` as JSON on standard input, what was answered as
JSON on standard output), so that it takes none of the server's interpreter. How much of a processor it took is part of
what it says: near 1 it, and not the server, was measured.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

UNANSWERED, REFUSED, NOT_SENT = 0, -1, -2  # in place of a status
GRACE = 30.0  # seconds that answers are waited for once nothing is sent any more
# Seconds in which the generator did nothing, after which a load is sent again: virtual machines are stopped at times,
# and then every clock has gone on when they wake.
STOPPED, TRIES = 1.0, 3
TICK = 0.05  # seconds


@dataclass(frozen=True)
class Load:
    """What to send.

    Attributes:
        port: of a server on this machine.
        requests: (path, body) of POST requests, sent in this order, then from the start.
        seconds: how long to send.
        most: requests after which a closed loop ends before its time.
        token: the bearer token.
        clients: closed loop: each sends its next request once the last is answered, and stops when it is refused.
        pause: closed loop: seconds between an answer and the next request.
        rate: open loop instead: requests per second at random times (Poisson), answered or not.
        evenly: open loop: at equal intervals instead of random times, as vegeta and k6 send.
        most_connections: open loop: requests that find so many unanswered are counted and not sent.
        seed: of the random times.
        cores: processors to run on; None for all.
    """

    port: int
    requests: Sequence[tuple[str, str]]
    seconds: float
    most: int | None = None
    token: str = ""
    clients: int = 1
    pause: float = 0.0
    rate: float | None = None
    evenly: bool = False
    most_connections: int = 4000
    seed: int = 0
    cores: Sequence[int] | None = None


@dataclass(frozen=True)
class Answers:
    """What came back.

    Attributes:
        records: of each request (monotonic clock when it was sent, seconds to its answer, status or one of
            `UNANSWERED`, `REFUSED`, `NOT_SENT`).
        seconds: from the first request to the last answer.
        cpu_share: of one processor, taken by the generator.
        late_ms: the 99th percentile of how much later than meant requests were sent, open loop.
        without_retry_after: answers 429 that did not say when to come again.
        unlike: answers 200 whose body holds no predictions.
        stopped: the longest time, in seconds, in which the generator did nothing, be it that the machine stood still.
    """

    records: list[tuple[float, float, int]]
    seconds: float
    cpu_share: float
    late_ms: float = 0.0
    without_retry_after: int = 0
    unlike: int = 0
    stopped: float = 0.0

    def statuses(self) -> dict[str, int]:
        """How many requests had each status."""
        words = {UNANSWERED: "unanswered", REFUSED: "refused", NOT_SENT: "not sent"}
        found = Counter(words.get(status, str(status)) for _, _, status in self.records)
        return dict(sorted(found.items()))

    def seconds_of(self, status: int = 200) -> list[float]:
        """Seconds to each answer of a status."""
        return [seconds for _, seconds, each in self.records if each == status]

    def figures(self) -> dict[str, Any]:
        """Requests answered with 200 a second, percentiles of their times, and all statuses."""
        good = sorted(self.seconds_of())
        facts: dict[str, Any] = {
            "statuses": self.statuses(), "requests_per_second": round(len(good) / self.seconds, 1),
            "generator_cpu_share": round(self.cpu_share, 3), "generator_late_ms": self.late_ms,
        }  # fmt: skip
        if len(good) > 1:
            quantiles = statistics.quantiles(good, n=100, method="inclusive")
            facts |= {"p50_ms": round(quantiles[49] * 1e3, 2), "p99_ms": round(quantiles[98] * 1e3, 2)}
        return facts


def start(load: Load) -> subprocess.Popen[str]:
    """Begin to send, in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(load)))
    process.stdin.close()
    process.stdin = None  # so that `communicate` does not touch it again
    return process


def finish(process: subprocess.Popen[str]) -> Answers:
    """Wait for the end of what `start` began."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return Answers(**json.loads(said))


def run(load: Load, send: Callable[[Load], Answers] | None = None) -> Answers:
    """Send, in a process of its own, and wait; again where the machine stood still meanwhile.

    Args:
        send: sends it in another way.
    """
    for _ in range(TRIES):
        answers = finish(start(load)) if send is None else send(load)
        if answers.stopped < STOPPED:
            break
        print(f"  the machine stood still for {answers.stopped:.1f} s, once more", file=sys.stderr, flush=True)
    return answers


class Connection(asyncio.Protocol):
    """One connection, with at most one request on its way."""

    def __init__(self) -> None:
        import httptools

        self.parser = httptools.HttpResponseParser(self)
        self.transport: Any = None
        self.answer: asyncio.Future[int] | None = None
        self.open = False
        self.retry_after = False
        self.body = b""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.open = transport, True

    def connection_lost(self, _: Exception | None) -> None:
        self.open = False
        self._finish(UNANSWERED)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.retry_after, self.body = False, b""

    def on_header(self, name: bytes, _: bytes) -> None:
        self.retry_after |= name.lower() == b"retry-after"

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.parser.should_keep_alive():
            self.open = False
            self.transport.close()
        self._finish(self.parser.get_status_code())

    def _finish(self, status: int) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(status)

    async def ask(self, request: bytes) -> int:
        """Send a request; the status of its answer."""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer


@dataclass
class Generator:
    """Sends a load within one event loop."""

    load: Load
    records: list[tuple[float, float, int]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    made: list[Connection] = field(default_factory=list)
    free: list[Connection] = field(default_factory=list)
    unanswered: int = 0
    sent: int = 0
    without_retry_after: int = 0
    unlike: int = 0
    stopped: float = 0.0

    def __post_init__(self) -> None:
        self.bytes = [self._request(path, body.encode()) for path, body in self.load.requests]

    def _request(self, path: str, body: bytes) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.load.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.load.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def run(self) -> Answers:
        """Send it all."""
        began, used = time.monotonic(), time.process_time()
        watching = asyncio.ensure_future(self._watch())
        await (self._closed() if self.load.rate is None else self._open(self.load.rate))
        seconds = time.monotonic() - began
        watching.cancel()
        for connection in self.made:
            connection.transport.close()
        await asyncio.sleep(0)  # in which they close
        late = statistics.quantiles(self.late, n=100)[98] * 1e3 if len(self.late) > 1 else 0.0
        return Answers(
            self.records, seconds, (time.process_time() - used) / seconds, round(late, 2), self.without_retry_after,
            self.unlike, self.stopped,
        )  # fmt: skip

    async def _watch(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.stopped, last = max(self.stopped, now - last - TICK), now

    async def _closed(self) -> None:
        until = time.monotonic() + self.load.seconds

        async def client() -> None:
            while time.monotonic() < until and (self.load.most is None or self.sent < self.load.most):
                if await self._one() == REFUSED:
                    return
                if self.load.pause:
                    await asyncio.sleep(self.load.pause)

        await asyncio.gather(*(client() for _ in range(self.load.clients)))

    async def _open(self, rate: float) -> None:
        chance = random.Random(self.load.seed)
        due = time.monotonic()
        until = due + self.load.seconds
        waiting: set[asyncio.Task[int]] = set()
        while (due := due + (1 / rate if self.load.evenly else chance.expovariate(rate))) < until:
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self.late.append(time.monotonic() - due)
            if self.unanswered >= self.load.most_connections:
                self.records.append((due, 0.0, NOT_SENT))
                continue
            task = asyncio.ensure_future(self._one())
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            if self.late[-1] > 0.005:  # behind: who is to answer must be heard between two requests
                await asyncio.sleep(0)
        if waiting:
            await asyncio.wait(waiting, timeout=GRACE)

    async def _one(self) -> int:
        """Send the next request on a free connection, or a new one."""
        request = self.bytes[self.sent % len(self.bytes)]
        self.sent += 1
        began, self.unanswered = time.monotonic(), self.unanswered + 1
        status, connection = REFUSED, None
        try:
            while self.free and connection is None:
                connection = self.free.pop()
                connection = connection if connection.open else None
            if connection is None:
                connect = asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.load.port)
                connection = (await connect)[1]
                self.made.append(connection)
                began = time.monotonic()
            status = await connection.ask(request)
        except OSError:
            pass
        finally:
            self.unanswered -= 1
            self.records.append((began, time.monotonic() - began, status if connection is not None else REFUSED))
        if connection is not None:
            self.without_retry_after += status == 429 and not connection.retry_after
            self.unlike += status == 200 and b'"predictions"' not in connection.body
            if connection.open:
                self.free.append(connection)
        return status


def main() -> None:
    """Read a load, send it, print what was answered."""
    load = Load(**json.loads(sys.stdin.read()))
    if load.cores is not None:
        os.sched_setaffinity(0, load.cores)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each request on its way holds a connection
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    gc.disable()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        answers = runner.run(Generator(load).run())
    json.dump(asdict(answers), sys.stdout)


if __name__ == "__main__":
    main()
