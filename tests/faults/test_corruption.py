"""Saved classifiers that were damaged: refused with one line, never a traceback, never a wrong answer."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pennyweight.errors import ArtifactError
from pennyweight.predict import predictor as predict

TEXTS = ["the bank cut rates", "a striker in the final", "a probe of the moon", ""]


def answers(folder: Path) -> np.ndarray:
    return predict.load(folder, device="cpu").predict_proba(TEXTS)


# Each kind of damage changes the files of a folder and says what it did.


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
