"""Single kernels behind choices of the engine, each beside what was not chosen: microseconds, best of many.

    OMP_NUM_THREADS=2 python benchmarks/kernels.py

Shapes are MiniLM-L6's with a batch of 32 texts: N = 1,728 tokens, H = 384, 12 heads, T positions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pennyweight.model.kernels.frozen_linear import FrozenMatrix

N, H, HEADS, R = 1728, 384, 12, 16


def best(work: Callable[[], Any], times: int = 200) -> float:
    """Microseconds of the fastest of `times` calls."""
    for _ in range(5):
        work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return 1e6 * min(found)


def show(what: str, **ways: Callable[[], Any]) -> None:
    print(f"{what}: " + ", ".join(f"{name} {best(way):,.0f} µs" for name, way in ways.items()), flush=True)


def softmax() -> None:
    """Attention weights: bf16's own kernel is slow unless T is a multiple of 32; fp32 with conversions is not."""
    for length in (32, 48, 56, 64, 80, 96, 128):
        scores = torch.randn(32 * HEADS, length, length).bfloat16()
        wide = torch.empty_like(scores, dtype=torch.float32)
        narrow = torch.empty_like(scores)

        def by_fp32(scores: Tensor = scores, wide: Tensor = wide, narrow: Tensor = narrow) -> None:
            wide.copy_(scores)
            narrow.copy_(torch._softmax(wide, -1, False))

        def in_place(scores: Tensor = scores) -> Tensor:
            wide = scores.float()
            return torch.softmax(wide, -1, out=wide).bfloat16()

        show(
            f"softmax, T={length}", bf16=lambda scores=scores: torch.softmax(scores, -1), fp32=by_fp32,
            fp32_made_anew=lambda scores=scores: torch.softmax(scores.float(), -1).bfloat16(), in_place=in_place,
        )  # fmt: skip


def dropout() -> None:
    x = torch.randn(N, H).bfloat16()
    drawn = torch.randint(0, 256, (N, H), dtype=torch.uint8)
    out = torch.empty_like(x)
    dropped, kept = drawn < 26, (drawn >= 26).to(x.dtype)
    words = torch.empty(N * H // 8, dtype=torch.int64)
    sfc = np.random.SFC64(0)
    show("random bytes", torch=lambda: words.random_(-(2**63), None), numpy_sfc64=lambda: sfc.random_raw(N * H // 8))
    show("mask", boolean=lambda: drawn < 26, own_type=lambda: torch.ge(drawn, 26, out=out))
    show(
        "masking", masked_fill=lambda: x.masked_fill(dropped, 0), product=lambda: x * kept, module=lambda: F.dropout(x)
    )


def lora() -> None:
    """Adding three adapters to one block of query, key and value."""
    out, inner = torch.randn(N, 3 * H).bfloat16(), torch.randn(N, 3 * R).bfloat16()
    ups = [torch.randn(H, R).bfloat16() for _ in range(3)]
    diagonal = torch.block_diag(*ups)  # (3H, 3R)

    def apart() -> None:
        for i, up in enumerate(ups):
            out[:, i * H : (i + 1) * H].addmm_(inner[:, i * R : (i + 1) * R], up.t())

    show("B of three adapters", block_diagonal=lambda: out.addmm_(inner, diagonal.t()), one_by_one=apart)
    part, grad = inner[:, :R], out[:, :H]
    show("gradient of B", grad_first=lambda: grad.t() @ part, inner_first=lambda: part.t() @ grad)


def frozen() -> None:
    """A frozen product in the formats this CPU has."""
    x, weight = torch.randn(N, H), torch.randn(4 * H, H)
    bf16 = x.bfloat16(), weight.bfloat16()
    int8 = torch.randint(-127, 128, (N, H), dtype=torch.int8), torch.randint(-127, 128, (H, 4 * H), dtype=torch.int8)
    ways: dict[str, Callable[[], Any]] = {
        "fp32": lambda: F.linear(x, weight),
        "bf16": lambda: F.linear(*bf16),
        "int8_product_alone": lambda: torch._int_mm(*int8),
        "int8_quantizing_alone": lambda: (x * 10).round_().clamp_(-127, 127).to(torch.int8),
    }
    show(f"({N}, {H}) x ({H}, {4 * H})", **ways)


def packed() -> None:
    """Frozen products from weights as they are, and from weights laid out once as oneDNN's kernels read them."""
    onednn = torch.ops.mkldnn._linear_pointwise
    for inputs, outputs in ((H, 3 * H), (H, H), (H, 4 * H), (4 * H, H)):
        weight, bias = torch.randn(outputs, inputs).bfloat16(), torch.randn(outputs).bfloat16()
        prepacked = FrozenMatrix(weight, prepack=True)
        for rows in (8, N):
            x, grad = torch.randn(rows, inputs).bfloat16(), torch.randn(rows, outputs).bfloat16()
            ways: dict[str, Callable[[], Any]] = {
                "linear": partial(F.linear, x, weight, bias),
                "onednn": partial(onednn, x, weight, bias, "none", [], ""),
                "prepacked": partial(prepacked.multiply, x, bias),
            }
            show(f"({rows}, {inputs}) x ({inputs}, {outputs}), forward", **ways)
            show(
                "  backward", product=partial(torch.mm, grad, weight), prepacked=partial(prepacked.input_gradient, grad)
            )


def gelu() -> None:
    x, grad = torch.randn(N, 4 * H).bfloat16(), torch.randn(N, 4 * H).bfloat16()
    backward = torch.ops.aten.gelu_backward
    show("gelu", exact=lambda: F.gelu(x), tanh=lambda: F.gelu(x, approximate="tanh"))
    show("gelu backward", exact=lambda: backward(grad, x), tanh=lambda: backward(grad, x, approximate="tanh"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for group in (softmax, dropout, lora, frozen, packed, gelu):
        group()


if __name__ == "__main__":
    main()
