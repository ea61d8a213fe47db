"""Learning on quantized weights, of ComfyUI-GGUF if it is here, else of a stand-in of its kind alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.tests.support.learning_checks import learning, require_to_learn
from anonymize_faces.tests.support.quantized import comfyui_gguf, stand_in

Make = Callable[..., Any]


@pytest.fixture(params=["stand-in", "ComfyUI-GGUF"])
def quantize(request: pytest.FixtureRequest, make_checkpoint: Make) -> Callable[[Any], Any]:
    """Makes the same checkpoint of bytes; loaded in inference mode, as by the host's nodes."""
    folder = os.environ.get("COMFYUI_GGUF")
    if request.param == "ComfyUI-GGUF" and folder is None:
        pytest.skip("COMFYUI_GGUF names no folder with the extension.")
    operations, load = stand_in() if request.param == "stand-in" else comfyui_gguf(Path(str(folder)))

    def make(plain: Any) -> Any:
        with torch.inference_mode():
            made = make_checkpoint(operations=operations)
            load(made.model.model.diffusion_model, plain.model.model.diffusion_model.state_dict())
            load(
                made.clip.cond_stage_model.clip_l.transformer,
                plain.clip.cond_stage_model.clip_l.transformer.state_dict(),
            )
        return made

    return make


def test_a_prefix_is_learned_on_quantized_weights(quantize: Any, make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(quantize(make_checkpoint()))
    with torch.inference_mode():
        require_to_learn(denoiser, learning(general_weight=1.0), {"l": 32})


def test_words_are_what_the_table_says_and_weights_are_told_apart(
    quantize: Any, make_checkpoint: Make, make_denoiser: Make
) -> None:
    from anonymize_faces.engines.comfy.text_encoders import encoder_fingerprint

    plain = make_checkpoint()
    checkpoint = quantize(plain)
    denoiser = make_denoiser(checkpoint)
    for words in ("a stranger", ""):
        ours, theirs = (engine.token_embeddings(words)["l"] for engine in (denoiser, make_denoiser(plain)))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)
    assert denoiser.fingerprint == encoder_fingerprint(checkpoint.clip) == make_denoiser(quantize(plain)).fingerprint
    digests = {make_denoiser(plain).digest, denoiser.digest}
    for part in ("clip.cond_stage_model.clip_l.transformer", "model.model.diffusion_model"):
        changed = make_checkpoint()
        at = changed
        for name in part.split("."):
            at = getattr(at, name)
        with torch.no_grad():
            next(weight for name, weight in at.named_parameters() if name.endswith("proj.weight")).mul_(-1)
        digests.add(make_denoiser(quantize(changed)).digest)
        assert (make_denoiser(quantize(changed)).fingerprint == denoiser.fingerprint) == part.startswith("model")
    assert len(digests) == 4
