"""What the benchmarks conclude from their measurements; nothing is measured here."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pennyweight as pw

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def predict(benchmark: Any) -> Any:
    return benchmark("predict")


@pytest.fixture
def inputs(benchmark: Any) -> Any:
    return benchmark("inputs")


@pytest.fixture
def length_sorted(benchmark: Any) -> Any:
    return benchmark("peers.length_sorted")


def figure(speed: float, p50: float = 1.0, passes: bool | None = True) -> dict[str, Any]:
    return {"texts_per_second": speed, "p50_ms": p50, "passes_gate": passes}


def test_ours_is_compared_with_the_fastest_peer_of_its_precision(predict: Any) -> None:
    figures = {
        "ours_fp32": figure(300.0), "transformers_fp32": figure(100.0), "openvino_fp32": figure(200.0),
        "ours_int8": figure(600.0, 2.0), "onnxruntime_int8": figure(500.0, 3.0),
    }  # fmt: skip
    found = predict.ratios(figures)
    assert (found["ratio_fp32"], found["ratio_int8"], found["ratio_p50"]) == (1.5, 1.2, 1.5)


def test_a_ratio_without_both_sides_is_none(predict: Any) -> None:
    found = predict.ratios({"ours_bf16": figure(300.0), "transformers_fp32": figure(100.0)})
    assert (found["ratio_bf16"], found["ratio_int8"], found["ratio_p50"]) == (None, None, None)
    assert found["ratio_gate"] == 3.0


def test_who_fails_the_gate_is_not_the_peer_to_beat(predict: Any) -> None:
    figures = {
        "ours_fp32": figure(300.0), "ours_int8": figure(900.0, passes=False),
        "openvino_fp32": figure(200.0), "openvino_int8": figure(1000.0, passes=False),
    }  # fmt: skip
    assert predict.ratios(figures)["ratio_gate"] == 1.5


@pytest.mark.parametrize(
    ("wrong", "passes"), [(0, True), (1, True), (2, False)], ids=["none changed", "0.1 % changed", "0.2 % changed"]
)
def test_the_gate_counts_changed_labels(predict: Any, wrong: int, passes: bool) -> None:
    reference = [0] * 1000
    truth = [1] * 1000  # so that no change costs accuracy
    found = predict.quality([1] * wrong + [0] * (1000 - wrong), reference, truth)
    assert found["passes_gate"] is passes
    assert found["labels_changed"] == wrong / 1000


def test_the_gate_counts_lost_accuracy(predict: Any) -> None:
    truth = [0] * 10_000
    lost = [1] * 11 + [0] * 9_989
    assert predict.quality(lost, truth, truth)["passes_gate"] is False
    assert predict.quality([*lost[1:], 0], truth, truth)["passes_gate"] is True


def test_without_a_reference_nothing_is_said_about_the_gate(predict: Any) -> None:
    found = predict.quality([0, 1], None, [0, 0])
    assert found == {"accuracy": 0.5, "labels_changed": None, "passes_gate": None}


def test_parts_share_no_row_and_the_last_stays_the_same(inputs: Any) -> None:
    texts = [f"text {number}" for number in range(100)], list(range(100))
    few, held = inputs.parts(texts, 10, 30)
    many, same = inputs.parts(texts, 70, 30)
    assert held == same
    assert not set(many[0]) & set(same[0])
    assert (len(few[0]), len(many[0])) == (10, 70)
    assert all(text == f"text {label}" for text, label in zip(*many, strict=True))


def test_classes_come_back_in_the_order_of_the_texts(length_sorted: Any) -> None:
    parts = [(np.array([2, 0]), np.array([[0.0, 1.0], [1.0, 0.0]])), (np.array([1]), np.array([[0.0, 2.0]]))]
    assert length_sorted.in_order(parts, 3).tolist() == [0, 1, 1]


# --- serving -----------------------------------------------------------------------------------------------------


def test_a_fleet_is_classifiers_that_load(benchmark: Any, tmp_path: Path, tiny_backbone: Any) -> None:
    fleet, backbone = benchmark("fleet"), str(tiny_backbone("bert"))
    folders = fleet.fleet(tmp_path, 9, backbone=backbone) + fleet.fleet(tmp_path, 4, varied=True, backbone=backbone)
    assert len({folder.name for folder in folders}) == 13
    assert len(fleet.parts_of(folders[:9])) == 2  # the first 8 can be served alone
    for folder in (folders[0], folders[8], *folders[9:]):
        classifier = pw.load(folder, device="cpu", precision="fp32")
        assert 2 <= len(classifier.labels) <= fleet.MOST_LABELS
        tensors = classifier.artifact.tensors
        held = sum(tensor.nbytes for tensor in (*tensors.adapter.values(), *tensors.head.values()))
        assert held == fleet.own_bytes(folder)
        assert classifier.predict("A text.") is not None
    assert pw.load(folders[-1], device="cpu", precision="fp32").multi


def test_a_larger_fleet_begins_with_the_smaller_one(benchmark: Any, tmp_path: Path, tiny_backbone: Any) -> None:
    fleet, backbone = benchmark("fleet"), str(tiny_backbone("bert"))
    few = fleet.fleet(tmp_path, 2, backbone=backbone)
    before = [(folder / "pennyweight.json").read_bytes() for folder in few]
    assert fleet.fleet(tmp_path, 3, backbone=backbone)[:2] == few
    other = fleet.fleet(tmp_path / "elsewhere", 3, backbone=backbone)
    for folder, manifest, again in zip(few, before, other, strict=False):
        assert (folder / "pennyweight.json").read_bytes() == manifest
        assert (folder / "head.safetensors").read_bytes() == (again / "head.safetensors").read_bytes()


def test_readers_are_drawn_uniformly_or_by_zipf(benchmark: Any) -> None:
    choose = benchmark("adapter_batches").choose_readers
    uniform, zipf = (Counter(choose(9000, 3, how)) for how in ("uniform", "zipf"))
    assert set(uniform) == set(zipf) == {0, 1, 2}
    assert max(uniform.values()) < 3300
    assert zipf[0] > 4500 > zipf[1] > zipf[2]
    assert choose(5, 3, "uniform") == choose(5, 3, "uniform")


def test_calls_hold_every_text_once_and_groups_every_place(benchmark: Any) -> None:
    batches = benchmark("adapter_batches")
    assert list(batches.calls(["a", "b", "c"], [2, 0, 2], 2)) == [(["a", "b"], [2, 0]), (["c"], [2])]
    assert batches.by_reader([2, 0, 2]) == {2: [0, 2], 0: [1]}


def test_shares_are_those_of_one_adapter_and_what_was_not_measured_is_none(benchmark: Any) -> None:
    speeds = {
        "one_merged": {"64_a_call": 125.0}, "one": {"64_a_call": 100.0}, "64": {"64_a_call": 90.0},
        "512": {"64_a_call": 70.0},
    }  # fmt: skip
    closed = {
        f"64 clients, {adapters}": {"requests_per_second": speed}
        for adapters, speed in (("1 adapter", 50.0), ("512 adapters", 40.0))
    }  # fmt: skip
    halves = [
        {"at_half_load": {"p99_ms": high}, "evenly_spaced": {"p99_ms": high / 2}, "idle": {"p50_ms": 12.0}}
        for high in (30.0, 24.0, 90.0)
    ]
    server = {"closed": closed, "half_load": halves, "bytes_ratio": 1.1}
    found = benchmark("serve").shown({"engine": {"texts_per_second": speeds}, "server": server})
    assert (found["share_64"], found["share_512"], found["share_512_of_merged"]) == (0.9, 0.7, 0.56)
    assert (found["server_share_512"], found["bytes_ratio"], found["p99_at_half_load"]) == (0.8, 1.1, 2.5)
    assert found["p99_at_half_load_evenly_spaced"] == 1.25
    assert found["share_2048"] is None
    assert benchmark("serve").shown({})["share_64"] is None


def test_requests_sent_before_the_signal_and_not_answered_are_lost(benchmark: Any) -> None:
    records = [(1.0, 0.5, 200), (2.0, 0.5, 0), (3.0, 0.5, 0), (3.5, 0.1, 503), (4.0, 0.0, -1)]
    found = benchmark("overload").around(benchmark("load").Answers(records, 4.0, 0.0), 2.5)
    assert found == {
        "sent_before": {"200": 1, "unanswered": 1}, "lost": 1, "sent_after": {"503": 1, "refused": 1, "unanswered": 1},
    }  # fmt: skip


GOOD = b'{"predictions": []}'


def answered(load: Any, answers: list[bytes], **settings: Any) -> tuple[Any, list[bytes]]:
    """What the load generator makes of these answers, one after the other, then the last again; and what it sent."""
    sent: list[bytes] = []
    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):  # the client has gone
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                sent.append(head + await reader.readexactly(length))
                answer = answers[min(len(sent), len(answers)) - 1]
                if not answer:
                    break
                writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async def both() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        requests = [("/a", json.dumps({"texts": ["é"]})), ("/b", "{}")]
        given = load.Load(server.sockets[0].getsockname()[1], requests, 30.0, token="secret", **settings)
        found = await load.Generator(given).run()
        server.close()
        await asyncio.gather(*serving)
        return found

    return asyncio.run(both()), sent


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_steady_rate_begins_when_each_process_has_finished_a_block(benchmark: Any) -> None:
    rate = benchmark("scale_predict").steady_rate
    one = [(9.0, 0), (14.0, 100), (18.0, 200), (22.0, 300)]  # starting takes 9 seconds, the first block one more
    assert rate(one, 1) == 25.0
    two = [(9.0, 0), (14.0, 100), (15.0, 200), (18.0, 300), (19.0, 400)]
    assert rate(two, 2) == 50.0


def test_a_closed_loop_sends_every_request_in_turn(benchmark: Any) -> None:
    pytest.importorskip("httptools")
    found, sent = answered(benchmark("load"), [http("200 OK", GOOD)], most=5)
    assert found.statuses() == {"200": 5}
    assert [each.split()[1] for each in sent] == [b"/a", b"/b", b"/a", b"/b", b"/a"]
    assert b"Authorization: Bearer secret" in sent[0]
    assert json.loads(sent[0].partition(b"\r\n\r\n")[2]) == {"texts": ["é"]}
    assert found.unlike == 0
    assert found.figures()["statuses"] == {"200": 5}


def test_the_generator_tells_answers_apart(benchmark: Any) -> None:
    pytest.importorskip("httptools")
    answers = [
        http("429 Too Many Requests", b"{}", "Retry-After: 1"), http("429 Too Many Requests", b"{}"),
        http("200 OK", b"{}"), http("503 Service Unavailable", b"{}", "Connection: close"), b"", http("200 OK", GOOD),
    ]  # fmt: skip
    found, _ = answered(benchmark("load"), answers, most=6)
    assert found.statuses() == {"200": 2, "429": 2, "503": 1, "unanswered": 1}
    assert (found.without_retry_after, found.unlike) == (1, 1)


def test_a_client_that_is_refused_stops(benchmark: Any) -> None:
    pytest.importorskip("httptools")
    load, port = benchmark("load"), benchmark("server_process").free_port()
    found = asyncio.run(load.Generator(load.Load(port, [("/a", "{}")], 30.0, clients=2)).run())
    assert found.statuses() == {"refused": 2}


def test_an_open_loop_sends_whether_it_is_answered_or_not(benchmark: Any) -> None:
    pytest.importorskip("httptools")
    load = benchmark("load")
    generator = load.Generator(load.Load(1, [("/a", "{}")], 0.2, rate=1000.0, most_connections=0))
    found = asyncio.run(generator.run())
    assert set(found.statuses()) == {"not sent"}


@pytest.mark.parametrize("evenly", [True, False])
def test_an_open_loop_sends_at_equal_intervals_or_at_random_times(benchmark: Any, evenly: bool) -> None:
    pytest.importorskip("httptools")
    load = benchmark("load")
    generator = load.Generator(load.Load(1, [("/a", "{}")], 0.1, rate=1000.0, evenly=evenly, most_connections=0))
    due = [sent for sent, _, _ in asyncio.run(generator.run()).records]
    assert np.allclose(np.diff(due), 0.001, atol=1e-6) == evenly


def test_what_may_be_spread_is_one_table(benchmark: Any) -> None:
    scale = benchmark("scale")
    rates = {"workers_1": 100.0, "workers_2": 190.0, "process_2_threads": 200.0}
    one = {"texts_per_second": rates, "ratio_workers": 1.9, "ratio_process": 0.95, "ray_start_seconds": 3.5}
    other = {"classifiers_per_second": rates, "ratio_workers": 1.9, "ratio_process": 0.95, "machine": {"cores": 2}}
    said = scale.report({"predict": one, "many": other, "training": {"skipped": "ray is not installed"}}).splitlines()
    assert said[0] == "cores: 2"
    assert said[2].split() == [*scale.COLUMNS, "2", "workers", "/", "1", "2", "workers", "/", "process"]
    assert said[3].split() == ["predict", "100", "190", "200", "1.90", "0.95", "texts/s"]
    assert said[4].split() == ["many", "100", "190", "200", "1.90", "0.95", "classifiers/s"]
    assert said[6:] == ["predict: ray start seconds 3.5", "training: skipped, ray is not installed"]


def test_the_parts_of_the_comparison_keep_to_their_form(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = benchmark("scale")
    names = scale.part_names()
    assert {"many", "predict"} <= set(names)
    for name in names:
        part = benchmark(f"scale_{name}")
        assert set(part.QUICK) <= set(inspect.signature(part.measure).parameters)
    assert scale.absent(["json", "no_such_package"]) == "no_such_package"
    monkeypatch.setattr(scale, "absent", lambda packages: "ray" if "ray" in packages else None)
    assert scale.measure_part("predict", None, quick=True) == {"skipped": "ray is not installed"}


def test_methods_are_compared_at_their_best_rate_row_by_row(benchmark: Any) -> None:
    methods = benchmark("methods")

    def line(method: str, rate: float, seed: int, right: list[int]) -> dict[str, Any]:
        return {
            "budget": "10k", "method": method, "rate": rate, "seed": seed, "rows": 40, "validation": len(right),
            "epochs": 2, "accuracy": sum(right) / len(right), "right": np.packbits(right).tobytes().hex(),
            "trainable": 9_000, "stored": 9_000, "seconds": 2.0,
        }  # fmt: skip

    worse, half, better = [0] * 10, [1] * 5 + [0] * 5, [1] * 9 + [0]
    lines = [line("lora", 1e-3, seed, half) for seed in (1, 0)]
    lines += [line("auto", 1e-3, seed, worse) for seed in (0, 1)]
    lines += [line("auto", 2e-3, seed, better) for seed in (0, 1)]
    first, second = methods.summary(lines)
    assert (first["method"], first["against_lora"]) == ("lora", None)
    assert (second["method"], second["rate"], second["seeds"]) == ("auto", 2e-3, 2)
    low, mean, high = second["against_lora"]
    assert mean == pytest.approx(40.0)
    assert low < mean < high
    assert "| 10k | auto | 0.002 | 9,000 | 9,000 |" in methods.table([first, second])


def test_few_draws_apart_from_what_settings_are_chosen_by(benchmark: Any) -> None:
    few = benchmark("few")
    train = [f"text {row}" for row in range(2_000)], ["ab"[row % 2] for row in range(2_000)]
    (texts, labels), (others, _) = few.draw(train, 8, 1)
    assert Counter(labels) == {"a": 8, "b": 8}
    assert not set(texts) & set(others)
    assert few.draw(train, 8, 1)[0] == (texts, labels)
    assert few.draw(train, 8, 2)[0] != (texts, labels)
    assert few.draw(train, 8, 2)[1][0] == others


def test_few_leaves_out_what_is_not_installed(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = benchmark("few")
    monkeypatch.setattr(few, "NEEDS", {"setfit": ("no_such_package",)})
    assert few.installed(["ours", "setfit"]) == ["ours"]
    assert capsys.readouterr().err == "setfit: left out, because no_such_package is not installed\n"


def test_students_are_compared_with_the_one_without_a_teacher_row_by_row(benchmark: Any) -> None:
    distill = benchmark("distill")

    def line(run: str, seed: int, right: list[int]) -> dict[str, Any]:
        return {
            "run": run, "seed": seed, "validation": len(right), "accuracy": sum(right) / len(right), "trainable": 9_000,
            "stored": 90_000, "seconds": 2.0, "right": np.packbits(right).tobytes().hex(),
        }  # fmt: skip

    lines = [
        line("taught", 1, [1, 1, 1, 0, 1]), line("student", 0, [1, 0, 1, 0, 1]), line("taught", 0, [1, 1, 1, 0, 1]),
        line("student", 1, [1, 0, 1, 0, 1]), line("soup", 2, [1, 1, 1, 1, 1]),
    ]  # fmt: skip
    text = distill.table(lines).splitlines()
    assert [row.split("|")[1].strip() for row in text[2:]] == ["student", "taught", "soup"]
    assert "| taught | 9,000 | 90,000 | 80.00" in text[3]
    assert "| +20.00 (" in text[3]
    assert text[4].split("|")[5].strip() == ""  # no student of that seed


# --- gpu.py: what fails or hangs does not take the other figures with it -------------------------------------------


class Contender:
    """A contender that does nothing, or fails."""

    operations = 8.0

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def epoch(self) -> list[float]:
        if self.error is not None:
            raise self.error
        return [0.1, 0.1]

    def launch_share(self) -> float:
        raise RuntimeError("no graphs here")

    def predict(self, texts: list[str]) -> np.ndarray:
        return np.zeros(len(texts))


@pytest.fixture
def section(benchmark: Any, tmp_path: Path) -> Any:
    return benchmark("gpu").Section({}, tmp_path, "roberta_base", 2, "cpu", 1.0, lambda: 100.0)


def test_a_contender_that_fails_leaves_the_figures_of_the_others(section: Any) -> None:
    texts = ["a", "b"], [0, 1]
    section.run("peer_bf16", texts, lambda: Contender(RuntimeError("CUDA error: no kernel\nmore of it")))
    section.run("ours_all_layers", texts, Contender)
    speeds = section.result["texts_per_second"]
    assert speeds["peer_bf16"] == "failed: RuntimeError: CUDA error: no kernel"
    assert speeds["ours_all_layers"] > 0
    assert speeds["ours_predict"] > 0
    assert section.result["host"] == {"ours_all_layers": "failed: RuntimeError: no graphs here"}
    section.left = lambda: 1.0
    section.run("peer_fp32", texts, Contender)
    assert speeds["peer_fp32"] == "not run: no time left"


def test_a_prediction_that_fails_on_a_gpu_leaves_the_speed_of_training(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = benchmark("gpu")
    for name in ("_reset", "_wait", "_peak_memory"):
        monkeypatch.setattr(gpu, name, lambda device: None)
    section = gpu.Section({}, tmp_path, "roberta_base", 2, "cuda", 1.0, iter((100.0, 10.0)).__next__)
    contender = Contender()
    contender.predict = lambda texts: 1 / 0  # type: ignore[assignment, method-assign]
    section.run("ours_all_layers", (["a", "b"], [0, 1]), lambda: contender)
    speeds = section.result["texts_per_second"]
    assert speeds["ours_predict"] == "failed: ZeroDivisionError: division by zero"
    assert speeds["ours_all_layers"] > 0


def test_the_end_of_the_time_prints_what_there_is(
    benchmark: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)
    benchmark("gpu").give_up({"machine": {"device": "H100"}}, "time is over")
    assert json.loads(capsys.readouterr().out) == {"machine": {"device": "H100"}, "ended": "time is over"}
    assert left == [3]


def test_missing_packages_are_named(benchmark: Any) -> None:
    gpu = benchmark("gpu")
    assert "numpy" not in gpu.missing(["pytest"])
    assert gpu.missing(["no-such-package"])[-1] == "no-such-package"
