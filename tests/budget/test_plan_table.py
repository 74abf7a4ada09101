from __future__ import annotations

from pennyweight.budget.backbone_config import load_config
from pennyweight.budget.count import AdapterSpec
from pennyweight.budget.plan import plan
from pennyweight.budget.plan_table import PlanRow, render, tabulate


def test_rows_add_up_and_share_the_budget() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=50_000)
    rows = tabulate(planned).rows
    assert rows[0] == PlanRow("query", "layers 9-11", 1, 4_608, 4_608 / 50_000)
    assert rows[-1] == PlanRow("linear head", "head", None, 3_076, 3_076 / 50_000)
    assert sum(row.parameters for row in rows) == planned.count.trainable


def test_without_a_budget_shares_are_of_what_is_trained() -> None:
    adapter = AdapterSpec(r=8, lora_alpha=8, target_modules=("query",))
    planned = plan(load_config("embedded"), labels=2, budget=None, strategy="manual", adapter=adapter)
    assert sum(row.share for row in tabulate(planned).rows) == 1.0
    assert "left over" not in render(planned)


def test_the_table_as_text() -> None:
    planned = plan(load_config("roberta-base"), labels=4, budget=50_000)
    assert render(planned) == (
        "part                    where        rank  parameters   share\n"
        "----------------------  -----------  ----  ----------  ------\n"
        "query                   layers 9-11     1       4,608    9.2%\n"
        "key                     layers 9-11     1       4,608    9.2%\n"
        "value                   layers 9-10     1       3,072    6.1%\n"
        "value                   layer 11        2       3,072    6.1%\n"
        "attention.output.dense  layers 9-11     1       4,608    9.2%\n"
        "intermediate.dense      layers 9-11     1      11,520   23.0%\n"
        "output.dense            layers 9-10     1       7,680   15.4%\n"
        "output.dense            layer 11        2       7,680   15.4%\n"
        "linear head             head                    3,076    6.2%\n"
        "----------------------  -----------  ----  ----------  ------\n"
        "total                                          49,924   99.8%\n"
        "left over                                          76    0.2%\n"
        "budget                                         50,000  100.0%\n"
        "\n"
        "auto: every linear layer, the remainder goes to the upper layers\n"
        "ranks: 1 on 16 matrices, 2 on 2 matrices\n"
        "reach: 18 of 72 matrices, on layers 9-11; rank 1 on all of them would cost 165,888\n"
        "head: linear, 3,076 parameters; the architecture's own would be 593,668\n"
        "alpha: 2 r, so that a matrix is scaled by 2 whatever its rank; 8 / r below rank 4\n"
        "left over: 76; the cheapest further rank costs 1,536"
    )
