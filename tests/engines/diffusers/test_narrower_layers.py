"""Narrower layers of UNets of diffusers: they compute what the network does whose units are 0, and nothing stays."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
import torch

from anonymize_faces.engines.denoiser import LORA
from anonymize_faces.engines.diffusers import expert_parts as tools
from anonymize_faces.engines.diffusers import is_protected, protect_pipeline
from anonymize_faces.engines.pruning.deltas import narrowed_delta
from anonymize_faces.engines.pruning.units import LeftOut, narrowed_layers
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.runs.digest import digest_of
from anonymize_faces.tests.support.expert_pipelines import DRAWING, SIZE, UNETS, answers, delta_for, drawn, learned
from anonymize_faces.tests.support.narrowing import narrowed_by_chance
from anonymize_faces.tests.support.pipelines import SHORT, prefix_for, tiny_pipeline


def what_of(pipeline: Any) -> Any:
    return tools.prunable(pipeline, SIZE, DRAWING)


@pytest.mark.parametrize("family", UNETS)
def test_an_expert_draws_as_the_network_whose_units_are_0(family: str) -> None:
    pipeline = tiny_pipeline(family)
    before, digest, what = drawn(pipeline), digest_of(pipeline.unet), what_of(pipeline)
    assert {name.rpartition(".")[2] for name in what.units} > {"attn1", "attn2", "ff"}
    left_out = narrowed_by_chance(what)
    expert = tools.narrowed_pipeline(pipeline, left_out, {})
    with dataclasses.replace(what, network=pipeline.unet).without(left_out):
        masked = drawn(pipeline)
    found = drawn(expert)
    assert torch.allclose(found, masked, atol=1e-3) and not torch.allclose(found, before, atol=1e-2)
    assert torch.equal(drawn(pipeline), before) and digest_of(pipeline.unet) == digest
    again = copy.deepcopy(expert)
    assert torch.equal(drawn(again), found)
    assert torch.equal(drawn_by(pipeline, pickle.loads(pickle.dumps(expert.unet))), found)


def drawn_by(pipeline: Any, unet: Any) -> torch.Tensor:
    other = copy.copy(pipeline)
    other.unet = unet
    return drawn(other)


def test_an_expert_is_whole_where_there_is_little_noise_and_its_lora_is_away_there() -> None:
    pipeline = tiny_pipeline("sd1")
    what = what_of(pipeline)
    left_out = narrowed_by_chance(what)
    narrowed = next(units for units in what.units.values() if units.are_heads)
    delta = delta_for(pipeline.unet, "conv_in", narrowed.into[0], narrowed.out)
    delta = narrowed_delta(delta, narrowed_layers(pipeline.unet, what.units, left_out), pipeline.unet)
    before = drawn(pipeline, steps=3)
    everywhere = drawn(tools.narrowed_pipeline(pipeline, left_out, delta), steps=3)
    assert torch.equal(drawn(tools.narrowed_pipeline(pipeline, left_out, delta, 1.0), steps=3), before)
    partly = tools.narrowed_pipeline(pipeline, left_out, delta, 0.6)
    found = drawn(partly, steps=3)
    assert not torch.allclose(found, before, atol=1e-3) and not torch.allclose(found, everywhere, atol=1e-3)
    assert torch.equal(drawn(copy.deepcopy(partly), steps=3), found)
    moved = partly.to(dtype=torch.float16).unet
    assert {weight.dtype for weight in moved.parameters()} == {torch.float16}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_lora_is_learned_where_layers_are_narrower_and_drawn_with_as_it_was_learned(family: str) -> None:
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")
    pipeline = tiny_pipeline(family)
    what = what_of(tiny_pipeline(family))
    left_out = narrowed_by_chance(what)
    tuned, delta = learned(what)
    with tuned.denoiser.gradients(1):
        said = tuned.denoiser.encode([SHORT])
        with what.without(left_out):
            wanted = answers(tuned.denoiser, said)
    delta = narrowed_delta(delta, narrowed_layers(pipeline.unet, what.units, left_out), pipeline.unet)
    expert = tools.DiffusersDenoiser(tools.narrowed_pipeline(pipeline, left_out, delta), SIZE, DRAWING)
    with expert.gradients(1):
        assert torch.allclose(answers(expert, said), wanted, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_narrowed_is_a_sentence() -> None:
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")
    pipeline = tiny_pipeline("sd1")
    left_out = narrowed_by_chance(what_of(pipeline))
    name = next(iter(left_out.kept))
    for other in ({"nowhere": torch.ones(2, dtype=torch.bool)}, {name: torch.ones(1, dtype=torch.bool)}):
        with pytest.raises(ExpertsError, match="lacks blocks or layers"):
            tools.narrowed_pipeline(pipeline, LeftOut(kept=other), {})
    expert = tools.narrowed_pipeline(pipeline, left_out, {})
    unet = copy.deepcopy(expert).unet
    loaders = unet.load_lora_adapter, unet.load_attn_procs, unet._load_ip_adapter_weights
    for load in (expert.load_lora_weights, expert.load_ip_adapter, *loaders):
        with pytest.raises(ExpertsError, match="do not fit an expert whose layers are narrower"):
            load("anything")
    pictures = copy.copy(pipeline)
    pictures.unet = copy.deepcopy(pipeline.unet)
    pictures.unet.encoder_hid_proj = torch.nn.Identity()
    with pytest.raises(ExpertsError, match="or an IP-Adapter is loaded in this pipeline"):
        tools.narrowed_pipeline(pictures, left_out, {})
    loaded = what_of(pipeline)
    tuned = loaded.denoiser.tuned(LORA, 2, False, 0)
    other = copy.copy(pipeline)
    other.unet = loaded.network
    with pytest.raises(ExpertsError, match="is loaded in this pipeline, and an expert with narrower layers"):
        tools.narrowed_pipeline(other, left_out, {})
    tuned.close()


@pytest.mark.parametrize("whole_until", [0.0, 0.5])
def test_who_moves_an_expert_does_not_move_the_pipeline(whole_until: float) -> None:
    pipeline = tiny_pipeline("sd1")
    before, left_out = drawn(pipeline), narrowed_by_chance(what_of(pipeline))
    expert = tools.narrowed_pipeline(pipeline, left_out, delta_for(pipeline.unet, "conv_in"), whole_until)
    expert.unet.to(torch.float64)
    assert {weight.dtype for weight in pipeline.unet.parameters()} == {torch.float32}
    assert {weight.dtype for weight in expert.unet.parameters()} == {torch.float64}
    assert torch.equal(drawn(pipeline), before)


def test_attention_itself_is_counted_with_heads() -> None:
    what = what_of(tiny_pipeline("sd1"))
    units = next(units for units in what.units.values() if units.are_heads and units.name.endswith("attn1"))
    with what.denoiser.gradients(1):
        counts = what.counted()
    root = type(what.network).__name__
    layers = sum(counts[f"{root}.{name}"] for name in (*units.into, units.out))
    assert counts[f"{root}.{units.name}"] > layers > 0


@pytest.mark.parametrize("first", ["protected", "narrowed"])
def test_a_narrower_expert_of_a_protected_pipeline_is_protected(first: str) -> None:
    pipeline, prefix = tiny_pipeline("sd1"), prefix_for("sd1")
    what = what_of(pipeline)
    left_out = narrowed_by_chance(what)
    if first == "protected":
        expert = tools.narrowed_pipeline(protect_pipeline(pipeline, prefix), left_out, {})
    else:
        expert = protect_pipeline(tools.narrowed_pipeline(pipeline, left_out, {}), prefix)
    protected = drawn(protect_pipeline(pipeline, prefix))
    with dataclasses.replace(what, network=pipeline.unet).without(left_out):
        wanted = drawn(protect_pipeline(pipeline, prefix))
    assert is_protected(expert) and torch.allclose(drawn(expert), wanted, atol=1e-3)
    assert not torch.allclose(wanted, protected, atol=1e-2)
