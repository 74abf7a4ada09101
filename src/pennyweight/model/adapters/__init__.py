"""Adapters: the protocol, one file per method, and the registry they are chosen from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ...budget.specs import AdapterSpec
from .adalora import AdaLoraAdapter
from .adapter import Adapter, NoAdapter
from .lora import LoraAdapter
from .lora_xs import LoraXsAdapter

__all__ = ["METHODS", "Adapter", "NoAdapter", "inject"]

# By `AdapterSpec.method`. A new method is one new file and one line here, and one line in `budget.count.ADAPTERS`.
METHODS: dict[str, Callable[[nn.Module, AdapterSpec, Mapping[str, Any]], Adapter]] = {
    "lora": LoraAdapter.inject,
    "adalora": AdaLoraAdapter.inject,
    "lora-xs": LoraXsAdapter.inject,
}


def inject(module: nn.Module, spec: AdapterSpec | None, config: Mapping[str, Any]) -> Adapter:
    """Freeze an encoder and put a plan's adapter into it, in place; without a spec it is only frozen."""
    return NoAdapter(module) if spec is None else METHODS[spec.method](module, spec, config)
