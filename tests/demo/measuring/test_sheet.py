"""The picture of pairs."""

from __future__ import annotations

import numpy as np

from anonymize_faces.demo.measuring.sheet import CELL, before_after


def test_every_pair_stands_in_the_sheet_plain_above_anonymized() -> None:
    red, blue = (np.full((64, 64, 3), rgb, np.uint8) for rgb in ((200, 0, 0), (0, 0, 200)))
    sheet = np.asarray(
        before_after([("Alma Orlick", True, red, blue)] * 3, [("a very long prompt about a tree", blue, red)])
    )
    reds, blues = ((sheet == rgb).all(-1) for rgb in ((200, 0, 0), (0, 0, 200)))
    assert reds.sum() == blues.sum() == 4 * CELL * CELL
    assert np.argwhere(reds)[:, 0].min() < np.argwhere(blues)[:, 0].max() - CELL
