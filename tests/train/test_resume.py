"""The same run, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pennyweight.errors import RecipeError
from pennyweight.model.device import Runtime
from pennyweight.recipe import loading as recipe
from pennyweight.train import accelerator
from pennyweight.train.checkpoint import Checkpoint
from pennyweight.train.resume import ResumePoint, mark_begun, mark_ended, run_fingerprint, unfinished_run

CPU = Runtime(torch.device("cpu"), "fp32")


def facts(**settings: Any) -> dict[str, Any]:
    settings = {"learning_rate": 5e-4, "seed": 0, "strategy": "manual", "r": 8, "pooling": "cls"} | settings
    return run_fingerprint(
        recipe.load(**settings).model_dump(mode="json"), data={"data": "d1", "teacher": None}, backbone="b1",
        config={"hidden_size": 8}, runtime=CPU, versions={"torch": "2.0"},
    )  # fmt: skip


def at(step: int, was: dict[str, Any]) -> ResumePoint:
    return ResumePoint(Path("run"), Checkpoint({}, {}, {}, {}, {"step": step}, was))


@pytest.mark.parametrize(
    "settings",
    [
        {"train": "elsewhere.csv"}, {"test": "t.csv"}, {"backbone": "/moved"}, {"save_steps": 5}, {"cache_dir": "/tmp"},
        {"cache_gb": 1.5}, {"gradient_checkpointing": "on"},
        {"save_total_limit": 9}, {"track": ["tensorboard"]}, {"precision": "fp32"}, {"device": "cpu"},
        {"quantization": "none"}, {"threads": 1},
    ],
)  # fmt: skip
def test_what_does_not_change_the_result_may_change(settings: dict[str, Any]) -> None:
    at(3, facts()).check(facts(**settings))


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"learning_rate": 1e-3}, "train -> learning_rate: was 0.0005, is 0.001"),
        ({"seed": 3}, "train -> seed: was 0, is 3"),
        ({"r": 3}, "plan -> r: was 8, is 3"),
        ({"max_length": 64, "seed": 1}, "data -> max_length: was 128, is 64 | train -> seed: was 0, is 1"),
        ({"pooling": "mean"}, "model -> pooling: was 'cls', is 'mean'"),
    ],
)
def test_what_changes_the_result_is_refused_and_named(
    settings: dict[str, Any], difference: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RecipeError) as caught:
        at(3, facts()).check(facts(**settings))
    assert str(caught.value) == (
        f"run: cannot resume: the run has changed since its checkpoint: {difference}; use the run's own recipe and "
        "data, or --resume-anyway if you know what you are doing"
    )
    caplog.set_level("INFO", "pennyweight")
    at(3, facts()).check(facts(**settings), True)
    assert caplog.messages == [f"resuming although {clause}" for clause in difference.split(" | ")]


def test_data_backbone_versions_device_and_threads_count() -> None:
    was = facts()
    for key in (
        "data",
        "backbone",
        "config of the backbone",
        "version of torch",
        "device",
        "precision",
        "quantization",
        "threads",
    ):
        with pytest.raises(RecipeError, match=f"checkpoint: {key}: was"):
            at(3, was).check(was | {key: "other"})


def test_a_finished_run_is_known_by_its_fingerprint() -> None:
    done = ResumePoint(Path("run"), None, facts() | {"prefix kept": []})
    assert done.is_finished(facts())
    assert not done.is_finished(facts(seed=3))
    assert not ResumePoint().is_finished(facts())
    with pytest.raises(RecipeError, match="train -> seed: was 0, is 3"):
        done.check(facts(seed=3))
    ResumePoint().check(facts())


def test_a_number_format_chosen_by_timing_is_not_chosen_again() -> None:
    assert at(3, facts()).precision("auto") == "fp32"
    assert at(3, facts()).precision("bf16") == "bf16"
    assert at(3, {"precision": "rm -rf"}).precision("auto") == "auto"
    assert ResumePoint().precision("auto") == "auto"


def test_a_quantization_chosen_by_timing_is_not_chosen_again() -> None:
    assert at(3, facts() | {"quantization": "int8"}).quantization("auto") == "int8"
    assert at(3, facts() | {"quantization": "int8"}).quantization("none") == "none"
    assert at(3, facts()).quantization("auto") == "none"
    assert ResumePoint().quantization("auto") == "auto"


@pytest.mark.parametrize("was", ["none", "nf4"])
def test_a_run_of_a_version_that_did_not_resolve_its_quantization_goes_on(was: str) -> None:
    older = facts() | {"train -> quantization": was}
    del older["quantization"]
    now = facts() | {"quantization": was}
    at(3, older).check(now)
    assert ResumePoint(Path("run"), None, older).is_finished(now)
    with pytest.raises(RecipeError, match=f"quantization: was '{was}', is 'int8'"):
        at(3, older).check(facts() | {"quantization": "int8"})


def test_a_prefix_kept_by_a_timing_is_kept_again() -> None:
    assert at(3, facts() | {"prefix kept": ["train"]}).prefixes() == ["train"]
    assert at(3, facts() | {"prefix kept": []}).prefixes() == []
    assert at(3, facts()).prefixes() is None
    assert at(3, facts() | {"prefix kept": 3}).prefixes() is None
    assert ResumePoint().prefixes() is None
    assert at(3, facts() | {"prefix kept": []}).prefixes(anyway=True) is None


def test_nothing_to_resume_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pennyweight")
    assert ResumePoint.find(tmp_path, {}).checkpoint is None
    assert caplog.messages == ["no complete checkpoint yet: starting from the beginning"]


def test_trackers_resume_their_own_runs() -> None:
    def arguments(**trackers: str) -> dict[str, dict[str, Any]]:
        progress = {"step": 4, "trackers": trackers} if trackers else {"step": 4}
        return accelerator._resume_arguments(Checkpoint({}, {}, {}, {}, progress, {}))

    assert arguments() == {"tensorboard": {"purge_step": 5}}
    assert arguments(wandb="w", mlflow="m", trackio="t") == {
        "tensorboard": {"purge_step": 5},
        "wandb": {"id": "w", "resume": "allow"},
        "mlflow": {"run_id": "m"},
        "trackio": {"name": "t", "resume": "allow"},
    }


def test_a_field_whose_default_changed_stood_where_it_stood_then() -> None:
    """A checkpoint of before the field: what its run did is the default of that day, not today's."""
    key = "train -> lp_ft"
    old = {name: value for name, value in facts(lp_ft=False).items() if name != key}
    at(3, old).check(facts(lp_ft=False))
    with pytest.raises(RecipeError, match="train -> lp_ft: was False, is True; use"):
        at(3, old).check(facts())


def test_a_run_that_began_and_has_not_ended_is_not_finished(tmp_path: Path) -> None:
    made = facts()
    assert unfinished_run(tmp_path) == ""
    assert ResumePoint.find(tmp_path, made).is_finished(facts())
    mark_begun(tmp_path, None)
    first = unfinished_run(tmp_path)
    assert first
    assert not ResumePoint.find(tmp_path, made).is_finished(facts())
    assert ResumePoint.find(tmp_path, facts(seed=3)).check(facts()) is None  # a former run's says nothing of this
    mark_begun(tmp_path, None)
    assert unfinished_run(tmp_path) not in ("", first)
    mark_ended(tmp_path)
    mark_ended(tmp_path)
    assert ResumePoint.find(tmp_path, made).is_finished(facts())
