"""Where and in which number format it computes."""

from __future__ import annotations

import pytest
import torch

from pennyweight.errors import InputError, ResourceError
from pennyweight.model import runtime
from pennyweight.model.runtime import choose, machine


@pytest.mark.parametrize(("pays", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_where_it_pays(pays: bool, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "bf16_pays", lambda: pays)
    assert choose("cpu").precision == precision
    assert choose("cpu", "fp32").precision == "fp32"


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"^no cuda device on this machine; use --device cpu or auto$"):
        choose("cuda")
    with pytest.raises(ResourceError, match=r"^fp16 is not for a CPU; use --precision bf16 or fp32$"):
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
