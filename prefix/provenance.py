"""Compares a prefix with a checkpoint: its model family, and the text encoder it was learned on.

A family is told by the record; of a checkpoint's CLIP only the text encoders can be seen. Families that no text encoder
tells apart are left to the artist.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import PrefixMismatchError
from .value import PrefixRecord


@dataclass(frozen=True)
class ModelFamily:
    """Checkpoints that can share a prefix.

    Attributes:
        title: what artists call it.
        names: how records call it: our short name and the host's names of its models, in lower case.
        encoders: the sets of text encoder keys that its CLIPs come with.
    """

    title: str
    names: frozenset[str]
    encoders: tuple[frozenset[str], ...]


MODEL_FAMILIES = tuple(
    ModelFamily(title, frozenset(names.split()), tuple(frozenset(keys.split()) for keys in encoders))
    for title, names, encoders in (
        ("SD1", "sd1 sd15 sd15_instructpix2pix", ["l"]),
        ("SD2", "sd2 sd20 sd21unclipl sd21uncliph", ["h"]),
        ("SDXL", "sdxl sdxlrefiner sdxl_instructpix2pix ssd1b segmind_vega koala_700m koala_1b", ["g l", "g"]),
        ("SD3", "sd3", ["g l t5xxl"]),
        ("Flux", "flux fluxinpaint fluxschnell", ["l t5xxl"]),
    )
)

GONE = frozenset({"demomodel"})
"""Families of models that are no more, in lower case: the demo model before `classic` and `modern` took its place."""


def require_family(record: PrefixRecord, encoders: Iterable[str]) -> None:
    """Raises `PrefixMismatchError` if the prefix was learned on a family that is gone or has other text encoders.

    Args:
        record: of the prefix. One whose family is not known here passes: `require_fit` is what guards those.
        encoders: keys of the checkpoint's text encoders.
    """
    if record.family.lower() in GONE:
        raise PrefixMismatchError(
            "The prefix was learned on a former demo model, and protects nobody on another one: learn a new one with"
            " the example Train on the demo model."
        )
    keys = frozenset(encoders)
    for family in MODEL_FAMILIES:
        if record.family.lower() in family.names and keys not in family.encoders:
            raise PrefixMismatchError(
                f"The prefix was learned on {family.title}, and this checkpoint is of another family"
                f" ({_describe(keys)}): choose a prefix learned on a checkpoint of its family, or learn one with"
                " Train Anonymization Prefix."
            )


def family_title(name: str) -> str:
    """What artists call a family, given as a record or the host calls it; the name itself if it is not known here."""
    return next((family.title for family in MODEL_FAMILIES if name.lower() in family.names), name)


def fits_family(record: PrefixRecord, encoders: Iterable[str], name: str) -> bool | None:
    """Whether a prefix serves checkpoints of a family; None if that cannot be told without the checkpoint.

    Args:
        record: of the prefix.
        encoders: keys of the text encoders that it has vectors for.
        name: of the family, as a record or the host calls it.
    """
    if record.family.lower() in GONE:
        return False
    families = {family.title: family for family in MODEL_FAMILIES}
    asked, learned = family_title(name), family_title(record.family)
    if asked.lower() == learned.lower():
        return True
    if asked not in families:
        return None
    if learned in families or not any(needed <= frozenset(encoders) for needed in families[asked].encoders):
        return False
    return None


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
    titles = [family.title for family in MODEL_FAMILIES if keys in family.encoders]
    return titles[0] if titles else f"text encoders {', '.join(sorted(keys))}"
