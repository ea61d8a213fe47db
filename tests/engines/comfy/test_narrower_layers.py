"""Narrower layers of the host's UNets: they compute what the network does whose units are 0, and nothing stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from anonymize_faces.engines.pruning.deltas import narrowed_delta
from anonymize_faces.engines.pruning.units import LeftOut, narrowed_layers
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.tests.support.narrowing import controlnet, drawn, narrowed_by_chance

Make = Callable[..., Any]


@pytest.fixture
def checkpoint(make_checkpoint: Make) -> Any:
    return make_checkpoint()


@pytest.fixture
def prunable(checkpoint: Any, make_denoiser: Make) -> Any:
    """What can go of a tiny SD1."""
    from anonymize_faces.engines.comfy import expert_parts

    return expert_parts.prunable(make_denoiser(checkpoint), checkpoint.model)


@pytest.fixture
def expert_model(host_modules: None) -> Callable[..., Any]:
    from anonymize_faces.engines.comfy.expert_parts import expert_model

    return expert_model


def lora_for(network: Any, *endings: str) -> dict[str, torch.Tensor]:
    random, found = torch.Generator().manual_seed(3), {}
    for ending in endings:
        name = next(name for name, _ in network.named_modules() if name.endswith(ending))
        shape = network.get_submodule(name).weight.flatten(1).shape
        found[f"diffusion_model.{name}.lora_up.weight"] = 0.3 * torch.randn(shape[0], 2, generator=random)
        found[f"diffusion_model.{name}.lora_down.weight"] = 0.3 * torch.randn(2, shape[1], generator=random)
    return found


LAYERS = ("attn1.to_q", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2", "in_layers.2", "out_layers.3", "emb_layers.1")


def nothing_stays(network: Any) -> bool:
    own = ("forward", "weight_function", "bias_function", "num_groups", "heads")
    return not any(module._forward_pre_hooks for module in network.modules()) and not any(
        callable(value) or (isinstance(value, list) and value)
        for module in network.modules()
        for name, value in vars(module).items()
        if name in own
    )


def test_every_kind_of_layer_has_units_and_their_shares_are_what_narrowing_saves(prunable: Any) -> None:
    kinds = {name.rpartition(".")[2] for name in prunable.units}
    assert {"attn1", "attn2", "ff"} < kinds and any(
        not units.are_heads and units.parts == 1 for units in prunable.units.values()
    )
    with prunable.denoiser.gradients(1):
        shares = prunable.unit_shares()
    assert shares.keys() == prunable.units.keys()
    assert all(0 < share < 1 for share in shares.values()) and 0.5 < sum(shares.values()) < 1


@pytest.mark.parametrize("share", [0.7, 0.2])
def test_an_expert_draws_as_the_network_whose_units_are_0(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any], share: float
) -> None:
    left_out = narrowed_by_chance(prunable, share)
    before = drawn(checkpoint.model)
    expert = expert_model(checkpoint.model, left_out, {})
    found = drawn(expert)
    with prunable.without(left_out):
        masked = drawn(checkpoint.model)
    assert torch.allclose(found, masked, rtol=1e-4, atol=1e-4) and not torch.allclose(found, before, atol=1e-2)
    assert torch.equal(drawn(checkpoint.model), before) and torch.equal(drawn(expert), found)
    assert nothing_stays(checkpoint.model.model.diffusion_model)


def test_loras_reach_the_layers_that_are_narrowed_and_leave_where_the_expert_is_whole(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any]
) -> None:
    import comfy.sd

    left_out, lora = narrowed_by_chance(prunable), lora_for(prunable.network, *LAYERS)
    loaded, _ = comfy.sd.load_lora_for_models(checkpoint.model, None, lora, 1.0, 0.0)
    with prunable.without(left_out):
        wanted, plain = drawn(loaded), drawn(checkpoint.model)
    assert not torch.allclose(wanted, plain, atol=1e-2)
    before = expert_model(loaded, left_out, {})
    after, _ = comfy.sd.load_lora_for_models(expert_model(checkpoint.model, left_out, {}), None, lora, 1.0, 0.0)
    trimmed = narrowed_delta(lora, narrowed_layers(prunable.network, prunable.units, left_out), prunable.network)
    assert sum(matrix.numel() for matrix in trimmed.values()) < sum(matrix.numel() for matrix in lora.values())
    own = expert_model(checkpoint.model, left_out, trimmed)
    for model in (before, after, own):
        assert torch.allclose(drawn(model), wanted, rtol=1e-3, atol=1e-3)
    whole = drawn(checkpoint.model)
    assert torch.allclose(drawn(expert_model(checkpoint.model, left_out, trimmed, 1.0)), whole, atol=1e-3)
    partly = drawn(expert_model(checkpoint.model, left_out, trimmed, 0.6))
    assert not torch.allclose(partly, whole, atol=1e-2) and not torch.allclose(partly, wanted, atol=1e-2)
    assert nothing_stays(prunable.network)


def test_weights_that_the_host_casts_or_changes_as_it_draws_are_narrowed_alike(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any]
) -> None:
    left_out = narrowed_by_chance(prunable)
    wanted = drawn(expert_model(checkpoint.model, left_out, {}))
    layers = [module for module in prunable.network.modules() if hasattr(module, "weight_function")]
    for layer in layers:
        layer.comfy_cast_weights = True
    assert torch.allclose(drawn(expert_model(checkpoint.model, left_out, {})), wanted, rtol=1e-4, atol=1e-4)
    with prunable.without(left_out):
        for layer in layers:
            layer.weight_function = [lambda weight: 1.1 * weight]
        wanted = drawn(checkpoint.model)
    assert torch.allclose(drawn(expert_model(checkpoint.model, left_out, {})), wanted, rtol=1e-4, atol=1e-4)
    assert all(len(layer.weight_function) == 1 for layer in layers)


def test_a_controlnet_guides_a_narrower_expert(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any]
) -> None:
    guided = {"control": controlnet(checkpoint), "control_apply_to_uncond": True}
    left_out = narrowed_by_chance(prunable)
    found = drawn(expert_model(checkpoint.model, left_out, {}), **guided)
    with prunable.without(left_out):
        assert torch.allclose(found, drawn(checkpoint.model, **guided), rtol=1e-4, atol=1e-4)


def test_gates_of_units_are_differentiable(prunable: Any) -> None:
    from anonymize_faces.engines.pruning.units import gated_units

    noised, t = torch.ones(1, *prunable.denoiser.latent_shape), torch.tensor([0.5])
    gates = {name: torch.ones(units.count, requires_grad=True) for name, units in prunable.units.items()}
    with prunable.denoiser.gradients(1):
        said = prunable.denoiser.encode(["a"])
        whole = prunable.denoiser.predict(noised, t, said)
        with gated_units(prunable.network, prunable.units, gates):
            opened = prunable.denoiser.predict(noised, t, said)
        gradients = torch.autograd.grad(opened.square().sum(), list(gates.values()))
    assert torch.allclose(whole, opened, atol=1e-5) and all(bool(gradient.any()) for gradient in gradients)


@contextmanager
def class_of(layer: Any, kind: type) -> Iterator[None]:
    before = type(layer)
    layer.__class__ = kind
    try:
        yield
    finally:
        layer.__class__ = before


def test_what_cannot_be_narrowed_is_a_sentence(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any]
) -> None:
    left_out = narrowed_by_chance(prunable)
    name = next(iter(left_out.kept))
    for other in ({"nowhere": torch.ones(2, dtype=torch.bool)}, {name: torch.ones(1, dtype=torch.bool)}):
        with pytest.raises(ExpertsError, match="lacks blocks or layers"):
            expert_model(checkpoint.model, LeftOut(kept=other), {})
    lora = lora_for(prunable.network, "ff.net.2")
    with pytest.raises(ExpertsError, match="What the expert learned does not fit this model"):
        expert_model(checkpoint.model, left_out, lora)
    layer = prunable.network.get_submodule(prunable.units[name].out)
    with class_of(layer, torch.nn.Conv2d), pytest.raises(ExpertsError, match="of a kind that experts cannot narrow"):
        expert_model(checkpoint.model, left_out, {})
    whole = layer.weight
    layer.weight = torch.nn.Parameter(whole.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ExpertsError, match="such as quantized ones"):
        expert_model(checkpoint.model, left_out, {})
    layer.weight = whole
    expert = expert_model(checkpoint.model, left_out, {})
    before = drawn(checkpoint.model)
    expert.set_model_attn2_replace(lambda query, key, value, options: query, "middle", 0)
    with pytest.raises(ExpertsError, match="Another node replaces attention"):
        drawn(expert)
    assert torch.equal(drawn(checkpoint.model), before) and nothing_stays(prunable.network)


def test_a_network_that_nobody_narrows_has_no_units(make_checkpoint: Make) -> None:
    from anonymize_faces.engines.comfy.expert_parts import hidden_units

    assert hidden_units(torch.nn.Linear(1, 1)) == {}


def test_several_groups_of_channels_go_together_where_each_is_small() -> None:
    from anonymize_faces.engines.pruning.units import channel_groups

    block = torch.nn.ModuleDict({"block": torch.nn.ModuleDict({"norm": torch.nn.GroupNorm(32, 320)})})
    assert channel_groups("block", (), "norm", "out", block).count == 8, "40 channels at a time"
    block = torch.nn.ModuleDict({"block": torch.nn.ModuleDict({"norm": torch.nn.GroupNorm(32, 1280)})})
    assert channel_groups("block", (), "norm", "out", block).count == 32


def test_a_clone_with_a_network_of_its_own_is_narrowed_and_the_other_is_not(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any], make_checkpoint: Make
) -> None:
    expert = expert_model(checkpoint.model, narrowed_by_chance(prunable), {})
    wanted, other = drawn(expert), expert.clone()
    other.model = make_checkpoint().model.model  # Of the same weights.
    for layer in prunable.network.modules():
        if hasattr(layer, "weight_function"):
            layer.forward = pytest.fail
    found = drawn(other)
    assert torch.equal(found, wanted)


def test_who_computes_in_a_layers_place_is_not_passed_over(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any]
) -> None:
    left_out = narrowed_by_chance(prunable)
    expert = expert_model(checkpoint.model, left_out, {})
    wanted = drawn(expert)
    layer = prunable.network.get_submodule(next(units.out for units in prunable.units.values() if units.are_heads))
    own = layer.forward
    layer.forward = lambda given: own(given) + 0.5
    with pytest.raises(ExpertsError, match="Another node computes in place of this model's layers"):
        drawn(expert)
    layer.forward = own
    assert torch.equal(drawn(expert), wanted) and "forward" in vars(layer), "as it was left"


UP, DOWN = "lora_up.weight", "lora_down.weight"


@pytest.mark.parametrize("whole_until", [0.0, 0.5])
@pytest.mark.parametrize(
    "make",
    [
        lambda layer, up, down: {f"{layer}.{UP}": up},
        lambda layer, up, down: {f"{layer}.{UP}": up.repeat(3, 1), f"{layer}.{DOWN}": down},
        lambda layer, up, down: {f"{layer}.{UP}": up, f"{layer}.{DOWN}": down[:, 1:]},
        lambda layer, up, down: {f"{layer}.{UP}": up, f"{layer}.{DOWN}": down[:1]},
        lambda layer, up, down: {f"{layer}.{UP}": up[:, 0], f"{layer}.{DOWN}": down},
        lambda layer, up, down: {f"{layer}.{UP}": up.to(torch.float8_e4m3fn), f"{layer}.{DOWN}": down},
        lambda layer, up, down: {f"{layer}.{UP}": up.repeat(1, 999), f"{layer}.{DOWN}": down.repeat(999, 1)},
        lambda layer, up, down: {f"diffusion_model.nowhere.{UP}": up, f"diffusion_model.nowhere.{DOWN}": down},
        lambda layer, up, down: {f"text_encoders.x.{UP}": up, f"text_encoders.x.{DOWN}": down},
        lambda layer, up, down: {f"{layer}.weight": up},
    ],
)
def test_what_is_no_lora_of_the_network_is_refused(
    checkpoint: Any, prunable: Any, expert_model: Callable[..., Any], make: Make, whole_until: float
) -> None:
    name = next(name for name, _ in prunable.network.named_modules() if name.endswith("proj_in"))
    weight = prunable.network.get_submodule(name).weight.flatten(1)
    delta = make(f"diffusion_model.{name}", torch.ones(len(weight), 2), torch.ones(2, weight.shape[1]))
    for left_out in (LeftOut(), narrowed_by_chance(prunable)):
        with pytest.raises(ExpertsError, match="What the expert learned does not fit this model"):
            expert_model(checkpoint.model, left_out, delta, whole_until)
