"""Without this module a prefix of one family could pass for another's, and nobody would hear where it comes from.

A family is told by the record; of a checkpoint's CLIP only the text encoders can be seen. Families that no text encoder
tells apart are left to the artist.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import PrefixMismatchError
from .value import PrefixRecord


@dataclass(frozen=True)
class Family:
    """Checkpoints that can share a prefix.

    Attributes:
        title: what artists call it.
        names: how records call it: our short name and the host's names of its models, in lower case.
        encoders: the sets of text encoder keys that its CLIPs come with.
    """

    title: str
    names: frozenset[str]
    encoders: tuple[frozenset[str], ...]


FAMILIES = tuple(
    Family(title, frozenset(names.split()), tuple(frozenset(keys.split()) for keys in encoders))
    for title, names, encoders in (
        ("SD1", "sd1 sd15 sd15_instructpix2pix", ["l"]),
        ("SD2", "sd2 sd20 sd21unclipl sd21uncliph", ["h"]),
        ("SDXL", "sdxl sdxlrefiner sdxl_instructpix2pix ssd1b segmind_vega koala_700m koala_1b", ["g l", "g"]),
        ("SD3", "sd3", ["g l t5xxl"]),
        ("Flux", "flux fluxinpaint fluxschnell", ["l t5xxl"]),
    )
)


def require_family(record: PrefixRecord, encoders: Iterable[str]) -> None:
    """Raises `PrefixMismatchError` if the prefix was learned on a family that has other text encoders.

    Args:
        record: of the prefix. One whose family is not known here passes: `require_fit` is what guards those.
        encoders: keys of the checkpoint's text encoders.
    """
    keys = frozenset(encoders)
    for family in FAMILIES:
        if record.family.lower() in family.names and keys not in family.encoders:
            raise PrefixMismatchError(
                f"The prefix was learned on {family.title}, and this checkpoint is of another family"
                f" ({_describe(keys)}): choose a prefix learned on a checkpoint of its family, or learn one with"
                " Train Anonymization Prefix."
            )


def checkpoint_note(record: PrefixRecord, fingerprint: str) -> str | None:
    """What an artist should know who uses the prefix on another checkpoint than it was learned on; None if nothing.

    Args:
        record: of the prefix.
        fingerprint: `fingerprint.fingerprint` of the checkpoint's text encoders, empty if it cannot be told.
    """
    if not record.fingerprint or not fingerprint:
        return (
            "It is not known whether this prefix was learned on this checkpoint: look at a few pictures before you rely"
            " on it."
        )
    if record.fingerprint != fingerprint:
        return (
            "This prefix was learned on another checkpoint, or on another precision of this one. Prefixes carry over"
            " within a family, not always fully: look at a few pictures before you rely on it."
        )
    return None


def _describe(keys: frozenset[str]) -> str:
    titles = [family.title for family in FAMILIES if keys in family.encoders]
    return titles[0] if titles else f"text encoders {', '.join(sorted(keys))}"
