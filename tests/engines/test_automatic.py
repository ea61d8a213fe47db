"""What pictures of a family are usually drawn with is known, and what an artist asks for goes before."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from anonymize_faces.engines.automatic import (
    FLUX,
    SD1,
    SDXL,
    UNKNOWN,
    Z_IMAGE,
    UsualDrawing,
    drawn_with,
    named_for_few_steps,
    usual_drawing,
    usual_drawing_of,
)
from anonymize_faces.engines.options import Drawing
from anonymize_faces.tests.support.pipelines import tiny_pipeline


@pytest.mark.parametrize(
    ("config", "model_type", "expected"),
    [
        ("SD15", "EPS", (512, 20, 7.0)),
        ("SD20", "EPS", (512, 20, 7.0)),
        ("SD20", "V_PREDICTION", (768, 20, 7.0)),
        ("SDXL", "EPS", (1024, 20, 7.0)),
        ("SSD1B", "EPS", (1024, 20, 7.0)),
        ("SD3", "FLOW", (1024, 28, 4.5)),
        ("Flux", "FLUX", (1024, 20, 1.0)),
        ("FluxSchnell", "FLOW", (1024, 4, 1.0)),
        ("ZImage", "FLOW", (1024, 9, 1.0)),
        ("HunyuanImage21", "FLOW", (1024, 20, 4.0)),
    ],
)
@pytest.mark.usefixtures("host_modules")
def test_a_host_model_is_drawn_as_its_family_is(config: str, model_type: str, expected: tuple[float, ...]) -> None:
    import comfy.supported_models

    kind = getattr(comfy.supported_models, config, None)
    if kind is None:
        pytest.skip(f"this host does not know {config}")
    base = types.SimpleNamespace(model_config=kind.__new__(kind), model_type=types.SimpleNamespace(name=model_type))
    model = types.SimpleNamespace(model=base, get_model_object=lambda name: object())
    usual = usual_drawing_of(model)
    assert (usual.side, usual.steps, usual.cfg) == expected


@pytest.mark.usefixtures("host_modules")
def test_the_demo_model_brings_its_own() -> None:
    from anonymize_faces.demo.loader import load_demo_model

    usual = usual_drawing_of(load_demo_model()[0])
    assert usual.size(0, 0) == (96, 96) and usual.drawing(Drawing(0, 0.0)) == Drawing(20, 2.0)


@pytest.mark.usefixtures("host_modules")
def test_a_model_that_is_sampled_as_lcms_are_is_drawn_in_few_steps_without_guidance(
    make_checkpoint: Callable[..., Any],
) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    model = make_checkpoint().model
    (plain,), (few,) = (ModelSamplingDiscrete().patch(model, kind, False) for kind in ("eps", "lcm"))
    assert usual_drawing_of(plain) == usual_drawing_of(model) == UsualDrawing(512, 20, 7.0)
    assert usual_drawing_of(few) == UsualDrawing(512, 4, 1.0)
    assert usual_drawing_of(few).drawing(Drawing(0, 0.0), share=0.5) == Drawing(4, 1.0)


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("sd1", {}, (20, 7.0)),
        ("sdxl", {}, (20, 7.0)),
        ("sdxl", {"scheduler": "LCMScheduler"}, (4, 1.0)),
        ("sd1", {"scheduler": "TCDScheduler"}, (4, 1.0)),
        ("sd3", {}, (28, 4.5)),
        ("flux", {}, (20, 1.0)),
        ("flux", {"guidance_embeds": False}, (4, 1.0)),
    ],
)
@pytest.mark.usefixtures("host_modules")
def test_a_pipeline_is_drawn_with_as_its_family_and_kind_are(
    family: str, changes: Mapping[str, Any], expected: tuple[int, float]
) -> None:
    import diffusers

    from anonymize_faces.engines.diffusers.pipeline_families import drawing_names

    pipeline = tiny_pipeline(family)
    for name, value in changes.items():
        if name == "scheduler":
            pipeline.scheduler = getattr(diffusers, value).from_config(pipeline.scheduler.config)
        else:
            pipeline.transformer.register_to_config(**{name: value})
    usual = usual_drawing(drawing_names(pipeline))
    assert (usual.steps, usual.cfg) == expected


def test_what_is_asked_for_goes_before() -> None:
    assert SD1.size(0, 0) == (512, 512) and SD1.size(768, 0) == (768, 768) and SD1.size(640, 384) == (640, 384)
    drawing = FLUX.drawing(Drawing(0, 2.5, "dpmpp_2m", "karras"))
    assert drawing == Drawing(20, 2.5, "dpmpp_2m", "karras")
    assert drawn_with((640, 384), drawing, FLUX) == (
        "Pictures were drawn at 640 × 384 pixels, in 20 steps, with guidance 2.5."
    )
    assert usual_drawing(["NewModel", "BASE"]) is UNKNOWN is usual_drawing_of(None)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("sd_xl_turbo_1.0_fp16.safetensors", 4),
        ("juggernautXL_v9Rdphoto2Lightning.safetensors", 4),
        ("sd3.5_large_turbo.safetensors", 4),
        ("RealVisXL_V4.0_Lightning_5-steps.safetensors", 5),
        ("LCM_Dreamshaper_v7.safetensors", 4),
        ("something_25steps_turbo.safetensors", 4),
        ("copaxTimelessSDXLTurbo.safetensors", 4),
        ("photonLCM_v10.safetensors", 4),
        ("flux1_schnell_dedistilled.safetensors", 0),
        ("LibreFlux_schnell_undistilled.safetensors", 0),
        ("deturbo_base_sdxl.safetensors", 0),
        ("Hyper-SDXL-12steps-CFG.safetensors", 0),
        ("hyperrealisticXL.safetensors", 0),
        ("calcm.safetensors", 0),
        ("sdxl_vae_steps.safetensors", 0),
    ],
)
def test_checkpoints_that_were_made_for_few_steps_are_told_by_their_names(name: str, steps: int) -> None:
    found = named_for_few_steps(SDXL, [name])
    assert (found.steps, found.cfg) == ((steps, 1.0) if steps else (SDXL.steps, SDXL.cfg))
    assert found.side == (512 if name.startswith("sd_xl_turbo") else 1024) and bool(found.reason) == bool(steps)
    assert named_for_few_steps(Z_IMAGE, [name]) == Z_IMAGE, "its steps are few already"
    told = drawn_with((64, 64), found.drawing(Drawing(0, 0.0)), found)
    assert told.endswith(found.reason or "guidance 7.") and "guidance" in told
    assert "few steps" not in drawn_with((64, 64), found.drawing(Drawing(30, 6.0)), found), "it was asked for"
