"""Gives the tests of photos a person of the demo's world, and the demo model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anonymize_faces.demo.world.people import all_looks, random_geometry
from anonymize_faces.demo.world.renderer import SIZE, draw, portrait
from anonymize_faces.engines.options import Drawing


@pytest.fixture(scope="session")
def demo_denoiser(host_modules: None) -> Any:
    """The demo model's engine, loaded as the host's nodes do: in inference mode."""
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    with torch.inference_mode():
        return ComfyDenoiser(*load_demo_model(), (SIZE, SIZE), Drawing(4, 2.0))


@pytest.fixture(scope="session")
def stranger() -> list[np.ndarray]:
    """Four pictures of somebody whom the demo model does not know, uint8 [96, 96, 3]."""
    rng = np.random.default_rng(3)
    looks, geometry = all_looks()[7], tuple(map(float, random_geometry(rng, 1)[0]))
    return [draw(portrait(rng, looks, geometry)) for _ in range(4)]
