"""LoRA-XS: a small trained core between frozen bases, folded into plain LoRA afterwards.

W = W0 + alpha/r U R Vᵀ    (Bałazy et al. 2024, "LoRA-XS: Low-Rank Adaptation with Extremely Small Number of
Parameters", https://arxiv.org/abs/2405.17604, section 3)

U (out, r) and V (in, r) have orthonormal columns and stay as they are; the core R (r, r) starts at zero. In PEFT's
layer A = R Vᵀ, computed in each forward pass, and B = U, so that every encoder computes it as a LoRA of rank r, and
folding writes A down. The bases are the leading singular vectors of the frozen weight, or the leading eigenvectors of
G Gᵀ and GᵀG summed over the gradients G of the weight on some training batches: the directions in which full
fine-tuning would begin (Ponkshe et al. 2024, "Initialization using update approximation is a silver bullet for
extremely efficient low-rank fine-tuning", https://arxiv.org/abs/2411.19557, takes them from one averaged gradient).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ...budget.count import adapter_shapes
from ...budget.plan import Plan
from ...budget.specs import AdapterSpec
from ...budget.targets import ranks
from ...errors import RecipeError
from .adapter import Adapter, check_shapes
from .lora import PREFIX, LoraAdapter

NAME = "default"
WEIGHT = "base_layer.weight"  # of an adapted layer, the frozen matrix
SIDES = ("left", "right")  # U and V, by what a checkpoint calls them


class CoreDown(nn.Module):
    """LoRA's A as the product of a trained core (r, r) and a frozen basis Vᵀ (r, in)."""

    basis: Tensor

    def __init__(self, rank: int, in_features: int, device: torch.device) -> None:
        super().__init__()
        self.core = nn.Parameter(torch.zeros(rank, rank, device=device))
        self.register_buffer("basis", torch.zeros(rank, in_features, device=device))

    @property
    def weight(self) -> Tensor:
        """A (r, in), through which gradients reach the core."""
        return self.core @ self.basis

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


class LoraXsAdapter(LoraAdapter):
    """The cores of one encoder; `state`, `load` and `scale` are those of the LoRA that it folds into.

    Args:
        module: the encoder; its adapted layers are PEFT's, with `CoreDown` in the place of A.
        spec: the adapter as planned.
        config: the backbone's config.json.
    """

    keeps_state = True

    def __init__(self, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> None:
        super().__init__(module)
        self.spec = spec
        self.config = config
        self._has_bases = False

    @classmethod
    def inject(cls, module: nn.Module, spec: AdapterSpec, config: Mapping[str, Any]) -> Self:
        """Freeze an encoder and put the cores into it, in place, in fp32; with bases from its own weights if asked."""
        LoraAdapter.inject(module, spec, config)
        adapter = cls(module, spec, config)
        for layer in adapter._layers().values():
            rank, in_features = layer.lora_A[NAME].weight.shape
            layer.lora_A[NAME] = CoreDown(rank, in_features, layer.lora_A[NAME].weight.device)
            layer.lora_B[NAME].weight.requires_grad_(False)
        if spec.bases == "svd":
            adapter._set({name: singular_bases(layer.base_layer.weight, len(layer.lora_A[NAME].core))
                          for name, layer in adapter._layers().items()})  # fmt: skip
        return adapter

    def gradients_wanted(self) -> tuple[str, ...]:
        """Those of all adapted layers, unless the bases come from the weights."""
        return tuple(f"{name}.{WEIGHT}" for name in self._layers()) if self.spec.bases == "gradient" else ()

    def start(self, gradients: Iterable[Mapping[str, Tensor]]) -> None:
        """Take the bases from gradients of the adapted matrices.

        Raises:
            RecipeError: there are none, or some are not finite.
        """
        layers = self._layers()
        moments: dict[str, tuple[SecondMoment, SecondMoment]] = {}
        for batch in gradients:
            for number, (name, layer) in enumerate(layers.items()):
                gradient, rank = batch[f"{name}.{WEIGHT}"].float(), len(layer.lora_A[NAME].core)
                if name not in moments:
                    moments[name] = (
                        SecondMoment(len(gradient), rank, number),
                        SecondMoment(gradient.shape[1], rank, number),
                    )
                moments[name][0].add(gradient)
                moments[name][1].add(gradient.t())
        if not moments:
            raise _no_bases("there are no labelled training rows to estimate bases from")
        self._set({name: (left.leading(), right.leading()) for name, (left, right) in moments.items()})

    def fold(self, plan: Plan, labels: int) -> tuple[Plan, Adapter]:
        """Write R Vᵀ down as A; the plan stays what was trained, and its `Count.stored` says what is saved."""
        for layer in self._layers().values():
            down = layer.lora_A[NAME].weight.detach()  # (r, in)
            plain = nn.Linear(down.shape[1], down.shape[0], bias=False, device="meta")
            plain.weight = nn.Parameter(down)
            layer.lora_A[NAME] = plain.train(layer.training)
            layer.lora_B[NAME].weight.requires_grad_(True)
        return plan, LoraAdapter(self.module)

    def take_folded(self, state: Mapping[str, Tensor]) -> None:
        """Take U = B, and from A = R Vᵀ an orthonormal basis of what V spans, with the core that belongs to it.

        Raises:
            ArtifactError: names or shapes do not agree.
        """
        shapes = adapter_shapes(self.config, self.spec)
        check_shapes({f"{PREFIX}{name}": shape for name, shape in shapes.items()}, state)
        bases, cores = {}, {}
        for name in self._layers():
            far, inner = torch.linalg.qr(state[f"{PREFIX}{name}.lora_A.weight"].t().double())  # (in, r), (r, r)
            bases[name] = state[f"{PREFIX}{name}.lora_B.weight"], far.float()
            cores[name] = inner.t().float()
        self._set(bases)
        with torch.no_grad():
            for name, layer in self._layers().items():
                layer.lora_A[NAME].core.copy_(cores[name])

    def resume_state(self) -> dict[str, Tensor]:
        """The bases: estimated again they might differ in the last bits, and the cores belong to these."""
        return {
            f"{name}/{side}": basis.detach().clone(memory_format=torch.contiguous_format)
            for name, layer in self._layers().items()
            for side, basis in zip(SIDES, (layer.lora_B[NAME].weight, layer.lora_A[NAME].basis.t()), strict=True)
        }

    def take_resume_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remove the bases from a checkpoint's tensors and return them."""
        return {key: tensors.pop(key) for key in list(tensors) if key.rpartition("/")[2] in SIDES}

    def resume(self, state: Mapping[str, Tensor], step: int) -> None:
        """Put the bases back.

        Raises:
            RecipeError: there are none, neither here nor from `start`.
        """
        if state:
            self._set({name: (state[f"{name}/left"], state[f"{name}/right"]) for name in self._layers()})
        if not self._has_bases:
            raise _no_bases("gradient bases cannot be estimated without labelled training rows")

    def _set(self, bases: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Put U (out, r) and V (in, r) into every layer."""
        with torch.no_grad():
            for name, layer in self._layers().items():
                left, right = bases[name]
                layer.lora_B[NAME].weight.copy_(left)
                layer.lora_A[NAME].basis.copy_(right.t())
        self._has_bases = True

    def _layers(self) -> dict[str, Any]:
        return {name: self.module.get_submodule(name) for name in ranks(self.config, self.spec)}


class SecondMoment:
    """The sum of G Gᵀ over matrices G (n, m), kept as its product with k random directions instead of as (n, n).

    From the sketch Y = (Σ G Gᵀ) Ω its leading eigenvectors follow by the Nyström approximation (Tropp et al. 2017,
    "Fixed-rank approximation of a positive-semidefinite matrix from streaming data",
    https://arxiv.org/abs/1706.05736, algorithm 3), exactly where k = n.

    Args:
        size: n.
        rank: r, how many eigenvectors are wanted.
        seed: seed of the random directions.
    """

    def __init__(self, size: int, rank: int, seed: int) -> None:
        self.rank = rank
        width = min(size, 2 * rank + OVERSAMPLING)
        generator = torch.Generator().manual_seed(seed)
        self._directions = torch.linalg.qr(torch.randn(size, width, generator=generator))[0]  # (n, k)
        self._sketch = torch.zeros(size, width)

    def add(self, matrix: Tensor) -> None:
        """Add one matrix (n, m), on any device."""
        directions = self._directions.to(matrix.device)
        self._sketch += (matrix @ (matrix.t() @ directions)).cpu()

    def leading(self) -> Tensor:
        """(n, r): orthonormal, the strongest direction first.

        Raises:
            RecipeError: what was added is not finite.
        """
        sketch, directions = self._sketch.double(), self._directions.double()
        if not sketch.isfinite().all():
            raise _no_bases("the gradients on the training rows are not finite numbers")
        # A small multiple of the identity is added to the sum, so that Ωᵀ Y stays positive definite despite rounding.
        shift = torch.finfo(torch.float32).eps * float(torch.linalg.matrix_norm(sketch)) or 1.0
        sketch = sketch + shift * directions
        inner = directions.t() @ sketch  # (k, k)
        values, vectors = torch.linalg.eigh((inner + inner.t()) / 2)
        root = sketch @ (vectors / values.clamp(min=shift).sqrt())  # (n, k), Y (Ωᵀ Y)^(-1/2)
        found: Tensor = torch.linalg.svd(root, full_matrices=False).U
        return found[:, : self.rank].float()


OVERSAMPLING = 16  # directions beyond twice the rank


def singular_bases(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The leading left and right singular vectors of a matrix (out, in): U (out, r) and V (in, r), in fp32.

    By the eigenvectors of the smaller of W Wᵀ and Wᵀ W, which takes a fraction of a whole decomposition's time.
    """
    matrix = weight.detach().float()
    wide = matrix.shape[0] <= matrix.shape[1]
    matrix = matrix if wide else matrix.t()  # (n, m), n <= m
    near = torch.linalg.eigh(matrix @ matrix.t()).eigenvectors.flip(1)[:, :rank]  # (n, r)
    # Columns of Wᵀ U are orthogonal but for rounding; QR leaves them so, and scales them.
    far = torch.linalg.qr(matrix.t() @ near)[0]  # (m, r)
    return (near, far) if wide else (far, near)


def _no_bases(what: str) -> RecipeError:
    return RecipeError(
        what, where="plan -> bases", expected="svd, which reads the weights alone, or labelled rows",
        received="gradient", remedy="train with --bases svd",
    )  # fmt: skip
