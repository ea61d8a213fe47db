"""Pipelines that a prefix protects, and what goes on around their encoding of prompts: nothing is drawn without it."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

from anonymize_faces.engines.diffusers import protect_pipeline
from anonymize_faces.prefix import PrefixMismatchError
from anonymize_faces.tests.support.pipelines import (
    DRAWN,
    LONG,
    SHORT,
    WIDTHS,
    arguments,
    prefix_for,
    random,
    tiny_pipeline,
)

EMBEDS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
OF_SDXL = {"text_embeds": torch.zeros(1, 48), "time_ids": torch.zeros(1, 6)}


def draw(pipeline: Any, prompt: str | None = SHORT, **more: Any) -> torch.Tensor:
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), **{**DRAWN, **more}).images


def embeddings(pipeline: Any, prompt: str = SHORT) -> dict[str, torch.Tensor]:
    made = pipeline.encode_prompt(prompt, **{**arguments(pipeline), "do_classifier_free_guidance": True})
    return dict(zip(EMBEDS, made, strict=False))


def reads_by_itself(pipeline: Any, way: str) -> Any:
    """The pipeline as many of diffusers' users write them: prompts do not go through `encode_prompt`."""
    of: Any = type(pipeline)

    class ReadsByItself(of):
        def __call__(self, prompt: str, **more: Any) -> Any:
            words = self.tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
            # As whoever weights words, whoever brings an encoder of his own, and whoever works within the encoder.
            read = {"own": self.text_encoder, "other": tiny_pipeline("sd1").text_encoder}.get(way)
            states = self.within(words) if read is None else read(words)[0]
            told = torch.zeros(1, 4, 8, 8), 1, states
            return self.unet.forward(*told) if way == "past the call" else self.unet(*told)

        def within(self, words: torch.Tensor) -> torch.Tensor:
            model = getattr(self.text_encoder, "text_model", self.text_encoder)
            return model.encoder(inputs_embeds=model.embeddings(words)).last_hidden_state

    made = copy.copy(pipeline)
    made.__class__ = ReadsByItself
    return made


@pytest.mark.parametrize("way", ["own", "other", "within", "past the call"])
def test_a_pipeline_that_reads_prompts_by_itself_draws_nothing(way: str) -> None:
    pipeline = reads_by_itself(tiny_pipeline("sd1"), way)
    pipeline(SHORT)
    protected = protect_pipeline(pipeline, prefix_for("sd1"))
    with pytest.raises(PrefixMismatchError, match="around that pipeline's" if way == "own" else "do not carry it"):
        protected(SHORT)
    pipeline(SHORT)


def test_a_network_whose_forward_is_called_and_replaced_is_looked_at_and_the_plain_one_is_not() -> None:
    pipeline = tiny_pipeline("sd1")
    protected = protect_pipeline(pipeline, prefix_for("sd1"))
    told = torch.zeros(1, 4, 8, 8), 1, torch.ones(1, 77, 32)
    with pytest.raises(PrefixMismatchError, match="do not carry it"):
        protected.unet.forward(*told)
    with pytest.raises(PrefixMismatchError, match="around that pipeline's"):
        protected.text_encoder.forward(torch.zeros(1, 77, dtype=torch.long))
    states = embeddings(protected)["prompt_embeds"]
    with torch.no_grad():
        wanted = pipeline.unet(*told[:2], states).sample
        assert torch.equal(protected.unet.forward(*told[:2], states).sample, wanted)
        add_hook_to_module(protected.unet, ModelHook())
        assert torch.equal(protected.unet(*told[:2], states).sample, wanted)
        pipeline.unet(*told)
        with pytest.raises(PrefixMismatchError, match="do not carry it"):
            protected.unet.forward(*told)
        remove_hook_from_module(protected.unet)
        pipeline.unet(*told)
    assert inspect.signature(protected.unet.forward) == inspect.signature(pipeline.unet.forward)


def test_ways_of_drawing_other_than_a_call_are_seen_too() -> None:
    class Inverts(type(tiny_pipeline("sd1"))):
        def invert(self) -> Any:
            return self.unet(torch.zeros(1, 4, 8, 8), timestep=1, encoder_hidden_states=torch.ones(1, 77, 32))

        def text2img(self, prompt: str) -> Any:
            from diffusers import StableDiffusionPipeline

            return draw(StableDiffusionPipeline(**self.components, requires_safety_checker=False), prompt)

    parts = {**tiny_pipeline("sd1").components, "requires_safety_checker": False}
    protected = protect_pipeline(Inverts(**parts), prefix_for("sd1"))
    for way in (protected.invert, lambda: protected.text2img(SHORT)):
        with pytest.raises(PrefixMismatchError, match="protected by a prefix"):
            way()


@pytest.mark.parametrize("family", WIDTHS)
def test_embeddings_that_it_made_are_as_good_as_text(family: str) -> None:
    protected = protect_pipeline(tiny_pipeline(family), prefix_for(family))
    if family == "flux":
        states, pooled, _ = protected.encode_prompt(SHORT, None, device=torch.device("cpu"))
        made = {"prompt_embeds": states, "pooled_prompt_embeds": pooled}
    else:
        made = embeddings(protected)
    torch.testing.assert_close(draw(protected, None, **made), draw(protected), atol=1e-3, rtol=1e-3)
    positive = {name: value for name, value in made.items() if not name.startswith("negative")}
    torch.testing.assert_close(draw(protected, None, **positive), draw(protected), atol=1e-3, rtol=1e-3)
    twice = {name: torch.cat([value, value]) for name, value in made.items()}
    assert len(draw(protected, None, **twice)) == 2
    assert len(draw(protected, None, **made, num_images_per_prompt=2)) == 2


def test_embeddings_stay_known_when_they_are_cast_split_and_stacked_and_are_told_from_others() -> None:
    pipeline, prefix = tiny_pipeline("sdxl"), prefix_for("sdxl")
    protected = protect_pipeline(pipeline, prefix)
    made = {name: value.bfloat16().float() for name, value in embeddings(protected).items()}
    torch.testing.assert_close(draw(protected, None, **made), draw(protected), atol=0.1, rtol=0.1)
    other = embeddings(protected, "a dog")
    swapped = {**made, "prompt_embeds": torch.cat([made["prompt_embeds"], other["prompt_embeds"]])[1:]}
    draw(protected, None, **swapped)
    plain = embeddings(pipeline)
    spoiled = [
        {**made, **{name: value}}
        for name in EMBEDS
        for value in (plain[name], made[name] * 1.2, made[name] + torch.randn(made[name].shape))
    ]
    altered = made["prompt_embeds"].clone()
    altered[:, 40:] = plain["prompt_embeds"][:, 40:]
    for given in (*spoiled, {**made, "prompt_embeds": altered}):
        with pytest.raises(PrefixMismatchError):
            draw(protected, None, **given)


def test_embeddings_serve_another_pipeline_with_this_prefix_and_none_with_another() -> None:
    pipeline = tiny_pipeline("sd1")
    made = embeddings(protect_pipeline(pipeline, prefix_for("sd1")))
    draw(protect_pipeline(pipeline, prefix_for("sd1")), None, **made)
    with pytest.raises(PrefixMismatchError, match="embeddings already"):
        draw(protect_pipeline(pipeline, prefix_for("sd1", seed=1)), None, **made)


def test_text_beside_embeddings_is_made_as_long_as_they_are_or_refused() -> None:
    protected = protect_pipeline(tiny_pipeline("sd1"), prefix_for("sd1"))
    short, long = embeddings(protected)["prompt_embeds"], embeddings(protected, LONG)["prompt_embeds"]
    drawn = draw(protected, None, prompt_embeds=long, negative_prompt="blurry")
    torch.testing.assert_close(drawn, draw(protected, LONG, negative_prompt="blurry"))
    with pytest.raises(PrefixMismatchError, match="longer than"):
        draw(protected, None, prompt_embeds=short, negative_prompt=LONG)


def test_what_is_made_of_its_parts_draws_nothing_until_it_is_protected_too() -> None:
    from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

    pipeline, prefix = tiny_pipeline("sd1"), prefix_for("sd1")
    pipeline.vae = random(AutoencoderKL(block_out_channels=(32,), norm_num_groups=32), 4)
    protected = protect_pipeline(pipeline, prefix)
    image = {"image": torch.zeros(1, 3, 8, 8), "num_inference_steps": 2, "output_type": "latent"}
    for other, more in (
        (StableDiffusionImg2ImgPipeline.from_pipe(protected), image),
        (StableDiffusionPipeline(**protected.components, requires_safety_checker=False), DRAWN),
    ):
        with pytest.raises(PrefixMismatchError, match="protect it too"):
            other(SHORT, **more)
        assert torch.isfinite(protect_pipeline(other, prefix)(SHORT, **more).images).all()
    again = type(protected).from_pipe(pipeline)
    torch.testing.assert_close(draw(again, height=8, width=8), draw(protected))


def test_parts_that_are_exchanged_later_are_guarded_as_the_first_ones() -> None:
    from diffusers import UNet2DConditionModel

    protected = protect_pipeline(tiny_pipeline("sdxl"), prefix_for("sdxl"))
    protected.unet = random(UNet2DConditionModel.from_config(protected.unet.config), 9)
    draw(protected)
    with pytest.raises(PrefixMismatchError, match="do not carry it"):
        protected.unet(torch.zeros(1, 4, 8, 8), 1, torch.ones(1, 77, 80), added_cond_kwargs=OF_SDXL)
    protected.text_encoder = tiny_pipeline("sdxl").text_encoder
    draw(protected)
    with pytest.raises(PrefixMismatchError, match="around that pipeline's"):
        protected.text_encoder(torch.zeros(1, 77, dtype=torch.long))


def test_a_pipeline_whose_sampler_holds_the_denoiser_is_refused() -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.k_diffusion_model = type("Wraps", (), {})()
    pipeline.k_diffusion_model.inner = [pipeline.unet]
    with pytest.raises(PrefixMismatchError, match="k_diffusion_model"):
        protect_pipeline(pipeline, prefix_for("sd1"))


def test_a_pipeline_that_encodes_what_is_unwanted_in_a_form_of_its_own_is_refused() -> None:
    """As diffusers' community pipeline of Flux with guidance does, whose `encode_prompt` returns five things."""
    pipeline = tiny_pipeline("flux")

    class Guided(type(pipeline)):  # type: ignore[misc]
        def encode_prompt(
            self, prompt: str, prompt_2: str, negative_prompt: str, prompt_embeds: Any, pooled_prompt_embeds: Any
        ) -> Any:
            made = super().encode_prompt(prompt, prompt_2)
            return *made, *made[:2]

    pipeline.__class__ = Guided
    with pytest.raises(PrefixMismatchError, match="Guided does not encode its prompts where a prefix could enter"):
        protect_pipeline(pipeline, prefix_for("flux"))


@pytest.mark.parametrize(
    "name",
    [
        "LEditsPPPipelineStableDiffusion",
        "LEditsPPPipelineStableDiffusionXL",
        "VisualClozeGenerationPipeline",
        "VisualClozePipeline",
        "StableDiffusionLatentUpscalePipeline",
    ],
)
def test_pipelines_that_take_prompts_in_another_form_are_refused_for_what_they_are(name: str) -> None:
    import diffusers

    kind = getattr(diffusers, name)
    family = "flux" if "Visual" in name else "sdxl" if name.endswith("XL") else "sd1"
    taken = inspect.signature(kind.__init__).parameters
    parts = {part: value for part, value in tiny_pipeline(family).components.items() if part in taken}
    pipeline = kind(**parts, **{"requires_safety_checker": False} if "requires_safety_checker" in taken else {})
    with pytest.raises(PrefixMismatchError, match=f"{name} does not encode its prompts where a prefix could enter"):
        protect_pipeline(pipeline, prefix_for(family))


@pytest.mark.parametrize("family", WIDTHS)
def test_under_sequential_offload_it_draws_what_it_draws(family: str) -> None:
    from accelerate import cpu_offload

    protected = protect_pipeline(tiny_pipeline(family), prefix_for(family))
    before = draw(protected)
    for part in protected.components.values():
        if isinstance(part, torch.nn.Module):
            cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
    assert protected.text_encoder.get_input_embeddings().weight.device.type == "meta"
    torch.testing.assert_close(draw(protected), before)


def test_copies_are_protected_and_independent() -> None:
    pipeline = tiny_pipeline("sd1")
    protected = protect_pipeline(pipeline, prefix_for("sd1"))
    unpickled = pickle.loads(pickle.dumps(protected))
    for copied in (copy.copy(protected), copy.deepcopy(protected), unpickled):
        torch.testing.assert_close(draw(copied), draw(protected))
        with pytest.raises(PrefixMismatchError, match="embeddings already"):
            draw(copied, None, **embeddings(pipeline))
    unpickled.unet.conv_in.weight.zero_()
    assert pipeline.unet.conv_in.weight.any()


def test_what_cannot_be_pickled_says_why_and_a_folder_keeps_no_prefix(tmp_path: Any) -> None:
    protected = protect_pipeline(tiny_pipeline("sd1"), prefix_for("sd1"))
    protected.unet.note = lambda: None
    with pytest.raises(PrefixMismatchError, match="protect it where it is loaded again"):
        pickle.dumps(protected)
    with pytest.raises(PrefixMismatchError, match="protect it again"):
        protected.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_loaded_and_switched_on_later_works_on_both_sides() -> None:
    pipeline = tiny_pipeline("sd1")
    protected = protect_pipeline(pipeline, prefix_for("sd1"))
    protected.load_textual_inversion(torch.ones(2, 32), token="<two>")
    draw(protected, "a <two>")
    protected.enable_attention_slicing()
    protected.to(torch.float64)
    assert pipeline.unet.dtype == torch.float64 and draw(protected).dtype == torch.float64
