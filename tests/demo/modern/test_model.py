"""The second model's denoiser stands in the host's own class and runs in the host's own sampler."""

from __future__ import annotations

import pytest
import torch


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
