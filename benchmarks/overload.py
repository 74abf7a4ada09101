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
from load import Answers, Load, finish, run, start
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
    found = overload(fleet(cache(), options.classifiers), texts, options.seconds, options.times)
    print(json.dumps({"machine": machine("cpu"), "texts": source} | found, indent=2))


def overload(folders: Sequence[Path], texts: Sequence[str], seconds: float, times: float) -> dict[str, Any]:
    """Capacity, overload, capacity again, and the end under load.

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
        began = server.memory_mb()
        answers, memory = watched(server, start(load(seconds, rate=times * capacity)))
        print(f"  overload: {answers.figures()}", file=sys.stderr, flush=True)
        after = run(load(8.0, clients=CLIENTS))
        ended = end_under_load(server, load(12.0, clients=CLIENTS), 4.0)
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
        "sigterm": ended,
    }  # fmt: skip


def watched(server: ServerProcess, generator: subprocess.Popen[str]) -> tuple[Answers, list[float]]:
    """What was answered, and the server's memory in MB twice a second."""
    memory = [server.memory_mb()]
    answers: list[Answers] = []
    reader = Thread(target=lambda: answers.append(finish(generator)))  # its output must be read while it writes
    reader.start()
    while reader.is_alive():
        reader.join(0.5)
        memory.append(server.memory_mb())
    return answers[0], memory


def end_under_load(server: ServerProcess, load: Load, after: float) -> dict[str, Any]:
    """Stop a server `after` so many seconds of a load: its exit status, and how requests around that were answered.

    A request that was written before the signal was sent must be answered. One that is written later may find its
    connection closed: HTTP/1.1 lets a server close a connection between two requests, and no client can tell whether
    its request came in time.
    """
    generator = start(load)
    time.sleep(after)
    signalled = time.monotonic()
    status = server.stop()
    took = time.monotonic() - signalled
    return {"exit_status": status, "seconds_to_end": round(took, 2)} | around(finish(generator), signalled)


def around(answers: Answers, signalled: float) -> dict[str, Any]:
    """How requests were answered that were sent before and after a moment, and how many of those before were not."""
    sides = [[each for each in answers.records if (each[0] < signalled) is before] for before in (True, False)]
    earlier, later = (Answers(side, answers.seconds, 0.0).statuses() for side in sides)
    return {"sent_before": earlier, "lost": earlier.get("unanswered", 0), "sent_after": later}


if __name__ == "__main__":
    main()
