"""Prompts of every kind are protected on a real server.

The yardstick is core: the same vectors, as an embedding of its own, at the start of the prompt to the plain CLIP.
"""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.drawing import PLAIN, PROTECTED, Draw, anonymize, drawing
from anonymize_faces.tests.support.prefixes import DEMO_WIDTH, demo_prefix

NAME = "a portrait of Ada Lovelace"
CORE = "embedding:every_prompt "
FILE = "prompts/one.safetensors"


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def encode(clip, text: str) -> dict:
    return node("CLIPTextEncode", clip=clip, text=text)


@pytest.fixture(scope="module")
def draw(server):
    """Draws; the server has a prefix, the same vectors as an embedding, another embedding, and a LoRA on the text."""
    prefix, generator = demo_prefix(3, layers={"l": [-2, -1]}), torch.Generator().manual_seed(4)
    save_prefix(prefix, server.prefix_folder / "prompts" / "one.safetensors", overwrite=True)
    embeddings = server.embedding_folder
    safetensors.torch.save_file({"clip_l": prefix.vectors["l"]}, embeddings / "every_prompt.safetensors")
    safetensors.torch.save_file({"clip_l": demo_prefix(5).vectors["l"][:3].clone()}, embeddings / "hat.safetensors")
    lora = {}
    for layer in range(3):
        name = f"lora_te_text_model_encoder_layers_{layer}_mlp_fc1"
        lora[f"{name}.lora_up.weight"] = torch.randn(4 * DEMO_WIDTH, 2, generator=generator)
        lora[f"{name}.lora_down.weight"] = torch.randn(2, DEMO_WIDTH, generator=generator)
    safetensors.torch.save_file(lora, server.model_folder("loras") / "text.safetensors")
    return Draw(server)


def protected(draw, text: str = NAME, clip=PLAIN, **nodes) -> np.ndarray:
    return draw(PROTECTED, text, anonymize=anonymize(FILE, clip), **nodes)


@pytest.mark.parametrize(
    "text",
    [
        NAME,
        "",
        "a portrait of (Ada Lovelace:1.4), (smiling:0.6)",
        "embedding:hat on (Ada Lovelace:1.2)",
        "👩‍👩‍👧 東京の猫 صورة \x1b\x07 \\(no weight\\)",
    ],
)
def test_a_prompt_is_drawn_as_core_draws_it_behind_the_prefix_as_an_embedding(draw, text):
    picture = protected(draw, text)
    # Core's own negative prompt is behind the prefix as well.
    assert np.array_equal(picture, draw(PLAIN, CORE + text, no=encode(PLAIN, CORE)))
    assert not np.array_equal(picture, draw(PLAIN, text))


def combined(clip, prefix: str) -> dict:
    return {"other": encode(clip, prefix + "a garden"), "made": node("ConditioningCombine", **two())}


def two() -> dict:
    return {"conditioning_1": ["yes", 0], "conditioning_2": ["other", 0]}


def concatenated(clip, prefix: str) -> dict:
    wires = {"conditioning_to": ["yes", 0], "conditioning_from": ["other", 0]}
    return {"other": encode(clip, prefix + "a garden"), "made": node("ConditioningConcat", **wires)}


def averaged(clip, prefix: str) -> dict:
    wires = {"conditioning_to": ["yes", 0], "conditioning_from": ["other", 0], "conditioning_to_strength": 0.4}
    return {"other": encode(clip, prefix + "a garden"), "made": node("ConditioningAverage", **wires)}


def within_an_area(clip, prefix: str) -> dict:
    area = {"width": 1.0, "height": 0.5, "x": 0, "y": 0.5, "strength": 1.0}
    return {
        "other": encode(clip, prefix + "a garden"),
        "area": node("ConditioningSetAreaPercentage", conditioning=["other", 0], **area),
        "made": node("ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["area", 0]),
    }


def in_part_of_the_time(clip, prefix: str) -> dict:
    times = {"conditioning": ["yes", 0], "start": 0.0, "end": 0.5}
    return {
        "other": encode(clip, prefix + "a garden"),
        "early": node("ConditioningSetTimestepRange", **times),
        "made": node("ConditioningCombine", conditioning_1=["early", 0], conditioning_2=["other", 0]),
    }


@pytest.mark.parametrize("shape", [combined, concatenated, averaged, within_an_area, in_part_of_the_time])
def test_conditionings_put_together_are_protected(draw, shape):
    made = {"positive": ("made", 0)}
    picture = protected(draw, **shape(PROTECTED, ""), **made)
    core = draw(PLAIN, CORE + NAME, no=encode(PLAIN, CORE), **shape(PLAIN, CORE), **made)
    assert np.array_equal(picture, core)
    assert not np.array_equal(picture, draw(PLAIN, **shape(PLAIN, ""), **made))


def lora(clip) -> dict[str, dict]:
    inputs = {"model": ["demo", 0], "clip": clip, "lora_name": "text.safetensors", "strength_model": 1.0}
    return {"changed": node("LoraLoader", strength_clip=1.0, **inputs)}


def skipped_layers(clip) -> dict[str, dict]:
    return {"changed": node("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-2)}


def hooks(clip) -> dict[str, dict]:
    return {
        "hook": node("CreateHookLora", lora_name="text.safetensors", strength_model=1.0, strength_clip=1.0),
        "changed": node("SetClipHooks", clip=clip, apply_to_conds=True, schedule_clip=False, hooks=["hook", 0]),
    }


def scheduled_hooks(clip) -> dict[str, dict]:
    late = {"hooks": ["hook", 0], "hook_kf": ["keyframe", 0]}
    return {
        "hook": node("CreateHookLora", lora_name="text.safetensors", strength_model=1.0, strength_clip=1.0),
        "keyframe": node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0, prev_hook_kf=["first", 0]),
        "first": node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5),
        "timed": node("SetHookKeyframes", **late),
        "changed": node("SetClipHooks", clip=clip, apply_to_conds=True, schedule_clip=True, hooks=["timed", 0]),
    }


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("change", [lora, skipped_layers, hooks, scheduled_hooks])
def test_what_changes_the_clip_may_stand_before_and_after(draw, change, strength):
    slot = 1 if change is lora else 0
    before = draw(PROTECTED, **change(PLAIN), anonymize=anonymize(FILE, ["changed", slot], strength=strength))
    after = draw(["changed", slot], anonymize=anonymize(FILE, strength=strength), **change(PROTECTED))
    assert np.array_equal(before, after)
    assert not np.array_equal(after, draw(PROTECTED, anonymize=anonymize(FILE, strength=strength)))
    assert not np.array_equal(after, draw(["changed", slot], **change(PLAIN)))
    if strength == 1.0:
        core = draw(["changed", slot], CORE + NAME, no=encode(["changed", slot], CORE), **change(PLAIN))
        assert np.array_equal(after, core)


def test_the_plain_clip_beside_it_draws_the_same_before_between_and_after(draw):
    before = draw(PLAIN)
    beside = {"anonymize": anonymize(FILE), "used": encode(PROTECTED, "a garden")}
    made = node("ConditioningAverage", conditioning_to=["yes", 0], conditioning_from=["used", 0])
    made["inputs"]["conditioning_to_strength"] = 1.0
    assert np.array_equal(draw(PLAIN, positive=("made", 0), made=made, **beside), before)
    assert not np.array_equal(protected(draw), before)
    assert np.array_equal(draw(PLAIN), before)


@pytest.mark.parametrize("strength", [0.0, 0.35])
def test_of_two_in_a_row_the_second_says_that_it_replaces_the_first(server, draw, strength):
    log = len(server.log())
    first = anonymize(FILE, strength=0.9 - strength)
    graph = drawing(PROTECTED, first=first, anonymize=anonymize(FILE, ["first", 0], strength=strength))
    outputs = server.run(graph)["outputs"]
    (notice,), (first_notice,) = outputs["anonymize"]["text"], outputs["first"]["text"]
    assert "replaces the one before" in notice and "replaces" not in first_notice
    assert ("Not protected: strength is 0." in notice) == (strength == 0.0)
    assert server.log()[log:].count("replaces the one before") == 1
