"""Many classifiers over one backbone: in one engine, behind the server, and as peers would do it, on the same texts.

    python benchmarks/serve.py --quick          1, 8, 64, 512 and 2,048 adapters, 512 behind the server: minutes
    python benchmarks/serve.py                  2,048 behind the server, 512 for the peers, longer
    python benchmarks/serve.py --json           one JSON object on standard output

The classifiers (fleet.py) are planned by the default recipe at 200k trainable parameters with 2 to 20 labels, of random
values: speed and memory depend on shapes alone. Texts are AG News', or the built-in sample's where that is not at hand.

`engine`: texts per second in a process, tokenization included, with 64 texts per call (as 64 clients have waiting)
and all at once. `one_merged` is one classifier, its adapter merged into the weights, `one` the same in the engine that
mixes.
`peers`: one process of transformers and PEFT, and ONNX Runtime with a session an adapter, without a server around them.
`server`: `pennyweight serve` in a process of its own, one text per request, the load generator in another on the same
processors; in closed loop (clients that wait for their answer), and in open loop at shares of the capacity.

What a reader asks first stands under `shown`:

- `share_64`, `share_512`: texts per second of so many adapters, mixed uniformly, to those of one in the same engine, 64
  texts per call; `..._of_merged` to one merged adapter; `..._at_once` with all texts in one call.
- `bytes_ratio`: memory of the server a further classifier, to the bytes of its trained values.
- `p99_at_half_load`: 99th percentile at 50 % of the capacity, requests at random times (Poisson), to the median of
  requests that come one at a time; the median of some rounds of both.
- `p99_at_half_load_evenly_spaced`: the same with requests at equal intervals, as vegeta and k6 send them. Independent
  users arrive at random times, so the figure above is the one that counts.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapter_batches import choose_readers
from classifiers import LONGEST, cache, last_line
from contender import Contender, prepare_process
from fleet import fleet, own_bytes, parts_of
from inputs import ROOT, embedded, machine, news, parts, versions
from load import Load, run
from server_process import ServerProcess

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
PACKAGES = ("transformers", "peft", "onnxruntime", "fastapi", "uvicorn", "httptools", "uvloop")
COUNTS = (1, 8, 64, 512, 2048)
CALL = 64  # texts
PEERS = {
    "peft_set_adapter": ("peers.peft_adapters:PeftSwitching", ()),
    "peft_adapter_names": ("peers.peft_adapters:PeftMixed", ()),
    "onnxruntime_sessions": ("peers.onnx_sessions:OnnxSessions", ("onnx", "onnxruntime")),
}
SECTIONS = ("engine", "peers", "server")
SHARES = (10, 80)  # percent of the capacity, besides 50


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer adapters for server and peers, shorter loads")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help=str(SECTIONS))
    parser.add_argument("--most", type=int, choices=COUNTS, default=COUNTS[-1], help="adapters (default 2048)")
    parser.add_argument(
        "--varied", action="store_true", help="classifiers of unequal budgets, modules, heads and tasks"
    )
    parser.add_argument("--texts", type=int, default=512, help="texts per round (default 512)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each load on the server (default 6, with --quick)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: OMP_NUM_THREADS, or physical cores)")
    options = parser.parse_args()
    options.threads = prepare_process(options.threads)
    from pennyweight.model.device import bf16_is_faster

    options.precision = "bf16" if bf16_is_faster() else "fp32"
    options.seconds = options.seconds or (6.0 if options.quick else 20.0)
    result = measure(options)
    print(json.dumps(result, indent=2) if options.json else report(result))


def measure(options: Any) -> dict[str, Any]:
    """Every figure."""
    began = time.monotonic()
    texts, source = sample(options.data, options.texts)
    counts = [count for count in COUNTS if count <= options.most]
    folders = fleet(cache(), counts[-1], varied=options.varied)
    result: dict[str, Any] = {
        "machine": machine("cpu") | versions(*PACKAGES) | {"number_format": options.precision},
        "texts": f"{len(texts)} of {source}",
        "fleet": "varied" if options.varied else "the default recipe at 200k",
    }
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "engine": lambda: measure_engine(folders, counts, texts, options),
        "peers": lambda: measure_peers(folders, texts, options),
        "server": lambda: measure_server(folders, texts, options),
    }
    for name in options.only:
        result[name] = sections[name]()
    result["shown"] = shown(result)
    return result | {"seconds": round(time.monotonic() - began)}


def sample(folder: Path | None, count: int) -> tuple[list[str], str]:
    """Texts, and where they are from."""
    try:
        return parts(news(folder)[0], count)[0][0], "AG News"
    except OSError:  # neither on this disk nor within reach
        from pennyweight.data.sample import load as load_sample

        held = load_sample("train").texts
        return [held[number % len(held)] for number in range(count)], "the built-in sample"


# --- in one process ----------------------------------------------------------------------------------------------


def measure_engine(folders: Sequence[Path], counts: Sequence[int], texts: list[str], options: Any) -> dict[str, Any]:
    """Texts a second of one adapter merged and of any number mixed, and memory a further adapter."""
    given = [str(folder) for folder in folders]
    merged = Contender("ours_mixed:OursMerged", options.threads, given[:1], precision=options.precision)
    mixed = Contender("ours_mixed:OursMixed", options.threads, given, precision=options.precision)
    held: dict[int, float] = {}
    for count in counts:
        mixed.load(count)
        mixed.mixed(texts[:CALL], choose_readers(CALL, count, "uniform"), CALL)  # what is made once is made
        held[count] = mixed.load(count)
    cases = [("one_merged", merged, 1, "uniform", size) for size in sizes(texts)]
    cases += [(named(count), mixed, count, "uniform", size) for count in counts for size in sizes(texts)]
    cases += [(f"{count}_zipf", mixed, count, "zipf", CALL) for count in counts if count >= CALL]
    figures = race(cases, texts, options.rounds)
    merged.close()
    mixed.close()
    below, above = max((count for count in counts if count <= CALL), default=1), counts[-1]
    own = sum(map(own_bytes, folders[below:above]))
    ratio = (held[above] - held[below]) * (1 << 20) / own if own else None
    return {
        "texts_per_second": figures,
        "memory_mb": {str(count): round(value) for count, value in held.items()},
        "bytes_ratio": None if ratio is None else round(ratio, 3),
    }


def sizes(texts: Sequence[str]) -> list[int]:
    """How many texts per call are measured."""
    return list(dict.fromkeys((CALL, len(texts))))


def named(count: int) -> str:
    """What a number of mixed adapters is called in the results."""
    return "one" if count == 1 else str(count)


def race(
    cases: Sequence[tuple[str, Contender, int, str, int]], texts: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Texts a second in the best round: by name, then by texts per call.

    Args:
        cases: name, contender, adapters, their distribution, texts per call.
    """
    best: dict[str, dict[str, float]] = {}
    for turn in range(rounds):
        for name, contender, count, how, size in cases:
            seconds, _ = contender.mixed(texts, choose_readers(len(texts), count, how), size)
            speed, key = round(len(texts) / seconds, 1), f"{size}_a_call" if size < len(texts) else "at_once"
            best.setdefault(name, {})[key] = max(speed, best.get(name, {}).get(key, 0.0))
            print(f"  round {turn + 1} {name}, {key}: {speed} texts/s", file=sys.stderr, flush=True)
    return best


def measure_peers(folders: Sequence[Path], texts: list[str], options: Any) -> dict[str, Any]:
    """Texts a second, memory, and labels unlike ours of each peer with 8 and 64 adapters, and more unless quick.

    They get the first quarter of the texts, being slower.
    """
    if options.varied:
        return {"skipped": "the peers' heads are linear and read the first token, as the default recipe's"}
    some = texts[: max(CALL, len(texts) // 4)]
    counts = [count for count in ((8, 64) if options.quick else (8, 64, 512)) if count <= options.most]
    given = [str(folder) for folder in folders[: counts[-1]]]
    rounds, reference = min(2, options.rounds), dict[int, list[int]]()
    found: dict[str, Any] = {"texts": len(some)}
    with contextlib.closing(Contender("ours_mixed:OursMixed", options.threads, given, precision="fp32")) as ours:
        found["ours"] = measure_peer(ours, counts, some, reference, rounds)
    print(f"  ours: {found['ours']}", file=sys.stderr, flush=True)
    for name, (kind, needs) in PEERS.items():
        missing = [need for need in needs if importlib.util.find_spec(need) is None]
        if missing:
            found[name] = {"skipped": f"not installed: {', '.join(missing)}"}
            continue
        settings = {"threads": options.threads} if name.startswith("onnx") else {}
        try:
            peer = Contender(kind, options.threads, given, backbone=str(embedded()), max_length=LONGEST, **settings)
            with contextlib.closing(peer):
                found[name] = measure_peer(peer, counts, some, reference, rounds)
        except RuntimeError as error:  # a peer that fails must not stop the others
            found[name] = {"skipped": last_line(error)}
        print(f"  {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def measure_peer(
    peer: Contender, counts: Sequence[int], texts: list[str], reference: dict[int, list[int]], rounds: int
) -> dict[str, Any]:
    """One contender's figures by number of adapters.

    Args:
        reference: the class numbers of the first contender, which leaves them there for the others.
    """
    found: dict[str, Any] = {}
    for count in counts:
        began = time.monotonic()
        memory = peer.load(count)
        loaded = time.monotonic() - began
        if (held := peer.fact("held")) is not None and held < count:
            found[str(count)] = {"skipped": f"memory passed 8 GB at {held} sessions", "memory_mb": round(memory)}
            break
        readers = choose_readers(len(texts), count, "uniform")
        _, classes = peer.mixed(texts, readers, CALL)  # warms up
        unlike = sum(mine != theirs for mine, theirs in zip(reference.setdefault(count, classes), classes, strict=True))
        speeds = race(
            [(f"{count} adapters", peer, count, "uniform", size) for size in (CALL, len(texts))], texts, rounds
        )
        found[str(count)] = {
            "texts_per_second": speeds[f"{count} adapters"], "memory_mb": round(peer.load(count)),
            "load_seconds": round(loaded, 1), "labels_unlike_ours": unlike,
        }  # fmt: skip
    return found


# --- behind a server ---------------------------------------------------------------------------------------------


def requests_of(folders: Sequence[Path], texts: Sequence[str], readers: Sequence[int]) -> list[tuple[str, str]]:
    """One request a text, to the classifier that reads it."""
    return [
        (f"/v1/classifiers/{folders[reader].name}/predict", json.dumps({"texts": [text]}))
        for text, reader in zip(texts, readers, strict=True)
    ]


def measure_server(folders: Sequence[Path], texts: list[str], options: Any) -> dict[str, Any]:
    """Requests a second and their times, in closed and in open loop, and memory a further classifier.

    What is compared is measured in turn, in several rounds: a machine's speed may change within seconds.
    """
    count = min(512 if options.quick else 2048, len(folders), options.most)
    served, few = folders[:count], min(64, count)
    mixed = {"1 adapter": 1, f"{few} adapters": few, f"{count} adapters": count}.items()

    def load(adapters: int, how: str = "uniform", seconds: float = options.seconds, **more: Any) -> Any:
        readers = choose_readers(len(texts), adapters, how)
        return run(Load(server.port, requests_of(served, texts, readers), seconds, token=server.token, **more))

    with ServerProcess(parts_of(served[:few]), threads=options.threads) as server:
        load(few, seconds=2.0, clients=64)  # what is made once is made
        below = server.memory_mb()
    with ServerProcess(parts_of(served), threads=options.threads) as server:
        every = requests_of(served, [texts[0]] * count, range(count))
        answers = run(Load(server.port, every, 600.0, most=count, token=server.token, clients=4))
        assert answers.statuses() == {"200": count}, answers.statuses()
        load(count, seconds=2.0, clients=64)
        above, start_seconds = server.memory_mb(), server.start_seconds
        closed, opened, halves = {}, {}, []
        for turn in range(options.rounds):
            every_few = {f"64 clients, {adapters}": load(number, clients=64).figures() for adapters, number in mixed}
            closed = {name: faster(each, closed.get(name)) for name, each in every_few.items()}
            capacity = every_few[f"64 clients, {count} adapters"]["requests_per_second"]
            idle = load(count, pause=0.03).figures()
            half, even = (
                load(count, seconds=2.5 * options.seconds, rate=capacity / 2, evenly=evenly).figures()
                for evenly in (False, True)
            )
            halves.append({"capacity": capacity, "idle": idle, "at_half_load": half, "evenly_spaced": even})
            print(f"  server, round {turn + 1}: {every_few} {halves[-1]}", file=sys.stderr, flush=True)
        for clients in (1, 8):
            closed[f"{clients} clients, {few} adapters"] = load(few, clients=clients).figures()
        closed[f"64 clients, {count} adapters, Zipf"] = load(count, "zipf", clients=64).figures()
        for share in SHARES:
            opened[str(share)] = load(count, seconds=2.5 * options.seconds, rate=capacity * share / 100).figures()
        status = server.stop()
    own = sum(map(own_bytes, served[few:]))
    return {
        "classifiers": count,
        "start_seconds": start_seconds,
        "memory_mb": {str(few): round(below), str(count): round(above)},
        "bytes_ratio": round((above - below) * (1 << 20) / own, 3) if own else None,
        "closed": closed,
        "half_load": halves,
        "open": opened,
        "exit_status": status,
    }


def faster(one: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any]:
    """The figures with more requests per second."""
    return max(one, other or one, key=lambda each: float(each["requests_per_second"]))


# --- what follows ------------------------------------------------------------------------------------------------


def shown(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures that were promised, of what was measured; None where it was not."""
    speeds = result.get("engine", {}).get("texts_per_second", {})
    server = result.get("server", {})

    def ratio(above: float | None, below: float | None, digits: int = 3) -> float | None:
        return round(above / below, digits) if above and below else None

    def speed(name: str, key: str = f"{CALL}_a_call") -> float | None:
        found: float | None = speeds.get(name, {}).get(key)
        return found

    found: dict[str, float | None] = {}
    for count in ("64", "512", "2048"):
        found[f"share_{count}"] = ratio(speed(count), speed("one"))
        found[f"share_{count}_of_merged"] = ratio(speed(count), speed("one_merged"))
        found[f"share_{count}_at_once"] = ratio(speed(count, "at_once"), speed("one", "at_once"))
    closed = {name: each["requests_per_second"] for name, each in server.get("closed", {}).items()}
    one = closed.get("64 clients, 1 adapter")
    for count in ("64", "512", "2048"):
        found[f"server_share_{count}"] = ratio(closed.get(f"64 clients, {count} adapters"), one)
    found["bytes_ratio"] = server.get("bytes_ratio")
    found["engine_bytes_ratio"] = result.get("engine", {}).get("bytes_ratio")
    for name, arrivals in (("p99_at_half_load", "at_half_load"), ("p99_at_half_load_evenly_spaced", "evenly_spaced")):
        halves = [
            ratio(each[arrivals].get("p99_ms"), each["idle"].get("p50_ms"), 2) for each in server.get("half_load", ())
        ]
        found[name] = statistics.median(each for each in halves if each) if any(halves) else None
    return found


def report(result: dict[str, Any]) -> str:
    """The same, for reading."""
    lines = [f"{key}: {value}" for key, value in result["machine"].items()]
    lines += ["", f"{result['texts']}, {result['fleet']}"]
    if "engine" in result:
        lines += ["", f"{'adapters':<14}{f'{CALL} texts per call':>18}{'all at once':>14}   texts/s"]
        for name, each in result["engine"]["texts_per_second"].items():
            at_once = each.get("at_once", "")
            lines.append(f"{name:<14}{each.get(f'{CALL}_a_call', ''):>18}{at_once:>14}")
        lines.append(f"memory, MB: {result['engine']['memory_mb']}")
    for name, each in result.get("peers", {}).items():
        lines += [f"{name}: {each}"]
    if "server" in result:
        server = result["server"]
        lines += ["", f"server, {server['classifiers']} classifiers, ready after {server['start_seconds']} s"]
        loads = server["closed"] | {f"open, {share} %": each for share, each in server["open"].items()}
        for turn, each in enumerate(server["half_load"], start=1):
            loads |= {f"idle, round {turn}": each["idle"], f"open, 50 %, round {turn}": each["at_half_load"]}
            loads[f"evenly spaced, 50 %, round {turn}"] = each["evenly_spaced"]
        lines.append(f"{'load':<34}{'requests/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'generator':>11}")
        for name, each in loads.items():
            lines.append(
                f"{name:<34}{each['requests_per_second']:>11}{each.get('p50_ms', ''):>9}{each.get('p99_ms', ''):>9}"
                f"{each['generator_cpu_share']:>11.1%}  {'' if list(each['statuses']) == ['200'] else each['statuses']}"
            )
        lines.append(f"memory, MB: {server['memory_mb']}")
    lines += ["", *(f"{key}: {value}" for key, value in result["shown"].items() if value is not None)]
    return "\n".join([*lines, f"whole run: {result['seconds']} s"])


if __name__ == "__main__":
    main()
