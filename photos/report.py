"""Tells of protected photographs and of attacks on them in plain words, with what they do not protect against."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..faces.recognizer import Threshold
from ..runs.amounts import duration
from .attack import Attacked, PhotoSubject
from .protect import ProtectedPhotos
from .settings import AttackSettings, ProtectionSettings

LIMITS = (
    "What this is worth: it makes one kind of misuse dearer, somebody who trains a model of this family on your photos."
    " It does nothing against IP-Adapter, InstantID, PuLID and models that edit pictures, and little against other"
    " model families. Re-saving, resizing, a screenshot or an upscaler weakens it. Whoever has unprotected photos of"
    " the same person does not need these. A photo that is published cannot be strengthened later. It can be"
    " detected, and at useful strength it is seen. It never takes the place of not publishing, or of the law."
)
"""What is told with every result, since a protection that is believed in where it is none does harm."""

KEEP_PNG = "Save as PNG and publish that file: JPEG takes much of it away."

WELL, HARDLY = 0.35, 0.85
"""Shares of pictures in which the person is found, up to which a protection holds, and from which on it hardly does."""


def describe_protection(protected: ProtectedPhotos, settings: ProtectionSettings, notes: Sequence[str] = ()) -> str:
    """What was done to photos, in plain words.

    Args:
        notes: what else there is to say, sentences.
    """
    count = len(protected.photos)
    lines = [
        f"{count} photo{'s' if count > 1 else ''} changed by at most {max(protected.changes)} of 255 levels"
        f" (budget {settings.budget}), method '{settings.method}', {settings.steps} steps,"
        f" {duration(protected.seconds)}."
    ]
    quality = [value for value in protected.psnr if math.isfinite(value)]
    if quality:
        lines.append(f"Likeness to the original (PSNR): {min(quality):.1f} dB at least; below 30 the change is seen.")
    if protected.moved:
        share = max(0.0, sum(protected.moved) / count)
        lines.append(
            f"What the model makes of the file has gone {100 * share:.0f} % of the way to the other picture. How well"
            " that protects, Measure Photo Protection tells."
        )
    if protected.passes:
        lines.append(f"The denoiser was asked {protected.passes} times.")
    return "\n".join([*lines, *protected.notes, *notes, KEEP_PNG, "", LIMITS])


def verdict(plain: Attacked, protected: Attacked) -> str:
    """One sentence: whether the photos protect."""
    before, after = _found(plain), _found(protected)
    if before < 0.5:
        return (
            "Not measured: even from the original photos the attacker's model does not draw the person. Give the"
            " attacker more steps, or more photos."
        )
    share = f"The person is found in {_percent(after)} of what was drawn after learning from the protected photos"
    if after <= WELL:
        return f"Protected against this attack. {share}, {_percent(before)} after learning from the originals."
    if after >= HARDLY * before:
        return f"Not protected. {share}, {_percent(before)} after learning from the originals."
    return f"Weakly protected. {share}, {_percent(before)} after learning from the originals."


def describe_attacks(
    plain: Attacked, protected: Attacked, how: AttackSettings, person: PhotoSubject, threshold: Threshold
) -> str:
    """The verdict, a table, and what it rests on."""
    rows = [
        ("", "originals", "protected"),
        ("recognized", *(_percent(one.recognized) for one in (plain, protected))),
        *([("ranks first", *(_percent(one.first) for one in (plain, protected)))] if person.gallery.strangers else []),
        ("similarity (no face = 0)", *(f"{one.similarity:.3f}" for one in (plain, protected))),
        ("face found", *(_percent(one.faces) for one in (plain, protected))),
        ("the photos themselves", *(f"{one.photos_similarity:.3f}" for one in (plain, protected))),
    ]
    settings = how.finetuning
    lines = [
        verdict(plain, protected),
        "",
        *(f"{title:<26}{one:>10}{other:>11}" for title, one, other in rows),
        "",
        f"Attacker: {settings.kind}, photos treated with: {how.purification}, {len(plain.pictures)} pictures of"
        f" {len(how.prompts)} prompts that the protection did not see.",
        f"Recognized means a similarity of at least {threshold.value:.3f} ({threshold.source}).",
        *dict.fromkeys((*person.notes, *plain.notes, *protected.notes)),
        "",
        LIMITS,
    ]
    return "\n".join(lines)


def _found(attacked: Attacked) -> float:
    """Share of pictures in which the person is found: ranks first, or where nobody else is known is recognized."""
    return attacked.recognized if math.isnan(attacked.first) else attacked.first


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"
