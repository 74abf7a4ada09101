"""A backbone that stays loaded while one classifier after the other is trained on it."""

from __future__ import annotations

from ..budget.plan import Plan
from ..errors import RecipeError
from .adapters.lora import remove_adapters
from .backbone import Backbone
from .classifier import ModelSettings, SequenceClassifier, assemble, build
from .device import Runtime
from .encoders import Encoder, EncoderSettings, load_encoder
from .inference.frozen_layers import FrozenLayers, calibrated_layers
from .on_demand import OnDemand
from .tokenizer import load_tokenizer


class ResidentBackbone:
    """A frozen encoder and its tokenizer, in memory.

    It holds one classifier at a time: building the next takes the last one's adapter out, after which that classifier
    must not be used any more. The classifiers are those that `build` makes from the files, bit for bit.

    Args:
        backbone: on disk.
        runtime: device and number format.

    Raises:
        BackboneError: it cannot be loaded.
    """

    def __init__(self, backbone: Backbone, runtime: Runtime) -> None:
        self.backbone, self.runtime = backbone, runtime
        self.tokenizer = load_tokenizer(backbone.folder)
        # The encoder and its engine, by the settings that it was loaded with.
        self._loaded: dict[tuple[str, EncoderSettings], tuple[Encoder, str]] = {}
        self._layers: tuple[int, OnDemand[FrozenLayers | None]] | None = None

    def layers(self, max_length: int) -> OnDemand[FrozenLayers | None]:
        """The layers in int8, made when they are first asked for; those of another length take their place."""
        if self._layers is None or self._layers[0] != max_length:
            self._layers = max_length, OnDemand(lambda: calibrated_layers(self.backbone, max_length))
        return self._layers[1]

    def build(self, plan: Plan, labels: int, settings: ModelSettings) -> SequenceClassifier:
        """The classifier of a plan on this backbone, as `classifier.build` makes it; arguments and errors as there."""
        if plan.adapter is not None and plan.adapter.bias != "none":
            # Training would change the backbone's own biases.
            return build(self.backbone, plan, labels, self.runtime, settings)
        if settings.quantization == "nf4":
            raise RecipeError(
                "classifiers that share a backbone are trained on its original weights",
                where="train -> quantization",
                expected="auto, none or int8",
                received=settings.quantization,
            )
        wanted = settings.encoder, settings.of_encoder(plan, self.runtime)
        if wanted not in self._loaded:
            self._loaded.clear()  # before the next one is loaded: two would take twice the memory
            self._loaded[wanted] = load_encoder(self.backbone, *wanted)
        encoder, engine = self._loaded[wanted]
        remove_adapters(encoder.module)
        return assemble(encoder, engine, self.backbone, plan, labels, settings).to(self.runtime.device)
