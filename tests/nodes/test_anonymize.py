"""A real server protects its pictures, or refuses to draw them."""

from __future__ import annotations

import numpy as np
import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.drawing import PLAIN, PROTECTED, Draw, anonymize, drawing
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import WorkflowError


@pytest.fixture(scope="module")
def files(server):
    """Prefix files on the server: one that fits the demo model, another, and two that do not fit."""
    prefixes = {
        "one": demo_prefix(),
        "two": demo_prefix(1),
        "wide": demo_prefix(width=768),
        "other_encoder": demo_prefix(key="h"),
        "both": demo_prefix(layers={"l": [-2, -1]}),
    }
    return {
        name: save_prefix(prefix, server.prefix_folder / "anonymize" / f"{name}.safetensors")
        for name, prefix in prefixes.items()
    }


@pytest.fixture(scope="module")
def draw(server, files):
    return Draw(server)


@pytest.fixture(scope="module")
def plain(draw):
    return draw(PLAIN)


@pytest.fixture(scope="module")
def protected(draw):
    return draw(PROTECTED, anonymize=anonymize())


def test_a_prefix_changes_the_picture_and_leaves_the_plain_one_alone(draw, plain, protected):
    assert not np.array_equal(protected, plain)
    assert np.array_equal(draw(PLAIN), plain)
    both = draw(PLAIN, anonymize=anonymize(), more={"class_type": "PreviewAny", "inputs": {"source": PROTECTED}})
    assert np.array_equal(both, plain)


def test_strength_zero_draws_the_plain_picture(draw, plain):
    assert np.array_equal(draw(PROTECTED, anonymize=anonymize(strength=0.0)), plain)


def test_strength_between_draws_another_picture(draw, plain, protected):
    between = draw(PROTECTED, anonymize=anonymize(strength=0.5))
    assert not np.array_equal(between, plain) and not np.array_equal(between, protected)


def test_a_connected_prefix_is_used_instead_of_the_file(draw, protected):
    load = {"class_type": "LoadAnonymizationPrefix", "inputs": {"file": "anonymize/one.safetensors"}}
    for choice in ("anonymize/two.safetensors", "gone.safetensors", "(no prefix files yet)"):
        picture = draw(PROTECTED, anonymize=anonymize(choice, learned_prefix=["load", 0]), load=load)
        assert np.array_equal(picture, protected)


def test_of_two_in_a_row_the_second_counts(draw, protected):
    first = anonymize("anonymize/two.safetensors")
    assert np.array_equal(draw(PROTECTED, first=first, anonymize=anonymize(clip=["first", 0])), protected)


def set_last_layer(clip, layer: int) -> dict:
    return {"class_type": "CLIPSetLastLayer", "inputs": {"clip": clip, "stop_at_clip_layer": layer}}


def test_a_prefix_that_was_learned_at_two_layers_is_drawn_at_both_before_and_behind_the_node(draw, protected):
    both = "anonymize/both.safetensors"
    for layer, differs in ((-1, False), (-2, True)):
        after = draw(["skip", 0], anonymize=anonymize(both), skip=set_last_layer(PROTECTED, layer))
        before = draw(PROTECTED, skip=set_last_layer(PLAIN, layer), anonymize=anonymize(both, clip=["skip", 0]))
        assert np.array_equal(before, after)
        assert np.array_equal(after, protected) is not differs
        assert not np.array_equal(after, draw(["skip", 0], skip=set_last_layer(PLAIN, layer)))


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("one", -2, r"learned at clip skip 1, and here the prompt is read at clip skip 2, .*Layer to -1, or train"),
        ("both", -3, r"learned at clip skip 1 and 2, and here the prompt is read at clip skip 3, .*-1 or -2, or train"),
    ],
)
def test_a_layer_that_the_prefix_was_not_learned_at_stops_the_workflow(server, files, name, layer, reason, strength):
    chosen = f"anonymize/{name}.safetensors"
    behind = drawing(["skip", 0], anonymize=anonymize(chosen, strength=strength), skip=set_last_layer(PROTECTED, layer))
    skipped = anonymize(chosen, clip=["skip", 0], strength=strength)
    before = drawing(PROTECTED, skip=set_last_layer(PLAIN, layer), anonymize=skipped)
    for graph in (behind, before):
        with pytest.raises(WorkflowError, match=reason) as failure:
            server.run(graph)
        assert failure.value.node_id in ("yes", "no")


def test_strength_zero_is_plain_at_any_layer(draw, files):
    skipped = draw(["skip", 0], anonymize=anonymize(strength=0.0), skip=set_last_layer(PROTECTED, -2))
    assert np.array_equal(skipped, draw(["skip", 0], skip=set_last_layer(PLAIN, -2)))


def test_a_long_prompt_is_drawn(draw):
    text = "a portrait of Ada Lovelace in a garden, " * 20
    assert not np.array_equal(draw(PROTECTED, text, anonymize=anonymize()), draw(PLAIN, text))


def test_a_file_saved_anew_under_its_name_is_noticed(draw, server):
    path = server.prefix_folder / "anonymize" / "changing.safetensors"
    pictures = []
    for seed in (0, 1):
        save_prefix(demo_prefix(seed), path, overwrite=True)
        pictures.append(draw(PROTECTED, anonymize=anonymize("anonymize/changing.safetensors")))
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.safetensors", r"no prefix file 'gone\.safetensors': put it into models/anonymization_prefixes"),
        ("../../secret.safetensors", r"cannot name a prefix file because .*: use letters"),
        ("(no prefix files yet)", "learn one with Train Anonymization Prefix"),
        (
            "anonymize/wide.safetensors",
            r"text encoder 'l' takes vectors of 192 numbers, the prefix's have 768.*choose a prefix",
        ),
        ("anonymize/other_encoder.safetensors", r"no vectors for text encoder 'l'.*: choose a prefix"),
        ("anonymize/broken.safetensors", r"'broken\.safetensors' cannot be used as a prefix: .*Choose another file"),
    ],
)
def test_what_cannot_protect_stops_the_workflow_and_names_the_remedy(server, files, name, reason):
    (server.prefix_folder / "anonymize" / "broken.safetensors").write_bytes(b"nothing of use")
    with pytest.raises(WorkflowError, match=reason) as failure:
        server.run(drawing(PROTECTED, anonymize=anonymize(name)))
    assert failure.value.node_id == "anonymize"


def test_the_node_lists_the_files_and_explains_every_socket(server, files):
    info = server.object_info()["AnonymizeFaces"]
    inputs = {**info["input"]["required"], **info["input"]["optional"]}
    assert list(inputs) == ["clip", "prefix", "strength", "learned_prefix"]
    assert {"anonymize/one.safetensors", "anonymize/two.safetensors"} <= set(inputs["prefix"][1]["options"])
    assert all(options["tooltip"] for _, options in inputs.values())
    assert info["output"] == ["CLIP"] and all(info["output_tooltips"])
    assert info["category"] == "anonymize" and info["description"]
