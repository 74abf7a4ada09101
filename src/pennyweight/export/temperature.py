"""The fitted temperature, folded into the output layer of exported models."""

from __future__ import annotations

from torch import Tensor

from ..artifact.artifact import Artifact
from ..evaluate.metrics.calibration import saved_temperature


def temperature_of(artifact: Artifact) -> float:
    """The divisor of the logits before the softmax; 1 for a multi-label classifier.

    Raises:
        ArtifactError: the saved one is damaged.
    """
    return 1.0 if artifact.labels.multi else saved_temperature(artifact.metrics)


def folded_output(artifact: Artifact) -> dict[str, Tensor]:
    """The head's output layer with the temperature in it, `weight` (L, H) and `bias` (L,), on the CPU.

    A softmax over its logits then gives Pennyweight's probabilities: (W x + b) / T = (W / T) x + b / T.
    """
    layer, temperature = artifact.model.head.out, temperature_of(artifact)
    return {
        "weight": layer.weight.detach().cpu().float() / temperature,
        "bias": layer.bias.detach().cpu().float() / temperature,
    }
