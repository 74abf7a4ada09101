"""What a release must show of the server: ten times its capacity for a minute, and the end under load.

The server runs on one processor, the load on another where there is one. Nothing here depends on how fast they are.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from pennyweight.data.sample import load as load_sample

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
SECONDS, TIMES, CLASSIFIERS = 60.0, 10.0, 64
# MB above those before the overload: what a full queue and its connections may take.
MOST_GROWTH = 300

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("uvicorn")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        fleet, overload = (importlib.import_module(name) for name in ("fleet", "overload"))
        folders, texts = fleet.fleet(tmp_path_factory.mktemp("fleet"), CLASSIFIERS), load_sample("train").texts
        ended = {"sigterm": overload.end_under_load(folders, texts)}
        return dict(overload.overload(folders, texts, SECONDS, TIMES)) | ended


def test_every_request_is_answered_or_told_to_come_again(found: dict[str, Any]) -> None:
    assert found["capacity"]["statuses"].keys() == {"200"}
    assert found["overload"]["statuses"].keys() == {"200", "429"}
    assert found["overload"]["answers_429_without_retry_after"] == 0
    assert found["overload"]["answers_200_without_predictions"] == 0


def test_memory_is_bounded(found: dict[str, Any]) -> None:
    assert found["memory_mb"]["most"] - found["memory_mb"]["before"] < MOST_GROWTH


def test_afterwards_all_is_as_before(found: dict[str, Any]) -> None:
    assert found["after"]["statuses"].keys() == {"200"}


def test_sigterm_loses_no_accepted_request(found: dict[str, Any]) -> None:
    assert found["sigterm"]["exit_status"] == 0
    assert found["sigterm"]["lost"] == 0
    assert found["sigterm"]["sent_before"].keys() <= {"200", "429"}
    assert found["sigterm"]["sent_after"].keys() <= {"200", "503", "refused", "unanswered"}
