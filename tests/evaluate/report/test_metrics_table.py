from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from pennyweight.evaluate.metrics.classification import score
from pennyweight.evaluate.report.metrics_table import metrics_table
from pennyweight.evaluate.report.pictures import write_pictures


def metrics():
    labels = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    return score(labels, probabilities, ["ham", "spam, eggs\nand spam"])


def test_the_text_table_is_aligned_plain_text() -> None:
    assert metrics_table(metrics()).splitlines() == [
        "accuracy 75.0% (95% interval 30.1 to 95.4), 4 texts",
        "log loss 0.4004 nats, calibration error 30.0%, ROC-AUC 100.0%",
        "",
        "class                precision %  recall %  F1 %   AP %  texts",
        "ham                        100.0      66.7  80.0  100.0      3",
        "spam, eggs and spam         50.0     100.0  66.7  100.0      1",
        "macro average               75.0      83.3  73.3",
        "weighted average            87.5      75.0  76.7",
    ]


def test_of_very_many_classes_the_worst_are_shown() -> None:
    labels = np.repeat(np.arange(149), 2)  # nothing is known of the last class
    predicted = np.where(labels < 3, 5, labels)
    lines = metrics_table(score(labels, np.eye(150)[predicted], [f"id {number}" for number in range(150)])).splitlines()
    assert "the 20 of 150 classes with the lowest F1; --json shows all" in lines
    shown = [line.split("  ")[0] for line in lines if line.startswith("id ")]
    assert len(shown) == 20
    assert shown[:4] == ["id 0", "id 1", "id 2", "id 5"]
    assert "id 149" not in shown


@pytest.mark.parametrize("name", ["a long label, " * 9, "新闻" * 50])
def test_the_text_table_fits_80_columns_whatever_the_labels(name: str) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((60, 3))
    labels = rng.random((60, 3)) < probabilities
    for found in (
        score(labels.astype(int), probabilities, [name, "b", "c"], 0.5),
        score(np.arange(60) % 2, np.repeat([[0.25, 0.75]], 60, axis=0), [name, "b"]),
    ):
        lines = metrics_table(found).splitlines()
        assert max(map(cell_len, lines)) <= 80
        assert any(line.startswith(name[:6]) and "…" in line for line in lines)


def test_pictures_are_png_files(tmp_path: Path) -> None:
    history = [
        {"step": 10, "epoch": 1, "train_loss": 1.2, "validation_loss": None, "learning_rate": 1e-4},
        {"step": 20, "epoch": 2, "train_loss": 0.9, "validation_loss": 1.0, "accuracy": 0.7},
    ]
    paths = write_pictures(tmp_path, metrics(), history)
    assert sorted(path.name for path in paths) == ["confusion.png", "curves.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_without_a_history_there_are_no_curves(tmp_path: Path) -> None:
    assert [path.name for path in write_pictures(tmp_path, metrics(), [])] == ["confusion.png"]


@pytest.mark.parametrize("name", ["$x^$", "新闻", "<b>&", "a" * 200, "\x00\n"])
def test_class_names_of_any_kind_are_drawn_without_a_warning(tmp_path: Path, name: str) -> None:
    labels, probabilities = np.array([0, 1]), np.eye(2)
    write_pictures(tmp_path, score(labels, probabilities, [name, "other"]), [])
