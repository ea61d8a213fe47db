"""The second model's denoiser stands in the host's own class and runs in the host's own sampler."""

from __future__ import annotations

import math

import pytest
import torch

from anonymize_faces.demo.loader import MODERN, load_demo_model
from anonymize_faces.demo.world.people import identities
from anonymize_faces.demo.world.renderer import SIZE
from anonymize_faces.prefix.meta_network import is_conditional
from anonymize_faces.tools.layout import LANGUAGE_MODEL
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.training import learn_prefix


@pytest.mark.usefixtures("host_modules")
def test_it_runs_in_the_hosts_sampler_and_what_a_prompt_says_changes_the_picture() -> None:
    import comfy.sample

    from anonymize_faces.demo.making.common import initialize
    from anonymize_faces.demo.modern.model import new_denoiser, new_model
    from anonymize_faces.demo.modern.text_model import WIDTH

    torch.manual_seed(0)
    made = new_denoiser()
    initialize(made)
    assert sum(p.numel() for p in made.parameters()) * 2 < 12e6
    model = new_model(made.state_dict())
    noise = torch.randn(1, 12, 12, 12)

    def sampled(states: torch.Tensor) -> torch.Tensor:
        condition = [[states, {"attention_mask": torch.ones(states.shape[:2])}]]
        return comfy.sample.sample(
            model, noise, 2, 1.5, "euler", "simple", condition, condition, torch.zeros_like(noise), disable_pbar=True
        )

    with torch.inference_mode():
        one, other = (sampled(torch.randn(1, length, WIDTH)) for length in (15, 40))
    assert one.shape == noise.shape and torch.isfinite(one).all() and torch.isfinite(other).all()
    assert (one - other).abs().max() > 1e-4


@pytest.mark.usefixtures("host_modules")
@pytest.mark.skipif(not LANGUAGE_MODEL.is_file(), reason="set-up fetches the language model")
def test_a_prefix_is_learned_on_it_by_the_same_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    from anonymize_faces.demo.modern.text_model import KEY, WIDTH
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Drawing

    with torch.inference_mode():
        denoiser = ComfyDenoiser(*load_demo_model(kind=MODERN), (SIZE, SIZE), Drawing(steps=1, cfg=1.0))
    # Reading all prompts that are read before learning takes longer than all else here.
    monkeypatch.setattr("anonymize_faces.trainer.data.pairs.MOST_NAMED", 24)
    settings = TrainingSettings(
        text_steps=1,
        steps=1,
        batch_size=1,
        vectors=2,
        portraits_per_identity=1,
        noisings_per_picture=1,
        held_out=0,
    )
    with torch.inference_mode():
        learned = learn_prefix(denoiser, identities(unseen=(False,))[:2], ("a red circle",), settings)
    assert learned.prefix.record.family == "ModernModel" and not learned.prefix.record.layers
    assert learned.prefix.record.fingerprint == denoiser.fingerprint
    assert learned.prefix.vectors[KEY].shape == (2, WIDTH) and is_conditional(learned.prefix.parameters)
    (losses,) = learned.history
    assert any(math.isfinite(loss) and loss > 0 for loss in losses)  # The step was made, on a prompt of either kind.
