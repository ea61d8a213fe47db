"""Blocks that are left out of UNets of diffusers: what can go, what is drawn then, and that nothing stays."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from anonymize_faces.engines.diffusers import expert_parts as tools
from anonymize_faces.engines.diffusers import is_protected, protect_pipeline
from anonymize_faces.engines.diffusers.denoiser import DiffusersDenoiser
from anonymize_faces.engines.pruning.parts import without_parts
from anonymize_faces.engines.pruning.units import LeftOut
from anonymize_faces.prefix.errors import ExpertsError, PrefixMismatchError
from anonymize_faces.runs.digest import digest_of
from anonymize_faces.tests.support.expert_pipelines import DRAWING, SIZE, UNETS, answers, delta_for, drawn, learned
from anonymize_faces.tests.support.pipelines import DRAWN, SHORT, prefix_for, tiny_pipeline


def without(*blocks: str) -> LeftOut:
    return LeftOut(blocks)


@pytest.mark.parametrize("family", UNETS)
def test_an_expert_draws_otherwise_and_the_pipeline_to_the_last_bit_as_before(family: str) -> None:
    pipeline = tiny_pipeline(family)
    before, digest = drawn(pipeline), digest_of(pipeline.unet)
    fingerprint = tools.denoiser_fingerprint(pipeline)
    names = list(tools.removable(pipeline.unet))
    assert "mid_block.attentions.0" in names and "mid_block.resnets.0" in names and "up_blocks.0.resnets.0" not in names
    expert = tools.narrowed_pipeline(pipeline, without(*names[:2]), delta_for(pipeline.unet, "conv_in"))
    changed = drawn(expert)
    assert not torch.allclose(changed, before) and torch.equal(drawn(expert), changed)
    assert torch.equal(drawn(pipeline), before) and digest_of(pipeline.unet) == digest
    assert tools.denoiser_fingerprint(pipeline) == fingerprint
    assert torch.equal(drawn(tools.narrowed_pipeline(pipeline, without(), {})), before)
    shared = {weight.data_ptr() for weight in pipeline.unet.parameters()}
    own = [name for name, weight in expert.unet.named_parameters() if weight.data_ptr() not in shared]
    assert own == ["conv_in.weight"], "no other weight takes memory of its own"


def test_it_draws_as_the_pipeline_does_while_the_blocks_are_left_out_also_as_a_copy() -> None:
    pipeline = tiny_pipeline("sd1")
    names = list(tools.removable(pipeline.unet))[1:4]
    expert = tools.narrowed_pipeline(pipeline, without(*names), {})
    with without_parts(pipeline.unet, names):
        wanted = drawn(pipeline)
    assert torch.equal(drawn(expert), wanted)
    expert.unet = copy.deepcopy(expert.unet)
    assert torch.equal(drawn(expert), wanted)
    expert.unet = pickle.loads(pickle.dumps(expert.unet))
    assert torch.equal(drawn(expert), wanted)


def test_it_is_whole_where_there_is_little_noise_also_as_a_copy() -> None:
    pipeline = tiny_pipeline("sd1")
    names = list(tools.removable(pipeline.unet))[1:4]
    before, everywhere = (
        drawn(pipeline, steps=3),
        drawn(tools.narrowed_pipeline(pipeline, without(*names), {}), steps=3),
    )
    told = []
    handle = pipeline.unet.register_forward_pre_hook(lambda network, given: told.append(float(given[1])))
    drawn(pipeline, steps=3)
    handle.remove()
    assert min(told) < tools.timestep_at(pipeline, 0.6) < max(told), "the drawing's steps lie on both sides"
    linear = next(name for name, module in pipeline.unet.named_modules() if name.endswith("to_q"))
    delta = delta_for(pipeline.unet, "conv_in", linear)
    expert = tools.narrowed_pipeline(pipeline, without(*names), delta, 0.6)
    wanted = drawn(expert, steps=3)
    assert not torch.allclose(wanted, before) and not torch.allclose(wanted, everywhere)
    assert torch.equal(drawn(pipeline, steps=3), before)
    assert torch.equal(drawn(tools.narrowed_pipeline(pipeline, without(*names), delta, 1.0), steps=3), before)
    for copied in (copy.deepcopy(expert.unet), pickle.loads(pickle.dumps(expert.unet))):
        expert.unet = copied
        assert torch.equal(drawn(expert, steps=3), wanted)
        ran = []
        handle = copied.get_submodule(names[0]).register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
        drawn(expert, steps=3)
        handle.remove()
        assert ran, "the copy's own blocks"


@pytest.mark.parametrize("first", ["protected", "narrowed"])
def test_an_expert_of_a_protected_pipeline_is_protected(first: str) -> None:
    pipeline, prefix = tiny_pipeline("sd1"), prefix_for("sd1")
    names = list(tools.removable(pipeline.unet))[:2]
    if first == "protected":
        expert = tools.narrowed_pipeline(protect_pipeline(pipeline, prefix), without(*names), {})
    else:
        expert = protect_pipeline(tools.narrowed_pipeline(pipeline, without(*names), {}), prefix)
    protected = drawn(protect_pipeline(pipeline, prefix))
    with without_parts(pipeline.unet, names):
        wanted = drawn(protect_pipeline(pipeline, prefix))
    assert is_protected(expert) and torch.equal(drawn(expert), wanted) and not torch.allclose(wanted, protected)
    with pytest.raises(PrefixMismatchError):
        expert(prompt_embeds=torch.randn(1, 77, 32), negative_prompt_embeds=torch.randn(1, 77, 32), **DRAWN)


@pytest.mark.parametrize("family", UNETS)
def test_shares_of_compute_are_counted_and_what_is_left_out_is_not_computed(family: str) -> None:
    what = tools.prunable(tiny_pipeline(family), SIZE, DRAWING)
    with what.denoiser.gradients(1):
        parts = what.parts()
        assert [part.name for part in parts] == list(what.names)
        assert all(0 < part.share < 1 for part in parts) and sum(part.share for part in parts) < 1
        with without_parts(what.network, [parts[0].name]):
            assert what.parts()[0].share == 0


@pytest.mark.parametrize("family", UNETS)
def test_lora_is_learned_where_blocks_are_left_out_and_drawn_with_as_it_was_learned(family: str) -> None:
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")
    pipeline = tiny_pipeline(family)
    digest, what = digest_of(pipeline.unet), tools.prunable(tiny_pipeline(family), SIZE, DRAWING)
    removed = list(what.names)[:2]
    plain = DiffusersDenoiser(pipeline, SIZE, DRAWING)
    with plain.gradients(1):
        said = plain.encode([SHORT])
        before = answers(plain, said)
    tuned, delta = learned(what)
    with tuned.denoiser.gradients(1):
        with tuned.paused(), without_parts(what.network, ()):
            assert torch.equal(answers(what.denoiser, said), before)
        assert not torch.allclose(answers(tuned.denoiser, said), before)
        with without_parts(what.network, removed):
            wanted = answers(tuned.denoiser, said)
            noised = torch.ones(1, *plain.latent_shape)
            found = tuned.denoiser.predict(noised, torch.tensor([0.5]), said).square().sum()
            gradients = torch.autograd.grad(found, list(tuned.weights.values()), allow_unused=True)
    gone = tuple(f"unet.{name}." for name in removed)
    for name, gradient in zip(tuned.weights, gradients, strict=True):
        assert (gradient is None) == name.startswith(gone), name
    assert not any(weight.requires_grad for weight in tuned.weights.values())
    tuned.close()
    with what.denoiser.gradients(1):
        assert torch.equal(answers(what.denoiser, said), before)
    expert = DiffusersDenoiser(tools.narrowed_pipeline(pipeline, without(*removed), delta), SIZE, DRAWING)
    with expert.gradients(1):
        torch.testing.assert_close(answers(expert, said), wanted, rtol=1e-4, atol=1e-4)
    assert digest_of(pipeline.unet) == digest


def test_a_lora_of_ones_own_is_right_on_an_expert() -> None:
    """One that is loaded before or after draws the same, and no experts are learned with one."""
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")
    layer, own = "mid_block.attentions.0.proj_in", "up_blocks.0.attentions.1.proj_in"
    plain = tiny_pipeline("sd1")
    lora, delta = delta_for(plain.unet, layer), delta_for(plain.unet, layer, own)
    after = tools.narrowed_pipeline(plain, without("down_blocks.0.attentions.0"), delta)
    alone = drawn(after)
    after.load_lora_weights(dict(lora))
    loaded = tiny_pipeline("sd1")
    loaded.load_lora_weights(dict(lora))
    before = tools.narrowed_pipeline(loaded, without("down_blocks.0.attentions.0"), delta)
    torch.testing.assert_close(drawn(before), drawn(after), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn(after), alone, atol=1e-3)
    assert tools.denoiser_fingerprint(loaded) == tools.denoiser_fingerprint(plain)
    with pytest.raises(ExpertsError, match="call 'unload_lora_weights' before"):
        tools.prunable(loaded, SIZE)


def test_what_cannot_be_done_is_a_sentence(tmp_path: Any) -> None:
    pipeline = tiny_pipeline("sd1")
    with pytest.raises(ExpertsError, match="lacks blocks"):
        tools.narrowed_pipeline(pipeline, without("nowhere"), {})
    expert = tools.narrowed_pipeline(pipeline, without("mid_block.resnets.0"), {})
    for again in (lambda: tools.narrowed_pipeline(expert, without(), {}), lambda: tools.prunable(expert, SIZE)):
        with pytest.raises(ExpertsError, match="an expert already"):
            again()
    with pytest.raises(ExpertsError, match="save the pipeline that it was made of"):
        expert.save_pretrained(tmp_path)
    with pytest.raises(ExpertsError, match="Nobody has tried which blocks a FluxPipeline can do without"):
        tools.prunable(tiny_pipeline("flux"), SIZE)
    delta = delta_for(pipeline.unet, "conv_in")
    unfit = [
        {name.replace("conv_in", "conv_at"): weight for name, weight in delta.items()},
        {name: weight for name, weight in delta.items() if "lora_A" in name},
        {name: weight[:, :1] for name, weight in delta.items()},
        {name.replace("lora_A", "lora_down"): weight for name, weight in delta.items()},
    ]
    for other in unfit:
        with pytest.raises(ExpertsError, match="does not fit this pipeline"):
            tools.narrowed_pipeline(pipeline, without(), other)
    pipeline.unet._hf_hook = object()
    with pytest.raises(ExpertsError, match="quantized or offloaded"):
        tools.narrowed_pipeline(pipeline, without(), {})
