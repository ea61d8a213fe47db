"""The reader as a `Recognizer`, so that whatever measures faces runs on the demo model without downloads."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..faces.recognizer import Face, Threshold, cosine_similarities
from .reader import ReaderNet, load_reader, read
from .renderer import SIZE


class DemoRecognizer:
    """Sees at most one face in a picture, the picture itself; knows the demo's drawn faces and no others."""

    name = "demo reader"
    threshold = Threshold(
        value=0.9,
        source="between renders of one person and of strangers of the same looks, see tests/demo/test_recognizer.py",
    )

    def __init__(self, net: ReaderNet | None = None) -> None:
        self._net = net or load_reader()

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        """See `Recognizer`. Pictures of another size are brought to 64 × 64."""
        height, width = pictures.shape[1:3]
        if (height, width) != (SIZE, SIZE):
            pictures = np.stack(
                [np.asarray(Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling.BOX)) for p in pictures]
            )
        reading = read(self._net, pictures)
        box = (0.0, 0.0, float(width), float(height))
        return [
            (Face(box, 1.0, embedding),) if is_face else ()
            for is_face, embedding in zip(reading.face, reading.embeddings, strict=True)
        ]

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Recognizer`: cosine similarities."""
        return cosine_similarities(some, others)
