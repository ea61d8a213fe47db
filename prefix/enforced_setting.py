"""Without this module nobody could say, out of reach of browser and API, that a server must protect every prompt.

The setting is read once, when the server starts, and so is the prefix it names: from then on the file no longer counts.
A setting that is there but wrong is kept as a fault, which refuses every prompt: it never means "off".
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import library
from .errors import AnonymizationError
from .file import SUFFIXES, load_prefix
from .value import Prefix

VARIABLE = "ANONYMIZE_FACES_ENFORCE"
TRUST_VARIABLE = "ANONYMIZE_FACES_TRUST"
FILE = "enforce.ini"
SECTION = "enforcement"


@dataclass(frozen=True)
class Enforcement:
    """What the server's operator wants of every prompt.

    Attributes:
        name: the prefix file that was named, as it was written.
        prefix: what it holds; None if there is a fault.
        fault: why nothing can be protected, in words for whoever queues a prompt; None if it can.
        trusted: ids of nodes of other extensions that the operator answers for.
    """

    name: str
    prefix: Prefix | None
    fault: str | None
    trusted: frozenset[str] = frozenset()

    def names(self, file: str) -> bool:
        """Whether a file of that name, with or without its suffix, would be taken for the prefix that was named."""
        return _bare(file) == _bare(self.name)


def read_enforcement(environment: Mapping[str, str], file: Path, folders: Sequence[Path]) -> Enforcement | None:
    """What the variables say, else the file; None if neither is there.

    Args:
        environment: of the process.
        file: `enforce.ini` beside the extension.
        folders: those that prefix files lie in.
    """
    name, trusted = environment.get(VARIABLE), environment.get(TRUST_VARIABLE, "")
    if name is None:
        try:
            if not file.exists():
                return None
            parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
            parser.read_string(file.read_text(encoding="utf-8"))
            name, trusted = parser[SECTION]["prefix"], parser[SECTION].get("trusted_nodes", "")
        except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
            return Enforcement("", None, _refusing(f"the setting in {FILE} cannot be read ({error!r})"))
    if not name.strip():
        return Enforcement("", None, _refusing("the setting is there and names no prefix"))
    ids = frozenset(filter(None, (part.strip() for part in re.split(r"[,\n]", trusted))))
    try:
        return Enforcement(name, load_prefix(library.find(folders, name.strip())), None, ids)
    except AnonymizationError as error:
        return Enforcement(name, None, _refusing(str(error).rstrip(".")), ids)


def _bare(name: str) -> str:
    """The name as a file system that does not tell capitals apart would have it, without a suffix."""
    bare = name.strip().replace("\\", "/").casefold()
    return next((bare.removesuffix(suffix) for suffix in SUFFIXES if bare.endswith(suffix)), bare)


def _refusing(reason: str) -> str:
    return (
        f"This server must anonymize every prompt and cannot: {reason}. Nothing is drawn until its operator has set it"
        " right and started it again."
    )
