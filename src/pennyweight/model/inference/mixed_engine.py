"""One frozen backbone for many classifiers: batches in which every text has its own adapter and head.

The backbone's products run once over all rows of a batch; what each adapter adds runs through its rank, for its rows
alone. Adapters may differ in rank, layers, modules, DoRA and biases; heads in kind, labels and pooling. A text that
several classifiers read is computed once up to the layers that they adapt.

A text's logits are those of its classifier alone but for rounding: within 1e-4 of the largest in fp32, 2e-2 in bf16.
There is no int8: what it rounds by is measured for each classifier, and shared weights have one set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...budget.plan import Plan
from ...budget.specs import AdapterSpec
from ...budget.targets import scales
from ...data.batching import Encoded, Integers, Windows
from ..adapters.lora import PREFIX
from ..backbone import Backbone
from ..device import DTYPES, Runtime
from ..heads import head_of
from .adapted_products import AdaptedProducts
from .adapter_updates import LinearUpdate, LowRank
from .engine import ENCODERS, refuse_too_long, run_batches
from .inference_encoder import InferenceEncoder
from .member import AdapterWeights, Member
from .merge import backbone_state, dora_factor
from .mixed_rows import MixedBatch, mixed_batch
from .pooling import first_and_mean
from .token_rows import TOKENS, plan_token_batches


@dataclass(frozen=True)
class MixedEngine:
    """A frozen encoder that any number of `Member`s share; any number of threads may use it.

    Attributes:
        products: products that the encoder was built with: which layers each one holds, and their frozen biases.
        norm_biases: biases of the encoder's layer norms, by transformers' name.
        pad_id: the tokenizer's padding id.
    """

    backbone: Backbone
    encoder: InferenceEncoder
    products: AdaptedProducts
    norm_biases: Mapping[str, Tensor]
    pad_id: int

    @property
    def max_length(self) -> int:
        """The longest text in tokens that it has positions for."""
        return self.encoder.max_length

    def member(self, plan: Plan, adapter: Mapping[str, Tensor], head: Mapping[str, Tensor], pooling: str) -> Member:
        """A classifier over this backbone.

        Args:
            plan: what was trained.
            adapter: by the names that PEFT saves.
            head: by the names of `model.heads.Head`.
            pooling: what its head reads, `cls` or `mean`.
        """
        own = head_of(plan.head, self.backbone.config, len(head["out.bias"]))
        # Assigned, not copied: nothing else holds the tensors.
        own.load_state_dict(dict(head), assign=True)
        weights = AdapterWeights({}, {}, len(self.encoder.layers))
        if plan.adapter is not None:
            trained = {name.removeprefix(PREFIX): tensor.detach().float() for name, tensor in adapter.items()}
            weights = self._adapter(plan.adapter, trained)
        return Member(weights, own.requires_grad_(False), pooling)

    def logits(self, tokens: Encoded, readers: Sequence[Sequence[Member]]) -> list[list[np.ndarray]]:
        """The logits of each classifier.

        Args:
            tokens: N token sequences.
            readers: the members that read each of them.

        Returns:
            For each sequence the (L,) fp32 logits of its members, in their order.

        Raises:
            DataError: a sequence is longer than the backbone's positions.
        """
        if tokens.windows is not None:
            return self._of_windows(tokens.windows, tokens.sequences, readers)
        refuse_too_long(tokens, self.max_length)
        found: list[list[np.ndarray]] = [[np.empty(0, np.float32)] * len(own) for own in readers]
        texts, own_readers = _within_batches(tokens.lengths, readers)
        copies = np.array([len(own) for own in own_readers], dtype=np.int64)
        plan = plan_token_batches(tokens.lengths[texts], torch.get_num_threads(), copies=copies)

        def one(rows: Integers) -> None:
            chosen = [own_readers[row] for row in rows.tolist()]
            batch = mixed_batch(tokens, texts[rows], chosen, len(self.encoder.layers), self.pad_id)
            self._compute(batch, found)

        run_batches([partial(one, rows) for rows in plan])
        return found

    def _of_windows(
        self, windows: Windows, tokens: Encoded, readers: Sequence[Sequence[Member]]
    ) -> list[list[np.ndarray]]:
        """The means over the windows of each text, which its members read one by one."""
        spread = [own for own, count in zip(readers, windows.counts.tolist(), strict=True) for _ in range(count)]
        found = self.logits(tokens, spread)
        pieces = [found[start:stop] for start, stop in pairwise(windows.texts.tolist())]
        return [[np.mean(of_one, axis=0) for of_one in zip(*piece, strict=True)] for piece in pieces]

    @torch.inference_mode()
    def _compute(self, batch: MixedBatch, found: list[list[np.ndarray]]) -> None:
        """Put the answers of one batch in their places."""
        stages, last = list(batch.stages), len(self.encoder.layers) - 1
        first_only = all(member.pooling == "cls" for member, _, _ in batch.answers)
        stage = stages.pop(0)
        final = batch.stages[-1]
        ends = final.of_texts if first_only else final.segments
        encoder = self.encoder.adapted(stage.segments, ends)
        x, positions = encoder.embed(stage.batch), encoder.positions(stage.batch)
        for index, layer in enumerate(encoder.layers):
            if stages and stages[0].layer == index:
                stage = stages.pop(0)
                assert stage.rows is not None
                x, positions = x.index_select(0, stage.rows), encoder.positions(stage.batch)
            if first_only and index == last:
                x = layer.adapted(stage.segments, stage.of_texts).first(x, stage.batch, positions)
            else:
                x = layer.adapted(stage.segments, stage.segments)(x, stage.batch, positions)
        x = encoder.finish(x)
        vectors = x.float() if first_only else first_and_mean(x, stage.batch)  # (B, H) or (B, 2H)
        where = np.empty(len(stage.order), dtype=np.int64)
        where[stage.order] = np.arange(len(stage.order))
        width = vectors.shape[1] // (1 if first_only else 2)
        for member, copies, places in batch.answers:
            columns = slice(0, width) if member.pooling == "cls" else slice(width, 2 * width)
            read = vectors[torch.from_numpy(where[copies]), columns]
            for (text, place), logits in zip(places, member.head(read).numpy(), strict=True):
                found[text][place] = logits

    def _adapter(self, spec: AdapterSpec, trained: Mapping[str, Tensor]) -> AdapterWeights:
        factors = scales(self.backbone.config, spec)
        dora = _dora_factors(self.backbone, factors, trained) if spec.use_dora else {}
        own_biases = {name.replace(".base_layer.", "."): t for name, t in trained.items() if name.endswith(".bias")}
        updates = {}
        for name, layers in self.products.layers.items():
            made = self._update(layers, factors, dora, trained, own_biases)
            if made is not None:
                updates[name] = made
        norms = {
            name: own_biases[f"{name}.bias"] - frozen
            for name, frozen in self.norm_biases.items()
            if f"{name}.bias" in own_biases
        }
        return AdapterWeights(updates, norms, self._first_layer([*updates, *norms]))

    def _update(
        self,
        layers: Mapping[str, slice],
        factors: Mapping[str, float],
        dora: Mapping[str, Tensor],
        trained: Mapping[str, Tensor],
        own_biases: Mapping[str, Tensor],
    ) -> LinearUpdate | None:
        """The update of a product in some layers by an adapter; None if there is none."""
        dtype, downs, parts, start = self.products.dtype, [], [], 0
        width = max(columns.stop for columns in layers.values())
        biases = None
        for name, columns in layers.items():
            if name in factors:
                down, up = trained[f"{name}.lora_A.weight"], trained[f"{name}.lora_B.weight"] * factors[name]
                ratio = None
                if name in dora:
                    ratio, up = (dora[name] - 1).to(dtype), up * dora[name][:, None]
                parts.append(LowRank(columns, slice(start, start + len(down)), up.to(dtype), ratio))
                downs.append(down)
                start += len(down)
            if f"{name}.bias" in own_biases:
                biases = torch.zeros(width) if biases is None else biases
                biases[columns] = own_biases[f"{name}.bias"] - self.products.biases[name]
        if not parts and biases is None:
            return None
        stacked = torch.cat(downs).to(dtype) if downs else None
        return LinearUpdate(stacked, tuple(parts), None if biases is None else biases.to(dtype))

    def _first_layer(self, changed: Iterable[str]) -> int:
        """The lowest layer among names of products, which begin with its number, and of layer norms."""
        depth = len(self.encoder.layers)
        lowest = depth
        for name in changed:
            numbers = [int(part) for part in name.split(".") if part.isdigit()]
            if numbers:
                lowest = min(lowest, numbers[0])
            elif "final_norm" in name:
                lowest = min(lowest, depth - 1)
            else:
                lowest = 0  # of the embeddings
        return lowest


def mixed_engine(backbone: Backbone, runtime: Runtime, pad_id: int) -> MixedEngine | None:
    """A backbone for many classifiers; None if its family has no inference encoder, or the device is not a CPU.

    Args:
        runtime: its number format is fp32 or bf16.
        pad_id: the tokenizer's padding id.
    """
    build = ENCODERS.get(str(backbone.config["model_type"]))
    if build is None or runtime.device.type != "cpu":
        return None
    products = AdaptedProducts(DTYPES[runtime.precision])
    state = backbone_state(backbone)
    with torch.inference_mode():
        encoder = build(backbone.config, state, products, "cls")
    if encoder is None:
        return None
    linear = {name for layers in products.layers.values() for name in layers}
    biases = {name.removesuffix(".bias"): tensor for name, tensor in state.items() if name.endswith(".bias")}
    norm_biases = {name: tensor.clone() for name, tensor in biases.items() if name not in linear}
    return MixedEngine(backbone, encoder, products, norm_biases, pad_id)


def _within_batches(
    lengths: Integers, readers: Sequence[Sequence[Member]]
) -> tuple[Integers, list[list[tuple[int, Member]]]]:
    """The texts and their readers, a text of more readers than a batch has room for more than once."""
    texts: list[int] = []
    found: list[list[tuple[int, Member]]] = []
    for text, own in enumerate(readers):
        most = max(1, TOKENS // max(1, int(lengths[text])))
        placed = list(enumerate(own))
        for start in range(0, len(placed), most):
            texts.append(text)
            found.append(placed[start : start + most])
    return np.array(texts, dtype=np.int64), found


def _dora_factors(backbone: Backbone, factors: Mapping[str, float], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """c (out,) of each layer that DoRA adapts."""
    state, found = backbone_state(backbone), {}
    for name, scale in factors.items():
        down, up = trained[f"{name}.lora_A.weight"], trained[f"{name}.lora_B.weight"]
        updated = torch.addmm(state[f"{name}.weight"], up, down, alpha=scale)
        found[name] = dora_factor(updated, trained[f"{name}.lora_magnitude_vector"])
    return found
