"""Energy is read from the kernel's counters, or not given at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pennyweight.train import energy
from pennyweight.train.energy import EnergyMeter, energy_meter


def counter(folder: Path, name: str, microjoules: int, limit: int = 1_000_000_000) -> Path:
    package = folder / name
    package.mkdir(exist_ok=True)
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text(f"{limit}\n")
    return package / "energy_uj"


def test_packages_add_up_and_their_parts_do_not_count_twice(tmp_path: Path) -> None:
    first, second = counter(tmp_path, "intel-rapl:0", 5_000_000), counter(tmp_path, "intel-rapl:1", 0)
    part = counter(tmp_path, "intel-rapl:0:0", 0)
    meter = EnergyMeter(tmp_path)
    first.write_text("7500000")
    second.write_text("500000")
    part.write_text("2000000")
    assert meter.joules() == 3.0


def test_a_counter_that_began_anew_goes_on(tmp_path: Path) -> None:
    file = counter(tmp_path, "intel-rapl:0", 999_000_000)
    meter = EnergyMeter(tmp_path)
    file.write_text("1000000")
    assert meter.joules() == 2.0


def test_no_figure_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).joules() is None
    assert EnergyMeter(tmp_path / "nowhere").joules() is None
    file = counter(tmp_path, "intel-rapl:0", 1)
    meter = EnergyMeter(tmp_path)
    file.unlink()
    assert meter.joules() is None


def test_a_run_on_a_gpu_is_measured_by_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([1_000, 3_500])
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(used) if handle == "GPU-abc" else None,
    )
    monkeypatch.setattr(energy, "import_module", lambda name: nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="abc"))
    assert energy_meter(torch.device("cuda", 0)).joules() == 2.5


def test_without_the_cards_library_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(energy, "import_module", missing)
    assert energy_meter(torch.device("cuda", 0)).joules() is None
    assert isinstance(energy_meter(torch.device("cpu")), EnergyMeter)
