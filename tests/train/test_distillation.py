"""The loss with a teacher's probabilities as targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, kl_div, log_softmax, softmax

from pennyweight.train import loss
from pennyweight.train.distillation import SoftTargets, soften, with_teacher

CPU = torch.device("cpu")
LABELS = np.array([0, 2, 1, 1])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def targets(logits: Tensor, labelled: list[bool] | None = None, **more: Any) -> SoftTargets:
    settings = {"multi": False, "temperature": 2.0, "weight": 0.5} | more
    found = torch.sigmoid(logits) if settings["multi"] else softmax(logits, dim=1)
    return SoftTargets(found.numpy(), np.array(labelled or [True] * len(logits)), **settings)


def test_probabilities_at_a_temperature_are_those_of_divided_logits() -> None:
    logits = drawn(4, 3)
    for temperature in (1.0, 2.0, 8.0):
        assert soften(targets(logits, temperature=temperature)) == pytest.approx(
            softmax(logits / temperature, dim=1).numpy(), abs=1e-6
        )
        several = soften(targets(logits, temperature=temperature, multi=True))
        assert several == pytest.approx(torch.sigmoid(logits / temperature).numpy(), abs=1e-6)


def test_certain_probabilities_stay_certain() -> None:
    found = SoftTargets(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), np.array([True]), False, 4.0, 0.5)
    assert soften(found).tolist() == [[1.0, 0.0, 0.0]]
    assert soften(SoftTargets(np.array([[1.0, 0.0]]), np.array([True]), True, 4.0, 0.5)).tolist() == [[1.0, 0.0]]


def test_the_loss_is_hintons() -> None:
    teacher, student, rows = drawn(4, 3), drawn(4, 3, seed=1), np.array([3, 0, 1])
    found = with_teacher(loss.make(LABELS, CPU, 0.1), targets(teacher, temperature=3.0, weight=0.7), CPU)
    hard = cross_entropy(student[rows], torch.from_numpy(LABELS[rows]), label_smoothing=0.1, reduction="sum")
    soft = kl_div(log_softmax(student[rows] / 3, 1), softmax(teacher[rows] / 3, 1), reduction="sum")
    assert float(found(student[rows], rows)) == pytest.approx(float(0.3 * hard + 0.7 * 9 * soft), rel=1e-5)


def test_rows_without_a_label_have_the_teachers_term_alone() -> None:
    teacher, student = drawn(4, 3), drawn(4, 3, seed=1)
    found = with_teacher(loss.make(LABELS, CPU), targets(teacher, [True, False, True, False], weight=0.25), CPU)
    each = 4 * kl_div(log_softmax(student / 2, 1), softmax(teacher / 2, 1), reduction="none").sum(1)
    hard = cross_entropy(student[:1], torch.from_numpy(LABELS[:1]))

    def of(*rows: int) -> float:
        return float(found(student[list(rows)], np.array(rows)))

    assert of(1, 3) == pytest.approx(float(each[1] + each[3]), rel=1e-5)
    assert of(3, 0, 1) == pytest.approx(float(each[3] + each[1] + 0.25 * each[0] + 0.75 * hard), rel=1e-5)


def test_a_student_like_its_teacher_has_no_loss_but_that_of_the_labels() -> None:
    logits, rows = drawn(4, 3), np.arange(4)
    found = with_teacher(loss.make(LABELS, CPU), targets(logits, weight=1.0), CPU)(logits.requires_grad_(), rows)
    assert found.item() == pytest.approx(0, abs=1e-5)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.abs().max() < 1e-5


def test_any_number_of_labels_a_text() -> None:
    labels, teacher, student, rows = np.array([[1, 0], [0, 1]]), drawn(2, 2), drawn(2, 2, seed=1), np.arange(2)
    found = with_teacher(loss.make(labels, CPU), targets(teacher, multi=True, temperature=1.0), CPU)(student, rows)
    hard = binary_cross_entropy_with_logits(student, torch.from_numpy(labels).float(), reduction="sum") / 2
    soft = binary_cross_entropy_with_logits(student, torch.sigmoid(teacher), reduction="sum") / 2
    assert float(found) == pytest.approx(float(hard + soft) / 2, rel=1e-5)


def test_a_students_shares_are_those_of_its_targets() -> None:
    found = targets(torch.tensor([[0.0, 0.0], [9.0, -9.0], [-9.0, 9.0]]), [True, False, False])
    of_label = np.array([0.0, 1.0]) * (1 - found.weight) + np.array([0.5, 0.5]) * found.weight
    assert found.shares(np.array([1])) == pytest.approx((of_label + np.ones(2)) / 3, abs=1e-6)


def test_the_teachers_labels_of_chosen_rows() -> None:
    found = targets(torch.tensor([[0.0, 2.0], [3.0, 1.0], [0.0, 5.0]]), [True, False, False])
    assert found.labels.tolist() == [1, 0, 1]
    chosen = found.select(np.array([2, 0, 0]))
    assert (chosen.labels.tolist(), chosen.labelled.tolist()) == ([1, 1, 1], [False, True, True])
    assert targets(torch.tensor([[2.0, -1.0]]), multi=True).labels.tolist() == [[1, 0]]
