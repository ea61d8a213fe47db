"""Without this module files that `torch.save` wrote could not be read, or only by trusting them.

Such a file is a zip of a pickle and of the tensors' raw bytes. It is opened by `torch.load(weights_only=True)` alone,
which executes nothing. Before that, the pickle is read as a list of instructions, none of which is carried out, and
everything is refused that a file of a few tensors has no need of; what torch gets is a new zip of what was checked. So
neither a bomb nor a lie about sizes reaches it, nor a zip that two readers see differently.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import torch

from .errors import PrefixValueError
from .storage import MAX_FILE_BYTES

MAX_ENTRIES = 64
MAX_PICKLE_BYTES = 2**16
"""A textual inversion has a dozen entries, and a pickle of under 2 KiB."""

_PICKLE = "data.pkl"
_STORAGE_BYTES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
}
_PARAMETER_DICT = "torch.nn.modules.container ParameterDict"
_DICT = b"ccollections\nOrderedDict\n"
_GLOBALS = {
    *_STORAGE_BYTES,
    _PARAMETER_DICT,
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "__builtin__ set",
    "builtins set",
}
_PUTS = {"BINPUT", "LONG_BINPUT"}
_GETS = {"BINGET", "LONG_BINGET"}
_INSTRUCTIONS = {
    *("PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE GLOBAL").split(),
    *("EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS").split(),
    *("REDUCE NEWOBJ BUILD BINPERSID").split(),
    *_PUTS,
    *_GETS,
}


def read_torch_file(data: bytes) -> Any:
    """What `torch.save` put into a file; a `ParameterDict` comes back as a dictionary with `_parameters` in its state.

    Raises:
        PrefixValueError: no zip, damaged, too large once unpacked, or with anything in it but tensors, text and numbers
            in lists and dictionaries. Nothing else is raised.
    """
    entries = _entries(data)
    entries[_PICKLE] = b"".join(_checked_instructions(entries[_PICKLE], entries))
    rebuilt = BytesIO()
    with zipfile.ZipFile(rebuilt, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    rebuilt.seek(0)
    try:
        return torch.load(rebuilt, map_location="cpu", weights_only=True)
    except Exception as error:  # What torch raises for a pickle that makes no sense can be anything.
        # Torch's own words would advise to trust the file.
        raise PrefixValueError(f"It is not a sound file of torch ({type(error).__name__}).") from error


def _entries(data: bytes) -> dict[str, bytes]:
    """The pickle and the tensors' bytes, by their names below the archive's one folder."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > MAX_FILE_BYTES:
                raise PrefixValueError("It holds more than a prefix can, once unpacked.")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise PrefixValueError("It is a compressed archive, which torch does not write.")
            contents = [(info.filename.partition("/")[2], archive.read(info)) for info in infos]  # Checks each CRC.
    except PrefixValueError:
        raise
    except Exception as error:  # zipfile raises half a dozen types for damaged archives.
        raise PrefixValueError(
            "It is damaged, or older than torch 1.6: in the second case, load and save it with a newer one."
        ) from error
    entries = {name: content for name, content in contents if _is_wanted(name)}
    if len(entries) < sum(_is_wanted(name) for name, _ in contents):
        raise PrefixValueError("It holds two entries of one name.")
    if not {_PICKLE, "version"} <= entries.keys():
        raise PrefixValueError("It is an archive, but not one of torch.")
    if len(entries[_PICKLE]) > MAX_PICKLE_BYTES:
        raise PrefixValueError("It holds far more than vectors.")
    return entries


def _is_wanted(name: str) -> bool:
    return name in (_PICKLE, "version", "byteorder") or (name.startswith("data/") and name[5:].isdecimal())


def _checked_instructions(pickled: bytes, entries: Mapping[str, bytes]) -> Iterator[bytes]:
    """The pickle's instructions, with a plain dictionary in place of each `ParameterDict`.

    The values that instructions leave behind are followed as far as text and names of types go, which is enough to know
    each tensor's storage: `(MARK, "storage", type, entry, device, count, TUPLE)`, as torch writes it.
    """
    memo: dict[int, Any] = {}
    trail: list[Any] = []
    steps = _instructions(pickled)
    for (kind, argument, start), (_, _, stop) in zip(steps, [*steps[1:], ("", None, len(pickled))], strict=True):
        if kind not in _INSTRUCTIONS:
            raise _code(kind)
        if kind == "GLOBAL" and argument not in _GLOBALS:
            raise _code(argument.replace(" ", "."))
        if kind in _PUTS:
            memo[argument] = trail[-1] if trail else None
        elif kind in _GETS:
            trail.append(memo.get(argument))
        elif kind in ("BINUNICODE", "GLOBAL") or kind.startswith("BININT"):
            trail.append(argument)
        elif kind == "BINPERSID":
            _require_storage(trail[-7:], entries)
            trail.append(None)
        else:
            trail.append(kind.encode())
        # `OrderedDict()` may be called by torch's safe loader; new objects of classes may not be made.
        if argument == _PARAMETER_DICT and kind == "GLOBAL":
            yield _DICT
        else:
            yield b"R" if kind == "NEWOBJ" else pickled[start:stop]


def _instructions(pickled: bytes) -> list[tuple[str, Any, int]]:
    try:
        return [(code.name, argument, position) for code, argument, position in pickletools.genops(pickled)]
    except Exception as error:  # ValueError mostly, and whatever a malformed number or text raises.
        raise PrefixValueError("Its pickle is damaged.") from error


def _require_storage(trail: list[Any], entries: Mapping[str, bytes]) -> None:
    """Raises unless a storage is as large as its bytes: older torch believes the pickle and reads what is not there."""
    match trail:
        case [b"MARK", "storage", str(kind), str(entry), _, int(count), b"TUPLE"] if kind in _STORAGE_BYTES:
            if len(entries.get(f"data/{entry}", b"")) == count * _STORAGE_BYTES[kind]:
                return
    raise PrefixValueError("A tensor in it is not as large as it claims, or of a type that vectors cannot have.")


def _code(name: str) -> PrefixValueError:
    return PrefixValueError(f"It holds code or objects ({name[:60]!r}), which may do anything and are not loaded.")
