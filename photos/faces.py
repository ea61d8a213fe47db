"""Looks for faces in photos that are protected, and tells of those that show none, or several people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from ..faces.recognizer import Finder
from ..prefix.errors import MeasurementError


def told_of_faces(
    finding: Callable[[], AbstractContextManager[Finder]], photos: Sequence[np.ndarray]
) -> tuple[str, ...]:
    """Sentences on photos without a face, and on photos with several; none where each shows one.

    Photos are protected all the same: a finder misses faces, and where there is none the model is led astray as well.

    Args:
        finding: what finds faces, while it is needed.
        photos: uint8 `[height, width, 3]` of any sizes.
    """
    try:
        with finding() as finder:
            counts = [len(finder.find(photo[None])[0]) for photo in photos]
    except MeasurementError as error:
        return (f"Nobody looked whether each photo shows a face: {error}",)
    told = []
    if none := [number for number, count in enumerate(counts, 1) if count == 0]:
        told.append(
            f"No face was found in {_listed(none)}: see whether these are the photos that you meant. They are protected"
            " all the same."
        )
    if several := [number for number, count in enumerate(counts, 1) if count > 1]:
        told.append(f"Several faces are in {_listed(several)}: all of them are protected alike.")
    return tuple(told)


def _listed(numbers: Sequence[int]) -> str:
    """Photos by their numbers, as a sentence has them."""
    if len(numbers) == 1:
        return f"photo {numbers[0]}"
    return f"photos {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
