"""What /proc/cpuinfo says, as Linux writes it on x86 and ARM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pennyweight.system.processor import processor_fact

X86 = "processor\t: 0\nmodel name\t: Some(R) CPU: 3\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: other\n"
ARM = "processor\t: 0\nFeatures\t: asimd bf16\n"


@pytest.mark.parametrize(("text", "name", "flags"), [(X86, "Some(R) CPU: 3", "fpu avx2"), (ARM, None, "asimd bf16")])
def test_the_first_processor_counts(text: str, name: str | None, flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, *how: text)
    assert processor_fact("model name") == name
    assert processor_fact("flags", "Features") == flags


def test_elsewhere_there_is_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, *how: Any) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert processor_fact("model name") is None
