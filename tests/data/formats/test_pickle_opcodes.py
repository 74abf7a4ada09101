import contextlib
import pickle
import pickletools
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.data.formats import pickle_opcodes as opcodes
from pennyweight.data.formats.pickle_opcodes import Call, Refused, describe

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers() | st.binary(), inner)
    ),
    max_leaves=20,
)


@given(values, st.integers(0, 5))
def test_plain_values_come_back_whatever_the_protocol(value: Any, protocol: int) -> None:
    allowed = {"_codecs.encode", "__builtin__.bytes", "builtins.bytes", "builtins.bytearray"}
    assert describe(pickle.dumps(value, protocol), allowed) == value


def test_shared_and_cyclic_lists_stay_shared() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    again = describe(pickle.dumps(cycle), ())
    assert again[0] is again


def test_bytearrays_are_bytes() -> None:
    for protocol in range(6):
        data = pickle.dumps(bytearray(b"a\xff"), protocol)
        assert describe(data, {"builtins.bytearray", "__builtin__.bytearray", "_codecs.encode"}) == b"a\xff"


class Thing:
    def __init__(self) -> None:
        self.colour = "red"


def test_objects_are_described_and_not_made() -> None:
    name = f"{Thing.__module__}.Thing"
    made = describe(pickle.dumps(Thing(), 4), {name})
    assert isinstance(made, Call)
    assert (made.path, made.args, made.state) == (name, (), {"colour": "red"})
    ordered = describe(pickle.dumps(OrderedDict(a=1), 4), {"collections.OrderedDict"})
    assert (ordered.path, ordered.items) == ("collections.OrderedDict", {"a": 1})


def test_a_name_that_is_not_allowed_is_refused_before_it_is_called() -> None:
    with pytest.raises(Refused, match=r"^it asks for collections\.OrderedDict$"):
        describe(pickle.dumps(OrderedDict), {"collections.Counter"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"it is damaged or was cut off \(ValueError\)"),
        (b"\x80\x04N", r"it is damaged or was cut off \(ValueError\)"),
        (b".", r"it is damaged or was cut off \(IndexError\)"),
        (b"(.", r"it is damaged \(a mark out of place\)"),
        (b"h\x07.", r"it is damaged or was cut off \(KeyError\)"),
        (b"]Na", r"it is damaged or was cut off \(ValueError\)"),
        (b"NNa.", "it treats a NoneType as a list"),
        (b"NNNs.", "it treats a NoneType as a dict"),
        (b"NNb.", "it treats a NoneType as a Call"),
        (b"N)R.", "it calls something that is not a named class or function"),
        (b"}))s.", "it uses a dictionary key that is neither text nor number"),
        (b"(NNNd.", r"it is damaged or was cut off \(ValueError\)"),
        (b"\xff", r"it is damaged or was cut off \(ValueError\)"),
        (b"\x8f.", "it uses the opcode EMPTY_SET, which no data set needs"),
        (b"cbuiltins\nbytes\nK\x05\x85R.", "it calls builtins.bytes with something other than bytes"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0rot\x86R.", "it calls _codecs.encode with something other"),
    ],
)
def test_what_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Refused, match=f"^{message}"):
        describe(data, {"builtins.bytes", "_codecs.encode"})


def test_no_more_opcodes_than_a_data_set_has(monkeypatch) -> None:
    monkeypatch.setattr(opcodes, "MAX_OPCODES", 100)
    assert describe(b"N0" * 49 + b"N.", ()) is None
    with pytest.raises(Refused, match="it has more than 100 opcodes"):
        describe(b"N0" * 50 + b"N.", ())


def test_every_opcode_is_either_known_or_refused() -> None:
    known = opcodes._LITERALS | opcodes._CONSTANTS.keys() | opcodes._ACTIONS.keys() | {"STOP"}
    assert {opcode.name for opcode in pickletools.opcodes} - known == {
        *("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX", "PERSID", "BINPERSID"),
        *("EMPTY_SET", "ADDITEMS", "FROZENSET", "DUP", "NEXT_BUFFER", "READONLY_BUFFER"),
    }


@given(st.binary(max_size=60))
def test_any_bytes_are_described_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        describe(data, {"builtins.bytes"})
