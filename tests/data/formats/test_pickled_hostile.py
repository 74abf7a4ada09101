"""Pickles that would run something, or fill the memory, if anything unpickled them. Nothing does."""

import builtins
import copyreg
import functools
import operator
import os
import pickle
import subprocess
import sys
import tracemalloc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from pennyweight.data.formats.pickled import read_pickle
from pennyweight.data.sources import read

PICKLE_READER = functools.partial(read_pickle, split="train", max_bytes=1 << 30)


class Call:
    """Pickles as `function(*args)`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> Any:
        return self.reduced


class Wakes:
    """Acts when its state is set."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["mark"]).touch()


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def with_hidden(thing: Any) -> bytes:
    """A good dataset, but for one attribute that nobody reads."""
    dataset = Dataset.from_dict({"text": ["a", "b"]})
    dataset._format_kwargs = {"more": thing}
    return pickle.dumps(dataset, 4)


# Each makes a pickle that leaves `mark` behind when it is unpickled by Python.
def touch(mark: str) -> str:
    return f"touch {mark}"


def opens(mark: str) -> str:
    return f"open({mark!r}, 'w').close()"


RUNS: dict[str, Callable[[str], bytes]] = {
    "os.system": lambda mark: pickle.dumps(Call(os.system, touch(mark))),
    "os.system, protocol 0": lambda mark: b"cos\nsystem\n(" + b"S'" + touch(mark).encode() + b"'\ntR.",
    "builtins.eval": lambda mark: pickle.dumps(Call(eval, opens(mark))),
    "builtins.exec": lambda mark: pickle.dumps(Call(exec, opens(mark))),
    "subprocess": lambda mark: pickle.dumps(Call(subprocess.check_call, ["touch", mark])),
    "functools.partial": lambda mark: pickle.dumps(Call(functools.partial(os.system, touch(mark)))),
    "functools.reduce": lambda mark: pickle.dumps(Call(functools.reduce, eval, [{}], opens(mark))),
    "a chain of getattr": lambda mark: pickle.dumps(
        Call(operator.call, Call(getattr, Call(__import__, "os"), "system"), touch(mark))
    ),
    "operator.methodcaller": lambda mark: pickle.dumps(
        Call(operator.methodcaller("system", touch(mark)), Call(__import__, "os"))
    ),
    "nested reduce": lambda mark: pickle.dumps(Call(list, [Call(tuple, [Call(os.system, touch(mark))])])),
    "map": lambda mark: pickle.dumps(Call(list, Call(map, os.system, [touch(mark)]))),
    "copyreg": lambda mark: (
        pickle.dumps(Call(copyreg._reconstructor, Wakes, object, None)).removesuffix(b".")
        + b"}"
        + text("mark")
        + text(mark)
        + b"sb."
    ),
    "a state that acts": lambda mark: pickle.dumps(Wakes(mark), 4),
    "INST": lambda mark: b"(S'" + touch(mark).encode() + b"'\nios\nsystem\n.",
    "OBJ": lambda mark: b"(cos\nsystem\nS'" + touch(mark).encode() + b"'\no.",
    "NEWOBJ of a function in a class": lambda mark: (
        b"\x80\x04cpathlib\nPath\n" + text(mark) + b"\x85R0" + pickle.dumps(Call(Path.touch, Path(mark)), 4)[2:]
    ),
    "a dotted name": lambda mark: (
        b"\x80\x04" + text("shutil") + text("os.system") + b"\x93" + text(touch(mark)) + b"\x85R."
    ),
    "a dotted name in an allowed module": lambda mark: (
        b"\x80\x04" + text("datasets.table") + text("os.system") + b"\x93" + text(touch(mark)) + b"\x85R."
    ),
    "a list that forgets it": lambda mark: b"\x80\x04" + pickle.dumps(Call(os.system, touch(mark)), 2)[2:-1] + b"0N.",
    "hidden in the dataset": lambda mark: with_hidden(Call(os.system, touch(mark))),
    "numpy's objects": lambda mark: pickle.dumps(np.array([Call(os.system, touch(mark))], dtype=object)),
    "pandas' objects": lambda mark: pickle.dumps(pd.DataFrame({"text": [Call(os.system, touch(mark))]})),
    "torch's storages": lambda mark: pickle.dumps([torch.zeros(3), Call(os.system, touch(mark))]),
    "a registered extension": lambda mark: b"\x80\x02\x82\xf0" + text(touch(mark)) + b"\x85R.",
    "types.FunctionType": lambda mark: (
        pickle.dumps(Call(builtins.compile, opens(mark), "f", "exec")).removesuffix(b".")
        + b"0"
        + pickle.dumps(Call(exec, opens(mark)))[2:]
    ),
}


@pytest.fixture(autouse=True)
def _extension():
    """Code 0xf0 stands for os.system, so that the opcode EXT1 has something to call."""
    copyreg.add_extension(os.system.__module__, "system", 0xF0)
    yield
    copyreg.remove_extension(os.system.__module__, "system", 0xF0)


@pytest.mark.parametrize("make", RUNS)
def test_it_would_run_and_is_not_run(tmp_path: Path, refusal, make: str) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "hostile.pkl"
    path.write_bytes(RUNS[make](str(mark)))
    for reader in (PICKLE_READER, functools.partial(read, labelled=False)):
        message = refusal(reader, path)
        assert message.startswith("TMP/hostile.pkl: the pickle is refused: it ")
        assert "; nothing in it was run; " in message
        assert not mark.exists()
    # The control: Python's own unpickler does run it, so the refusal above means something.
    pickle.loads(path.read_bytes())
    assert mark.exists()


def many_lists(depth: int) -> bytes:
    return b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."


def doubled(times: int) -> bytes:
    """A tuple of itself twice, `times` over: small, but its hash would take 2**times steps."""
    return b"\x80\x04})" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(times)) + b"Ns."


FILLS: dict[str, bytes] = {
    "bytes without end": pickle.dumps(Call(bytes, 1 << 40)),
    "a bytearray without end": b"\x80\x04cbuiltins\nbytearray\n" + b"\x8a\x06\0\0\0\0\0\x10\x85R.",
    "bytes repeated": pickle.dumps(Call(operator.mul, b"a", 1 << 40)),
    "a range made a list": pickle.dumps(Call(list, range(1 << 40))),
    "bytes promised": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x3f.",
    "text promised": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x3f.",
    "a frame promised": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x3fN.",
    "a number promised": b"\x80\x04\x8b\xff\xff\xff\x7f.",
    "a memo far out": b"\x80\x04Nr\xff\xff\xff\xff.",
    "lists within lists": many_lists(50_000),
    "a tuple doubled and hashed": doubled(100),
    "opcodes without end": b"\x80\x04" + b"N0" * 1_100_000 + b"N.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
}

OTHERS: dict[str, bytes] = {
    "a persistent id": b"Pstorage\n.",
    "a binary persistent id": b"\x80\x04" + text("storage") + b"Q.",
    "an unregistered extension": b"\x80\x04\x82\x01.",
    "a wide extension": b"\x80\x04\x84\xff\xff\xff\x7f.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a read-only buffer from outside": b"\x80\x05\x97\x98.",
    "NEWOBJ_EX": pickle.dumps(Call(copyreg.__newobj_ex__, types.SimpleNamespace, (), {"a": 1}), 4),
    "a module that is not there": b"\x80\x04cno.such.module\nname\n.",
    "a protocol of the future": b"\x80\xffN.",
    "names that are no strings": b"\x80\x04NN\x93.",
    "a name with an escape": b"\x80\x04" + text("\x1b[2J") + text("x\ny") + b"\x93.",
}


@pytest.mark.parametrize("make", [*FILLS, *OTHERS])
def test_it_is_refused_in_little_memory(tmp_path: Path, refusal, make: str) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes((FILLS | OTHERS)[make])
    before = set(sys.modules)
    measured = make != "opcodes without end"  # memory is counted tenfold slower; this one holds one value
    if measured:
        tracemalloc.start()
    try:
        message = refusal(PICKLE_READER, path)
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
    finally:
        tracemalloc.stop()
    assert message.startswith("TMP/hostile.pkl: the pickle is refused: it ")
    assert message.isprintable()
    assert peak < 100 << 20
    assert not {name for name in set(sys.modules) - before if name.startswith("no.")}


def test_there_are_enough_of_them() -> None:
    assert len(RUNS) >= 20
    assert len(FILLS) + len(OTHERS) >= 20
