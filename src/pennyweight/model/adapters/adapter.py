"""The protocol of an adapter, as the rest of the package uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from ...budget.plan import Plan
from ...budget.specs import AdapterSpec
from ...errors import ArtifactError, InputError

LARGEST_SCALE = 4.0


class Adapter(Protocol):
    """An adapter inside one encoder, during and after training.

    What it trains is every parameter with `requires_grad`; how many those are is counted beforehand, from the config
    alone, by the function of the same method in `budget.count.ADAPTERS`. The defaults here are those of a method whose
    training is plain gradient descent.

    Attributes:
        module: the encoder that holds it.
        adaptive: whether training changes the adapter's shape: such weights cannot be averaged.
        keeps_state: whether its checkpoints hold more than parameters and the optimizer's moments.
    """

    module: nn.Module
    adaptive: ClassVar[bool] = False
    keeps_state: ClassVar[bool] = False

    @classmethod
    def inject(cls, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Self:
        """Freeze an encoder and put the adapter into it, in place; what it trains is fp32.

        Args:
            module: the encoder.
            spec: the adapter as planned.
            config: the backbone's config.json.
        """
        ...

    def fold(self, plan: Plan, labels: int) -> tuple[Plan, Adapter]:
        """Turn a trained adapter into one that can be saved: plain LoRA by PEFT's names, in place.

        Args:
            plan: the plan that was trained.
            labels: L, the number of classes.

        Returns:
            The plan of what is left, its count included, and the adapter it describes.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """The folded adapter's tensors by the names that PEFT saves them under, on the CPU."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put the tensors of `state` back.

        Raises:
            ArtifactError: names or shapes do not agree.
        """
        ...

    def take_folded(self, state: Mapping[str, Tensor]) -> None:
        """Begin a training at what a folded adapter of the same plan added: its tensors, as `state` gave them.

        Raises:
            ArtifactError: names or shapes do not agree.
        """
        self.load(state)

    def scale(self, factor: float) -> None:
        """Multiply the folded adapter's update by `factor`, in place: 1 changes nothing, 0 is the frozen encoder.

        Raises:
            InputError: a factor out of range, or a method that cannot be scaled.
        """
        ...

    def gradients_wanted(self) -> tuple[str, ...]:
        """Names of the frozen parameters of `module` whose gradients `start` reads; none where it needs none."""
        return ()

    def start(self, gradients: Iterable[Mapping[str, Tensor]]) -> None:
        """Called once before a new training, if gradients are wanted; the adapter adds nothing to the encoder yet.

        Args:
            gradients: gradients of the mean loss of one batch of training rows after the other, by the names wanted.
        """
        return None

    def begin(self, total_steps: int) -> None:
        """Called once, before the first optimizer step or the first after a checkpoint.

        Raises:
            RecipeError: the steps are too few for the method.
        """
        return None

    def penalty(self) -> Tensor | float:
        """A scalar to add to the loss of a step."""
        return 0.0

    def after_step(self, step: int) -> None:
        """Called after optimizer step `step` (from 1), before gradients are cleared."""
        return None

    def resume_state(self) -> dict[str, Tensor]:
        """State for checkpoints in addition to parameters and moments, under names that no parameter has."""
        return {}

    def take_resume_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remove from a checkpoint's tensors those of `resume_state`, and return them."""
        return {}

    def resume(self, state: Mapping[str, Tensor], step: int) -> None:
        """Put `resume_state` back, after `begin`, the parameters being as they were after `step`."""
        return None


class NoAdapter(Adapter):
    """The encoder stays as it is; only the head is trained."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module.requires_grad_(False)

    @classmethod
    def inject(cls, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Self:
        """Freeze the encoder."""
        return cls(module)

    def fold(self, plan: Plan, labels: int) -> tuple[Plan, Adapter]:
        """Nothing changes."""
        return plan, self

    def state(self) -> dict[str, Tensor]:
        """No tensors."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Only an empty state fits."""
        check_state({}, state)

    def scale(self, factor: float) -> None:
        """There is no update to multiply."""
        check_scale(factor)


def check_scale(factor: float) -> None:
    """Raise `InputError` unless `factor` is in range."""
    if not 0 <= factor <= LARGEST_SCALE:
        raise InputError("the adapter's scale is out of range", expected=f"0 to {LARGEST_SCALE:g}", received=factor)


def check_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise `ArtifactError` unless two states have the same names and shapes."""
    check_shapes({name: tuple(tensor.shape) for name, tensor in own.items()}, state)


def check_shapes(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> None:
    """Raise `ArtifactError` unless a state has exactly these names and shapes."""
    received = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected == received:
        return
    wrong = sorted(name for name in expected.keys() | received.keys() if expected.get(name) != received.get(name))
    raise ArtifactError(
        "the adapter's tensors do not fit its plan",
        expected=f"{wrong[0]} of shape {expected.get(wrong[0]) or 'none'}",
        received=f"shape {received.get(wrong[0]) or 'none'} ({len(wrong)} tensors differ)",
    )
