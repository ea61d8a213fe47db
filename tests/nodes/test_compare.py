"""Comparing strengths and prefixes in a real ComfyUI."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

SETTINGS = {
    "prompts": "a portrait of Ada Lovelace",
    "strengths": "0, 1",
    "images_per_prompt": 1,
    "negative_prompt": "",
    "steps": 1,
    "cfg": 2.0,
    "seed": 1,
    "width": 0,
    "height": 0,
    "prefix_1": "compare/one.safetensors",
}


@pytest.fixture(scope="module", autouse=True)
def files(server: ComfyServer) -> None:
    for seed, name in enumerate(("one", "two")):
        save_prefix(demo_prefix(seed), server.prefix_folder / "compare" / f"{name}.safetensors", overwrite=True)


def comparing(clip=("demo", 1), **settings) -> dict:
    wires = {"model": ["demo", 0], "clip": list(clip), "vae": ["demo", 2]}
    return {
        "demo": {"class_type": "LoadDemoModel", "inputs": {}},
        "compare": {"class_type": "CompareStrengths", "inputs": {**wires, **SETTINGS, **settings}},
        **{
            name: {"class_type": "PreviewImage", "inputs": {"images": ["compare", slot]}}
            for slot, name in enumerate(("grid", "first", "last"))
        },
    }


def drawn(server: ComfyServer, graph: dict, node: str, key: str = "images") -> tuple[dict, list[np.ndarray]]:
    output = server.run(graph)["outputs"][node]
    return output, [np.asarray(Image.open(io.BytesIO(server.image(picture)))) for picture in output[key]]


def test_several_prefixes_stand_beside_the_plain_model_under_their_names(server):
    output, columns = drawn(server, comparing(prefix_2="compare/two.safetensors"), "compare", "compared")
    assert output["labels"] == ["without", "one", "two"]
    assert len({column.tobytes() for column in columns}) == 3
    several, _ = drawn(server, comparing(prefix_2="compare/two.safetensors", strengths="0.5;1"), "compare", "compared")
    assert several["labels"] == ["one, 0.5", "one, 1", "two, 0.5", "two, 1"]


def test_the_first_and_the_last_column_go_out_as_batches_of_all_prompts(server):
    graph = comparing(prompts="a portrait of Ada Lovelace\na red circle", images_per_prompt=2)
    _, first = drawn(server, graph, "first")
    _, last = drawn(server, graph, "last")
    assert len(first) == len(last) == 4 and not np.array_equal(first[0], first[1])
    assert all(not np.array_equal(*pair) for pair in zip(first, last, strict=True))
    _, (grid,) = drawn(server, graph, "grid")
    assert grid.shape[0] > 4 * 192 and 2 * 192 < grid.shape[1] < 3 * 192


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"strengths": "0, 2"}, "'2' is no strength"),
        ({"strengths": "0,5, nan"}, "'5' is no strength"),
        ({"strengths": "nan"}, "'nan' is no strength"),
        ({"strengths": ""}, "An empty list is no strength"),
        ({"prefix_1": "(none)"}, "There is no prefix to compare"),
        ({"prompts": " \n# a note"}, "There is nothing to draw"),
        ({"prompts": "\n".join(f"a cat {n}" for n in range(9)), "images_per_prompt": 4}, "would be 72 pictures"),
        ({"prefix_2": "compare/gone.safetensors"}, "compare/gone.safetensors"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_drawn(server, settings, reason):
    with pytest.raises(WorkflowError) as failed:
        server.run(comparing(**settings))
    assert reason in str(failed.value)


def test_a_clip_that_is_protected_already_is_no_plain_one_to_compare_with(server):
    inputs = {"clip": ["demo", 1], "prefix": "compare/two.safetensors", "strength": 1.0}
    graph = comparing(clip=("protect", 0)) | {"protect": {"class_type": "AnonymizeFaces", "inputs": inputs}}
    with pytest.raises(WorkflowError, match="protected already"):
        server.run(graph)
