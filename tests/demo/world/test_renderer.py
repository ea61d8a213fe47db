"""The renderer: pictures show what their parameters say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from anonymize_faces.demo.world.people import GEOMETRY, Looks, cast
from anonymize_faces.demo.world.renderer import KINDS, SIZE, Picture, draw, draw_all, picture_of, random_picture

PLAIN = Picture("person", "a studio", "red", Looks("brown", "pale", False, False), (0.0,) * len(GEOMETRY))


def test_the_same_value_gives_the_same_pixels() -> None:
    picture = picture_of(np.random.default_rng(3), cast()[0], 0)
    assert np.array_equal(draw(picture), draw(picture))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_in_full_size(kind: str) -> None:
    pixels = draw(random_picture(np.random.default_rng(1), kind))
    assert pixels.shape == (SIZE, SIZE, 3) and pixels.dtype == np.uint8
    assert pixels.reshape(-1, 3).std(0).max() > 10


@pytest.mark.parametrize("feature", GEOMETRY)
def test_every_feature_of_a_face_can_be_seen(feature: str) -> None:
    index = GEOMETRY.index(feature)
    low, high = ([0.0] * len(GEOMETRY) for _ in range(2))
    low[index], high[index] = -1.0, 1.0
    a, b = draw(replace(PLAIN, geometry=tuple(low))), draw(replace(PLAIN, geometry=tuple(high)))
    changed = np.abs(a.astype(int) - b.astype(int)).max(-1) > 24
    assert changed.sum() >= 6


@pytest.mark.parametrize(
    "looks",
    [
        Looks("black", "pale", False, False),
        Looks("brown", "dark", False, False),
        Looks("brown", "pale", True, False),
        Looks("brown", "pale", False, True),
    ],
)
def test_every_look_can_be_seen(looks: Looks) -> None:
    a, b = draw(PLAIN), draw(replace(PLAIN, looks=looks))
    assert (np.abs(a.astype(int) - b.astype(int)).max(-1) > 24).sum() >= 40


def test_all_cores_draw_within_a_command_and_come_to_an_end() -> None:
    pictures = [random_picture(np.random.default_rng(seed), "circle") for seed in range(3)]
    code = (
        "from anonymize_faces.tools.command import run_command\n"
        "from anonymize_faces.demo.world.renderer import draw_all, random_picture\n"
        "import numpy as np\n"
        "pictures = [random_picture(np.random.default_rng(seed), 'circle') for seed in range(3)]\n"
        "print(run_command(lambda: int(draw_all(pictures).sum()) and 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0"], done.stderr
    assert np.array_equal(draw_all(pictures), np.stack([draw(picture) for picture in pictures]))
