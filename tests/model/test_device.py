"""Where and in which number format it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pennyweight.errors import InputError, ResourceError
from pennyweight.model import device as runtime
from pennyweight.model.device import (
    Runtime,
    check_inference_precision,
    choose,
    choose_for_inference,
    machine,
)


@pytest.mark.parametrize(("faster", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_where_it_is_faster(faster: bool, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "bf16_is_faster", lambda: faster)
    assert choose("cpu").precision == precision
    assert choose("cpu", "fp32").precision == "fp32"


@pytest.mark.parametrize(("major", "precision"), [(6, "fp32"), (7, "fp16"), (8, "bf16"), (9, "bf16")])
def test_a_gpu_computes_in_the_format_of_its_tensor_cores(
    major: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4 has capability 7.5, a V100 7.0: torch counts their emulation as support unless told not to."""

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or major >= 8

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (major, 0))
    assert choose() == Runtime(torch.device("cuda"), precision)
    assert choose("cuda", "bf16").precision == "bf16"  # who asks for it gets it
    assert choose("cuda", "fp16").dtype == torch.float16


def test_without_onednn_it_is_fp32_and_bf16_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    runtime.bf16_is_faster.cache_clear()
    try:
        assert choose("cpu").precision == "fp32"
        assert choose("cpu", "bf16").dtype == torch.bfloat16
    finally:
        runtime.bf16_is_faster.cache_clear()


@pytest.mark.parametrize("fault", [AttributeError, RuntimeError])
def test_a_build_without_the_question_is_taken_to_have_no_bf16_kernels(
    fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Operators:
        def __getattr__(self, name: str) -> Any:
            raise fault(name)

    monkeypatch.setattr(torch.ops, "mkldnn", Operators())
    runtime.bf16_is_faster.cache_clear()
    try:
        assert choose("cpu").precision == "fp32"
    finally:
        runtime.bf16_is_faster.cache_clear()


def test_a_cpu_that_does_not_compute_bf16_is_asked_for_it_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise RuntimeError("could not create a primitive descriptor for a matmul primitive")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "mm", missing)
        runtime.computes_bf16.cache_clear()
        runtime.bf16_is_faster.cache_clear()
        try:
            with pytest.raises(
                ResourceError, match=r"^this CPU's kernels do not compute in bf16; use --precision fp32$"
            ):
                choose("cpu", "bf16")
            assert choose("cpu").precision == "fp32"
        finally:
            runtime.computes_bf16.cache_clear()
            runtime.bf16_is_faster.cache_clear()


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"^no cuda device on this machine; use --device cpu or auto$"):
        choose("cuda")
    with pytest.raises(ResourceError, match=r"^CPUs do not support fp16; use --precision bf16 or fp32$"):
        choose("cpu", "fp16")
    with pytest.raises(InputError, match="expected auto or cpu or cuda or mps; received gpu"):
        choose("gpu")
    with pytest.raises(InputError, match="received fp64"):
        choose("cpu", "fp64")


def test_threads_are_set_where_asked() -> None:
    before = torch.get_num_threads()
    try:
        choose("cpu", "fp32", threads=2)
        assert torch.get_num_threads() == 2
        choose("cpu", "fp32")  # OMP_NUM_THREADS is set in the tests: nothing of ours overrules it
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_machine_is_described() -> None:
    facts = machine(choose("cpu", "fp32"))
    assert set(facts) == {"processor", "threads", "device", "precision", "system", "peak_memory_mb"}
    assert (facts["device"], facts["precision"]) == ("cpu", "fp32")
    assert facts["peak_memory_mb"] > 10


# On a CPU: what is asked for, what the recipe asked for, what was chosen in training, and what it is computed in where
# bf16 is fast and int8 exists, where neither does.
SAVED = [
    (None, "auto", None, "bf16", "fp32"),  # a classifier of an earlier version
    (None, "fp32", None, "fp32", "fp32"),
    (None, "auto", "bf16", "bf16", "fp32"),
    (None, "auto", "fp32", "fp32", "fp32"),  # bf16 was measured, and not as good
    (None, "bf16", "fp32", "fp32", "fp32"),
    (None, "auto", "int8", "int8", "fp32"),
    ("auto", "fp32", "fp32", "bf16", "fp32"),
    ("auto", "fp32", "int8", "int8", "fp32"),
    ("fp32", "bf16", "int8", "fp32", "fp32"),
    ("int8", "auto", "fp32", "int8", None),
]


@pytest.mark.parametrize(("wanted", "trained", "chosen", "here", "there"), SAVED)
def test_a_saved_classifier_computes_in_what_was_chosen_where_the_machine_can(
    wanted: str | None, trained: str, chosen: str | None, here: str, there: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for able, expected in ((True, here), (False, there)):
        monkeypatch.setattr(runtime, "bf16_is_faster", lambda able=able: able)
        monkeypatch.setattr(runtime, "has_int8", lambda able=able: able)
        if expected is None:
            with pytest.raises(ResourceError, match=r"^int8 needs a CPU with int8 kernels; use --precision auto$"):
                choose_for_inference("cpu", wanted, trained, chosen)
        else:
            assert choose_for_inference("cpu", wanted, trained, chosen).precision == expected


def test_what_was_chosen_on_a_cpu_says_nothing_about_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(runtime, "has_int8", lambda: True)
    for chosen in ("fp32", "int8", "bf16"):
        assert choose_for_inference("auto", None, "auto", chosen) == Runtime(torch.device("cuda"), "bf16")
    assert choose_for_inference("cpu", None, "auto", "int8") == Runtime(torch.device("cpu"), "int8")
    with pytest.raises(ResourceError, match=r"^int8 needs a CPU"):
        choose_for_inference("cuda", "int8", "auto", "int8")


def test_a_number_format_that_is_missing_here_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Runtime(torch.device("cpu"), "fp32")
    monkeypatch.setattr(runtime, "has_int8", lambda: False)
    monkeypatch.setattr(runtime, "computes_bf16", lambda: False)
    with pytest.raises(
        ResourceError, match=r"^this CPU's kernels do not compute in int8; use --inference-precision auto$"
    ):
        check_inference_precision(cpu, "int8")
    with pytest.raises(ResourceError, match=r"^this CPU's kernels do not compute in bf16"):
        check_inference_precision(cpu, "bf16")
    for wanted in ("auto", "fp32"):
        check_inference_precision(cpu, wanted)


class ImaginedStream:
    """A stream that notes what is done on it, and what waits for it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def __enter__(self) -> None:
        self.log.append(f"on {self.name}")

    def __exit__(self, *error: object) -> None:
        self.log.append(f"off {self.name}")

    def wait_stream(self, other: ImaginedStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


def test_rows_go_to_a_gpu_on_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of the GPU is imagined; the rows stay on the CPU."""
    log: list[str] = []
    copies, computing = ImaginedStream("copies", log), ImaginedStream("computing", log)
    monkeypatch.setattr(runtime, "_copy_stream", lambda place: copies)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda place: computing)
    empty = torch.empty

    def pinned(*shape: int, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        log.append(f"pinned {pin_memory}")
        return empty(*shape, dtype=dtype)

    def copied(tensor: torch.Tensor, place: torch.device, non_blocking: bool) -> torch.Tensor:
        log.append(f"to {place.type}, without waiting {non_blocking}")
        return tensor

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.Tensor, "to", copied)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append(f"read on {stream.name}"))
    values = torch.arange(6.0).view(3, 2)
    found = runtime.copy_rows(values, torch.tensor([2, 0]), torch.device("cuda"))
    assert torch.equal(found, values[[2, 0]])
    assert log == [
        "pinned True", "on copies", "to cuda, without waiting True", "off copies", "computing waits for copies",
        "read on computing",
    ]  # fmt: skip


def test_an_array_goes_to_a_gpu_through_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        log.append("pinned")
        return tensor.clone()

    def copied(tensor: torch.Tensor, place: torch.device, non_blocking: bool) -> torch.Tensor:
        log.append(f"to {place.type}, without waiting {non_blocking}")
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", copied)
    values = np.arange(3)
    assert runtime.to_device(values, torch.device("cuda")).tolist() == [0, 1, 2]
    assert runtime.to_device(values, torch.device("cpu")).tolist() == [0, 1, 2]
    assert log == ["pinned", "to cuda, without waiting True", "to cpu, without waiting True"]
