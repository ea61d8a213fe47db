"""No request gets past its protection in Automatic1111 and Forge."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.web_ui.encoders import prefix_for
from anonymize_faces.tests.support.web_ui.host import Host, infotext, model, parse_infotext
from anonymize_faces.tests.support.web_ui.requests import OFF, ON, OTHERS, PROMPT, picture


def test_the_hosts_forget_exceptions_in_callbacks_and_ours_ends_the_request(open_host):
    made = open_host()
    failing = _script(made, process=lambda self, p, *args: 1 / 0)
    assert made.draw(PROMPT).images
    assert made.reported == ["process: division by zero"], failing
    with pytest.raises(made.error("PrefixFileMissingError"), match="There is no prefix file 'gone"):
        made.draw(PROMPT, (True, "gone.safetensors", 1.0))
    assert len(made.drawn) == 1, "something was drawn"


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        ((True, None, 1.0), "There is no prefix to use"),
        ((True, "(no prefix files yet)", 1.0), "There is no prefix to use"),
        ((True, "../people.safetensors", 1.0), "cannot name a prefix file"),
        ((True, "people.safetensors", 1.5), "out of range"),
        ((True, "people.safetensors", float("nan")), "out of range"),
        ((True, "people.safetensors", "1"), "not a number"),
        (("yes", "people.safetensors", 1.0), "not true or false"),
        ((1, "people.safetensors", 1.0), "not true or false"),
        ((None, "people.safetensors", 1.0), "not true or false"),
        ((True, 7, 1.0), "not the name of a file"),
        ((None, None, None), "not true or false"),
        ((False, None, None), "not a number"),
        (("False", "people.safetensors", 1.0), "not true or false"),
        ((0, "people.safetensors", 1.0), "not true or false"),
        (([], "people.safetensors", 1.0), "not true or false"),
        ((False, ["people.safetensors"], 1.0), "not the name of a file"),
        ((False, "people.safetensors", True), "not a number"),
        ((False, "people.safetensors", -1), "out of range"),
        ((False, "people.safetensors", float("inf")), "out of range"),
        ((True, "peeple.safetensors", 1.0), "no prefix file 'peeple"),
        ((), "has 0 of its 3 values"),
        ((True,), "has 1 of its 3 values"),
        ((True, "people.safetensors"), "has 2 of its 3 values"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_never_off(open_host, panel, words):
    made = open_host()
    with pytest.raises(made.error("AnonymizationError"), match=words):
        made.draw(PROMPT, panel)
    assert not made.drawn


def test_values_in_anything_but_a_list_are_an_error_and_none_at_all_say_nothing(open_host):
    made = open_host()
    for values in ({1: True}, "on", iter([True]), 7):
        p = made.request(PROMPT)
        p.script_args = values
        with pytest.raises(made.error("AnonymizationError"), match="in which the panel's have no place"):
            made.processing.process_images(p)
    assert not made.drawn
    for values in ((), [], {}, None):  # What extensions make for a pass of their own.
        p = made.request(PROMPT)
        p.script_args, p.scripts.call = values, lambda *args: None
        made.processing.process_images(p)
    assert len(made.drawn) == 4


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_a_prefix_of_another_family_is_an_error(open_host, kind):
    made = open_host(kind, "sd1")
    save_prefix(prefix_for("sdxl"), made.folder / "xl.safetensors")
    with pytest.raises(made.error("PrefixMismatchError"), match="learned on SDXL, and this checkpoint is of another"):
        made.draw(PROMPT, (True, "xl.safetensors", 1.0))
    assert not made.drawn


@pytest.mark.parametrize("kind", ["forge", "automatic"])
def test_a_text_encoder_that_is_not_known_is_refused(open_host, kind):
    made = open_host(kind, "sdxl")
    stranger = type("Stranger", (), {"input_key": "txt"})()
    if kind == "forge":
        made.shared.sd_model.text_processing_engine_new = stranger
    else:
        made.shared.sd_model.conditioner.embedders.append(stranger)
    with pytest.raises(made.error("PrefixMismatchError"), match="does not know the text encoder Stranger"):
        made.draw(PROMPT, ON)
    made.shared.sd_model = SimpleNamespace(name="nothing that reads")
    with pytest.raises(made.error("PrefixMismatchError"), match="has no text encoder that a prefix could enter"):
        made.draw(PROMPT, ON)
    assert not made.drawn


def test_conditionings_that_the_host_keeps_are_of_the_same_prefix_and_strength_or_encoded_anew(open_host):
    made = open_host()
    half = (True, "people.safetensors", 0.5)
    first = [picture(made.draw(PROMPT, panel)) for panel in (None, ON, OTHERS, half)]
    for other in range(4):
        assert not any(torch.equal(first[other], first[one]) for one in range(other))
    again = [picture(made.draw(PROMPT, panel)) for panel in (half, OTHERS, ON, None)]
    assert all(torch.equal(one, other) for one, other in zip(first, reversed(again), strict=True))
    assert picture(made.draw(PROMPT)) is again[-1], "the host encodes a prompt once for requests that are alike"


def test_a_file_of_the_same_name_with_other_vectors_is_another_prefix(open_host):
    made = open_host()
    before = picture(made.draw(PROMPT, ON))
    save_prefix(prefix_for("sd1", seed=5), made.folder / "people.safetensors", overwrite=True)
    assert not torch.equal(before, picture(made.draw(PROMPT, ON)))


def test_hires_prompts_are_protected_and_not_taken_from_unprotected_ones(open_host):
    made = open_host()
    plain, plain_hires = (picture(made.draw(PROMPT, None, hr_prompt=text)) for text in (PROMPT, "Alan Turing"))
    ours, ours_hires = (picture(made.draw(PROMPT, ON, hr_prompt=text)) for text in (PROMPT, "Alan Turing"))
    assert not torch.equal(plain, ours)
    assert not torch.equal(plain_hires, ours_hires)
    assert torch.equal(ours_hires, picture(made.draw("Alan Turing", ON)))


@pytest.mark.parametrize(
    ("prompt", "texts"), [("a [cat:dog:2]", ["a cat", "a dog"]), ("cat AND dog", ["cat ", " dog"])]
)
def test_prompts_that_change_on_the_way_and_prompts_drawn_together_are_protected(open_host, prompt, texts):
    made = open_host()
    drawn = made.draw(prompt, ON).images[0][0][0]
    conditionings = [conditioning for schedule in drawn for _, conditioning in schedule]
    assert len(conditionings) == 2
    for conditioning, text in zip(conditionings, texts, strict=True):
        torch.testing.assert_close(conditioning, picture(made.draw(text, ON)))


def test_a_second_pass_without_our_script_is_as_protected_as_the_first(open_host):
    made = open_host()
    second = _second_pass(made, lambda p: None)
    for keeps in ("no scripts", "other scripts", "switched off", "weaker"):
        second["scripts"] = keeps
        plain = picture(made.draw(PROMPT))
        ours = picture(made.draw(PROMPT, ON))
        assert torch.equal(second["seen"][-1], picture(made.draw("a face", ON))), keeps
        assert torch.equal(second["seen"][-2], picture(made.draw("a face"))), keeps
        assert not torch.equal(plain, ours)


def _second_pass(made: Host, change: Any) -> dict[str, Any]:
    """An extension that draws faces again within a request, as ADetailer does."""
    state: dict[str, Any] = {"seen": [], "scripts": "", "within": False}

    def postprocess_image(self: Any, p: Any, picture_: Any, *args: Any) -> None:
        if state["within"] or p.prompt != PROMPT:
            return
        state["within"] = True
        again = made.processing.StableDiffusionProcessingImg2Img(prompt="a face")
        if state["scripts"] == "other scripts":
            again.scripts, again.script_args = copy.copy(p.scripts), p.script_args
            again.scripts.alwayson_scripts = []
        elif state["scripts"] == "switched off":
            again.scripts, again.script_args = p.scripts, p.scripts.defaults
        elif state["scripts"] == "weaker":
            again.scripts, again.script_args = p.scripts, list(p.script_args)
            panel = next(s for s in p.scripts.alwayson_scripts if getattr(s, "is_anonymize_faces_panel", False))
            again.script_args[panel.args_from : panel.args_to] = (True, "people.safetensors", 0.0)
        try:
            state["seen"].append(picture(made.processing.process_images(again)))
        finally:
            state["within"] = False

    _script(made, postprocess_image=postprocess_image)
    return state


def _script(made: Host, **methods: Any) -> Any:
    """An extension's script, always on."""
    controls = {"ui": lambda self, is_img2img: []}
    cls = type("Other", (made.scripts.Script,), {**controls, **methods})
    return made.scripts.scripts_txt2img.add(cls, made.scripts.AlwaysVisible)


def test_a_script_that_makes_requests_of_its_own_is_protected_by_the_panel(open_host):
    made = open_host()
    runner = made.scripts.scripts_txt2img

    class Upscale(made.scripts.Script):
        def run(self, p: Any) -> Any:
            return made.processing.process_images(made.processing.StableDiffusionProcessingImg2Img(prompt=p.prompt))

    runner.add(Upscale, True)
    ours = picture(made.draw(PROMPT, ON))
    for panel, same in ((ON, True), (OFF, False)):
        p = made.request(PROMPT, panel)
        p.script_args = (1, *p.script_args[1:])
        assert torch.equal(picture(runner.run(p, *p.script_args)), ours) is same


def test_nothing_is_left_of_a_request_that_failed(open_host):
    made = open_host()
    plain = picture(made.draw(PROMPT))
    made.shared.sd_model.readers["l"].holder.by_word["huge"] = torch.zeros(70, 32)
    with pytest.raises(made.error("PrefixMismatchError")):
        made.draw("huge", ON)
    made.processing.StableDiffusionProcessing.kept_c[:] = [None, None]
    assert torch.equal(picture(made.draw(PROMPT)), plain)
    assert made.script.GUARD.current() is None


def test_a_checkpoint_that_is_changed_on_the_way_is_looked_at_too(open_host):
    made = open_host()
    other = model(made, "forge", "sdxl")
    plain = made.processing.StableDiffusionProcessingTxt2Img.sample

    def refining(p: Any) -> Any:
        made.shared.sd_model = other
        p.setup_conds()
        return plain(p)

    made.processing.StableDiffusionProcessingTxt2Img.sample = refining
    with pytest.raises(made.error("PrefixMismatchError"), match="of another family"):
        made.draw(PROMPT, ON)
    assert not made.drawn


def test_prompts_that_no_protected_encoder_saw_are_not_drawn_from(open_host):
    made = open_host()
    made.processing.StableDiffusionProcessing.setup_conds = lambda p: setattr(p, "c", None) or setattr(p, "uc", None)
    with pytest.raises(made.error("PrefixMismatchError"), match="did not go through the text encoders"):
        made.draw(PROMPT, ON)
    made.draw(PROMPT, OFF)
    assert len(made.drawn) == 1


def test_a_checkpoint_that_nobody_knows_draws_as_ever_where_nothing_is_to_be_protected(open_host):
    made = open_host()
    encode = made.shared.sd_model.get_learned_conditioning
    made.shared.sd_model = SimpleNamespace(readers={}, name="odd", get_learned_conditioning=encode)
    made.draw(PROMPT, OFF)
    assert len(made.drawn) == 1
    with pytest.raises(made.error("PrefixMismatchError"), match="no text encoder that a prefix could enter"):
        made.draw(PROMPT, ON)


@pytest.mark.parametrize("which", ["c", "uc"])
def test_neither_prompt_vouches_for_the_other(open_host, which):
    made = open_host()
    host = made.processing.StableDiffusionProcessing
    plain = host.setup_conds

    def with_one_of_its_own(p: Any) -> None:
        plain(p)
        setattr(p, which, [torch.zeros(1, 77, 32)])

    host.setup_conds = with_one_of_its_own
    with pytest.raises(made.error("PrefixMismatchError"), match="did not go through the text encoders"):
        made.draw(PROMPT, ON)
    made.draw(PROMPT, OFF)
    assert len(made.drawn) == 1


def test_what_another_extension_encodes_in_the_place_of_the_hosts_is_not_drawn_from_even_if_it_is_kept(open_host):
    made = open_host()
    model = made.shared.sd_model
    model.get_learned_conditioning = lambda prompts: torch.zeros(len(prompts), 77, 32)
    for _ in range(2):  # The second time the host has kept what was refused.
        with pytest.raises(made.error("PrefixMismatchError"), match="did not go through the text encoders"):
            made.draw(PROMPT, ON)
    assert not made.drawn


def test_one_prompt_may_stay_while_the_other_changes_as_often_as_one_likes(open_host):
    made = open_host()

    def twice() -> torch.Tensor:
        p = made.request(PROMPT, ON)
        p.hr_prompt = "a hat"
        return picture(made.processing.process_images(p))

    before = twice()
    for number in range(40):
        p = made.request(PROMPT, ON)
        p.negative_prompt = f"blurred {number}"
        made.processing.process_images(p)
    assert torch.equal(twice(), before)  # Of a prompt that the host has kept all the while.


def test_what_was_kept_is_drawn_from_again_by_the_same_prefix_alone(open_host):
    made = open_host()
    first, again = made.draw(PROMPT, ON), made.draw(PROMPT, ON)
    assert torch.equal(picture(first), picture(again))
    kept = made.drawn[-1]
    host = made.processing.StableDiffusionProcessing
    host.setup_conds = lambda p: (setattr(p, "c", kept[0]), setattr(p, "uc", kept[1]))
    assert torch.equal(picture(made.draw(PROMPT, ON)), picture(first))
    with pytest.raises(made.error("PrefixMismatchError"), match="did not go through the text encoders"):
        made.draw(PROMPT, (True, "people.safetensors", 0.5))


@pytest.mark.parametrize(
    "given", [{}, {"enabled": True}, {"args": []}, {"args": None}, {"args": {"0": True}}, {"args": True}, None]
)
def test_an_api_request_that_names_the_panel_and_gives_no_values_is_an_error(open_host, given):
    made = open_host()
    for callback in made.script_callbacks.app_started:
        callback(None, None)
    api, runner = made.modules["modules.api.api"].Api(), made.scripts.scripts_txt2img
    with pytest.raises(made.error("AnonymizationError"), match="gives no values for it"):
        api.init_script_args(SimpleNamespace(alwayson_scripts={"anonymize faces": given}), runner)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([None, None, None], "not true or false"),
        ([None], "not true or false"),
        (["False"], "not true or false"),
        (["true", "people.safetensors", 1.0], "not true or false"),
        ([0], "not true or false"),
        ([True, 7], "not the name of a file"),
        ([True, "people.safetensors", None], "not a number"),
        ([True, "people.safetensors", "1.0"], "not a number"),
        ([True, "people.safetensors", 1.5], "out of range"),
        ([True, "people.safetensors", 1.0, True], "gives 4 values"),
        ([[True, "people.safetensors", 1.0]], "not true or false"),
    ],
)
def test_an_api_request_whose_values_cannot_be_read_is_an_error(open_host, given, words):
    made = open_host()
    for callback in made.script_callbacks.app_started:
        callback(None, None)
    api, runner = made.modules["modules.api.api"].Api(), made.scripts.scripts_txt2img
    for name in ("Anonymize Faces", "anonymize faces", "ANONYMIZE FACES"):
        request = SimpleNamespace(alwayson_scripts={name: {"args": given}})
        with pytest.raises(made.error("AnonymizationError"), match=words):
            api.init_script_args(request, runner)


@pytest.mark.parametrize("scripts", [[], "Anonymize Faces", [{"name": "Anonymize Faces"}], 7])
def test_an_api_request_whose_scripts_are_no_table_is_an_error(open_host, scripts):
    made = open_host()
    for callback in made.script_callbacks.app_started:
        callback(None, None)
    api, runner = made.modules["modules.api.api"].Api(), made.scripts.scripts_txt2img
    with pytest.raises(made.error("AnonymizationError"), match="no table of scripts"):
        api.init_script_args(SimpleNamespace(alwayson_scripts=scripts), runner)


def test_an_api_request_says_what_the_panel_says(open_host):
    made = open_host()
    for callback in made.script_callbacks.app_started:
        callback(None, None)
    api, runner = made.modules["modules.api.api"].Api(), made.scripts.scripts_txt2img
    ours = picture(made.draw(PROMPT, ON))
    for given, same in (
        ([True, "people.safetensors", 1.0], True),
        ([True, "people.safetensors"], True),
        ([False], False),
    ):
        p = made.request(PROMPT)
        p.script_args = api.init_script_args(
            SimpleNamespace(alwayson_scripts={"Anonymize Faces": {"args": given}}), runner
        )
        assert torch.equal(picture(made.processing.process_images(p)), ours) is same
    untouched = api.init_script_args(SimpleNamespace(alwayson_scripts=None), runner)
    assert untouched == runner.defaults


def test_the_infotext_says_what_protected_and_the_panel_takes_it_up_again(open_host):
    made = open_host()
    save_prefix(prefix_for("sd1"), made.folder / "studio" / "people, of 2026.safetensors")
    drawn = made.draw(PROMPT, (True, "studio/people, of 2026.safetensors", 0.75))
    parameters = parse_infotext(drawn.infotext)
    fields = made.scripts.scripts_txt2img.infotext_fields
    values = [key(parameters) if callable(key) else parameters.get(key) for _, key in fields]
    assert values == [True, "studio/people, of 2026.safetensors", "0.75"]
    assert len(parameters["Anonymize Faces hash"]) == 10
    again = made.draw(PROMPT, (values[0], values[1], float(values[2])))
    assert torch.equal(picture(again), picture(drawn))
    plain = parse_infotext(made.draw(PROMPT).infotext)
    assert not [key for key in plain if key.startswith("Anonymize")]
    assert [key(plain) if callable(key) else plain.get(key) for _, key in fields] == [None, None, None]
    p = made.request(PROMPT, ON, extra_generation_params=made.request(PROMPT, ON).extra_generation_params)
    made.processing.process_images(p)
    p.script_args = made.request(PROMPT, OFF).script_args
    made.processing.process_images(p)
    assert "Anonymize" not in infotext(p), "what an earlier picture of the same request said"


def test_the_plot_varies_prefix_and_strength_and_can_draw_without(open_host):
    made = open_host()
    plot = made.scripts.scripts_data[0].module
    made.part("panel").add_axes()
    axes = {option.label: option for option in plot.axis_options}
    assert list(axes) == ["[Anonymize Faces] Prefix", "[Anonymize Faces] Strength"]
    names, strengths = axes.values()
    assert names.choices() == ["None", "others.safetensors", "people.safetensors"]
    names.confirm(None, ["None", "people.safetensors"])
    with pytest.raises(made.error("AnonymizationError"), match="no prefix file 'peeple"):
        names.confirm(None, ["peeple.safetensors"])

    def cell(panel: tuple, name: str | None = None, strength: float | None = None) -> Any:
        p = copy.copy(made.request(PROMPT, panel))
        if name is not None:
            names.apply(p, name, [])
        if strength is not None:
            strengths.apply(p, strength, [])
        return picture(made.processing.process_images(p))

    plain, ours, others, half = (
        picture(made.draw(PROMPT, panel)) for panel in (None, ON, OTHERS, (True, "others.safetensors", 0.5))
    )
    for on in (ON, OFF):
        assert torch.equal(cell(on, "None"), plain)
        assert torch.equal(cell(on, "others.safetensors"), others)
        assert torch.equal(cell(on, "others.safetensors", 0.5), half)
    assert torch.equal(cell(OTHERS, strength=0.5), half)
    assert torch.equal(cell(ON, strength=0.0), plain)
    assert torch.equal(cell(ON), ours)
    with pytest.raises(made.error("AnonymizationError"), match="which is off"):
        cell(OFF, strength=0.5)
    runner = made.scripts.scripts_txt2img

    class Plot(made.scripts.Script):
        def run(self, p: Any) -> list[Any]:
            return [cell(ON, "None"), cell(ON)]

    runner.add(Plot, True)
    p = made.request(PROMPT, ON)
    drawn = runner.run(p, 1, *p.script_args[1:])
    assert torch.equal(drawn[0], plain)
    assert torch.equal(drawn[1], ours)
