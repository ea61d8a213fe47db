"""Models in fp8 and compiled ones learn as others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.tests.support.learning_checks import learning, require_to_learn

Make = Callable[..., Any]


def in_fp8(make_checkpoint: Make) -> Any:
    """A checkpoint whose matrices are in fp8, as the host loads `fp8_e4m3fn`: each layer casts its own."""
    import comfy.ops

    plain = make_checkpoint()
    with torch.inference_mode():
        made = make_checkpoint(operations=comfy.ops.manual_cast)
        for ours, theirs in (
            (made.model.model.diffusion_model, plain.model.model.diffusion_model),
            (made.clip.cond_stage_model.clip_l.transformer, plain.clip.cond_stage_model.clip_l.transformer),
        ):
            ours.load_state_dict(theirs.state_dict())
            for module in ours.modules():
                if isinstance(module, torch.nn.Linear):
                    smaller = module.weight.detach().to(torch.float8_e4m3fn)
                    module.weight = torch.nn.Parameter(smaller, requires_grad=False)
    return made


def test_a_prefix_is_learned_on_weights_in_fp8(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(in_fp8(make_checkpoint))
    with torch.inference_mode():
        require_to_learn(denoiser, learning(general_weight=1.0), {"l": 32})


def test_a_compiled_model_is_learned_on_as_it_was_before_it_was_compiled(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    def backend(*_: Any) -> Any:
        pytest.fail("The network was compiled for learning.")

    found = []
    for is_compiled in (False, True):
        checkpoint = make_checkpoint()
        if is_compiled:
            set_torch_compile_wrapper(
                model=checkpoint.model, backend=backend
            )  # As the host's Torch Compile Model does.
        denoiser = make_denoiser(checkpoint)
        wrappers = repr(checkpoint.model.wrappers)
        vectors = {"l": torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()}
        noised = torch.randn(1, *denoiser.latent_shape, generator=torch.Generator().manual_seed(1))
        with denoiser.gradients(1):
            assert not is_compiled or denoiser.use_less_memory()
            predicted = denoiser.predict(noised, torch.tensor([0.4]), denoiser.encode(["Ada"], vectors))
            (gradient,) = torch.autograd.grad(predicted.square().mean(), [vectors["l"]])
        assert repr(checkpoint.model.wrappers) == wrappers
        found.append((predicted.detach(), gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
