"""What protection costs the denoiser: nothing. Counted at the host's own UNet, through the host's own sampler."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.demo.generate import DemoParts, generate
from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.prefix import Prefix, PrefixRecord

STEPS = 3


@pytest.fixture(scope="module")
def parts(host_modules) -> DemoParts:
    from anonymize_faces.demo.loader import load_demo_model

    return DemoParts(*load_demo_model())


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("words", [6, 70, 200, 280, 600])
def test_the_denoiser_is_never_asked_more_than_without_a_prefix(parts: DemoParts, words: int, strength: float) -> None:
    vectors = torch.randn(10, 192, generator=torch.Generator().manual_seed(0)) * 0.1
    prefix = Prefix({"l": vectors}, PrefixRecord(family="sd1", fingerprint=""))
    asked = []
    unet = parts.model.model.diffusion_model
    for clip in (parts.clip, protect(parts.clip, prefix, strength)):
        batches = []
        hook = unet.register_forward_pre_hook(lambda _, arguments, seen=batches: seen.append(len(arguments[0])))
        generate(DemoParts(parts.model, clip, parts.vae, STEPS), ["word " * words], [1])
        hook.remove()
        asked.append(batches)
    plain, protected = asked
    assert sum(plain) == sum(protected) == 2 * STEPS
    # The host takes both prompts in one go as long as one is at most four times as long as the other. 280 words are
    # four chunks, and five with the prefix, as they would be if the artist wrote twenty more.
    assert len(protected) == len(plain) or words == 280
