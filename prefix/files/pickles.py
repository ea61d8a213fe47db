"""Reads pickles of tensors, text and numbers in lists and dictionaries, and executes nothing.

A pickle is a list of instructions for a machine with a stack and a memo. This machine knows those that make plain
values, in all protocols, and a few names of torch and Python, each of which it follows by itself; whatever else an
instruction asks for is refused. No instruction takes longer for what earlier ones made: keys are text and numbers
alone, whose hash does not depend on depth, nothing is copied, and nothing is followed recursively. So the length of the
pickle bounds time and memory.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import PrefixValueError

MAX_PICKLE_BYTES = 2**16
"""A textual inversion's is under 2 KiB."""

MAX_INSTRUCTIONS = 2**14

_MOST_DIMENSIONS = 8
_MOST_ELEMENTS = 2**40

_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_DICT = "collections.OrderedDict"
_PARAMETERS = "torch.nn.modules.container.ParameterDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_SETS = ("builtins.set", "__builtin__.set", "builtins.frozenset", "__builtin__.frozenset")
_NAMES = {*_DTYPES, *_SETS, _DICT, _PARAMETERS, _TENSOR, _PARAMETER}

_VALUES = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE"
    " SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES".split()
)
_CODE = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}


@dataclass
class Parameters:
    """A `ParameterDict` of torch.

    Attributes:
        state: what the pickle says of it.
    """

    state: Any = None

    @property
    def table(self) -> Any:
        """Its parameters by name, if it has any."""
        return self.state.get("_parameters") if isinstance(self.state, dict) else None


class _Name(NamedTuple):
    """A function or type that the pickle names."""

    name: str


class _Storage(NamedTuple):
    """What lies behind a tensor, flat."""

    values: Tensor


def read_pickle(pickled: bytes, stored: Mapping[str, bytes]) -> Any:
    """The value that a pickle describes. A set comes back as a list, an `OrderedDict` as a dictionary.

    Args:
        pickled: of at most `MAX_PICKLE_BYTES`.
        stored: the bytes of the tensors, little end first, by the names that the pickle has for them.

    Raises:
        PrefixValueError: damaged, too long, or with anything in it but tensors, text and numbers in lists and
            dictionaries; or with a tensor that is larger than its bytes. Nothing else is raised.
    """
    if len(pickled) > MAX_PICKLE_BYTES:
        raise PrefixValueError("It holds far more than vectors.")
    machine = _Machine(stored)
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(pickled)):
            if count > MAX_INSTRUCTIONS:
                raise PrefixValueError("It holds far more than vectors.")
            if code.name == "STOP":
                return machine.stack.pop()
            machine.follow(code.name, argument)
    except PrefixValueError:
        raise
    except Exception as error:  # Whatever a malformed number or text, or an empty stack, raises.
        raise PrefixValueError("Its pickle is damaged.") from error
    raise PrefixValueError("Its pickle is damaged.")


class _Machine:
    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._stored = stored
        self._bytes: dict[str, Tensor] = {}

    def follow(self, kind: str, argument: Any) -> None:
        """Follows one instruction. What it raises beside `PrefixValueError` means that the pickle makes no sense."""
        stack = self.stack
        if kind in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > 64:
                raise PrefixValueError("It holds a number of more than 64 bits.")
            stack.append(argument)
            return
        match kind:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._below.append(stack)
                self.stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[kind])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._tuple(int(kind[-1]))
            case "TUPLE":
                values = self._since_mark()
                self.stack.append(tuple(values))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST" | "FROZENSET":
                values = self._since_mark()
                self.stack.append(values)
            case "APPEND":
                value = stack.pop()
                _list(stack[-1]).append(value)
            case "APPENDS" | "ADDITEMS":
                values = self._since_mark()
                _list(self.stack[-1]).extend(values)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = self._since_mark()
                self.stack.append({})
                self._set(values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_name(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_name(f"{_text(module)}.{_text(name)}"))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_called(called, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Parameters):
                    stack[-1].state = state
                elif not isinstance(stack[-1], dict):  # Of an OrderedDict, the state says nothing of what is in it.
                    raise _code("BUILD")
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case _ if kind in _CODE:
                raise _code(argument.replace(" ", ".") if kind == "INST" else kind)
            case _:
                raise PrefixValueError(f"Its pickle is of a kind that torch does not write ({kind}).")

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self._below.pop()
        return values

    def _tuple(self, length: int) -> None:
        if len(self.stack) < length:
            raise IndexError
        values = tuple(self.stack[-length:])
        self.stack[-length:] = [values]

    def _set(self, values: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict):
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            # The hash of anything nested takes time that nothing bounds.
            if not isinstance(key, str | int | float):
                raise PrefixValueError("It holds a dictionary whose keys are neither text nor numbers.")
            table[key] = value

    def _storage(self, asked: Any) -> _Storage:
        """The bytes that torch calls `("storage", type, entry, device, count)`."""
        match asked:
            case ("storage", _Name(kind), str(entry), str(), int(count)) if kind in _DTYPES:
                if entry not in self._bytes:  # Kept once, however often and as whatever types it is asked for.
                    self._bytes[entry] = _bytes(self._stored.get(entry))
                values = _flat(self._bytes[entry], _DTYPES[kind])
                if len(values) == count:
                    return _Storage(values)
        raise _lie()


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _name(name: str) -> _Name:
    if name not in _NAMES:
        raise _code(name)
    return _Name(name)


def _called(called: Any, arguments: Any) -> Any:
    """What torch or Python would make of a call; nothing is copied."""
    match called, arguments:
        case _Name(name), () if name == _DICT:
            return {}
        case _Name(name), () if name == _PARAMETERS:
            return Parameters()
        case _Name(name), (list(values),) if name in _SETS:
            return values
        case _Name(name), (Tensor() as tensor, *_) if name == _PARAMETER:
            return tensor
        case _Name(name), (_Storage(values), int(offset), tuple(size), tuple(stride), *_) if name == _TENSOR:
            return _tensor(values, offset, size, stride)
        case _Name(), _:
            raise PrefixValueError("Its pickle is damaged.")
    raise _code("REDUCE")


def _bytes(data: bytes | None) -> Tensor:
    if data is None:
        raise _lie()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _flat(data: Tensor, dtype: torch.dtype) -> Tensor:
    """The same memory as values of that type."""
    if len(data) % dtype.itemsize:
        raise _lie()
    return data.view(dtype)


def _tensor(values: Tensor, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> Tensor:
    """A view of the values, every element of which is among them."""
    whole = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise _lie()
    if any(not isinstance(number, int) or not 0 <= number < _MOST_ELEMENTS for number in whole):
        raise _lie()
    if math.prod(size) >= _MOST_ELEMENTS:
        raise _lie()
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= len(values):
        raise _lie()
    return values.as_strided(size, stride, offset if math.prod(size) else 0)


def _lie() -> PrefixValueError:
    return PrefixValueError("A tensor in it is not as large as it claims, or of a type that vectors cannot have.")


def _code(name: str) -> PrefixValueError:
    return PrefixValueError(f"It holds code or objects ({name[:60]!r}), which may do anything and are not loaded.")
