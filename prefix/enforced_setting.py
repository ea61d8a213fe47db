"""Reads, out of reach of browser and API, whether a server must protect every prompt, and with what.

The setting is read once, when the server starts, and so is the prefix it names: from then on the file no longer counts.
A setting that is there but wrong is kept as a fault, which refuses every prompt: it never means "off".
"""

from __future__ import annotations

import configparser
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from .. import SETTING_FILES, SETTING_VARIABLES  # The entry point must know them before anything can fail.
from .bypass import ANY_EMBEDDINGS, NO_EMBEDDINGS, AllowedEmbeddings, allowed
from .errors import AnonymizationError, first_line, shown
from .files import library
from .files.prefix_file import SUFFIXES, load_embedding, load_prefix
from .value import Prefix

VARIABLE, TRUST_VARIABLE, EMBEDDINGS_VARIABLE, REGION_VARIABLE = SETTING_VARIABLES
FILE = Path(__file__).resolve().parents[1] / SETTING_FILES[0]
"""The operator's file, beside the entry point."""

SECTION = "enforcement"
EMBEDDINGS = {"": NO_EMBEDDINGS, "refuse": NO_EMBEDDINGS, "allow": ANY_EMBEDDINGS}
"""Which embeddings (textual inversions) prompts may draw, by what the setting says; else it lists their files."""

EMBEDDING_SUFFIXES = (".safetensors", ".pt", ".bin")
"""Of files that hosts look for where a prompt names an embedding."""

FACE_REGION = {"": False, "refuse": False, "allow": True}
"""Whether workflows may have faces alone changed, by what the setting says."""


@dataclass(frozen=True)
class Enforcement:
    """What the server's operator wants of every prompt.

    Attributes:
        name: the prefix file that was named, as it was written.
        prefix: what it holds; None if there is a fault.
        fault: why nothing can be protected, in words for whoever queues a prompt; None if it can.
        trusted: ids of nodes of other extensions that the operator answers for.
        embeddings: those (textual inversions) that prompts may draw, by their vectors: whatever lies under the name of
            a listed file later on does not count.
        face_region: whether workflows may have the prefix change faces alone.
        path: where the prefix file lay; None if there is a fault.
    """

    name: str
    prefix: Prefix | None
    fault: str | None
    trusted: frozenset[str] = frozenset()
    embeddings: AllowedEmbeddings = NO_EMBEDDINGS
    path: Path | None = None
    face_region: bool = False

    def names(self, file: str) -> bool:
        """Whether a file of that name, with or without its suffix, would be taken for the prefix that was named."""
        return _bare(file) == _bare(self.name)

    def is_at(self, path: Path) -> bool:
        """Whether that is the very file, whatever it is called: by a link, or a short name that Windows gave it."""
        try:
            return self.path is not None and path.samefile(self.path)
        except OSError:
            return False


def read_enforcement(
    environment: Mapping[str, str], file: Path, folders: Sequence[Path], embedding_folders: Sequence[Path] = ()
) -> Enforcement | None:
    """What the variables say, else the file; None if neither is there. Whatever goes wrong becomes a fault.

    Args:
        environment: of the process.
        file: the operator's, `FILE` but for tests.
        folders: those that prefix files lie in.
        embedding_folders: those that embeddings lie in.
    """
    try:
        return _read(environment, file, folders, embedding_folders)
    except AnonymizationError as error:
        return Enforcement("", None, _refusing(str(error).rstrip(".")))
    except Exception as error:  # Whatever it is: it never means "off".
        return Enforcement("", None, _refusing(f"the setting cannot be read ({first_line(error)})"))


def read_face_region(environment: Mapping[str, str], file: Path = FILE) -> bool | None:
    """What the setting says of changing faces alone, for programs that know no folder of prefix files; None if there
    is no setting. Whatever is wrong with it means that it is refused.
    """
    try:
        found = _found(environment, file)
    except Exception:  # Whatever it is: it never means "allowed".
        return False
    if found is None:
        return None
    name, (_, _, region) = found
    return bool(name.strip()) and FACE_REGION.get(region.strip().lower(), False)


def _found(environment: Mapping[str, str], file: Path) -> tuple[str, list[str]] | None:
    """The prefix that is named, and what else is said, in the variables' order; None if there is no setting."""
    name = environment.get(VARIABLE)
    others = [environment.get(variable) or "" for variable in SETTING_VARIABLES[1:]]
    if name is None and any(map(str.strip, others)):
        raise AnonymizationError(
            f"{TRUST_VARIABLE}, {EMBEDDINGS_VARIABLE} and {REGION_VARIABLE} go with {VARIABLE}, which is not there"
        )
    if name is None:
        found = _setting_file(file)
        return None if found is None else _settings_of(found)
    return name, others


def _read(
    environment: Mapping[str, str], file: Path, folders: Sequence[Path], embedding_folders: Sequence[Path]
) -> Enforcement | None:
    found = _found(environment, file)
    if found is None:
        return None
    name, others = found
    trusted, embeddings, region = map(str.strip, others)
    if not name.strip():
        raise AnonymizationError("the setting is there and names no prefix")
    face_region = FACE_REGION.get(region.lower())
    if face_region is None:
        raise AnonymizationError(f"'face_region' is {region.lower()[:40]!r}, neither refuse nor allow")
    ids = frozenset(_listed(trusted))
    try:
        path = library.find(folders, name.strip())
        allowed_ones = _allowed(embeddings, embedding_folders)
        return Enforcement(name, load_prefix(path), None, ids, allowed_ones, path, face_region)
    except AnonymizationError as error:
        fault = str(error).rstrip(".")
    except Exception as error:
        fault = f"'{name.strip()}' cannot be read ({first_line(error)})"
    return Enforcement(name, None, _refusing(fault), ids)


def _listed(said: str) -> list[str]:
    return list(filter(None, (part.strip() for part in re.split(r"[,\n]", said))))


def _allowed(said: str, folders: Sequence[Path]) -> AllowedEmbeddings:
    """The embeddings that a setting allows: all, none, or those of the files that it lists.

    Raises:
        AnonymizationError: a file is not there, or holds no embedding.
    """
    known = EMBEDDINGS.get(said.lower())
    if known is not None:
        return known
    return allowed(rows for name in _listed(said) for rows in _embedding(name, folders))


def _embedding(name: str, folders: Sequence[Path]) -> list[Tensor]:
    inside = PurePosixPath(name.replace("\\", "/"))
    names = (inside, *(inside.with_name(inside.name + suffix) for suffix in EMBEDDING_SUFFIXES))
    found = next((path for folder in folders for each in names if (path := folder / each).is_file()), None)
    if found is None:
        raise AnonymizationError(
            f"'embeddings' is {shown(name)!r}, which is neither refuse nor allow nor a file that lies where embeddings"
            " do"
        )
    try:
        return load_embedding(found)
    except AnonymizationError as error:
        raise AnonymizationError(f"the embedding {shown(name)!r} cannot be read ({first_line(error)})") from error


def _setting_file(file: Path) -> Path | None:
    """The operator's file; its name may be written in any case, and have the suffix that Windows hides."""
    names = [name for name in os.listdir(file.parent) if name.casefold() in SETTING_FILES]
    if len(names) > 1:
        raise AnonymizationError(f"there are two settings, {' and '.join(sorted(names))}: remove one of them")
    return file.with_name(names[0]) if names else None


def _settings_of(file: Path) -> tuple[str, list[str]]:
    """The prefix, and what else the file says, in the variables' order; what it does not know there is an error."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), default_section="")
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise AnonymizationError(f"the setting in {file.name} cannot be read ({first_line(error)})") from error
    if parser.sections() != [SECTION] or "prefix" not in parser[SECTION]:
        raise AnonymizationError(f"the setting in {file.name} has no [{SECTION}] with a prefix, or more than that")
    known = dict.fromkeys(("prefix", "trusted_nodes", "embeddings", "face_region"), "")
    unknown = sorted(set(parser[SECTION]) - known.keys())
    if unknown:
        raise AnonymizationError(f"the setting in {file.name} has '{unknown[0][:40]}', which nobody knows")
    known |= dict(parser[SECTION])
    name, *others = known.values()
    return name, others


def _bare(name: str) -> str:
    """The name as a file system that tells no capitals or accents apart would have it, without a suffix."""
    bare = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name.strip()).replace("\\", "/").casefold())
    return next((bare.removesuffix(suffix) for suffix in SUFFIXES if bare.endswith(suffix)), bare)


def _refusing(reason: str) -> str:
    return (
        f"This server must anonymize every prompt and cannot: {reason}. Nothing is drawn until its operator has set it"
        " right and started it again."
    )
