"""What is not masked is drawn as it would be without protection, whatever lies beside it."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.demo.loader import load_demo_model
from anonymize_faces.engines.two_pictures import ASKED_AT
from anonymize_faces.prefix.errors import AnonymizationError
from anonymize_faces.prefix.face_region import FaceRegion
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region

STEPS = 5
LEFT = torch.cat([torch.ones(1, 8, 4), torch.zeros(1, 8, 4)], 2)
"""A mask of the left half."""


@pytest.fixture(scope="module")
def demo(host_modules: None) -> tuple[Any, Any]:
    model, clip, _ = load_demo_model()
    return model, clip


@pytest.fixture
def region(demo: tuple[Any, Any]) -> Any:
    from anonymize_faces.engines.comfy.face_region import change_faces_alone

    return change_faces_alone(demo[0], with_random_region(demo_prefix()))


@torch.inference_mode()
def drawn(demo: Any, model: Any, way: str, cfg: float = 3.0, sampler: str = "euler", **more: Any) -> Tensor:
    """Latents `[1, 12, 8, 8]` of one noise, "plain", "whole" or "beside"."""
    import comfy.sample

    from anonymize_faces.engines.comfy.face_region import with_plain
    from anonymize_faces.engines.comfy.protected_clip import protect

    clip, protected = demo[1], protect(demo[1], demo_prefix(), 1.0)

    def told(by: Any, text: str) -> Any:
        return [[by.encode_from_tokens(by.tokenize(text)), {}]]

    plain = told(clip, "a portrait of Ada Lovelace")
    whole = told(protected, "a portrait of Ada Lovelace")
    positive = {"plain": plain, "whole": whole, "beside": with_plain(whole, plain)}[way]
    noise = torch.randn(1, 12, 8, 8, generator=torch.Generator().manual_seed(7))
    begun = torch.zeros_like(noise) if "begun" not in more else more.pop("begun")
    return comfy.sample.sample(
        model, noise, STEPS, cfg, sampler, "simple", positive, told(clip, ""), begun, disable_pbar=True, **more
    )


def masked(monkeypatch: pytest.MonkeyPatch, mask: Tensor) -> None:
    monkeypatch.setattr(FaceRegion, "mask", lambda *_: mask)


@pytest.mark.parametrize(("sampler", "cfg", "least"), [("euler", 3.0, 5), ("euler", 1.0, 1000), ("dpmpp_2m", 3.0, 4)])
def test_outside_of_the_mask_is_the_plain_picture(demo, region, monkeypatch, sampler, cfg, least):
    plain, whole = (drawn(demo, demo[0], way, cfg, sampler) for way in ("plain", "whole"))
    masked(monkeypatch, LEFT)
    made = drawn(demo, region, "beside", cfg, sampler)
    moved = [float((made - plain)[..., half].square().mean().sqrt()) for half in (slice(0, 4), slice(4, 8))]
    whole_moved = float((whole - plain)[..., 4:].square().mean().sqrt())
    assert least * moved[1] <= whole_moved and moved[0] > 0.5 * whole_moved


def test_guidance_hardly_multiplies_what_a_negative_prompt_is_not_asked(demo, region, monkeypatch):
    """With what it said last in between, this moved by 1.7 of what the whole prefix moves."""
    monkeypatch.setattr(sys.modules[__name__], "STEPS", 20)
    plain, whole = (drawn(demo, demo[0], way, 7.0) for way in ("plain", "whole"))
    masked(monkeypatch, LEFT)
    made = drawn(demo, region, "beside", 7.0)
    moved, whole_moved = ((one - plain)[..., 4:].square().mean().sqrt() for one in (made, whole))
    assert float(moved) < 0.4 * float(whole_moved)


def test_where_all_or_nothing_is_masked_it_is_one_of_the_two(demo, region, monkeypatch):
    for mask, way in ((torch.ones(1, 8, 8), "whole"), (torch.zeros(1, 8, 8), "plain")):
        masked(monkeypatch, mask)
        torch.testing.assert_close(drawn(demo, region, "beside"), drawn(demo, demo[0], way))


def test_what_was_masked_when_it_could_be_seen_stays_masked(demo, region, monkeypatch):
    def seen_once(self: Any, logits: Tensor, levels: Tensor, *_: Any) -> Tensor:
        return LEFT if 0.1 < float(levels[0]) < 0.5 else torch.zeros_like(LEFT)

    monkeypatch.setattr(FaceRegion, "mask", seen_once)
    moved = (drawn(demo, region, "beside") - drawn(demo, demo[0], "plain")).square().mean((0, 1, 2)).sqrt()
    assert float(moved[:4].min()) > 2 * float(moved[4:].max())


def test_a_second_picture_begins_anew(demo, region, monkeypatch):
    masked(monkeypatch, LEFT)
    assert torch.equal(drawn(demo, region, "beside"), drawn(demo, region, "beside"))


def test_what_is_not_painted_stays_and_outside_of_the_mask_is_painted_as_without_protection(demo, region, monkeypatch):
    painted = torch.zeros(1, 1, 8, 8)
    painted[..., 2:6, :] = 1
    begun = torch.randn(1, 12, 8, 8, generator=torch.Generator().manual_seed(8))
    masked(monkeypatch, LEFT)
    told = {"begun": begun, "noise_mask": painted}
    plain, made = drawn(demo, demo[0], "plain", **told), drawn(demo, region, "beside", **told)
    torch.testing.assert_close(made[..., :2, :], begun[..., :2, :])
    apart = (made - plain)[..., 2:6, :].square().mean((0, 1, 2)).sqrt()
    assert float(apart[4:].max()) < 0.2 * float(apart[:4].min())


def test_it_seldom_asks_what_a_negative_prompt_says_of_the_plain_picture(demo, region, monkeypatch):
    """Plain drawing asks about two pictures a step; three are asked about, and one more now and then."""
    asked = []
    original = type(demo[0].model).apply_model

    def counted(self: Any, x: Tensor, *arguments: Any, **named: Any) -> Any:
        asked.append(len(x))
        return original(self, x, *arguments, **named)

    monkeypatch.setattr(type(demo[0].model), "apply_model", counted)
    masked(monkeypatch, LEFT)
    drawn(demo, region, "beside")
    assert sum(asked) == 3 * STEPS + len(ASKED_AT & set(range(1, STEPS)))
    asked.clear()
    masked(monkeypatch, torch.zeros(1, 8, 8))
    drawn(demo, region, "beside")
    assert sum(asked) == 3 * STEPS


def test_where_what_is_no_number_comes_up_the_protected_one_is_drawn(demo, region, monkeypatch):
    monkeypatch.setattr(FaceRegion, "logits", lambda self, plain, *_: torch.full_like(plain[:, 0], float("nan")))
    torch.testing.assert_close(drawn(demo, region, "beside"), drawn(demo, demo[0], "whole"))


def cached(kind: str, model: Any) -> Any:
    """The model with the host's own EasyCache or LazyCache, which leave most steps out."""
    from comfy_extras import nodes_easycache

    return getattr(nodes_easycache, f"{kind}CacheNode").execute(model, 0.3, 0.0, 1.0, False).args[0]


@pytest.mark.parametrize(("kind", "behind"), [("Easy", False), ("Easy", True), ("Lazy", False)])
def test_what_is_masked_is_protected_where_the_host_reuses_answers(demo, region, monkeypatch, kind, behind):
    from anonymize_faces.engines.comfy.face_region import change_faces_alone

    monkeypatch.setattr(sys.modules[__name__], "STEPS", 20)
    masked(monkeypatch, torch.ones(1, 8, 8))
    plain = cached(kind, demo[0])
    both = cached(kind, region) if behind else change_faces_alone(plain, with_random_region(demo_prefix()))
    whole = drawn(demo, plain, "whole")
    assert not torch.allclose(whole, drawn(demo, demo[0], "whole"), atol=0.01), "steps are left out"
    torch.testing.assert_close(drawn(demo, both, "beside"), whole)


def test_an_answer_of_an_earlier_step_is_never_taken_for_one_about_the_other_picture(demo, region, monkeypatch):
    """LazyCache behind it gives what was said of the plain picture for what is said of the protected one."""
    monkeypatch.setattr(sys.modules[__name__], "STEPS", 20)
    with pytest.raises(AnonymizationError, match="put LazyCache, or what does the same, before"):
        drawn(demo, cached("Lazy", region), "beside")

    calls: list[int] = []

    def once(executor: Any, *asked: Any) -> Any:
        calls.append(1)
        return asked[0] * 0 if len(calls) % 2 else executor(*asked)

    from comfy.patcher_extension import WrappersMP

    first = region.clone()
    first.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "reuse", once)
    with pytest.raises(AnonymizationError, match="Another node gave an answer of an earlier step"):
        drawn(demo, first, "beside")
    torch.testing.assert_close(drawn(demo, first, "plain"), drawn(demo, first, "plain"))


def test_videos_that_are_drawn_in_parts_are_refused_in_a_sentence(demo, region, monkeypatch):
    windows = pytest.importorskip("comfy.context_windows")
    model = region.clone()
    model.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule("standard_static"),
        fuse_method=windows.get_matching_fuse_method("pyramid"),
        context_length=4,
        context_overlap=1,
        context_stride=1,
        closed_loop=False,
        dim=2,  # Rows stand for frames here.
    )
    with pytest.raises(AnonymizationError, match="Context windows draw a video in parts"):
        drawn(demo, model, "beside")
    assert drawn(demo, model, "plain").isfinite().all()


def written_in(module: str) -> Any:
    """A wrapper of a node pack's that changes nothing."""

    def wrapper(ask: Any, asked: Any) -> Any:
        return ask(asked["input"], asked["timestep"], **asked["c"])

    return types.FunctionType(wrapper.__code__, {"__name__": module})


NODES = "/home/me/.cache/ComfyUI/custom_nodes/ComfyUI-{}.nodes"


@pytest.mark.parametrize("hidden", ["not", "in a partial", "in a closure", "by another's name"])
def test_caches_within_the_model_are_refused_by_name(demo, region, hidden):
    def of(module: str) -> Any:
        wrapper = written_in(module)
        if hidden == "by another's name":
            wrapper.__module__ = "anything"
        closed = lambda ask, asked: wrapper(ask, asked)  # noqa: E731
        return {"in a partial": functools.partial(wrapper), "in a closure": closed}.get(hidden, wrapper)

    model = region.clone()
    for name in ("TeaCache", "TaylorSeer", "Spectrum-sdxl"):
        model.set_model_unet_function_wrapper(of(NODES.format(name)))
        with pytest.raises(AnonymizationError, match=f"{name}.*gives answers of earlier steps"):
            drawn(demo, model, "beside")
        drawn(demo, model, "plain")
    model.set_model_unet_function_wrapper(of(NODES.format("Other")))
    drawn(demo, model, "beside")


@pytest.mark.parametrize("option", ["rel_l1_thresh", "tgate_enable"])
def test_caches_are_refused_by_their_options(demo, region, option):
    model = region.clone()
    model.model_options["transformer_options"][option] = 0.4
    with pytest.raises(AnonymizationError, match=f"{option}.*gives answers of earlier steps"):
        drawn(demo, model, "beside")


def test_caches_are_refused_by_what_they_put_into_a_network(demo, region):
    network = demo[0].model.diffusion_model
    network.cache_dic = {"step": 1}
    try:
        with pytest.raises(AnonymizationError, match="cache_dic"):
            drawn(demo, region, "beside")
    finally:
        del network.cache_dic
    drawn(demo, region, "beside")


def test_who_answers_in_place_of_the_model_is_refused_whatever_its_name(demo, region):
    calls: list[int] = []

    def reuses(ask: Any, asked: Any) -> Any:
        calls.append(1)
        if len(calls) % 3 == 0:
            return torch.zeros_like(asked["input"])
        return ask(asked["input"], asked["timestep"], **asked["c"])

    model = region.clone()
    model.set_model_unet_function_wrapper(reuses)
    with pytest.raises(AnonymizationError, match="Another node gave an answer of an earlier step"):
        drawn(demo, model, "beside")


def test_positive_prompts_are_told_from_negative_ones_as_without_it(demo, region, monkeypatch):
    """An IP-Adapter looks up by these numbers what it adds, of which it has two."""
    seen: set[int] = set()

    def look(n: Tensor, context: Tensor, value: Tensor, options: Any) -> Any:
        seen.update(options["cond_or_uncond"])
        assert len(n) == len(options["cond_or_uncond"])
        return n, context, value

    masked(monkeypatch, LEFT)
    model = region.clone()
    model.set_model_attn2_patch(look)
    drawn(demo, model, "beside")
    assert seen == {0, 1}


def test_a_clone_of_its_model_holds_one_of_each_wrapper(demo, region):
    from anonymize_faces.engines.comfy.face_blending import FaceBlending
    from anonymize_faces.engines.comfy.face_region import change_faces_alone

    again = change_faces_alone(region, with_random_region(demo_prefix()))
    assert FaceBlending.of(demo[0]) is None and FaceBlending.of(again) is not FaceBlending.of(region)
