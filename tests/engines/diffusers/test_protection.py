"""Pipelines of diffusers that carry a prefix: what their denoisers are told, whatever the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from anonymize_faces.engines.diffusers import PromptEncoder, protect_pipeline
from anonymize_faces.prefix import PrefixMismatchError
from anonymize_faces.tests.support.pipelines import DRAWN, LONG, SHORT, WIDTHS, arguments, prefix_for, tiny_pipeline


def models_of(pipeline: Any) -> dict[str, Any]:
    return {key: part.model for key, part in PromptEncoder(pipeline).parts.items()}


@contextmanager
def embeddings_seen(pipeline: Any) -> Iterator[dict[str, list[torch.Tensor]]]:
    """The token embeddings that each text encoder works on, chunk by chunk, as long as this lasts."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for key, model in models_of(pipeline).items():
        inner = getattr(model, "text_model", model)
        if key == "t5xxl":
            at, options = model.encoder, True
        else:
            at, options = inner.embeddings, False
        rows = seen.setdefault(key, [])

        def look(module: Any, args: Any, kwargs: Any, output: Any, rows: Any = rows, stream: bool = options) -> None:
            if stream:
                rows.extend(kwargs["inputs_embeds"].unbind(0))
            else:
                rows.extend((output - module.position_embedding.weight[: output.shape[1]]).unbind(0))

        hooks.append(at.register_forward_hook(look, with_kwargs=True))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", WIDTHS)
@pytest.mark.parametrize("prompt", [SHORT, LONG, ""], ids=["short", "long", "empty"])
def test_every_chunk_of_every_encoder_carries_the_prefix(family: str, prompt: str) -> None:
    pipeline, prefix = tiny_pipeline(family), prefix_for(family)
    protected = protect_pipeline(pipeline, prefix)
    with embeddings_seen(pipeline) as seen:
        protected(prompt, negative_prompt="blurry", **DRAWN)
    assert seen.keys() == prefix.vectors.keys()
    for key, chunks in seen.items():
        start = 0 if key == "t5xxl" else 1
        assert chunks
        for chunk in chunks:
            torch.testing.assert_close(chunk[start : start + prefix.length], prefix.vectors[key], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", WIDTHS)
def test_words_are_encoded_as_the_pipeline_encodes_them_and_none_is_lost(family: str) -> None:
    pipeline = tiny_pipeline(family)
    encoder = PromptEncoder(pipeline)
    with torch.no_grad():
        (ours,) = encoder.encode([encoder.tokens(SHORT)])
        own = pipeline.encode_prompt(SHORT, **arguments(pipeline))
    torch.testing.assert_close(ours.states, own[0], atol=1e-5, rtol=1e-4)
    if ours.pooled is not None:
        pooled = own[1] if family == "flux" else own[2]
        torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=1e-4)
    for key, chunks in encoder.tokens(LONG).items():
        words = [token for chunk in chunks for token, _, is_word in chunk if is_word]
        assert words == encoder.parts[key].tokenizer(LONG, add_special_tokens=False)["input_ids"]


def test_vectors_that_are_words_say_what_the_words_say() -> None:
    pipeline = tiny_pipeline("sdxl")
    encoder = PromptEncoder(pipeline)
    words = {
        key: part.tokenizer("a stranger", add_special_tokens=False)["input_ids"] for key, part in encoder.parts.items()
    }
    vectors = {key: encoder.parts[key].table.weight[ids].clone() for key, ids in words.items()}
    with torch.no_grad():
        prefixed, written = (
            encoder.encode([encoder.tokens(text, given)])[0]
            for text, given in (("in a garden", vectors), ("a stranger in a garden", None))
        )
    torch.testing.assert_close(prefixed.states, written.states, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prefixed.pooled, written.pooled, atol=1e-5, rtol=1e-4)


def test_the_pipeline_that_came_in_draws_what_it_drew_and_the_protected_one_does_not() -> None:
    pipeline = tiny_pipeline("sd1")

    def draw(some: Any) -> torch.Tensor:
        return some(SHORT, generator=torch.Generator().manual_seed(0), **DRAWN).images

    before = draw(pipeline)
    protected = protect_pipeline(pipeline, prefix_for("sd1"))
    assert not torch.allclose(draw(protected), before, atol=1e-3)
    assert torch.equal(draw(pipeline), before)
    assert isinstance(protected, type(pipeline)) and protected.unet.conv_in is pipeline.unet.conv_in


@pytest.mark.parametrize("family", WIDTHS)
def test_several_prompts_of_different_lengths_are_drawn_in_one_batch(family: str) -> None:
    protected = protect_pipeline(tiny_pipeline(family), prefix_for(family))
    drawn = protected([SHORT, LONG], num_images_per_prompt=2, **DRAWN).images
    assert len(drawn) == 4 and torch.isfinite(drawn).all()


def test_prompts_for_single_encoders_and_layers_to_skip_are_honoured() -> None:
    pipeline, prefix = tiny_pipeline("sdxl"), prefix_for("sdxl", layers={"l": [-3], "g": [-3]})
    protected = protect_pipeline(pipeline, prefix)
    device = torch.device("cpu")
    states, negative, pooled, _ = protected.encode_prompt(SHORT, "a dog", device, 1, True, "blurry", clip_skip=1)
    encoder = PromptEncoder(pipeline)
    with torch.no_grad():
        tokens = [encoder.tokens(texts, prefix.vectors) for texts in ({"l": SHORT, "g": "a dog"}, "blurry")]
        one, other = encoder.encode(tokens, skip=1)
    torch.testing.assert_close(states, one.states)
    torch.testing.assert_close(pooled, one.pooled)
    torch.testing.assert_close(negative, other.states)


READ_AT = {
    "sd1": {None: {"l": -1}, 0: {"l": -1}, 1: {"l": -2}},
    "sd2": {None: {"h": -2}, 1: {"h": -3}},  # Folders of diffusers leave out the last layer.
    "sdxl": {None: {"l": -2, "g": -2}, 1: {"l": -3, "g": -3}},
    "sd3": {None: {"l": -2, "g": -2, "t5xxl": -1}, 1: {"l": -3, "g": -3, "t5xxl": -1}},
    "flux": {None: {"l": -1, "t5xxl": -1}},
}


@pytest.mark.parametrize("family", READ_AT)
def test_a_prefix_is_read_at_the_layers_it_was_learned_at_and_at_no_other(family: str) -> None:
    pipeline, device = tiny_pipeline(family), torch.device("cpu")
    usual = protect_pipeline(pipeline, prefix_for(family))
    for skip, layers in READ_AT[family].items():
        assert PromptEncoder(pipeline).layers(skip) == layers
        taught = protect_pipeline(pipeline, prefix_for(family, layers={key: [layer] for key, layer in layers.items()}))
        if family == "flux":
            taught.encode_prompt(SHORT, None, device)
            continue
        given = {"prompt": SHORT, "device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
        given |= dict.fromkeys([name for name in ("prompt_2", "prompt_3") if family == "sd3"])
        read = taught.encode_prompt(**given, clip_skip=skip)
        if layers == READ_AT[family][None]:
            assert torch.equal(usual.encode_prompt(**given, clip_skip=skip)[0], read[0])
            continue
        with pytest.raises(PrefixMismatchError, match=r"read at clip skip \d, where .*: (give|leave) 'clip_skip'"):
            usual.encode_prompt(**given, clip_skip=skip)
        with pytest.raises(PrefixMismatchError, match=f"give 'clip_skip' as {skip}|leave 'clip_skip' out"):
            taught.encode_prompt(**given)


def test_a_picture_at_a_layer_that_was_not_learned_is_not_drawn() -> None:
    pipeline = protect_pipeline(tiny_pipeline("sd1"), prefix_for("sd1"))
    with pytest.raises(PrefixMismatchError, match=r"learned at clip skip 1, .* give 'clip_skip' as None, or train"):
        pipeline(SHORT, clip_skip=1, **DRAWN)
    for skip in (True, "1", 1.0, [1]):
        with pytest.raises(PrefixMismatchError, match="give a whole number, or None"):
            pipeline(SHORT, clip_skip=skip, **DRAWN)
    both = protect_pipeline(tiny_pipeline("sd1"), prefix_for("sd1", layers={"l": [-2, -1]}))
    pictures = [both(SHORT, clip_skip=skip, generator=torch.manual_seed(0), **DRAWN).images for skip in (None, 1)]
    assert not torch.equal(*pictures)
    with pytest.raises(PrefixMismatchError, match="give 'clip_skip' as None or 1, or train"):
        both(SHORT, clip_skip=2, **DRAWN)


@pytest.mark.parametrize("family", ["sd1", "flux"])
def test_prompts_that_are_embeddings_already_are_refused(family: str) -> None:
    pipeline = tiny_pipeline(family)
    embeddings = torch.ones(1, 77, next(reversed(WIDTHS[family].values())))
    pooled = {"pooled_prompt_embeds": torch.ones(1, 32)} if family == "flux" else {}
    protected = protect_pipeline(pipeline, prefix_for(family))
    with pytest.raises(PrefixMismatchError, match="as text"):
        protected(prompt_embeds=embeddings, **pooled, **DRAWN)


def test_what_does_not_fit_is_refused_before_anything_is_drawn() -> None:
    pipeline = tiny_pipeline("sdxl")
    for prefix, words in (
        (prefix_for("sdxl", l=32), "no vectors for text encoder 'g'"),
        (prefix_for("sdxl", l=32, g=40), "the prefix's have 40"),
        (prefix_for("sd1", l=32, g=48), "learned on SD1"),
    ):
        with pytest.raises(PrefixMismatchError, match=words):
            protect_pipeline(pipeline, prefix)
    with pytest.raises(PrefixMismatchError, match="already"):
        protect_pipeline(protect_pipeline(pipeline, prefix_for("sdxl")), prefix_for("sdxl"))
    with pytest.raises(PrefixMismatchError, match="no family"):
        protect_pipeline(torch.nn.Linear(1, 1), prefix_for("sdxl"))


def test_an_encoder_that_is_changed_afterwards_is_noticed() -> None:
    protected = protect_pipeline(tiny_pipeline("sd1"), prefix_for("sd1"))
    protected.text_encoder = tiny_pipeline("sd2").text_encoder
    with pytest.raises(PrefixMismatchError):
        protected(SHORT, **DRAWN)


def test_image_to_image_is_protected_too() -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipeline = StableDiffusionImg2ImgPipeline(**tiny_pipeline("sd1").components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    prefix = prefix_for("sd1")
    with embeddings_seen(pipeline) as seen:
        protect_pipeline(pipeline, prefix)(
            SHORT, image=torch.zeros(1, 3, 64, 64), num_inference_steps=2, output_type="np"
        )
    for chunk in seen["l"]:
        torch.testing.assert_close(chunk[1:5], prefix.vectors["l"], atol=1e-5, rtol=0)


def test_a_pipeline_to_which_words_come_around_its_encoding_of_prompts_is_refused() -> None:
    from diffusers import StableDiffusionGLIGENPipeline

    parts = {**tiny_pipeline("sd1").components, "requires_safety_checker": False}
    del parts["image_encoder"]
    with pytest.raises(PrefixMismatchError, match="does not encode its prompts where a prefix could enter"):
        protect_pipeline(StableDiffusionGLIGENPipeline(**parts), prefix_for("sd1"))
