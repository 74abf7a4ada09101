"""Over 500 random small configurations of every family: planned = PEFT's own count = requires_grad = optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pennyweight.budget.allocation import PlanOptions
from pennyweight.budget.architecture import size
from pennyweight.budget.count import AdapterSpec, HeadSpec, count, head_shapes, linear_modules
from pennyweight.budget.families import FAMILIES
from pennyweight.budget.plan import plan
from pennyweight.errors import BudgetError

QUICK = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
HEADS = st.one_of(
    st.just(HeadSpec("linear")), st.just(HeadSpec("full")), st.builds(HeadSpec, st.just("low_rank"), st.integers(1, 8))
)


@st.composite
def configs(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    family = draw(st.sampled_from(sorted(FAMILIES)))
    heads = draw(st.integers(1, 3))
    changes: dict[str, Any] = {
        "heads": heads,
        "hidden": heads * draw(st.sampled_from([8, 10, 12])),
        # One layer is one kind of attention, which older releases of transformers 5 refuse for ModernBERT.
        "layers": draw(st.integers(2 if family == "modernbert" else 1, 2)),
        "inner": draw(st.integers(1, 40)),
        "vocab_size": draw(st.integers(3, 50)),
        "max_position_embeddings": draw(st.integers(2, 20)),
    }
    switch = st.booleans()
    if family == "electra":
        changes["embedding_size"] = draw(st.sampled_from([4, changes["hidden"]]))
    if family in ("bert", "roberta", "xlm-roberta", "electra"):
        changes["type_vocab_size"] = draw(st.integers(1, 3))
    if family == "modernbert":
        changes |= {name: draw(switch) for name in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")}
    if family == "deberta-v2":
        changes |= {name: draw(switch) for name in ("relative_attention", "share_att_key", "position_biased_input")}
        changes["pos_att_type"] = draw(st.sampled_from(["p2c|c2p", "c2p", ["p2c"], None]))
        changes["norm_rel_ebd"] = draw(st.sampled_from(["none", "layer_norm"]))
        changes["position_buckets"] = draw(st.sampled_from([-1, 3]))
        changes["conv_kernel_size"] = draw(st.sampled_from([0, 3]))
        changes["type_vocab_size"] = draw(st.integers(0, 2))
    return family, changes


@st.composite
def adapters(draw: st.DrawFn, config: dict[str, Any]) -> AdapterSpec:
    modules = linear_modules(config)
    names = [module.name for module in modules] + [module.suffix for module in modules]
    blocks = modules[-1].layer + 1
    targets = draw(
        st.one_of(
            st.just(["all-linear"]),
            st.just(["attention"]),
            st.lists(st.sampled_from(["query", "key", "value", "output.dense", "intermediate.dense"]), min_size=1),
            st.lists(st.sampled_from(names), min_size=1, max_size=4),
        )
    )
    anywhere = all("." not in entry or entry.count(".") < 3 for entry in targets)
    layers = (
        draw(st.lists(st.integers(0, blocks - 1), min_size=1, unique=True))
        if anywhere and draw(st.booleans())
        else None
    )
    patterned = anywhere and draw(st.booleans())
    patterns = {rf".*\.{max(layers) if layers else blocks - 1}\..+": draw(st.integers(1, 9))} if patterned else {}
    # AdaLoRA goes with none of what changes a LoRA layer.
    adaptive = draw(st.booleans()) and draw(st.booleans())
    return AdapterSpec(
        r=draw(st.integers(1, 9)),
        lora_alpha=draw(st.floats(0.5, 64)),
        target_modules=tuple(targets),
        layers=None if layers is None else tuple(layers),
        bias="none" if adaptive else draw(st.sampled_from(["none", "lora_only", "all"])),
        rank_pattern=patterns,
        use_dora=not adaptive and draw(st.booleans()),
        use_rslora=not adaptive and draw(st.booleans()),
        adaptive_ranks=adaptive,
    )


@settings(QUICK, max_examples=150)
@given(data=st.data())
def test_counted_is_what_peft_counts_and_what_is_trained(
    data: st.DataObject,
    tiny: Callable[..., dict[str, Any]],
    peft_count: Callable[..., tuple[int, int]],
    trained_count: Callable[..., int],
) -> None:
    family, changes = data.draw(configs())
    config = tiny(family, **changes)
    adapter, head = data.draw(adapters(config)), data.draw(HEADS)
    labels = data.draw(st.integers(2, 9))
    counted = count(config, adapter=adapter, head=head, labels=labels)
    assert counted.trainable == sum(part.parameters for part in counted.parts)
    assert peft_count(config, adapter, head, labels) == (counted.trainable, counted.total)
    assert trained_count(config, adapter, head, labels, counted.trainable) == counted.trainable


@settings(QUICK, max_examples=100)
@given(data=st.data())
def test_planned_is_within_budget_and_what_peft_counts_and_what_is_trained(
    data: st.DataObject,
    tiny: Callable[..., dict[str, Any]],
    peft_count: Callable[..., tuple[int, int]],
    trained_count: Callable[..., int],
) -> None:
    family, changes = data.draw(configs())
    config = tiny(family, **changes)
    adaptive = data.draw(st.booleans()) and data.draw(st.booleans())
    options = PlanOptions(
        use_dora=not adaptive and data.draw(st.booleans()),
        bias="none" if adaptive else data.draw(st.sampled_from(["none", "lora_only", "all"])),
        adaptive_ranks=adaptive,
        min_rank=data.draw(st.integers(1, 3)),
    )
    strategy = data.draw(st.sampled_from(["uniform", "top", "graded", "attention", "all-linear", "auto"]))
    head, budget = data.draw(HEADS), data.draw(st.integers(1, 20_000))
    try:
        planned = plan(config, labels=3, budget=budget, strategy=strategy, head=head, options=options)
    except BudgetError:
        # Only the head, or one rank everywhere, can be too much.
        assert strategy == "uniform" or size(head_shapes(config, head, 3)) > budget
        return
    assert planned.count.trainable <= budget
    if planned.adapter is not None:
        assert len({planned.adapter.r, *planned.adapter.rank_pattern.values()}) <= 3
        counted = planned.count
        assert peft_count(config, planned.adapter, head, 3) == (counted.trainable, counted.total)
    assert trained_count(config, planned.adapter, head, 3, planned.count.trainable) == planned.count.trainable
