"""More requests than the server can compute: the server on one processor, the load on another, ten times its capacity.

    python benchmarks/overload.py               60 seconds of overload, one JSON object on standard output

Measured are how requests were answered, how long the accepted ones took, the server's memory meanwhile, its speed
before and after, and which requests it left unanswered when it was told to stop (SIGTERM) while 32 clients were asking.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from adapter_batches import choose_readers
from classifiers import cache
from fleet import fleet, parts_of
from inputs import ROOT, machine
from load import STOPPED, TRIES, Answers, Load, finish, run, start
from serve import requests_of, sample
from server_process import ServerProcess

CLIENTS = 32


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload (default 60)")
    parser.add_argument("--times", type=float, default=10.0, help="the capacity (default 10)")
    parser.add_argument("--classifiers", type=int, default=64, help="served and asked (default 64)")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    texts, source = sample(options.data, 1024)
    folders = fleet(cache(), options.classifiers)
    found = overload(folders, texts, options.seconds, options.times) | {"sigterm": end_under_load(folders, texts)}
    print(json.dumps({"machine": machine("cpu"), "texts": source} | found, indent=2))


def overload(folders: Sequence[Path], texts: Sequence[str], seconds: float, times: float) -> dict[str, Any]:
    """Capacity, overload, and capacity again.

    Args:
        folders: of saved classifiers, all in one folder or few.
        texts: sent one a request, to classifiers drawn at random.
        seconds: of overload.
        times: the capacity.
    """
    cores = sorted(os.sched_getaffinity(0))
    readers = choose_readers(len(texts), len(folders), "uniform")
    with ServerProcess(parts_of(folders), threads=1, cores=cores[:1]) as server:

        def load(given: float, **more: Any) -> Load:
            requests = requests_of(folders, texts, readers)
            return Load(server.port, requests, given, token=server.token, cores=cores[-1:], **more)

        every = requests_of(folders, [texts[0]] * len(folders), range(len(folders)))
        run(Load(server.port, every, 600.0, most=len(every), token=server.token))  # all classifiers are in memory
        run(load(2.0, clients=CLIENTS))
        before = run(load(8.0, clients=CLIENTS))
        capacity = len(before.seconds_of()) / before.seconds
        print(f"  capacity: {before.figures()}", file=sys.stderr, flush=True)
        began, memory = server.memory_mb(), list[float]()

        def send(load: Load) -> Answers:
            memory.clear()
            return watched(server, start(load), memory)

        answers = run(load(seconds, rate=times * capacity), send)
        print(f"  overload: {answers.figures()}", file=sys.stderr, flush=True)
        after = run(load(8.0, clients=CLIENTS))
    return {
        "classifiers": len(folders),
        "capacity": before.figures(),
        "overload": answers.figures() | {
            "asked_per_second": round(len(answers.records) / answers.seconds, 1),
            "answers_429_without_retry_after": answers.without_retry_after,
            "answers_200_without_predictions": answers.unlike,
            "longest_accepted_ms": round(1e3 * max(answers.seconds_of(), default=0.0)),
        },
        "memory_mb": {"before": round(began), "most": round(max(memory)), "last": round(memory[-1])},
        "memory_mb_over_time": [round(each) for each in memory],
        "after": after.figures(),
    }  # fmt: skip


def watched(server: ServerProcess, generator: subprocess.Popen[str], memory: list[float]) -> Answers:
    """What was answered; the server's memory in MB, twice a second, is added to `memory`."""
    answers: list[Answers] = []
    reader = Thread(target=lambda: answers.append(finish(generator)))  # its output must be read while it writes
    reader.start()
    while reader.is_alive():
        memory.append(server.memory_mb())
        reader.join(0.5)
    return answers[0]


def end_under_load(folders: Sequence[Path], texts: Sequence[str], after: float = 4.0) -> dict[str, Any]:
    """Stop a server, on one processor, after so many seconds of a load: how requests around that were answered.

    A request that was written before the signal was sent must be answered. One that is written later may find its
    connection closed: HTTP/1.1 lets a server close a connection between two requests, and no client can tell whether
    its request came in time.
    """
    cores = sorted(os.sched_getaffinity(0))
    requests = requests_of(folders, texts, choose_readers(len(texts), len(folders), "uniform"))
    for _ in range(TRIES):
        with ServerProcess(parts_of(folders), threads=1, cores=cores[:1]) as server:
            load = Load(server.port, requests, 3 * after, token=server.token, cores=cores[-1:], clients=CLIENTS)
            generator = start(load)
            time.sleep(after)
            signalled = time.monotonic()
            status = server.stop()
            took = time.monotonic() - signalled
            answers = finish(generator)
        if answers.stopped < STOPPED:
            break
    return {"exit_status": status, "seconds_to_end": round(took, 2)} | around(answers, signalled)


def around(answers: Answers, signalled: float) -> dict[str, Any]:
    """How requests were answered that were sent before and after a moment, and how many of those before were not."""
    sides = [[each for each in answers.records if (each[0] < signalled) is before] for before in (True, False)]
    earlier, later = (Answers(side, answers.seconds, 0.0).statuses() for side in sides)
    return {"sent_before": earlier, "lost": earlier.get("unanswered", 0), "sent_after": later}


if __name__ == "__main__":
    main()
