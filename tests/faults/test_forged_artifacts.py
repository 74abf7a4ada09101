"""Saved classifiers made up by a stranger, who seals what he likes: refused with one line or harmless, no traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight.errors import PennyweightError
from pennyweight.predict import predictor as predict

from ..json_values import places, put

TEXTS = ["the bank cut rates", "a striker in the final", "a probe of the moon", ""]


def answers(folder: Path) -> np.ndarray:
    return predict.load(folder, device="cpu").predict_proba(TEXTS)


def reseal(folder: Path) -> None:
    """Make checksums and seal right again, as anybody can."""
    from pennyweight.artifact.layout import MANIFEST
    from pennyweight.artifact.manifest import manifest_text

    path = folder / MANIFEST
    facts = json.loads(path.read_text())
    digests = facts.pop("sha256")
    facts.pop("seal", None)
    path.write_text(manifest_text(facts, folder, list(digests)))


ODD = (
    None, True, -1, 0, 1, 3, 10**9, 10**30, 0.5, 1e308, "", "x", "../../etc/passwd", "\ud7ff\n", [], [[]], {},
    ["x"] * 3, {"a": {}}, "cls", "mean", "linear", "full",
)  # fmt: skip


def odd(value: Any, chance: random.Random) -> Any:
    """The same JSON with one value anywhere in it replaced, one key renamed, or one dropped."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if chance.random() < 0.1:
            return {(k if k != key else f"{k}x"): v for k, v in value.items()}
        return value | {key: odd(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [odd(held, chance) if number == place else held for number, held in enumerate(value)]
    return chance.choice(ODD)


def make_up(folder: Path, chance: random.Random) -> str:
    name = chance.choice(
        ["plan.json", "metrics.json", "adapter/adapter_config.json", "tokenizer/tokenizer_config.json",
         "tokenizer/tokenizer.json", "recipe.yaml", "pennyweight.json", "pennyweight.json", "tensors"]
    )  # fmt: skip
    if name == "tensors":
        what = odd_tensors(folder, chance)
    else:
        import yaml

        path = folder / name
        if name == "recipe.yaml":
            path.write_text(yaml.safe_dump(odd(yaml.safe_load(path.read_text()), chance)))
        elif name == "pennyweight.json":
            facts = json.loads(path.read_text())
            changed = odd({key: value for key, value in facts.items() if key not in ("sha256", "seal")}, chance)
            changed = changed if isinstance(changed, dict) else {}
            path.write_text(json.dumps(changed | {"sha256": facts["sha256"]}))
        else:
            path.write_text(json.dumps(odd(json.loads(path.read_text()), chance)))
        what = name
    reseal(folder)
    return what


def odd_tensors(folder: Path, chance: random.Random) -> str:
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / chance.choice(["head.safetensors", "adapter/adapter_model.safetensors"])
    tensors = load_file(path)
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    changes: dict[str, Callable[[], Any]] = {
        "NaN": lambda: tensor.masked_fill(torch.rand_like(tensor) < 0.5, float("nan")),
        "infinity": lambda: tensor.fill_(float("inf")),
        "half": lambda: tensor.half(),
        "double": lambda: tensor.double(),
        "integers": lambda: tensor.long(),
        "flat": lambda: tensor.flatten(),
        "longer": lambda: torch.cat([tensor, tensor]),
        "shorter": lambda: tensor[:-1].clone(),
        "empty": lambda: tensor[:0].clone(),
        "transposed": lambda: tensor.t().contiguous() if tensor.ndim == 2 else tensor.unsqueeze(0),
    }
    what = chance.choice([*changes, "dropped", "renamed", "added"])
    if what in changes:
        tensors[name] = changes[what]()
    elif what == "added":
        tensors["more"] = torch.zeros(2)
    else:
        taken = tensors.pop(name)
        tensors |= {f"{name}x": taken} if what == "renamed" else {}
    save_file(tensors, path)
    return f"{path.name}: {name} {what}"


def invent(count: int, clean: Path, folder: Path, figure: Callable[[str], None]) -> None:
    chance = random.Random(count)
    refused, used, wrong = 0, 0, []
    for _ in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(clean, folder)
        try:
            what = make_up(folder, chance)
        except (UnicodeEncodeError, ValueError):
            continue
        try:
            got = answers(folder)
        except PennyweightError as error:
            refused += 1
            if "\n" in str(error):
                wrong.append(f"{what}: {error}")
        except BaseException as error:
            wrong.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
        else:
            used += 1
            if not np.isfinite(got).all() or not np.allclose(got.sum(axis=1), 1):
                wrong.append(f"{what}: {got}")
    figure(f"{refused + used:,} made-up classifiers with right checksums: {refused:,} refused with one line, {used:,} "
           f"harmless, {len(wrong)} tracebacks or senseless answers")  # fmt: skip
    assert wrong == []
    assert refused >= used  # a share that falls further says that a check has gone


@pytest.mark.faults
@pytest.mark.parametrize("name", ["plan.json", "recipe.yaml", "adapter/adapter_config.json"])
def test_every_value_made_odd(name: str, clean: Path, fast_folder: Path, figure: Callable[[str], None]) -> None:
    import yaml

    folder = fast_folder / "odd"
    value = yaml.safe_load((clean / name).read_text())
    refused, used, wrong = 0, 0, []
    for path in places(value):
        for new in (None, True, -1, 10**30, "x", [], {}):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(clean, folder)
            text = json.dumps(put(value, path, new))
            (folder / name).write_text(text if name.endswith("json") else yaml.safe_dump(json.loads(text)))
            reseal(folder)
            try:
                used += bool(np.isfinite(answers(folder)).all())
            except PennyweightError as error:
                refused += 1
                wrong += [str(error)] * ("\n" in str(error))
            except BaseException as error:
                wrong.append(f"{path} {new!r}: {type(error).__name__}: {str(error)[:300]}")
    figure(f"{name}, every value replaced: {refused} refused with one line, {used} harmless, {len(wrong)} tracebacks")
    assert wrong == []


def test_some_made_up_classifiers(clean: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    invent(40, clean, tmp_path / "made-up", figure)


@pytest.mark.faults
def test_many_made_up_classifiers(clean: Path, fast_folder: Path, figure: Callable[[str], None]) -> None:
    invent(600, clean, fast_folder / "made-up", figure)
