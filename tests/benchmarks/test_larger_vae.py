"""Tests the larger VAE that reads pictures in place of the demo model's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anonymize_faces.benchmarks.support import larger_vae
from anonymize_faces.demo.loader import load_demo_model


@pytest.mark.slow
def test_it_gives_latents_of_the_same_shape_and_draws_as_the_demo_does(
    host_modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second of training: what is written is read again, and the demo's own VAE stays as it was."""
    monkeypatch.setattr(larger_vae, "PICTURES", 16)
    _, _, own = load_demo_model()
    pictures = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(0))
    before = own.encode(pictures)
    made, again = (larger_vae.larger_vae(own, tmp_path, 1 / 60) for _ in range(2))
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(own.encode(pictures), before)
    assert made.encode(pictures).shape == before.shape and not torch.equal(made.encode(pictures), before)
    assert torch.equal(again.encode(pictures), made.encode(pictures))
    assert torch.equal(made.decode(before), own.decode(before))
