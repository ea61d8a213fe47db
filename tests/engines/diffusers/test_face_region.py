"""Pipelines that change faces alone: the same pictures as in ComfyUI, and what is refused."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.diffusers import change_faces_alone, protect_pipeline
from anonymize_faces.engines.options import RegionSettings
from anonymize_faces.engines.two_pictures import ASKED_AT
from anonymize_faces.prefix import AnonymizationError, Prefix, PrefixMismatchError
from anonymize_faces.prefix.face_region import FaceRegion
from anonymize_faces.tests.support.pipelines import DRAWN, prefix_for, tiny_pipeline
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region

TEXT = "a portrait of Ada Lovelace"
TIMES = [999, 800, 600, 400, 200, 50]
GUIDANCE = 3.0
SOME = RegionSettings(certainty=0.75, margin=0.0, softness=0.0)
FULL = RegionSettings(certainty=1.0)


def half(rows: int = 8, columns: int = 8, count: int = 1) -> Tensor:
    """A mask of the left half."""
    mask = torch.zeros(count, rows, columns)
    mask[..., : columns // 2] = 1
    return mask


def region_prefix(**about: Any) -> Prefix:
    return with_random_region(demo_prefix(), **{"threshold": 0.4, "steepness": 0.1, **about})


@pytest.fixture(scope="module")
def demo(host_modules: None) -> Any:
    from anonymize_faces.demo.diffusers_folder import demo_pipeline

    pipeline = demo_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def whole(demo: Any) -> Any:
    return protect_pipeline(demo, region_prefix())


def noise(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*(shape or (1, 12, 8, 8)), generator=torch.Generator().manual_seed(seed))


def drawn(pipeline: Any, latents: Tensor | None = None, **more: Any) -> Tensor:
    """Latents of one noise."""
    latents = noise() if latents is None else latents
    height, width = (8 * side for side in latents.shape[-2:])
    given = {"prompt": TEXT, "timesteps": TIMES, "guidance_scale": GUIDANCE, **more}
    return pipeline(latents=latents.clone(), height=height, width=width, output_type="latent", **given).images


def drawn_plain(demo: Any, whole: Any, latents: Tensor | None = None, **more: Any) -> Tensor:
    """The same without protection but for the negative prompt, which is no other beside faces alone either."""
    cpu = torch.device("cpu")
    count = 1 if latents is None else len(latents)
    plain, _ = demo.encode_prompt(TEXT, cpu, count, False)
    _, negative = whole.encode_prompt(TEXT, cpu, count, True)
    return drawn(demo, latents, prompt=None, prompt_embeds=plain, negative_prompt_embeds=negative, **more)


def masked(monkeypatch: pytest.MonkeyPatch, mask: Tensor) -> None:
    monkeypatch.setattr(FaceRegion, "mask", lambda *_: mask)


def moved(one: Tensor, other: Tensor) -> tuple[float, float]:
    """How far two pictures are apart in their left and right halves."""
    left, right = ((one - other).square().mean((0, 1, 2)).sqrt()).chunk(2)
    return float(left.mean()), float(right.mean())


@torch.inference_mode()
def drawn_by_host(latents: Tensor, sigmas: Tensor, prefix: Prefix | None = None, cfg: float = GUIDANCE) -> Tensor:
    """The same with the MODEL of Anonymize Face Region, and the host's own sampler."""
    import comfy.samplers

    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy import face_region
    from anonymize_faces.engines.comfy.protected_clip import protect

    model, clip, _ = load_demo_model()
    prefix = region_prefix() if prefix is None else prefix
    protected = protect(clip, prefix, 1.0)
    told, told_plain, unwanted = (
        [[by.encode_from_tokens(by.tokenize(text)), {}]]
        for by, text in ((protected, TEXT), (clip, TEXT), (protected, ""))
    )
    guider = comfy.samplers.CFGGuider(face_region.change_faces_alone(model, prefix, SOME))
    guider.set_conds(face_region.with_plain(told, told_plain), unwanted)
    guider.set_cfg(cfg)
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(latents, torch.zeros_like(latents), sampler, sigmas, disable_pbar=True, seed=0)


@pytest.mark.parametrize(
    ("cfg", "shape"), [(GUIDANCE, (1, 12, 8, 8)), (1.0, (1, 12, 8, 8)), (GUIDANCE, (2, 12, 16, 32))]
)
def test_both_engines_draw_the_same_picture(demo: Any, whole: Any, cfg: float, shape: tuple[int, ...]) -> None:
    region = change_faces_alone(whole, SOME)
    latents = noise(*shape)
    demo.scheduler.set_timesteps(timesteps=TIMES)
    sigmas = demo.scheduler.sigmas.float()
    # The host begins with sqrt(1 + sigma²) times the noise, this scheduler with sigma times.
    begun = latents * (1 + sigmas[0].square()).sqrt() / demo.scheduler.init_noise_sigma
    made = drawn(region, begun, guidance_scale=cfg, num_images_per_prompt=shape[0])
    torch.testing.assert_close(made, drawn_by_host(latents, sigmas, cfg=cfg), rtol=0, atol=1e-4)
    wholly = drawn(whole, begun, guidance_scale=cfg, num_images_per_prompt=shape[0])
    assert float((made - wholly).abs().max()) > 1e-2  # Neither masks everything.


def test_at_full_certainty_it_is_the_whole_prefix_to_the_last_bit(whole: Any) -> None:
    assert torch.equal(drawn(change_faces_alone(whole, FULL)), drawn(whole))


@pytest.mark.parametrize("cfg", [GUIDANCE, 1.0])
def test_where_all_or_nothing_is_masked_it_is_one_of_the_two(
    demo: Any, whole: Any, monkeypatch: pytest.MonkeyPatch, cfg: float
) -> None:
    region = change_faces_alone(whole, SOME)
    masked(monkeypatch, torch.ones(1, 8, 8))
    assert torch.equal(drawn(region, guidance_scale=cfg), drawn(whole, guidance_scale=cfg))
    masked(monkeypatch, torch.zeros(1, 8, 8))
    plain = drawn_plain(demo, whole, guidance_scale=cfg)
    torch.testing.assert_close(drawn(region, guidance_scale=cfg), plain, rtol=0, atol=1e-4)


SCHEDULERS = {
    "EulerDiscreteScheduler": 3,
    "DDIMScheduler": 2,
    "PNDMScheduler": 3,
    "DPMSolverMultistepScheduler": 3,
    "UniPCMultistepScheduler": 3,
}
"""Each with how much less than with the whole prefix what is outside of the mask moves, at least."""


@pytest.mark.parametrize("name", SCHEDULERS)
def test_outside_of_the_mask_is_the_plain_picture(
    demo: Any, whole: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import diffusers

    given = {"timesteps": None, "num_inference_steps": 10}

    def made(pipeline: Any, draw: Any) -> Tensor:
        other = copy.copy(pipeline)
        other.scheduler = getattr(diffusers, name).from_config(demo.scheduler.config)
        return draw(other, generator=torch.Generator().manual_seed(1), **given)

    plain = made(demo, lambda pipeline, **more: drawn_plain(pipeline, whole, **more))
    protected = moved(made(whole, drawn), plain)
    masked(monkeypatch, half())
    left, right = moved(made(change_faces_alone(whole, SOME), drawn), plain)
    assert SCHEDULERS[name] * right <= protected[1] and left > 0.5 * protected[0]


def test_it_seldom_asks_what_a_negative_prompt_says_of_the_plain_picture(
    demo: Any, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain drawing asks about two pictures a step; three are asked about, and one more now and then."""
    asked = []
    with_hook = demo.unet.register_forward_pre_hook(lambda _, arguments: asked.append(len(arguments[0])))
    region, steps = change_faces_alone(whole, SOME), len(TIMES)
    try:
        masked(monkeypatch, half())
        drawn(region)
        assert sum(asked) == 3 * steps + len(ASKED_AT & set(range(1, steps)))
        asked.clear()
        masked(monkeypatch, torch.zeros(1, 8, 8))
        drawn(region)
        assert sum(asked) == 3 * steps
    finally:
        with_hook.remove()


def test_where_what_is_no_number_comes_up_the_protected_one_is_drawn(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaceRegion, "logits", lambda self, plain, *_: torch.full_like(plain[:, 0], float("nan")))
    assert torch.equal(drawn(change_faces_alone(whole, SOME)), drawn(whole))


def test_pictures_of_several_prompts_and_long_ones_are_drawn_in_one_batch(whole: Any) -> None:
    region = change_faces_alone(whole, SOME)
    prompts = [TEXT, "a portrait of a person with glasses, " * 15 + "and Ada Lovelace"]
    together = drawn(region, noise(2, 12, 8, 8), prompt=prompts, negative_prompt="blurry")
    one = drawn(region, noise(2, 12, 8, 8)[:1], prompt=prompts[:1], negative_prompt="blurry")
    assert len(together) == 2 and torch.isfinite(together).all() and torch.isfinite(one).all()
    assert not torch.allclose(together, drawn(whole, noise(2, 12, 8, 8), prompt=prompts, negative_prompt="blurry"))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_every_family_draws_one_of_the_two_where_all_or_nothing_is_masked(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = tiny_pipeline(family)
    whole = protect_pipeline(pipeline, with_random_region(prefix_for(family), channels=4))
    region = change_faces_alone(whole, SOME)

    def made(some: Any, **more: Any) -> Tensor:
        given = {**DRAWN, "num_inference_steps": 3, "guidance_scale": 1.0, **more}
        return some(TEXT, generator=torch.Generator().manual_seed(3), **given).images

    masked(monkeypatch, torch.ones(1, 8, 8))
    for cfg in (1.0, 4.0):
        assert torch.equal(made(region, guidance_scale=cfg), made(whole, guidance_scale=cfg))
    masked(monkeypatch, torch.zeros(1, 8, 8))
    torch.testing.assert_close(made(region), made(pipeline), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(made(whole), made(pipeline), atol=1e-2)
    assert torch.equal(made(change_faces_alone(whole, FULL), guidance_scale=4.0), made(whole, guidance_scale=4.0))


def test_half_precision_is_drawn_with_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_pipeline("sd1").to(torch.bfloat16)
    whole = protect_pipeline(pipeline, with_random_region(prefix_for("sd1"), channels=4))
    masked(monkeypatch, torch.ones(1, 8, 8))
    made, wholly = (
        some(TEXT, generator=torch.Generator().manual_seed(3), **DRAWN).images
        for some in (change_faces_alone(whole, SOME), whole)
    )
    assert made.dtype == torch.bfloat16 and torch.equal(made, wholly)


def test_afterwards_everything_is_as_it_was_whatever_happens(demo: Any, whole: Any) -> None:
    region = change_faces_alone(whole, SOME)
    before, before_whole, plain = drawn(region), drawn(whole), drawn(demo)
    unet, scheduler = region.unet, dict(demo.scheduler.config)
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in demo.unet.modules()]
    attributes = set(vars(demo.unet))

    def fail(*_: Any) -> dict[str, Any]:
        raise RuntimeError("broken off")

    with torch.enable_grad():
        with pytest.raises(RuntimeError, match="broken off"):
            drawn(region, callback_on_step_end=fail)
        assert torch.is_grad_enabled()
    assert region.unet is unet and region.scheduler is demo.scheduler and dict(demo.scheduler.config) == scheduler
    assert [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in demo.unet.modules()] == hooks
    assert set(vars(demo.unet)) == attributes
    assert torch.equal(drawn(region), before)
    assert torch.equal(drawn(whole), before_whole) and torch.equal(drawn(demo), plain)


def test_an_error_on_the_way_leaves_no_picture(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Tensor:
        raise ValueError("the head fails")

    region = change_faces_alone(whole, SOME)
    monkeypatch.setattr(FaceRegion, "logits", fail)
    with pytest.raises(ValueError, match="the head fails"):
        drawn(region)


def test_one_that_is_drawing_does_not_begin_another_picture(whole: Any) -> None:
    region = change_faces_alone(whole, SOME)

    def again(*_: Any) -> dict[str, Any]:
        drawn(region)
        return {}

    with pytest.raises(PrefixMismatchError, match="drawing already"):
        drawn(region, callback_on_step_end=again)
    drawn(region)


def test_caches_of_answers_are_refused(demo: Any, whole: Any) -> None:
    pipeline, unet = change_faces_alone(whole, SOME), demo.unet

    def reused(*asked: Any, **told: Any) -> Any:
        return type(unet).forward(unet, *asked, **told)

    reused.__module__ = "DeepCache.extension.deepcache"
    unet.forward = functools.partial(reused)
    try:
        with pytest.raises(AnonymizationError, match="DeepCache"):
            drawn(pipeline)
    finally:
        del unet.forward
    hooks = pytest.importorskip("diffusers.hooks")
    block = unet.mid_block.attentions[0]
    hooks.HookRegistry.check_if_exists_or_initialize(block).register_hook(
        type("Hook", (hooks.ModelHook,), {"__module__": "diffusers.hooks.pyramid_attention_broadcast"})(), "some"
    )
    try:
        with pytest.raises(AnonymizationError, match="pyramid"):
            drawn(pipeline)
    finally:
        block._diffusers_hook.remove_hook("some")
    assert drawn(pipeline).isfinite().all()


def test_copies_change_faces_alone_as_well(whole: Any) -> None:
    region = change_faces_alone(whole, SOME)
    before = drawn(region)
    for other in (copy.copy(region), copy.deepcopy(region)):
        assert type(other).__name__ == "StableDiffusionPipeline" and torch.equal(drawn(other), before)
    tiny = protect_pipeline(tiny_pipeline("sd1"), with_random_region(prefix_for("sd1"), channels=4))
    pickled, made = (
        some(TEXT, generator=torch.Generator().manual_seed(3), **DRAWN).images
        for some in (pickle.loads(pickle.dumps(change_faces_alone(tiny, SOME))), change_faces_alone(tiny, SOME))
    )
    assert torch.equal(pickled, made)


def test_a_unet_that_is_set_later_is_guarded_and_asked_as_well(whole: Any) -> None:
    region = change_faces_alone(copy.deepcopy(whole), SOME)
    before = drawn(region)
    region.unet = copy.deepcopy(region.unet)
    assert torch.equal(drawn(region), before)


def test_prefixes_and_pipelines_that_cannot_do_it_are_refused(demo: Any, whole: Any) -> None:
    import diffusers

    for pipeline, reason in (
        (demo, "protect_pipeline"),
        (change_faces_alone(whole), "protected as a whole"),
        (protect_pipeline(demo, demo_prefix()), "does not know where faces are: .* or use the protected pipeline"),
        (protect_pipeline(demo, region_prefix(channels=4)), "latents of 4 channels, and this model has 12"),
        (protect_pipeline(tiny_pipeline("flux"), prefix_for("flux")), "FluxPipeline cannot change faces alone"),
        (
            protect_pipeline(
                diffusers.StableDiffusionImg2ImgPipeline(
                    **tiny_pipeline("sd1").components, requires_safety_checker=False
                ),
                prefix_for("sd1"),
            ),
            "StableDiffusionImg2ImgPipeline cannot",
        ),
    ):
        with pytest.raises(PrefixMismatchError, match=reason):
            change_faces_alone(pipeline)


def test_schedulers_of_other_levels_of_noise_are_refused_before_anything_is_drawn(demo: Any, whole: Any) -> None:
    import diffusers

    other = copy.copy(whole)
    other.scheduler = diffusers.EDMEulerScheduler()
    with pytest.raises(PrefixMismatchError, match="EDMEulerScheduler does not tell"):
        change_faces_alone(other)
    region = change_faces_alone(copy.copy(whole), SOME)
    region.scheduler = diffusers.DDIMScheduler(prediction_type="sample")
    with pytest.raises(PrefixMismatchError, match="DDIMScheduler does not tell"):
        drawn(region, timesteps=None)


@pytest.mark.parametrize("name", ["prompt_embeds", "ip_adapter_image", "ip_adapter_image_embeds", "guidance_rescale"])
def test_arguments_that_say_nothing_of_the_plain_picture_are_refused(whole: Any, name: str) -> None:
    region = change_faces_alone(whole, SOME)
    states, _ = region.encode_prompt(TEXT, torch.device("cpu"), 1, False)
    given = {"prompt": None, "prompt_embeds": states} if name == "prompt_embeds" else {name: 0.5}
    with pytest.raises(PrefixMismatchError, match=f"'{name}'"):
        drawn(region, **given)


def test_an_operators_setting_must_allow_it_and_raises_settings_to_the_usual_ones(
    demo: Any, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    for said in (None, "refuse", "yes", ""):
        if said is not None:
            monkeypatch.setenv("ANONYMIZE_FACES_FACE_REGION", said)
        with pytest.raises(AnonymizationError, match="ask the operator to allow"):
            change_faces_alone(whole, SOME)
    monkeypatch.setenv("ANONYMIZE_FACES_FACE_REGION", "allow")
    # Nothing counts as face but to whoever is as certain as is usual.
    blind = protect_pipeline(demo, region_prefix(threshold=0.0, steepness=1e6))
    raised = change_faces_alone(blind, RegionSettings(0.5, 0.0, 0.0))
    assert torch.equal(drawn(raised), drawn(blind))
    monkeypatch.delenv("ANONYMIZE_FACES_ENFORCE")  # A setting that is not whole.
    with pytest.raises(AnonymizationError, match="ask the operator"):
        change_faces_alone(whole, SOME)
    monkeypatch.delenv("ANONYMIZE_FACES_FACE_REGION")
    change_faces_alone(whole, SOME)
