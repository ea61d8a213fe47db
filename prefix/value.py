"""Defines a prefix: the frozen value, and the record of how it was learned."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from .errors import PrefixValueError, first_line
from .face_region import START as FACE_REGION
from .face_region import require_face_region
from .files.plain import is_finite, read_json, require_plain
from .meta_network import NAMES, NEAR, name_of_part, require_networks, vectors_of

FORMAT_VERSION = 1
"""Version of the record and of the file that holds it; raised when a reader of today could not understand it."""

CONDITIONAL_VERSION = 3
"""The same of a prefix whose vectors are made for each prompt: readers of version 1 would leave its network out. Those
of version 2 had no gate."""

REGION_VERSION = 4
"""The same of a prefix of either kind that says where faces are (`face_region`): readers of before would take its head
for a damaged network."""

NAMES_VERSION = 5
"""The same of a prefix that finds the words of names (`name_words`), whether it says where faces are or not: readers of
before would read them."""

NEAR_VERSION = 6
"""The same of a prefix whose gate opens near people's names alone (`meta_network.NEAR`): readers of before would open
it for more."""

_VERSIONS = (FORMAT_VERSION, CONDITIONAL_VERSION, REGION_VERSION, NAMES_VERSION, NEAR_VERSION)

MOST_VECTORS = 1024
"""More than any prompt has room for."""

MOST_LAYERS = 1024
"""More than any text encoder has."""

_TABLES = ("settings", "scores", "evaluation")
"""Fields of the record that are tables of JSON values."""

_LONGEST = {"family": 100, "fingerprint": 100, "date": 100, "name": 1000, "notes": 100_000}
"""Characters of the record's texts; lists of files show most of them."""

_MOST_COUNTED = 2**53
"""Browsers know no larger whole numbers."""

_MOST_SCORES = 256

_ENCODER_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class PrefixRecord:
    """What a prefix was learned on and what it scored. Everything in it survives a trip through JSON.

    Attributes:
        family: base model family by our short name ("sd1", "sdxl", ...).
        fingerprint: `prefix.digests.fingerprint` of the text encoders it was learned on.
        settings: the trainer's settings, JSON values only.
        identities: number of identities it was learned from.
        steps: number of training steps.
        date: ISO 8601, UTC.
        scores: measured figures by name.
        evaluation: what produced those of them that an evaluation measured, see `scored`; may be empty.
        layers: `{encoder key: layers}` that the encoder was read at while the prefix was learned, -1 the last one, in
            ascending order. An encoder that is not in it was read at its own usual layer. See `prefix.layers`.
        name: what its maker calls it; may be empty.
        notes: anything its maker wants to tell; may be empty.
        format_version: see `FORMAT_VERSION`, `CONDITIONAL_VERSION`, `REGION_VERSION`, `NAMES_VERSION` and
            `NEAR_VERSION`.

    Raises:
        PrefixValueError: a field has the wrong type or cannot be written as JSON.
    """

    family: str
    fingerprint: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    identities: int = 0
    steps: int = 0
    date: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    notes: str = ""
    format_version: int = FORMAT_VERSION
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, longest in _LONGEST.items():
            if not isinstance(getattr(self, name), str):
                raise PrefixValueError(f"The record's {name} must be text.")
            if len(getattr(self, name)) > longest:
                raise PrefixValueError(f"The record's {name} is longer than {longest} characters.")
            require_plain(getattr(self, name), f"The record's {name}")
        for name in ("identities", "steps", "format_version"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_COUNTED:
                raise PrefixValueError(f"The record's {name} must be a whole number from 0 to {_MOST_COUNTED}.")
        if self.format_version not in _VERSIONS:
            raise PrefixValueError(
                f"The prefix has format version {self.format_version}, this extension reads"
                f" {', '.join(map(str, _VERSIONS))}: update Anonymize Faces, or learn the prefix anew."
            )
        for name in _TABLES:
            if not isinstance(getattr(self, name), Mapping):
                raise PrefixValueError(f"The record's {name} must be a table of names and values.")
            require_plain(getattr(self, name), f"The record's {name}")
        if len(self.scores) > _MOST_SCORES:
            raise PrefixValueError(f"The record holds more than {_MOST_SCORES} scores.")
        for name, score in self.scores.items():
            if not is_finite(score) or len(name) > _LONGEST["name"]:
                raise PrefixValueError(f"The record's score {name[:80]!r} must be a finite number, with a short name.")
        try:
            tables = json.loads(json.dumps({name: dict(getattr(self, name)) for name in _TABLES}, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise PrefixValueError(
                f"The record's {' and '.join(_TABLES)} must be plain JSON ({first_line(error)})."
            ) from error
        for name, table in tables.items():
            object.__setattr__(self, name, MappingProxyType(table))
        object.__setattr__(self, "layers", MappingProxyType(_sound_layers(self.layers)))

    def __reduce__(self) -> Any:
        return PrefixRecord.from_json, (self.to_json(),)

    def to_json(self) -> str:
        """The record as one line of JSON, keys in a fixed order."""
        fields = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        tables = {name: dict(fields[name]) for name in (*_TABLES, "layers")}
        return json.dumps(fields | tables, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> PrefixRecord:
        """The record that `to_json` wrote. Fields of later versions that are only additions are ignored.

        Raises:
            PrefixValueError: not JSON, not a table, a field missing or unsound.
        """
        try:
            fields = read_json(text)
        except (ValueError, RecursionError) as error:
            raise PrefixValueError(f"The record is not valid JSON ({first_line(error)}).") from error
        if not isinstance(fields, dict):
            raise PrefixValueError("The record is not a JSON table.")
        known = {entry.name for entry in dataclasses.fields(cls)}
        missing = {"family", "fingerprint", "format_version"} - fields.keys()
        if missing:
            raise PrefixValueError(f"The record lacks {', '.join(sorted(missing))}.")
        return cls(**{name: value for name, value in fields.items() if name in known})


@dataclass(frozen=True, eq=False)
class Prefix:
    """The learned vectors, with what they were learned on.

    Attributes:
        vectors: `{encoder key: float32 [m, d]}`; m is the same for all encoders, d is the encoder's width.
            Held as a read-only table of private copies on the CPU, in the order of the keys.
        record: how they were learned. Its format version follows from whether there are networks.
        preview: a JPEG of people without and with it, for lists of files (`files.preview`); empty if there is none.
            It is never written into the file.
        networks: parts of the meta-networks that make the vectors for each prompt, by `key/part` (`meta_network`), held
            in the same way; empty for vectors that are always the same.
        face_region: what says where faces are, by `face_region/part` (`face_region`), held in the same way; empty if
            nothing does.

    Raises:
        PrefixValueError: no encoder, a key that is no encoder's name, or a tensor that is not float32, two-dimensional,
            non-empty, finite, of the common m and of at most `MOST_VECTORS`; or networks or a face region that are not
            whole.
    """

    vectors: Mapping[str, Tensor]
    record: PrefixRecord
    preview: bytes = b""
    networks: Mapping[str, Tensor] = field(default_factory=dict)
    face_region: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.record, PrefixRecord):
            raise PrefixValueError("A prefix needs a PrefixRecord.")
        if not isinstance(self.vectors, Mapping) or not self.vectors:
            raise PrefixValueError("A prefix needs vectors for at least one text encoder.")
        for key, tensor in self.vectors.items():
            _validate(key, tensor)
        lengths = {key: tensor.shape[0] for key, tensor in self.vectors.items()}
        if len(set(lengths.values())) > 1:
            raise PrefixValueError(f"A prefix has as many vectors for one text encoder as for the next, not {lengths}.")
        for key in self.record.layers.keys() - self.vectors.keys():
            raise PrefixValueError(f"The record tells layers of text encoder '{key}', for which there are no vectors.")
        if self.networks:
            require_networks({**self.vectors, **self.networks})
        if self.face_region:
            require_face_region(self.face_region)
        object.__setattr__(self, "vectors", _copies(self.vectors))
        object.__setattr__(self, "networks", _copies(self.networks))
        object.__setattr__(self, "face_region", _copies(self.face_region))
        version = CONDITIONAL_VERSION if self.networks else FORMAT_VERSION
        version = REGION_VERSION if self.face_region else version
        for parts, newer in ((NAMES, NAMES_VERSION), (NEAR, NEAR_VERSION)):
            version = newer if any(name_of_part(name) in parts for name in self.networks) else version
        object.__setattr__(self, "record", dataclasses.replace(self.record, format_version=version))

    def __reduce__(self) -> Any:
        vectors, networks, face_region = map(dict, (self.vectors, self.networks, self.face_region))
        return Prefix, (vectors, self.record, self.preview, networks, face_region)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Vectors and networks in one table, as `meta_network` takes them."""
        return {**self.vectors, **self.networks}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that its file holds: `parameters` and `face_region`."""
        return {**self.parameters, **self.face_region}

    @property
    def is_conditional(self) -> bool:
        """Whether the vectors are made for each prompt."""
        return bool(self.networks)

    @property
    def length(self) -> int:
        """Number of vectors m."""
        return next(iter(self.vectors.values())).shape[0]

    @property
    def widths(self) -> dict[str, int]:
        """Width d of each encoder's vectors."""
        return {key: tensor.shape[1] for key, tensor in self.vectors.items()}


def prefix_of(parameters: Mapping[str, Tensor], record: PrefixRecord, preview: bytes = b"") -> Prefix:
    """The prefix with these parameters, vectors and networks in one table, and a face region if it is among them.

    Raises:
        PrefixValueError: as `Prefix`.
    """
    face_region = {name: part for name, part in parameters.items() if name.startswith(FACE_REGION)}
    vectors = vectors_of(parameters)
    networks = {name: part for name, part in parameters.items() if name not in vectors and name not in face_region}
    return Prefix(vectors, record, preview, networks, face_region)


def same_tensors(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes hold the same vectors, networks and face region, to the last bit."""
    mine, others = one.tensors, other.tensors
    return mine.keys() == others.keys() and all(mine[name].equal(others[name]) for name in mine)


def _copies(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Read-only private copies on the CPU, in the order of their names.

    The host runs nodes in inference mode, where copies could never take part in autograd again.
    """
    with torch.inference_mode(False), torch.no_grad():
        return MappingProxyType(
            {
                name: tensors[name].to("cpu").clone(memory_format=torch.contiguous_format).detach()
                for name in sorted(tensors)
            }
        )


def _sound_layers(layers: Any) -> dict[str, tuple[int, ...]]:
    """The layers by encoder, each once and in ascending order, the encoders in order."""
    if not isinstance(layers, Mapping):
        raise PrefixValueError("The record's layers must be a table of text encoders and lists of layers.")
    for key, numbers in layers.items():
        if not isinstance(key, str) or not _ENCODER_KEY.fullmatch(key):
            raise PrefixValueError(f"The record's layers name {key!r}, which is not the name of a text encoder.")
        if not isinstance(numbers, list | tuple) or not numbers or len(numbers) > MOST_LAYERS:
            raise PrefixValueError(f"The record's layers of text encoder '{key}' must be a list of one or more.")
        for number in numbers:
            if not isinstance(number, int) or isinstance(number, bool) or not -MOST_LAYERS <= number < 0:
                raise PrefixValueError(
                    f"The record's layers of text encoder '{key}' must be whole numbers below zero, -1 for the last."
                )
        if len(set(numbers)) < len(numbers):
            raise PrefixValueError(f"The record names a layer of text encoder '{key}' twice.")
    return {key: tuple(sorted(layers[key])) for key in sorted(layers)}


def _validate(key: str, tensor: Tensor) -> None:
    if not isinstance(key, str) or not _ENCODER_KEY.fullmatch(key):
        raise PrefixValueError(f"{key!r} is not the name of a text encoder.")
    if not isinstance(tensor, Tensor):
        raise PrefixValueError(f"The vectors for text encoder '{key}' must be a tensor.")
    if tensor.dtype != torch.float32:
        raise PrefixValueError(f"The vectors for text encoder '{key}' must be float32, not {tensor.dtype}.")
    if tensor.layout != torch.strided or tensor.ndim != 2 or 0 in tensor.shape:
        raise PrefixValueError(
            f"The vectors for text encoder '{key}' must be a table [m, d], not {list(tensor.shape)}."
        )
    if len(tensor) > MOST_VECTORS:
        raise PrefixValueError(
            f"There are {len(tensor)} vectors for text encoder '{key}', and no prompt has room for more than"
            f" {MOST_VECTORS}."
        )
    if not bool(torch.isfinite(tensor).all()):
        raise PrefixValueError(f"The vectors for text encoder '{key}' contain values that are not finite.")
