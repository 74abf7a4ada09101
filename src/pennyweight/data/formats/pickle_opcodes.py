"""Reading a pickle without running it: opcodes become plain values and descriptions of calls.

Python's own unpickler imports and calls whatever a file names. This reader knows no import and no call: a class or a
function becomes a `Call` that records its name, arguments and state, and only names on the caller's list may occur.
So nothing in a file can run, by construction. `pickletools` splits the file into opcodes.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

#: A pickled data set of a thousand chunks has some 30,000 opcodes.
MAX_OPCODES = 2_000_000


class Refused(Exception):
    """The pickle names what is not allowed, or is damaged. `str(error)` says which, in one clause."""


@dataclass(eq=False)
class Name:
    """A class or function, as `module.name`."""

    path: str


@dataclass(eq=False)
class Call:
    """An object that the pickle would have made: what was called, with what, and what was set on it afterwards."""

    path: str
    args: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


def describe(data: bytes, allowed: Collection[str]) -> Any:
    """The value a pickle holds, objects as `Call`s.

    Args:
        data: the pickle, of any protocol.
        allowed: the full names of the classes and functions that may occur.

    Raises:
        Refused: another name, an opcode that no data set needs, damage, or more than `MAX_OPCODES`.
    """
    reader = _Reader(allowed)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if number >= MAX_OPCODES:
                raise Refused(f"it has more than {MAX_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                return reader.pop()
            reader.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise Refused(f"it is damaged or was cut off ({type(error).__name__})") from error
    raise Refused("it is damaged or was cut off (no end)")


_MARK = object()

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "SHORT_BINSTRING", "BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    ]
)


class _Reader:
    """A stack and a memo, as the pickle machine has them."""

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = allowed
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise Refused(f"it uses the opcode {name}, which no data set needs")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise Refused("it is damaged (a mark out of place)")
        return value

    def pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def name(self, module: object, name: object) -> Name:
        path = f"{module}.{name}"
        if path not in self.allowed:
            raise Refused(f"it asks for {path}")
        return Name(path)

    def call(self, arguments: Any) -> None:
        target = self.pop()
        if not isinstance(target, Name) or not isinstance(arguments, tuple):
            raise Refused("it calls something that is not a named class or function")
        self.stack.append(_plain(Call(target.path, arguments)))

    def build(self) -> None:
        state = self.pop()
        self.top(Call).state = state

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise Refused(f"it treats a {type(self.stack[-1]).__name__} as a {kind.__name__}")
        return self.stack[-1]

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def update(self, values: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Call) else self.top(dict)
        items.update(_pairs(values))


def _plain(call: Call) -> Any:
    """Bytes travel as calls in older protocols; take them for what they are, at no more than their length."""
    path, args = call.path, call.args
    if path in ("builtins.bytearray", "__builtin__.bytearray", "builtins.bytes", "__builtin__.bytes"):
        if not args:
            return b""
        if len(args) == 1 and isinstance(args[0], (bytes, bytearray)):
            return bytes(args[0])
        raise Refused(f"it calls {path} with something other than bytes")
    if path == "_codecs.encode":
        if len(args) == 2 and isinstance(args[0], str) and args[1] == "latin1":
            return args[0].encode("latin-1")
        raise Refused("it calls _codecs.encode with something other than a string of bytes")
    return call


def _pairs(values: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn. Only scalars may be keys: hashing a tuple of tuples of tuples... can take forever."""
    keys = values[::2]
    if not all(key is None or isinstance(key, (str, bytes, int, float)) for key in keys):
        raise Refused("it uses a dictionary key that is neither text nor number")
    return dict(zip(keys, values[1::2], strict=True))


def _new_object(reader: _Reader, _: Any) -> None:
    reader.call(reader.pop())


def _tuple_of(size: int) -> Callable[[_Reader, Any], None]:
    def action(reader: _Reader, _: Any) -> None:
        values = [reader.pop() for _ in range(size)]
        reader.stack.append(tuple(values[::-1]))

    return action


def _push(make: Callable[[_Reader], Any]) -> Callable[[_Reader, Any], None]:
    return lambda reader, _: reader.stack.append(make(reader))


def _stack_global(reader: _Reader, _: Any) -> None:
    name, module = reader.pop(), reader.pop()
    reader.stack.append(reader.name(module, name))


def _remember(reader: _Reader, index: Any) -> None:
    value = reader.pop()
    reader.stack.append(value)
    reader.memo[len(reader.memo) if index is None else int(index)] = value


def _drop(reader: _Reader, _: Any) -> None:
    reader.stack.pop()


def _drop_to_mark(reader: _Reader, _: Any) -> None:
    reader.pop_to_mark()


def _append(reader: _Reader, _: Any) -> None:
    value = reader.pop()
    reader.extend([value])


def _set_item(reader: _Reader, _: Any) -> None:
    value, key = reader.pop(), reader.pop()
    reader.update([key, value])


_ACTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": lambda reader, _: None,
    "FRAME": lambda reader, _: None,
    "MARK": lambda reader, _: reader.stack.append(_MARK),
    "POP": _drop,
    "POP_MARK": _drop_to_mark,
    "EMPTY_LIST": _push(lambda reader: []),
    "EMPTY_DICT": _push(lambda reader: {}),
    "EMPTY_TUPLE": _push(lambda reader: ()),
    "LIST": _push(lambda reader: reader.pop_to_mark()),
    "DICT": _push(lambda reader: _pairs(reader.pop_to_mark())),
    "TUPLE": _push(lambda reader: tuple(reader.pop_to_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": lambda reader, _: reader.extend(reader.pop_to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda reader, _: reader.update(reader.pop_to_mark()),
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "GET": lambda reader, index: reader.stack.append(reader.memo[int(index)]),
    "BINGET": lambda reader, index: reader.stack.append(reader.memo[index]),
    "LONG_BINGET": lambda reader, index: reader.stack.append(reader.memo[index]),
    # pickletools gives the two lines of GLOBAL joined by a blank; neither may hold one.
    "GLOBAL": lambda reader, text: reader.stack.append(reader.name(*text.split(" "))),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _new_object,
    "NEWOBJ": _new_object,
    "BUILD": lambda reader, _: reader.build(),
}
