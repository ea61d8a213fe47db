"""Makes the reader a `Recognizer`, so that whatever measures faces runs on the demo model without downloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from ...faces.gallery import NOBODY, STRANGER, Gallery
from ...faces.recognizer import Face, Threshold, cosine_similarities
from ...trainer.data.list_text import sameness
from ..world.people import cast, named_looks
from ..world.renderer import SIZE, Picture, draw
from .measure import LOOKS, make_gallery
from .reader import ReaderNet, committed_reader, read


class DemoRecognizer:
    """Sees at most one face in a picture, the picture itself; knows the demo's drawn faces and no others."""

    name = "demo reader"
    threshold = Threshold(
        value=0.9,
        source="between renders of one person and of strangers with those looks",
    )

    def __init__(self, net: ReaderNet | None = None) -> None:
        self._net = net or committed_reader()

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        """See `Recognizer`. Pictures of another size are brought to that of the reader's."""
        height, width = pictures.shape[1:3]
        reading = read(self._net, brought_to_size(pictures))
        box = (0.0, 0.0, float(width), float(height))
        return [
            (Face(box, 1.0, embedding),) if is_face else ()
            for is_face, embedding in zip(reading.face, reading.embeddings, strict=True)
        ]

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Recognizer`: cosine similarities."""
        return cosine_similarities(some, others)

    def gallery(self, names: Sequence[str]) -> Gallery:
        """See `Knows`: the whole gallery of `measure`, whoever is named; of others of the cast it knows faces too."""
        places = {sameness(person.name): index for index, person in enumerate(cast())}
        keys = [sameness(name) for name in names]
        named = {places[key]: number for number, key in enumerate(keys) if key in places}
        if not named:
            return NOBODY
        made = make_gallery(self._net, _draw_in_this_process)
        return replace(made, people=np.array([named.get(index, STRANGER) for index in made.people.tolist()]))

    def looks_kept(self, pictures: np.ndarray, descriptions: Sequence[str]) -> list[tuple[int, int]]:
        """See `SeesLooks`: hair, skin, glasses, beard."""
        counts = []
        for seen, description in zip(read(self._net, brought_to_size(pictures)).looks, descriptions, strict=True):
            told = named_looks(description)
            counts.append((sum(getattr(seen, name) == told[name] for name in LOOKS if name in told), len(told)))
        return counts


def _draw_in_this_process(pictures: Sequence[Picture]) -> np.ndarray:
    """The host would not survive being started once more for each of its cores."""
    return np.stack([draw(picture) for picture in pictures])


def brought_to_size(pictures: np.ndarray) -> np.ndarray:
    """Pictures in the size that the reader reads, uint8 [n, SIZE, SIZE, 3]."""
    if pictures.shape[1:3] == (SIZE, SIZE):
        return pictures
    return np.stack([np.asarray(Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling.BOX)) for p in pictures])
