"""Models in fp8 and compiled ones learn as others do."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.differentiable import differentiable
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


def in_scaled_fp8(make_checkpoint: Make, scaled: float = 1.0) -> Any:
    """A checkpoint whose denoiser's matrices are in fp8 with scales, for weights and for what they multiply."""
    import comfy.ops

    plain = make_checkpoint()
    weights = dict(plain.model.model.diffusion_model.state_dict())
    linear = [
        name
        for name, module in plain.model.model.diffusion_model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    told = {"format": "float8_e4m3fn"}
    if "layer_quant_config" not in inspect.signature(comfy.ops.mixed_precision_ops).parameters:
        mark = torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)
        weights |= {f"{name}.comfy_quant": mark for name in linear}
    for name in linear:
        scale = weights[f"{name}.weight"].abs().amax() / 448
        weights[f"{name}.weight"] = (weights[f"{name}.weight"] / scale).to(torch.float8_e4m3fn)
        weights |= {f"{name}.weight_scale": scaled * scale, f"{name}.input_scale": torch.tensor(0.01)}
    operations = comfy.ops.mixed_precision_ops(dict.fromkeys(linear, told), torch.float32, full_precision_mm=True)
    with torch.inference_mode():
        made = make_checkpoint(operations=operations, in_encoders=False)
        made.model.model.diffusion_model.load_state_dict(weights)
    return made


def test_a_prefix_is_learned_on_weights_in_fp8_that_have_scales(make_checkpoint: Make, make_denoiser: Make) -> None:
    import comfy.ops

    if not hasattr(comfy.ops, "mixed_precision_ops"):
        pytest.skip("This host has no such layers.")
    checkpoint = in_scaled_fp8(make_checkpoint)
    layers = [module for module in checkpoint.model.model.modules() if hasattr(module, "_full_precision_mm")]
    assert len(layers) > 10
    denoiser = make_denoiser(checkpoint)
    with torch.inference_mode():
        require_to_learn(denoiser, learning(general_weight=1.0), {"l": 32})
    layers[0]._full_precision_mm = False  # As where a card multiplies in fp8: that has no gradient.
    with denoiser.gradients(1):
        assert all(layer._full_precision_mm for layer in layers) and denoiser.count_kept() > 0
    same, other = in_scaled_fp8(make_checkpoint), in_scaled_fp8(make_checkpoint, scaled=2.0)
    assert make_denoiser(same).digest == denoiser.digest != make_denoiser(other).digest
    assert [layer._full_precision_mm for layer in layers] == [False] + [True] * (len(layers) - 1)


@pytest.mark.parametrize("kind", ["--fast", "scaled"])
def test_a_gradient_comes_through_layers_that_multiply_in_fp8(
    kind: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    import comfy.ops

    if kind == "scaled" and not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("This host has no such layers.")
    operations = comfy.ops.fp8_ops if kind == "--fast" else comfy.ops.scaled_fp8_ops(fp8_matrix_mult=True)
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn)
    layer = operations.Linear(32, 16, bias=False, device="cpu", dtype=torch.float8_e4m3fn).eval()
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    of_the_host = comfy.ops.fp8_linear
    given = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    denoiser = make_denoiser(make_checkpoint())
    with denoiser.gradients(1), differentiable(layer):
        (gradient,) = torch.autograd.grad(layer(given * 1.0).sum(), [given])
    torch.testing.assert_close(gradient, weight.float().sum(0).expand(2, 3, 32), rtol=1e-3, atol=1e-3)
    assert comfy.ops.fp8_linear is of_the_host


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
