"""Blocks that are left out of the host's denoisers: what can go, what is computed then, and that nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.pruning.parts import EVERYWHERE, gated_parts, without_parts
from anonymize_faces.engines.pruning.units import LeftOut
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.tests.support.narrowing import controlnet, drawn

Make = Callable[..., Any]


def without(*blocks: str) -> LeftOut:
    return LeftOut(blocks)


@pytest.fixture
def tools(host_modules: None) -> Any:
    from anonymize_faces.engines.comfy import expert_parts

    return expert_parts


def test_an_expert_draws_otherwise_and_the_model_to_the_last_bit_as_before(make_checkpoint: Make, tools: Any) -> None:
    checkpoint = make_checkpoint()
    before, fingerprint = drawn(checkpoint.model), tools.denoiser_fingerprint(checkpoint.model)
    names = list(tools.removable(checkpoint.model.model.diffusion_model))
    assert len(names) >= 3
    expert = tools.expert_model(checkpoint.model, without(*names[:2]), {})
    changed = drawn(expert)
    assert not torch.allclose(changed, before)
    assert torch.equal(drawn(checkpoint.model), before) and torch.equal(drawn(expert), changed)
    assert tools.denoiser_fingerprint(expert) == fingerprint
    assert torch.equal(drawn(tools.expert_model(checkpoint.model, without(), {})), before)


def test_an_expert_is_whole_where_there_is_little_noise(make_checkpoint: Make, tools: Any) -> None:
    checkpoint = make_checkpoint()
    names = list(tools.removable(checkpoint.model.model.diffusion_model))[:2]
    told = []

    def note(network: torch.nn.Module, given: Any) -> None:
        told.append(float(given[1][0]))

    before = drawn(checkpoint.model)
    handle = checkpoint.model.model.diffusion_model.register_forward_pre_hook(note)
    everywhere, nowhere = drawn(tools.expert_model(checkpoint.model, without(*names), {})), max(told)
    handle.remove()
    edge = tools.timestep_at(checkpoint.model, 0.6)
    assert min(told) < edge < nowhere, "the two steps of the drawing lie on both sides"
    partly = drawn(tools.expert_model(checkpoint.model, without(*names), {}, 0.6))
    assert not torch.allclose(partly, before) and not torch.allclose(partly, everywhere)
    assert torch.equal(drawn(tools.expert_model(checkpoint.model, without(*names), {}, 1.0)), before)
    assert tools.timestep_at(checkpoint.model, 0.0) == EVERYWHERE


def test_where_an_expert_is_whole_its_lora_is_taken_away_and_others_stay(make_checkpoint: Make, tools: Any) -> None:
    import comfy.sd

    checkpoint = make_checkpoint()
    network = checkpoint.model.model.diffusion_model
    names = list(tools.removable(network))[:2]
    linear = next(name for name, module in network.named_modules() if name.endswith("attn1.to_q"))
    convolution = next(name for name, module in network.named_modules() if name.endswith("in_layers.2"))

    def lora(seed: int) -> dict[str, torch.Tensor]:
        random, found = torch.Generator().manual_seed(seed), {}
        for name in (linear, convolution):
            shape = network.get_submodule(name).weight.flatten(1).shape
            found[f"diffusion_model.{name}.lora_up.weight"] = torch.randn(shape[0], 2, generator=random)
            found[f"diffusion_model.{name}.lora_down.weight"] = torch.randn(2, shape[1], generator=random)
        return found

    def with_users(model: Any) -> Any:
        return comfy.sd.load_lora_for_models(model, None, lora(6), 0.5, 0.0)[0]

    before, layer = drawn(checkpoint.model), network.get_submodule(linear)
    expert = tools.expert_model(checkpoint.model, without(*names), lora(5), 1.0)
    assert torch.allclose(drawn(expert), before, atol=1e-4)
    assert not layer.weight_function
    assert torch.allclose(drawn(with_users(expert)), drawn(with_users(checkpoint.model)), atol=1e-4)
    partly, everywhere = (
        drawn(tools.expert_model(checkpoint.model, without(*names), lora(5), until)) for until in (0.6, 0.0)
    )
    assert not torch.allclose(partly, before, atol=1e-3) and not torch.allclose(partly, everywhere, atol=1e-3)
    assert torch.equal(drawn(checkpoint.model), before)
    layer.__class__ = torch.nn.Linear
    vars(layer).pop("weight_function", None)
    with pytest.raises(ExpertsError, match="of a kind that experts cannot change"):
        tools.expert_model(checkpoint.model, without(*names), lora(5), 0.5)
    tools.expert_model(checkpoint.model, without(*names), lora(5))


def test_no_part_computes_while_it_is_left_out_and_each_does_afterwards(make_checkpoint: Make, tools: Any) -> None:
    network = make_checkpoint().model.model.diffusion_model
    names = list(tools.removable(network))
    module = network.get_submodule(names[0])
    ran = []
    inner = next(iter(module.children()))
    inner.register_forward_pre_hook(lambda *_: ran.append(1))
    given = torch.zeros(1, 32, 4, 4)
    with without_parts(network, names):
        assert torch.equal(module(given), given) and module(given) is not given and not ran
        with without_parts(network, names[:1]):
            pass
        assert torch.equal(module(given), given), "an inner use takes nothing away from an outer one"
    assert "forward" not in vars(module)
    with pytest.raises(AttributeError), without_parts(network, [names[0], "nowhere"]):
        pass
    assert "forward" not in vars(module)


def test_gates_are_differentiable_and_half_open_is_in_between(make_checkpoint: Make, make_denoiser: Make) -> None:
    from anonymize_faces.engines.comfy.expert_parts import removable

    checkpoint = make_checkpoint()
    denoiser, network = make_denoiser(checkpoint), checkpoint.model.model.diffusion_model
    names = list(removable(network))
    noised, t = torch.ones(1, *denoiser.latent_shape), torch.tensor([0.5])
    with denoiser.gradients(1):
        said = denoiser.encode(["a"])
        whole = denoiser.predict(noised, t, said)
        gates = {name: torch.tensor(1.0, requires_grad=True) for name in names}
        with gated_parts(network, gates):
            opened = denoiser.predict(noised, t, said)
        gradients = torch.autograd.grad(opened.square().sum(), list(gates.values()))
        with gated_parts(network, {name: torch.tensor(0.0) for name in names}):
            closed = denoiser.predict(noised, t, said)
        with without_parts(network, names):
            without = denoiser.predict(noised, t, said)
    assert torch.allclose(whole, opened, atol=1e-5) and torch.allclose(closed, without, atol=1e-5)
    assert any(bool(gradient) for gradient in gradients) and all(bool(one.isfinite()) for one in gradients)


def test_shares_of_compute_are_counted(make_checkpoint: Make, make_denoiser: Make, tools: Any) -> None:
    checkpoint = make_checkpoint()
    denoiser = make_denoiser(checkpoint)
    pruned = tools.prunable(denoiser, checkpoint.model)
    with denoiser.gradients(1):
        parts = pruned.parts()
    assert [part.name for part in parts] == list(pruned.names)
    assert all(0 < part.share < 1 for part in parts) and sum(part.share for part in parts) < 1


def test_a_lora_works_on_an_expert_and_learned_deltas_beside_it(make_checkpoint: Make, tools: Any) -> None:
    import comfy.sd

    checkpoint = make_checkpoint()
    network = checkpoint.model.model.diffusion_model
    name = next(
        name for name, module in network.named_modules() if name.startswith("output") and name.endswith("proj_in")
    )
    weight = network.get_submodule(name).weight
    random = torch.Generator().manual_seed(5)
    lora = {
        f"diffusion_model.{name}.lora_up.weight": torch.randn(weight.shape[0], 2, generator=random),
        f"diffusion_model.{name}.lora_down.weight": torch.randn(2, weight[0].numel(), generator=random),
    }
    removed = [part for part in tools.removable(network) if not name.startswith(part)][:1]
    plain, given = (
        tools.expert_model(checkpoint.model, without(*removed), {}),
        tools.expert_model(checkpoint.model, without(*removed), lora),
    )
    after, _ = comfy.sd.load_lora_for_models(plain, None, lora, 1.0, 0.0)
    loaded, _ = comfy.sd.load_lora_for_models(checkpoint.model, None, lora, 1.0, 0.0)
    before = tools.expert_model(loaded, without(*removed), {})
    assert not torch.allclose(drawn(plain), drawn(given))
    assert torch.equal(drawn(after), drawn(given)) and torch.equal(drawn(before), drawn(given))


class Passing(torch.nn.Module):
    """What a block that is gone would be in a network that was built without it."""

    def forward(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        return x.clone()


def test_a_controlnet_guides_an_expert_as_a_network_that_was_built_without_those_blocks(
    make_checkpoint: Make, tools: Any
) -> None:
    checkpoint, built = make_checkpoint(), make_checkpoint()
    guided = {"control": controlnet(checkpoint), "control_apply_to_uncond": True}
    names = list(tools.removable(checkpoint.model.model.diffusion_model))
    for name in names:
        owner, _, last = name.rpartition(".")
        setattr(built.model.model.diffusion_model.get_submodule(owner), last, Passing())
    expert = tools.expert_model(checkpoint.model, without(*names), {})
    found = drawn(expert, **guided)
    assert torch.equal(found, drawn(built.model, **guided))
    assert not torch.allclose(found, drawn(expert)) and not torch.allclose(found, drawn(checkpoint.model, **guided))


def test_what_cannot_be_taken_out_is_a_sentence(make_checkpoint: Make, tools: Any) -> None:
    checkpoint = make_checkpoint()
    with pytest.raises(ExpertsError, match="lacks blocks"):
        tools.expert_model(checkpoint.model, without("nowhere"), {})
    expert = tools.expert_model(checkpoint.model, without(), {})
    with pytest.raises(ExpertsError, match="an expert already"):
        tools.expert_model(expert, without(), {})
    with pytest.raises(ExpertsError, match="Nobody has tried which blocks a Linear can do without"):
        tools.removable(torch.nn.Linear(1, 1))
