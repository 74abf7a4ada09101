"""What is adapted, how, and with which head: plain values; an adapter and a head are valid once built."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from ..errors import RecipeError

Bias = Literal["none", "lora_only", "all"]
Scaling = Literal["alpha/r", "alpha"]
AdapterKind = Literal["auto", "lora", "lora-xs"]
Bases = Literal["svd", "gradient"]
HeadKind = Literal["linear", "low_rank", "full"]
XS_ALPHA = 30.0  # see `xs_alpha`


@dataclass(frozen=True)
class Conflict:
    """Two settings that are valid one by one and impossible together.

    Attributes:
        setting: name of the one.
        expected: what goes with it.
        received: the other and its value.
        reason: why both cannot hold, a clause.
    """

    setting: str
    expected: str
    received: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """The settings of an adapter except its ranks. These defaults are neutral; a recipe's are in its schema.

    Attributes:
        lora_dropout: dropout before A.
        bias: none, the adapted layers' own (`lora_only`), or every bias of the encoder (`all`).
        use_rslora: scale by alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732).
        use_dora: train a magnitude per output as well (Liu et al. 2024, arXiv:2402.09353).
        scaling: `alpha/r` as PEFT does, W = W0 + alpha/r BA; or `alpha`, W = W0 + alpha BA.
        adaptive_ranks: AdaLoRA (Zhang et al. 2023, arXiv:2303.10512): W = W0 + alpha/r B diag(E) A, the ranks are where
            training starts, and it drops those that matter least.
        adapter: `lora`; or `lora-xs` (Balazy et al. 2024, arXiv:2405.17604): W = W0 + alpha/r U R V^T, where U
            (out, r) and V (in, r) are frozen and only the core R (r, r) is trained. `auto` lets the planner choose.
        bases: where LoRA-XS takes U and V from: the singular vectors of the frozen weight (`svd`), or the leading
            eigenvectors of the second moments of its gradients on training rows (`gradient`; after arXiv:2411.19557).
    """

    lora_dropout: float = 0.0
    bias: Bias = "none"
    use_rslora: bool = False
    use_dora: bool = False
    scaling: Scaling = "alpha/r"
    adaptive_ranks: bool = False
    adapter: AdapterKind = "lora"
    bases: Bases = "gradient"

    @property
    def is_plain(self) -> bool:
        """Whether nothing is trained but low-rank updates scaled by alpha / r: what excludes LoRA-XS is not set."""
        return not any(given for _, given in self._beyond_plain())

    def _beyond_plain(self) -> tuple[tuple[str, bool], ...]:
        return (
            (f"bias {self.bias}", self.bias != "none"),
            ("scaling alpha", self.scaling == "alpha"),
            ("use_dora", self.use_dora),
            ("use_rslora", self.use_rslora),
            ("adaptive_ranks", self.adaptive_ranks),
        )

    def conflicts(self) -> Iterator[Conflict]:
        """The settings that cannot hold together."""
        if self.use_rslora and self.scaling == "alpha":
            yield Conflict("use_rslora", "scaling alpha/r", "scaling alpha", "rsLoRA is itself a way of scaling")
        if self.adaptive_ranks:
            for other, given in self._beyond_plain()[:-1]:
                if given:
                    reason = "AdaLoRA trains only B diag(E) A, scaled by alpha / r"
                    yield Conflict("adaptive_ranks", "plain LoRA", other, reason)
        if self.adapter == "lora-xs":
            for other, given in self._beyond_plain():
                if given:
                    reason = "LoRA-XS trains only the cores of U R V^T, scaled by alpha / r"
                    yield Conflict("adapter", "plain settings", other, reason)


@dataclass(frozen=True)
class AdapterSpec(AdapterSettings):
    """A LoRA adapter (Hu et al. 2021, arXiv:2106.09685), in PEFT's terms.

    Attributes:
        r: rank of every matrix no pattern names.
        lora_alpha: numerator of the scale, or the scale itself with `scaling="alpha"`.
        target_modules: PEFT suffixes (`query`, `output.dense`), roles (`query`, `key`, `value` in any architecture)
            or groups (`attention`, `all-linear`).
        layers: blocks to adapt, 0 nearest the embeddings; None for all.
        rank_pattern: regular expression on a module's name, matched from a dot to the end as PEFT does, to its rank.
        alpha_pattern: the same for `lora_alpha`.

    Raises:
        RecipeError: a value out of range, or two that contradict each other.
    """

    r: int
    lora_alpha: float
    target_modules: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The name of the adapter's method, by which `budget.count` and `model.adapters` know it."""
        return self.adapter if self.adapter != "lora" else "adalora" if self.adaptive_ranks else "lora"

    @property
    def as_saved(self) -> AdapterSpec:
        """The plain LoRA that LoRA-XS is folded into: the same matrices, ranks and scales. Others are as they are."""
        return replace(self, adapter="lora") if self.adapter == "lora-xs" else self

    def __post_init__(self) -> None:
        positive_whole(self.r, "adapter -> r")
        for key, rank in self.rank_pattern.items():
            positive_whole(rank, f"adapter -> rank_pattern -> {key}")
        _positive(self.lora_alpha, "adapter -> lora_alpha")
        for key, alpha in self.alpha_pattern.items():
            _positive(alpha, f"adapter -> alpha_pattern -> {key}")
        for name, patterns in (("rank_pattern", self.rank_pattern), ("alpha_pattern", self.alpha_pattern)):
            for key in patterns:
                _regular(key, f"adapter -> {name}")
        if not 0 <= self.lora_dropout < 1:
            raise RecipeError(
                "the dropout cannot be used",
                where="adapter -> lora_dropout",
                expected="a number from 0 to below 1",
                received=self.lora_dropout,
            )
        one_of(self.bias, get_args(Bias), "adapter -> bias")
        one_of(self.scaling, get_args(Scaling), "adapter -> scaling")
        one_of(self.adapter, get_args(AdapterKind)[1:], "adapter -> adapter")
        one_of(self.bases, get_args(Bases), "adapter -> bases")
        for found in self.conflicts():
            raise contradiction(found.setting, found.received, found.reason)


@dataclass(frozen=True)
class HeadSpec:
    """The head, which turns the pooled vector of H numbers into one score per label.

    Attributes:
        kind: `linear` is one layer, H x labels and a bias. `full` is the architecture's own head, all of it trained.
            `low_rank` is the architecture's own with its dense weight (out x in) factored as (out x rank)(rank x in).
        rank: inner width of `low_rank`; the other kinds do not read it.

    Raises:
        RecipeError: an unknown kind, or a rank below 1.
    """

    kind: HeadKind = "linear"
    rank: int = 8

    def __post_init__(self) -> None:
        one_of(self.kind, get_args(HeadKind), "head -> kind")
        positive_whole(self.rank, "head -> rank")


def xs_alpha(rank: int) -> float:
    """LoRA-XS's alpha at a rank: a core is scaled by 30 / sqrt(r), so that one learning rate suits all ranks.

    With Adam's steps of one size whatever the gradient, scale times rate says how fast the update grows (docs/log.md).
    """
    return round(XS_ALPHA * math.sqrt(rank), 2)


def positive_whole(value: object, where: str) -> int:
    """Return `value` if it is a whole number of 1 or more, otherwise raise `RecipeError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RecipeError(
            "the value cannot be used", where=where, expected="a whole number of 1 or more", received=repr(value)
        )
    return value


def one_of(value: object, allowed: tuple[str, ...], where: str) -> None:
    """Raise `RecipeError` unless `value` is one of the allowed words."""
    if value not in allowed:
        raise RecipeError("unknown value", where=where, expected="one of " + ", ".join(allowed), received=repr(value))


def contradiction(one: str, other: str, reason: str) -> RecipeError:
    """The error for two options that cannot both hold."""
    return RecipeError(f"{one} and {other} contradict each other: {reason}", remedy="drop one of the two")


def _positive(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise RecipeError("the value cannot be used", where=where, expected="a number above 0", received=repr(value))


def _regular(key: str, where: str) -> None:
    try:
        re.compile(key)
    except re.error as error:
        raise RecipeError(
            f"the pattern is not a regular expression ({error})", where=where, received=repr(key)
        ) from error
