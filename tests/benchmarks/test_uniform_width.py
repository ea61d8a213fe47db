"""All blocks narrowed alike: within the compute that is asked for, masked and cut alike, and nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.prefix.errors import ExpertsError

Make = Callable[..., Any]


@pytest.fixture
def prunable(make_checkpoint: Make, make_denoiser: Make) -> tuple[Any, Any]:
    """A tiny SD1, and what can be taken out of it."""
    from anonymize_faces.engines.comfy.expert_parts import prunable

    checkpoint = make_checkpoint()
    return checkpoint, prunable(make_denoiser(checkpoint), checkpoint.model)


def predicted(what: Any) -> torch.Tensor:
    noised = torch.randn(2, *what.denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    return what.denoiser.predict(noised, torch.tensor([0.3, 0.7]), what.denoiser.encode(["a", "b c"]))


@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_what_is_masked_is_what_is_cut_and_the_network_is_whole_afterwards(prunable: Any, keep: float) -> None:
    from anonymize_faces.benchmarks.support.uniform_width import UniformWidth

    checkpoint, what = prunable
    network = checkpoint.model.model.diffusion_model
    with what.denoiser.gradients(2), torch.no_grad():
        before = predicted(what)
        width = UniformWidth(what, keep)
        assert keep - 0.1 < width.share <= keep and 0 < width.width < 1
        with width.masked():
            masked = predicted(what)
        with width.cut():
            cut = predicted(what)
        assert torch.allclose(masked, cut, rtol=1e-4, atol=1e-5) and not torch.allclose(masked, before, atol=1e-3)
        assert torch.equal(predicted(what), before)
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in network.modules())


def test_units_of_the_smallest_weights_go(prunable: Any) -> None:
    from anonymize_faces.benchmarks.support.uniform_width import UniformWidth, hidden_units

    _, what = prunable
    feed_forward = next(units for units in hidden_units(what.network) if units.parts == 2)
    with torch.no_grad():
        for part in range(2):
            feed_forward.into[0].weight[part * feed_forward.count + 5] *= 1e-3
        feed_forward.out.weight[:, 5] *= 1e-3
    assert int(feed_forward.norms().argmin()) == 5
    largest = int(feed_forward.norms().argmax())
    width = UniformWidth(what, 0.95)
    seen = []
    hook = feed_forward.out.register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    with width.masked(), what.denoiser.gradients(2), torch.no_grad():
        predicted(what)
    hook.remove()
    assert not seen[-1][..., 5].any() and seen[-1][..., largest].any()


def test_it_is_drawn_with_a_lora_and_the_model_stays_as_it_was(prunable: Any) -> None:
    import comfy.sample

    from anonymize_faces.benchmarks.support.uniform_width import UniformWidth

    checkpoint, what = prunable
    width = UniformWidth(what, 0.7)
    random = torch.Generator().manual_seed(0)
    (layer,) = (name for name, _ in what.network.named_modules() if name.endswith("middle_block.1.proj_in"))
    lora = {
        f"diffusion_model.{layer}.lora_up.weight": torch.randn(32, 2, generator=random),
        f"diffusion_model.{layer}.lora_down.weight": torch.randn(2, 32, generator=random),
    }
    inner = "diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2"
    cut_too = {
        f"{inner}.lora_up.weight": torch.randn(32, 2, generator=random),
        f"{inner}.lora_down.weight": torch.randn(2, 128, generator=random),
    }

    def drawn(model: Any) -> torch.Tensor:
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        said = [[torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(1)), {}]]
        return comfy.sample.sample(
            model, noise, 2, 2.0, "euler", "simple", said, said, torch.zeros_like(noise), disable_pbar=True, seed=1
        )

    before = drawn(checkpoint.model)
    plain, changed, both = (drawn(width.model(checkpoint.model, delta)) for delta in ({}, lora, lora | cut_too))
    assert all(not torch.allclose(one, other, atol=1e-3) for one, other in ((plain, before), (changed, plain)))
    assert not torch.allclose(both, changed, atol=1e-3), "the host's patch reaches layers that are cut"
    assert torch.equal(drawn(width.model(checkpoint.model, {})), plain) and torch.equal(drawn(checkpoint.model), before)


def test_less_than_the_narrowest_is_refused(prunable: Any) -> None:
    from anonymize_faces.benchmarks.support.uniform_width import UniformWidth

    with pytest.raises(ExpertsError, match=r"still makes .* keep more"):
        UniformWidth(prunable[1], 0.01)
