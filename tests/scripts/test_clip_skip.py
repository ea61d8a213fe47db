"""Shows that Automatic1111 and Forge draw at no Clip skip but those that a prefix was learned at."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from anonymize_faces.prefix import Prefix, save_prefix
from anonymize_faces.tests.support.web_ui.encoders import prefix_for
from anonymize_faces.tests.support.web_ui.host import Host, parse_infotext

KINDS = ("forge", "automatic")
ON = (True, "people.safetensors", 1.0)
HALF = (True, "people.safetensors", 0.5)
PROMPT = "a portrait of Ada"
SKIP = "CLIP_stop_at_last_layers"


def learned_at(made: Host, family: str = "sd1", **layers: list[int]) -> None:
    """Makes `people.safetensors` one that was learned at these layers."""
    plain = prefix_for(family)
    record = dataclasses.replace(plain.record, layers=layers)
    save_prefix(Prefix(plain.vectors, record), made.folder / "people.safetensors", overwrite=True)


def picture(processed: Any) -> Any:
    """The conditioning that the picture was drawn with, of one encoder or of several together."""
    found = processed.images[0][0][0][-1][-1][1]
    return found["crossattn"] if isinstance(found, dict) else found


@pytest.mark.parametrize("panel", [ON, HALF])
@pytest.mark.parametrize("kind", KINDS)
def test_another_layer_than_the_prefix_was_learned_at_is_refused_whichever_way_it_is_set(open_host, kind, panel):
    made = open_host(kind)
    usual = picture(made.draw(PROMPT, panel))
    refused = r"learned at clip skip 1, and here the prompt is read at clip skip 2, .*set Clip skip to 1, or train"
    with pytest.raises(made.error("PrefixMismatchError"), match=refused):
        made.draw(PROMPT, panel, override_settings={SKIP: 2})
    setattr(made.shared.opts, SKIP, 2)
    with pytest.raises(made.error("PrefixMismatchError"), match=refused):
        made.draw(PROMPT, panel)
    assert torch.equal(picture(made.draw(PROMPT, panel, override_settings={SKIP: 1})), usual)
    made.draw(PROMPT, (False, "people.safetensors", 1.0))
    made.draw(PROMPT, (True, "people.safetensors", 0.0))
    assert len(made.drawn) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_learned_at_two_layers_is_drawn_at_both_and_the_infotext_says_so(open_host, kind):
    made = open_host(kind)
    learned_at(made, l=[-2, -1])
    drawn = [made.draw(PROMPT, ON, override_settings={SKIP: skip}) for skip in (1, 2)]
    assert not torch.equal(*map(picture, drawn))
    for processed in drawn:
        assert parse_infotext(processed.infotext)["Anonymize Faces holds at Clip skip"] == "1 and 2"
    with pytest.raises(made.error("PrefixMismatchError"), match=r"clip skip 1 and 2, .* 3, .*set Clip skip to 1 or 2"):
        made.draw(PROMPT, ON, override_settings={SKIP: 3})


@pytest.mark.parametrize("kind", KINDS)
def test_a_conditioning_that_the_host_keeps_is_not_taken_for_a_prefix_of_other_layers(open_host, kind):
    made = open_host(kind)
    setattr(made.shared.opts, SKIP, 2)
    learned_at(made, l=[-2, -1])
    made.draw(PROMPT, ON)
    learned_at(made)
    with pytest.raises(made.error("PrefixMismatchError"), match="read at clip skip 2"):
        made.draw(PROMPT, ON)


def test_what_is_judged_is_what_the_host_reads_and_not_what_is_set(open_host):
    for kind, family in (("forge", "sdxl"), ("automatic", "sdxl"), ("automatic", "sd2"), ("forge", "flux")):
        made = open_host(kind, family)
        usual = picture(made.draw(PROMPT, ON))
        setattr(made.shared.opts, SKIP, 2)  # Changes nothing for these.
        assert torch.equal(picture(made.draw(PROMPT, ON)), usual)
    made = open_host("automatic", "sdxl")
    setattr(made.shared.opts, SKIP, 3)
    made.draw(PROMPT, ON)
    made.shared.opts.sdxl_clip_l_skip = True
    made.processing.StableDiffusionProcessing.kept_c[:] = [None, None]
    with pytest.raises(made.error("PrefixMismatchError"), match="text encoder 'l' is read at clip skip 3"):
        made.draw(PROMPT, ON)
    made = open_host("forge", "sdxl")
    setattr(made.shared.opts, SKIP, 3)
    with pytest.raises(made.error("PrefixMismatchError"), match=r"is read at clip skip 3, .*set Clip skip to 2"):
        made.draw(PROMPT, ON)


@pytest.mark.parametrize("kind", KINDS)
def test_enforced_prompts_are_read_at_the_layers_of_the_servers_prefix_alone(open_host, monkeypatch, kind):
    open_host(kind)  # Brings the file.
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host(kind)
    made.draw(PROMPT)
    with pytest.raises(made.error("PrefixMismatchError"), match="read at clip skip 2"):
        made.draw(PROMPT, override_settings={SKIP: 2})
    assert len(made.drawn) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_whose_layer_nobody_can_see_is_refused(open_host, kind):
    made = open_host(kind)
    reader = made.shared.sd_model.readers["l"]
    type(reader).taken = lambda self, output: output.to_tuple()[0]
    with pytest.raises(made.error("PrefixMismatchError"), match="Nobody can say at which layer text encoder 'l'"):
        made.draw(PROMPT, ON)
    assert not made.drawn
    assert not reader.read_by._forward_hooks
