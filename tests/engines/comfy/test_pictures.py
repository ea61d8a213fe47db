"""Pictures through the host's VAE: as it encodes them itself, with a gradient, or an error that says why not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.engines.options import Drawing
from anonymize_faces.prefix import TrainingError
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.reporting.preview import BeforeAfter


@pytest.fixture(scope="module")
def demo(host_modules: None) -> tuple[Any, Any]:
    """The demo model's engine and VAE, loaded as the host's nodes do: in inference mode."""
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    with torch.inference_mode():
        model, clip, vae = load_demo_model()
    return ComfyDenoiser(model, clip, vae, (64, 64), Drawing(2, 2.0)), vae


def test_latents_are_those_of_the_host(demo: tuple[Any, Any]) -> None:
    denoiser, vae = demo
    pictures = torch.rand(2, 64, 64, 3)
    with denoiser.gradients(2, pictures=True), torch.no_grad():
        latents = denoiser.encode_pictures(pictures)
    with torch.inference_mode():
        torch.testing.assert_close(latents, vae.encode(pictures).cpu(), rtol=0, atol=1e-6)
    assert denoiser.decode(latents).shape == pictures.shape


def test_tiles_of_the_host_without_a_gradient_count_as_a_lack_of_memory(
    demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    denoiser, vae = demo

    def lacks(*_: Any) -> Any:
        raise comfy.model_management.OOM_EXCEPTION("no memory") from None

    with denoiser.gradients(1, pictures=True):
        monkeypatch.setattr(vae.first_stage_model, "encode", lacks)
        monkeypatch.setattr(vae, "encode_tiled_", lambda *_, **__: torch.zeros(1, *denoiser.latent_shape))
        with pytest.raises(Exception) as lacking:  # noqa: PT011, of hosts that know no such error it is any.
            denoiser.encode_pictures(torch.rand(1, 64, 64, 3).requires_grad_())
    assert denoiser.out_of_memory(lacking.value)


def test_another_models_vae_is_told(demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, vae = demo
    with denoiser.gradients(1, pictures=True):
        monkeypatch.setattr(vae, "encode", lambda pictures: pictures[:, :8, :8].movedim(-1, 1))
        with pytest.raises(TrainingError, match="not that of the model"):
            denoiser.encode_pictures(torch.rand(1, 64, 64, 3))


def test_a_vae_in_half_precision_is_copied_and_stays_as_it_is(demo: tuple[Any, Any]) -> None:
    from anonymize_faces.engines.comfy.denoiser import float_vae

    _, vae = demo
    assert float_vae(vae) is vae
    half = type(vae).__new__(type(vae))
    vars(half).update(vars(vae))
    half.vae_dtype = torch.float16
    copied = float_vae(half)
    assert copied.vae_dtype == torch.float32 and copied.first_stage_model is not vae.first_stage_model
    assert copied.encode(torch.rand(1, 64, 64, 3).requires_grad_()).requires_grad
    assert half.vae_dtype == torch.float16


def test_a_vae_of_another_kind_of_model_is_told_before_anything_is_drawn(demo: tuple[Any, Any]) -> None:
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    denoiser, vae = demo
    weights = TAESD(latent_channels=16).state_dict()
    other = ComfyDenoiser(denoiser._model, denoiser._clip, comfy.sd.VAE(sd=weights), (64, 64), Drawing(2, 2.0))
    own = ComfyDenoiser(denoiser._model, denoiser._clip, vae, (64, 64), Drawing(2, 2.0))
    with torch.inference_mode():
        BeforeAfter(own, [Identity("Ada")], 0, lambda: None).try_decoding()
        with pytest.raises(TrainingError, match=r"16 channels.*connect the checkpoint's own VAE"):
            BeforeAfter(other, [Identity("Ada")], 0, lambda: None).try_decoding()


def test_a_picture_is_the_same_in_any_batch_by_every_sampler_of_the_host(demo: tuple[Any, Any]) -> None:
    """Those that draw noise on the way do so for a whole batch from one seed."""
    import comfy.samplers

    from anonymize_faces.engines.comfy.denoiser import NOISELESS

    denoiser, _ = demo
    samplers = comfy.samplers.KSampler.SAMPLERS
    assert set(samplers) >= NOISELESS
    prompts, seeds = ["a red circle", "a red house"], [5, 6]
    drawing, differing = denoiser._drawing, []
    try:
        for sampler in samplers:
            denoiser._drawing = Drawing(3, 2.0, sampler, "normal")
            with torch.inference_mode():
                together = denoiser.sample(prompts, seeds)
                second = denoiser.sample(prompts[1:], seeds[1:])[0]
            if not torch.allclose(together[1], second, rtol=1e-3, atol=1e-3):
                differing.append(sampler)
    finally:
        denoiser._drawing = drawing
    assert differing == []
