"""Saved classifiers that were damaged, or made up: refused with one line, never a traceback, never a wrong answer."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pennyweight import predict
from pennyweight.errors import ArtifactError, PennyweightError

TEXTS = ["the bank cut rates", "a striker in the final", "a probe of the moon", ""]


def answers(folder: Path) -> np.ndarray:
    return predict.load(folder, device="cpu").predict_proba(TEXTS)


@pytest.fixture(scope="session")
def clean(saved: Path, fast_folder: Path) -> Path:
    """The classifier's own files, as they would be handed on."""
    manifest = json.loads((saved / "pennyweight.json").read_text())
    folder = fast_folder / "clean"
    for name in [*manifest["sha256"], "pennyweight.json"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(saved / name, folder / name)
    return folder


# --- damage: each changes the files of a folder and says what it did ---------------------------------------------


def flip(files: list[Path], chance: random.Random) -> str:
    file = chance.choice([path for path in files if path.stat().st_size])
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 1, 1, 2, 16])):
        content[chance.randrange(len(content))] ^= chance.choice([1, 2, 4, 8, 16, 32, 64, 128, chance.randint(1, 255)])
    file.write_bytes(content)
    return f"flipped bytes of {file.name}"


def truncate(files: list[Path], chance: random.Random) -> str:
    file = chance.choice([path for path in files if path.stat().st_size])
    size = chance.choice([0, file.stat().st_size - 1, chance.randrange(file.stat().st_size)])
    file.write_bytes(file.read_bytes()[:size])
    return f"truncated {file.name} to {size}"


def append(files: list[Path], chance: random.Random) -> str:
    file = chance.choice(files)
    file.write_bytes(file.read_bytes() + chance.choice([b"\0", b"\n", b" ", chance.randbytes(9)]))
    return f"appended to {file.name}"


def blank(files: list[Path], chance: random.Random) -> str:
    """What a disk leaves where a block was never written."""
    file = chance.choice([path for path in files if any(path.read_bytes())])
    content = bytearray(file.read_bytes())
    start = chance.choice([place for place in range(0, len(content), 512) if any(content[place : place + 512])])
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    file.write_bytes(content)
    return f"blanked 512 bytes of {file.name} at {start}"


def swap(files: list[Path], chance: random.Random) -> str:
    one, other = chance.sample(files, 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"swapped {one.name} and {other.name}" if first != second else ""


def remove(files: list[Path], chance: random.Random) -> str:
    file = chance.choice(files)
    file.unlink()
    return f"removed {file.name}"


DAMAGE = (flip, flip, flip, flip, truncate, truncate, append, blank, swap, remove)


def corrupt(count: int, clean: Path, folder: Path, figure: Callable[[str], None]) -> None:
    chance = random.Random(count)
    truth = answers(clean)
    refused, kinds, wrong = 0, Counter[str](), []
    for number in range(count):
        what = ""
        while not what:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(clean, folder)
            damage = DAMAGE[number % len(DAMAGE)]
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            what = damage(files, chance)
        try:
            got = answers(folder)
        except ArtifactError as error:
            refused += 1
            kinds[damage.__name__] += 1
            if "\n" in str(error) or not str(error).startswith(str(folder)):
                wrong.append(f"{what}: {error}")
        except BaseException as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{what}: answered, {'rightly' if np.array_equal(got, truth) else 'WRONGLY'}")
    tracebacks = sum("Error: " in line for line in wrong)
    answered = sum("WRONGLY" in line for line in wrong)
    how = ", ".join(f"{name} {times}" for name, times in kinds.items())
    figure(
        f"{count:,} corrupted classifiers ({how}): {refused:,} refused with one line, {tracebacks} tracebacks, "
        f"{answered} wrong answers"
    )
    assert wrong == []
    assert refused == count


def test_some_corruptions(clean: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    corrupt(60, clean, tmp_path / "damaged", figure)


@pytest.mark.faults
def test_a_thousand_corruptions(clean: Path, fast_folder: Path, figure: Callable[[str], None]) -> None:
    corrupt(1000, clean, fast_folder / "damaged", figure)


# --- made up: a stranger who seals what he likes -----------------------------------------------------------------


def reseal(folder: Path) -> None:
    """Make checksums and seal right again, as anybody can."""
    from pennyweight import manifest

    path = folder / manifest.NAME
    facts = json.loads(path.read_text())
    digests = facts.pop("sha256")
    facts.pop("seal", None)
    path.write_text(manifest.text(facts, folder, list(digests)))


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
    assert refused > used


def test_some_made_up_classifiers(clean: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    invent(40, clean, tmp_path / "made-up", figure)


@pytest.mark.faults
def test_many_made_up_classifiers(clean: Path, fast_folder: Path, figure: Callable[[str], None]) -> None:
    invent(600, clean, fast_folder / "made-up", figure)
