"""Reads files that `torch.save` wrote, without torch's own reader and without executing anything.

Such a file is a zip of a pickle and of the tensors' raw bytes. Before the archive is opened, its entries are counted,
so that none of a million costs anything; only what torch needs for tensors is taken out of it, and the pickle is read
by `pickles`, which can make nothing but plain values.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import Any

from ..errors import PrefixValueError
from .foreign import HEAD_BYTES, kind_of
from .pickles import MAX_PICKLE_BYTES, read_pickle
from .storage import MAX_FILE_BYTES

MAX_ENTRIES = 64
"""A textual inversion has a dozen."""

ZIP_START = b"PK"
"""What a file that `torch.save` wrote begins with."""

_OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch before 1.6 began its files with."""

_ENTRY = b"PK\x01\x02"
"""What each entry of an archive's directory begins with."""

_PICKLE = "data.pkl"
_DATA = "data/"


def read_torch_file(data: bytes) -> Any:
    """What `torch.save` put into a file; see `pickles.read_pickle`.

    Raises:
        PrefixValueError: no zip, damaged, too large once unpacked, or with anything in it but tensors, text and numbers
            in lists and dictionaries. Nothing else is raised.
    """
    if not data.startswith(ZIP_START):
        if data.startswith(_OLD_START):
            raise PrefixValueError(
                "It was written by a torch older than 1.6: if you trust it, load and save it with a newer one."
            )
        raise PrefixValueError("It is damaged, or a bare pickle and no file of torch.")
    entries = _entries(data)
    pickled = entries.pop(_PICKLE)
    if entries.pop("byteorder", b"little").strip() != b"little":
        raise PrefixValueError("It was written by a machine with another order of bytes: save it again on a usual one.")
    return read_pickle(pickled, {name.removeprefix(_DATA): content for name, content in entries.items()})


def _entries(data: bytes) -> dict[str, bytes]:
    """The pickle and the tensors' bytes, by their names below the archive's one folder."""
    # Whatever the archive says of itself, a reader takes one entry for each such mark at most.
    if data.count(_ENTRY) > MAX_ENTRIES:
        raise _too_much(data)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > MAX_FILE_BYTES:
                raise _too_much(data)
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise PrefixValueError("It is a compressed archive, which torch does not write.")
            wanted = [(info.filename.partition("/")[2], info) for info in infos]
            wanted = [(name, info) for name, info in wanted if _is_wanted(name)]
            if any(info.compress_size != info.file_size for _, info in wanted):
                raise zipfile.BadZipFile
            names = {name for name, _ in wanted}
            if len(names) < len(wanted):
                raise PrefixValueError("It holds two entries of one name.")
            if not {_PICKLE, "version"} <= names:
                raise PrefixValueError("It is an archive, but not one of torch.")
            if any(name == _PICKLE and info.file_size > MAX_PICKLE_BYTES for name, info in wanted):
                raise _too_much(data, "far more than vectors")
            return {name: archive.read(info) for name, info in wanted if name != "version"}  # Checks each CRC.
    except PrefixValueError:
        raise
    except Exception as error:  # zipfile raises half a dozen types for damaged archives.
        raise PrefixValueError("It is damaged.") from error


def _is_wanted(name: str) -> bool:
    return name in (_PICKLE, "version", "byteorder") or (name.startswith(_DATA) and name[5:].isdecimal())


def _too_much(data: bytes, what: str = "more than a prefix can, once unpacked") -> PrefixValueError:
    kind = kind_of(data[:HEAD_BYTES])
    return PrefixValueError(f"It is {kind}, not a prefix." if kind else f"It holds {what}.")
