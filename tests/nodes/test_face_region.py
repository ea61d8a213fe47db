"""A real server changes faces alone, or refuses to."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.drawing import PLAIN, PROTECTED, Draw, anonymize, drawing
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region
from anonymize_faces.tools.comfy_server import WorkflowError

TEXT = "a portrait of Ada Lovelace"
FILE = "region/one.safetensors"


@pytest.fixture(scope="module")
def files(server):
    prefixes = {
        "one": with_random_region(demo_prefix(), threshold=0.2, steepness=0.1),
        "blind": with_random_region(demo_prefix(), threshold=1e6),
        "none": demo_prefix(),
        "other": with_random_region(demo_prefix(), channels=4),
    }
    for name, prefix in prefixes.items():
        save_prefix(prefix, server.prefix_folder / "region" / f"{name}.safetensors")
    return prefixes


@pytest.fixture(scope="module")
def draw(server, files):
    return Draw(server)


@pytest.fixture(scope="module")
def whole(draw):
    return draw(PROTECTED, anonymize=anonymize(FILE))


def region(prefix: str = FILE, text: str = TEXT, **inputs) -> dict:
    wires = {"model": ["demo", 0], "clip": PLAIN, "text": text, "prefix": prefix}
    return {"class_type": "AnonymizeFaceRegion", "inputs": {**wires, "margin": 0.0, "softness": 0.0, **inputs}}


def sampler(model=("region", 0), positive=("region", 1), cfg: float = 4.0) -> dict:
    graph = drawing(["region", 2])["sample"]
    graph["inputs"] |= {"model": list(model), "positive": list(positive), "cfg": cfg}
    return graph


def test_at_full_certainty_it_is_the_whole_prefix_to_the_last_bit(draw, whole):
    assert np.array_equal(draw(["region", 2], region=region(certainty=1.0), sample=sampler()), whole)


def test_where_nothing_counts_as_face_the_picture_is_the_plain_one(draw, whole):
    negative = {"class_type": "CLIPTextEncode", "inputs": {"clip": PLAIN, "text": ""}}
    blind = region("region/blind.safetensors", certainty=0.5)
    made = draw(["region", 2], region=blind, sample=sampler(), no=negative)
    assert np.abs(made.astype(int) - draw(PLAIN).astype(int)).max() <= 1
    assert not np.array_equal(whole, draw(PLAIN))


def test_in_between_some_places_are_protected_and_others_are_not(draw, whole):
    made = draw(["region", 2], region=region(certainty=0.75), sample=sampler())
    assert not np.array_equal(made, whole) and not np.array_equal(made, draw(PLAIN))


def test_without_its_model_the_conditioning_is_protected_as_a_whole(draw, whole):
    made = draw(["region", 2], region=region(certainty=0.5), sample=sampler(model=("demo", 0)))
    assert np.array_equal(made, whole)


def test_its_model_draws_other_conditioning_as_the_plain_model_does(draw):
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": PLAIN, "text": TEXT}}
    negative = {"class_type": "CLIPTextEncode", "inputs": {"clip": PLAIN, "text": ""}}
    made = draw(["region", 2], region=region(), yes=text, no=negative, sample=sampler(positive=("yes", 0)))
    assert np.array_equal(made, draw(PLAIN))


def test_the_hosts_easycache_draws_with_it_and_a_lazycache_behind_it_is_refused(draw):
    def cached(kind: str) -> dict:
        inputs = {"model": ["region", 0], "reuse_threshold": 2.0, "start_percent": 0.0, "end_percent": 1.0}
        return {"class_type": kind, "inputs": {**inputs, "verbose": False}}

    sample = sampler(model=("cache", 0))
    sample["inputs"]["steps"] = 8
    made = draw(["region", 2], region=region(certainty=0.5), cache=cached("EasyCache"), sample=sample)
    assert made.std() > 0
    with pytest.raises(WorkflowError, match="put LazyCache, or what does the same, before Anonymize Face Region"):
        draw(["region", 2], region=region(certainty=0.5), cache=cached("LazyCache"), sample=sample)


def test_the_hosts_model_stays_as_it_was(draw):
    before = draw(PLAIN)
    draw(["region", 2], region=region(certainty=0.5), sample=sampler())
    assert np.array_equal(draw(PLAIN), before)


def test_what_is_set_on_the_conditioning_afterwards_holds_for_both(draw, whole):
    """Half of a strength beside another prompt, of which the plain side must know too."""

    def weaker(conditioning) -> dict:
        inputs = {"conditioning": conditioning, "width": 64, "height": 64, "x": 0, "y": 0, "strength": 0.5}
        return {"class_type": "ConditioningSetArea", "inputs": inputs}

    def beside(conditioning) -> dict:
        return {
            "class_type": "ConditioningCombine",
            "inputs": {"conditioning_1": conditioning, "conditioning_2": ["no", 0]},
        }

    def made(certainty: float, prefix: str = FILE) -> np.ndarray:
        more = {"weak": weaker(["region", 1]), "both": beside(["weak", 0]), "sample": sampler(positive=("both", 0))}
        return draw(["region", 2], region=region(prefix, certainty=certainty), **more)

    protected = draw(
        PROTECTED, positive=["both", 0], anonymize=anonymize(FILE), weak=weaker(["yes", 0]), both=beside(["weak", 0])
    )
    assert np.array_equal(made(1.0), protected) and not np.array_equal(protected, whole)
    assert not np.array_equal(made(0.5, "region/blind.safetensors"), protected)


def test_conditioning_that_was_altered_has_no_plain_side(draw, whole):
    """Set to zero it says nothing, as a negative prompt; averaged with another it is drawn protected as a whole."""
    blind = region("region/blind.safetensors", certainty=0.5)
    zero = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["region", 1]}}
    plain_zero = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["yes", 0]}}
    sample = sampler()
    sample["inputs"]["negative"] = ["zero", 0]
    made = draw(["region", 2], region=blind, zero=zero, sample=sample)
    unguided = drawing(PLAIN)["sample"]
    unguided["inputs"] |= {"negative": ["zero", 0]}
    wanted = draw(PLAIN, zero=plain_zero, sample=unguided)
    assert np.abs(made.astype(int) - wanted.astype(int)).max() <= 1
    both = {"conditioning_to": ["region", 1], "conditioning_from": ["region", 1], "conditioning_to_strength": 0.5}
    average = {"class_type": "ConditioningAverage", "inputs": both}
    made = draw(["region", 2], region=blind, average=average, sample=sampler(positive=("average", 0)))
    assert np.abs(made.astype(int) - whole.astype(int)).max() <= 1

    made = draw(["region", 2], region=blind, sample=sampler())
    assert not np.array_equal(made, whole)


def test_without_guidance_and_with_a_custom_sampler_it_draws_as_well(draw):
    custom = {
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
        "guider": {
            "class_type": "BasicGuider",
            "inputs": {"model": ["region", 0], "conditioning": ["region", 1]},
        },
        "euler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {"model": ["region", 0], "scheduler": "normal", "steps": 2, "denoise": 1.0},
        },
        "sample": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["euler", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": ["latent", 0],
            },
        },
    }
    made = draw(["region", 2], region=region(certainty=0.75), **custom)
    usual = draw(["region", 2], region=region(certainty=0.75), sample=sampler(cfg=1.0))
    assert np.array_equal(made, usual)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none", "does not know where faces are"), ("other", "latents of 4 channels, and this model has 12")],
)
def test_a_prefix_that_cannot_tell_faces_here_is_refused(server, files, name, reason):
    with pytest.raises(WorkflowError, match=reason) as failure:
        server.run(drawing(["region", 2], region=region(f"region/{name}.safetensors"), sample=sampler()))
    assert failure.value.node_id == "region"


def face_mask(**wires) -> dict:
    inputs = {"model": ["region", 0], "positive": ["region", 1], "samples": ["sample", 0], **wires}
    return {"class_type": "FaceMask", "inputs": inputs}


def test_the_mask_comes_out_as_a_mask_and_a_preview(server, files):
    for name, certainty, shade in (("one", 1.0, 255), ("blind", 0.5, 0)):
        chosen = region(f"region/{name}.safetensors", certainty=certainty)
        graph = drawing(["region", 2], region=chosen, sample=sampler())
        graph["mask"] = face_mask()
        graph["picture"] = {"class_type": "MaskToImage", "inputs": {"mask": ["mask", 0]}}
        graph["save"] = {"class_type": "SaveImage", "inputs": {"images": ["picture", 0], "filename_prefix": "mask"}}
        outputs = server.run(graph)["outputs"]
        (picture,) = outputs["save"]["images"]
        pixels = np.asarray(Image.open(io.BytesIO(server.image(picture))))
        assert pixels.shape[:2] == (64, 64) and (pixels.min(), pixels.max()) == (shade, shade)
        assert outputs["mask"]["images"] and "is covered" in outputs["mask"]["text"][0]
        graph["mask"] = face_mask(before=["decode", 0], after=["decode", 0])
        compared = server.run(graph)["outputs"]["mask"]
        assert compared["labels"] == ["before", "after", "mask"] and len(compared["compared"]) == 3


def test_a_picture_of_another_size_has_a_mask_of_its_own(server, files):
    """A part of it is masked, and sides are not mixed up."""
    width, height = 256, 128
    latent = {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": height, "batch_size": 2}}
    graph = drawing(["region", 2], region=region(certainty=0.75), sample=sampler(), latent=latent, mask=face_mask())
    graph["picture"] = {"class_type": "MaskToImage", "inputs": {"mask": ["mask", 0]}}
    graph["save"] = {"class_type": "SaveImage", "inputs": {"images": ["picture", 0], "filename_prefix": "sizes"}}
    outputs = server.run(graph)["outputs"]
    assert len(outputs["mask"]["images"]) == len(outputs["save"]["images"]) == 2
    for picture in outputs["save"]["images"]:
        pixels = np.asarray(Image.open(io.BytesIO(server.image(picture))))[..., 0]
        assert pixels.shape == (height, width)
        cells = pixels.reshape(height // 8, 8, width // 8, 8)
        assert (cells == cells[:, :1, :, :1]).all() and 0 < (cells > 0).mean() < 1


@pytest.mark.parametrize(
    ("wires", "reason"),
    [({"model": ["demo", 0]}, "does not look for faces"), ({"positive": ["no", 0]}, "carries no plain prompt")],
)
def test_a_mask_of_another_model_or_prompt_is_refused(server, files, wires, reason):
    graph = drawing(["region", 2], region=region(), sample=sampler())
    graph["mask"] = face_mask(**wires)
    with pytest.raises(WorkflowError, match=reason):
        server.run(graph)
