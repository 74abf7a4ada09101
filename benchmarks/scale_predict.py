"""Prediction by Ray's workers of one thread, one and two of them, against one process of two threads.

    python benchmarks/scale_predict.py            all-MiniLM-L6-v2, trained on AG News: minutes
    python benchmarks/scale_predict.py --json     one JSON object on standard output

All read rows of train.csv from a Parquet file, in blocks of the same size, and write Parquet. A rate counts from the
moment when each process has finished its first block to the end of the last, so that starting Ray and loading the
classifier, which stand apart, do not count. Contenders take turns; each one's rate is that of its best round.
`ratio_workers` is the rate of two workers over that of one, `ratio_process` over that of one process of two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from classifiers import forms
from contender import in_child
from inputs import ROOT, machine, news, parts, versions

sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
TRAINED, READ = 4000, 2600  # rows of train.csv, as in predict.py
CONTENDERS = ("workers_1", "workers_2", "process_2_threads")
#: What `scale.py --quick` gives `measure`, and the packages it cannot do without.
QUICK = {"block": 512, "blocks": 4, "rounds": 1}
NEEDS = ("ray",)
Event = tuple[float, int]  # seconds, and the rows done by then


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, help="folder with AG News' train.csv and test.csv (text,label)")
    parser.add_argument("--classifier", type=Path, metavar="RUN", help="a classifier of AG News to take")
    parser.add_argument("--precision", help="fp32, bf16 or int8 (default: the classifier's own)")
    parser.add_argument("--block", type=int, default=1024, help="rows of a block, or unit (default 1024)")
    parser.add_argument("--blocks", type=int, default=6, help="blocks that each thread predicts a round (default 6)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found = measure(
        data=options.data, classifier=options.classifier, precision=options.precision, block=options.block,
        blocks=options.blocks, rounds=options.rounds,
    )  # fmt: skip
    print(json.dumps(found, indent=2) if options.json else report(found))


def measure(
    *,
    data: Path | None = None,
    classifier: Path | None = None,
    precision: str | None = None,
    block: int = 1024,
    blocks: int = 6,
    rounds: int = 2,
) -> dict[str, Any]:
    """Every figure, see above. Each contender predicts `blocks` * `block` texts per thread in each round.

    Args:
        data: folder of AG News; None finds it, see `inputs.news`.
        classifier: a trained one; None trains one, once.
        precision: None for the classifier's own.
        block: rows that are predicted and written at a time.
        blocks: how many a thread predicts a round; the first does not count.
        rounds: in turn.
    """
    trained, read = parts(news(data)[0], TRAINED, READ)
    run = classifier or forms("minilm", trained, None, set()).run
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    starts: dict[str, list[float]] = {"ray": [], "first_worker": []}
    with tempfile.TemporaryDirectory(prefix="pennyweight-scale-") as folder:
        sources = {threads: _write_rows(Path(folder), read[0], threads * blocks * block) for threads in (1, 2)}
        for turn in range(rounds):
            for name in CONTENDERS:
                rate = _rate(name, str(run), sources, block, precision, starts)
                rates[name].append(round(rate, 1))
                print(f"  round {turn + 1} {name}: {rate:.1f} texts/s", file=sys.stderr, flush=True)
    best = {name: max(each) for name, each in rates.items()}
    return {
        "machine": machine("cpu") | versions("ray", "pennyweight"),
        "classifier": str(run), "precision": precision or "its own", "block": block, "blocks": blocks,
        "texts_per_second": best, "rounds": rates,
        "ray_start_seconds": round(min(starts["ray"]), 1),
        "first_worker_seconds": round(min(starts["first_worker"]), 1),
        "ratio_workers": round(best["workers_2"] / best["workers_1"], 3),
        "ratio_process": round(best["workers_2"] / best["process_2_threads"], 3),
    }  # fmt: skip


def steady_rate(events: Sequence[Event], processes: int) -> float:
    """Rows a second from the moment when each process has finished a block to the last block's end.

    Args:
        events: after each block; the first is the start, with no row.
        processes: that finish blocks side by side.
    """
    (begin, before), (end, after) = events[processes], events[-1]
    return (after - before) / (end - begin)


def ray_events(run: str, source: str, workers: int, block: int, precision: str | None) -> tuple[list[Event], float]:
    """Predict by workers of one thread on this machine: which rows were done when, and seconds until Ray ran."""
    from pennyweight.predict.bulk import OutputOptions
    from pennyweight.predict.load_classifier import read_input_spec
    from pennyweight.scale import predict_units as driver
    from pennyweight.scale.unit_worker import ResidentModel
    from pennyweight.scale.units import plan_units

    events: list[Event] = []
    started: list[float] = []
    cluster = driver.ray_cluster

    @contextmanager
    def timed(*given: Any) -> Iterator[int]:
        with cluster(*given) as places:
            started.append(time.monotonic())
            yield places

    driver.ray_cluster = timed
    model = ResidentModel(run, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"
        job, _, _ = driver.plan_job(model, source, out, read_input_spec(run), OutputOptions)
        units = plan_units(job.files, block)
        began = time.monotonic()
        driver.predict_units(
            job, units, out, driver.Cluster("local", workers),
            progress=lambda rows: events.append((time.monotonic() - began, rows)),
        )  # fmt: skip
    return events, started[0] - began


def process_events(run: str, source: str, folder: str, block: int, precision: str | None) -> list[Event]:
    """Predict in this process, with as many threads as OMP_NUM_THREADS says: which rows were done when."""
    import pennyweight as pw
    from pennyweight.data import row_blocks
    from pennyweight.predict.bulk import OutputOptions, predict_file

    row_blocks.BLOCK = block
    classifier = pw.load(run, device="cpu", precision=precision)
    file = row_blocks.read_in_blocks(source, input_spec=classifier.input_spec, check=False)
    events: list[Event] = []
    predict_file(
        classifier, file, Path(folder) / "out.parquet", OutputOptions("parquet"),
        progress=lambda rows: events.append((time.monotonic(), rows)),
    )  # fmt: skip
    return events


def report(found: dict[str, Any]) -> str:
    """The same, for reading."""
    lines = [f"{key}: {value}" for key, value in found["machine"].items()]
    lines += [f"{name:<18}{rate:>9} texts/s" for name, rate in found["texts_per_second"].items()]
    names = ("precision", "ray_start_seconds", "first_worker_seconds", "ratio_workers", "ratio_process")
    return "\n".join([*lines, *(f"{name}: {found[name]}" for name in names)])


def _rate(
    name: str, run: str, sources: dict[int, str], block: int, precision: str | None, starts: dict[str, list[float]]
) -> float:
    workers = {"workers_1": 1, "workers_2": 2}.get(name)
    with threads_of_children(2 if workers is None else None), tempfile.TemporaryDirectory() as folder:
        if workers is None:
            return steady_rate(in_child("scale_predict:process_events", run, sources[2], folder, block, precision), 1)
        events, start = in_child("scale_predict:ray_events", run, sources[workers], workers, block, precision)
    starts["ray"].append(start)
    starts["first_worker"].append(events[0][0])
    return steady_rate(events, workers)


@contextmanager
def threads_of_children(count: int | None) -> Iterator[None]:
    """The threads of a process that is started inside, the tokenizer's too; None leaves them to it."""
    before = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        os.environ.pop(name, None)
    if count is not None:
        os.environ |= {"OMP_NUM_THREADS": str(count), "RAYON_NUM_THREADS": str(count)}
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], before.get("PYTHONPATH", "")])
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_rows(folder: Path, texts: list[str], rows: int) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{rows}.parquet"
    pq.write_table(pa.table({"text": list(islice(cycle(texts), rows))}), path, row_group_size=8192)
    return str(path)


if __name__ == "__main__":
    main()
