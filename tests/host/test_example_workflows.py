"""The example workflows in a real ComfyUI; those that evaluate and measure are run by their nodes' tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import requests
from PIL import Image

from anonymize_faces.benchmarks.support.sd1 import write_checkpoint
from anonymize_faces.demo.world.renderer import SIZE
from anonymize_faces.prefix import load_prefix, save_prefix
from anonymize_faces.prefix.files.preview import load_preview
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import EXTENSION, ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

EXAMPLES = ROOT / "example_workflows"
NAMES = sorted((path.stem for path in EXAMPLES.glob("*.json")), key=lambda name: int(name.split()[0]))
DEMO_PEOPLE, NEWEST = "demo people.safetensors", "demo people (newest)"
LARGEST_THUMBNAIL = 40_000
QUICK = {
    "general_prompts": "a red circle",
    "text_steps": 1,
    "harden": 0.0,
    "steps": 2,
    "batch_size": 8,
    "held_out": 0.0,
    "people_drawn": 4,
    "portraits_per_identity": 1,
    "general_drawn": 4,
    "noisings_per_picture": 1,
    "width": 64,
    "height": 64,
    "drawing_steps": 1,
}
Graph = dict[str, dict[str, Any]]


def shipped(server: ComfyServer, name: str) -> Graph:
    return workflow_to_prompt(load_workflow(EXAMPLES / f"{name}.json"), server.object_info())


def of_kind(graph: Graph, kind: str) -> list[str]:
    return [name for name, node in graph.items() if node["class_type"] == kind]


def quick(graph: Graph) -> Graph:
    """The same with fewer steps and one picture."""
    for node in graph.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 2
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = 1
    return graph


def by_file(graph: Graph, name: str) -> Graph:
    """The same with a file that is named."""
    for node in of_kind(graph, "AnonymizeFaces"):
        graph[node]["inputs"]["prefix"] = name
    return graph


def unprotected(graph: Graph) -> Graph:
    """The same with every Anonymize Faces taken out, and its CLIP passed on."""
    clips = {name: graph[name]["inputs"]["clip"] for name in of_kind(graph, "AnonymizeFaces")}
    for node in graph.values():
        wires = {key: wire for key, wire in node["inputs"].items() if isinstance(wire, list) and wire[0] in clips}
        node["inputs"] |= {key: clips[wire[0]] for key, wire in wires.items()}
    return {name: node for name, node in graph.items() if name not in clips}


def pictures(server: ComfyServer, graph: Graph, kind: str) -> list[np.ndarray]:
    """What the nodes of a kind show, in their order."""
    outputs = server.run(graph)["outputs"]
    shown = [outputs[name]["images"] for name in of_kind(graph, kind)]
    return [np.asarray(Image.open(io.BytesIO(server.image(picture)))) for (picture,) in shown]


@pytest.fixture
def demo_people(server: ComfyServer, tidy: None) -> None:
    """A prefix file of the name that the example workflows choose."""
    save_prefix(demo_prefix(), server.prefix_folder / DEMO_PEOPLE, overwrite=True)


@pytest.fixture
def checkpoint(server: ComfyServer, host_modules: None, tidy: None) -> Iterator[Path]:
    """A checkpoint of random weights under the name that the example workflow asks for."""
    graph = shipped(server, "6 Train on your own checkpoint")
    (loader,) = of_kind(graph, "CheckpointLoaderSimple")
    path = write_checkpoint(server.model_folder("checkpoints") / graph[loader]["inputs"]["ckpt_name"])
    yield path
    path.unlink()


def test_examples_of_the_demo_model_say_which_and_draw_at_its_size():
    workflows = [load_workflow(EXAMPLES / f"{name}.json")["nodes"] for name in NAMES]
    of_demo = [nodes for nodes in workflows if any(node["type"] == "LoadDemoModel" for node in nodes)]
    widgets = [(node["type"], node["widgets_values"]) for nodes in of_demo for node in nodes]
    assert len(of_demo) == len(NAMES) - 1
    assert all(values == ["classic"] for kind, values in widgets if kind == "LoadDemoModel")
    assert all(values[:2] == [SIZE, SIZE] for kind, values in widgets if kind == "EmptyLatentImage")


def test_whoever_trains_the_demo_again_uses_the_newest_prefix_in_all_examples(server, tidy):
    graph = shipped(server, "1 Train on the demo model")
    (train,), (people,) = of_kind(graph, "TrainAnonymizationPrefix"), of_kind(graph, "IdentityList")
    graph[train]["inputs"] |= QUICK
    # Of several looks: of those alike names are not read, and two steps from a random start do not hold at all layers.
    graph[people]["inputs"]["text"] = "\n".join(graph[people]["inputs"]["text"].splitlines()[::24])
    (server.prefix_folder / DEMO_PEOPLE).unlink(missing_ok=True)
    server.run(graph)
    saved = load_prefix(server.prefix_folder / DEMO_PEOPLE)
    assert saved.record.identities == 2 and load_preview(saved, server.prefix_folder / DEMO_PEOPLE)
    choosing = {"AnonymizeFaces": "prefix", "CompareStrengths": "prefix_1", "EvaluateAnonymization": "prefix_1"}
    chosen = {
        graph[node]["inputs"][name]
        for graph in (shipped(server, example) for example in NAMES if not example.startswith(("1", "6", "7")))
        for kind, name in choosing.items()
        for node in of_kind(graph, kind)
    }
    assert chosen == {NEWEST}

    protect = shipped(server, "2 Protect a workflow")
    (first,) = pictures(server, quick(protect), "SaveImage")
    graph[train]["inputs"]["seed"] = 5
    server.run(graph)
    assert len(list(server.prefix_folder.glob("demo people*.safetensors"))) == 2
    (second,) = pictures(server, quick(protect), "SaveImage")
    (again,) = pictures(server, by_file(quick(protect), "demo people_2.safetensors"), "SaveImage")
    assert np.array_equal(second, again) and not np.array_equal(first, second)


def test_protect_a_workflow_protects_both_prompts_and_nothing_at_strength_0(server, demo_people):
    graph = quick(shipped(server, "2 Protect a workflow"))
    (protect,) = of_kind(graph, "AnonymizeFaces")
    prompts = of_kind(graph, "CLIPTextEncode")
    assert len(prompts) == 2 and all(graph[name]["inputs"]["clip"] == [protect, 0] for name in prompts)
    assert graph[protect]["inputs"]["strength"] == 1
    (protected,) = pictures(server, graph, "SaveImage")
    graph[protect]["inputs"]["strength"] = 0.0
    (at_0,) = pictures(server, graph, "SaveImage")
    (plain,) = pictures(server, unprotected(graph), "SaveImage")
    assert not np.array_equal(protected, plain) and np.array_equal(at_0, plain)


def test_compare_strengths_draws_what_protect_a_workflow_draws_at_each_strength(server, demo_people):
    graph = shipped(server, "3 Compare strengths")
    (compare,) = of_kind(graph, "CompareStrengths")
    told = graph[compare]["inputs"]
    assert told["strengths"] == "0, 0.5, 0.75, 1" and told["prefix_1"] == NEWEST
    told |= {"steps": 2, "cfg": 2.0, "prompts": "A close-up portrait of Alma Orlick"}
    outputs = server.run(graph)["outputs"]
    labels = outputs[compare]["labels"]
    assert labels == ["without", "strength 0.5", "strength 0.75", "strength 1"]
    columns = [np.asarray(Image.open(io.BytesIO(server.image(picture)))) for picture in outputs[compare]["compared"]]
    assert all(not np.array_equal(*pair) for pair in combinations(columns, 2))
    for column, strength in zip(columns, (0.0, 0.5, 0.75, 1.0), strict=True):
        protect = quick(shipped(server, "2 Protect a workflow"))
        (name,) = of_kind(protect, "AnonymizeFaces")
        protect[name]["inputs"]["strength"] = strength
        assert np.array_equal(column, pictures(server, protect, "SaveImage")[0])
    (grid,) = (outputs[name]["images"] for name in of_kind(graph, "PreviewImage"))
    with Image.open(io.BytesIO(server.image(grid[0]))) as picture:
        assert picture.width > 4 * columns[0].shape[1] and np.asarray(picture).std() > 20


def test_describe_people_then_train_learns_on_the_list_that_was_read(server, tidy):
    graph = shipped(server, "7 Describe people, then train")
    (train,), (describe,) = of_kind(graph, "TrainAnonymizationPrefix"), of_kind(graph, "DescribePeople")
    graph[train]["inputs"] |= QUICK
    outputs = server.run(graph)["outputs"]
    assert "people described from 96 pictures" in outputs[describe]["text"][0]
    lines = next(
        outputs[name]["text"][0] for name in of_kind(graph, "PreviewAny") if ": a person" in outputs[name]["text"][0]
    )
    saved = load_prefix(server.prefix_folder / "described people.safetensors")
    assert len(lines.splitlines()) == saved.record.identities == 48


@pytest.mark.slow
def test_train_on_your_own_checkpoint_learns_with_the_nodes_defaults_and_saves(server, checkpoint):
    graph = shipped(server, "6 Train on your own checkpoint")
    (train,), (people,) = of_kind(graph, "TrainAnonymizationPrefix"), of_kind(graph, "IdentityList")
    asked = server.object_info()["TrainAnonymizationPrefix"]["input"]
    defaults = {name: spec[1].get("default") for kind in ("required", "optional") for name, spec in asked[kind].items()}
    settings = {name: value for name, value in graph[train]["inputs"].items() if not isinstance(value, list)}
    assert settings == {name: defaults[name] for name in settings} and settings["width"] == 0

    # The text encoder is as large as a real one: learning from it alone takes half a minute a step here, and reading
    # what a gate is fitted to a minute.
    graph[train]["inputs"] |= QUICK | {"text_steps": 0, "conditional": False}
    kinds = graph[people]["inputs"]["text"].splitlines()
    assert all(line.startswith("# ") for line in kinds), "whom to learn from is the artist's choice"
    graph[people]["inputs"]["text"] = "\n".join([*kinds[:2], *(line.removeprefix("# ") for line in kinds[2:4])])
    outputs = server.run(graph)["outputs"]
    learned = load_prefix(server.prefix_folder / "my people.safetensors")
    assert learned.record.family == "SD15" and learned.length == 16 and learned.vectors["l"].shape[1] == 768
    assert learned.record.identities == 2 and learned.record.steps == 2
    (report,) = of_kind(graph, "PreviewAny")
    assert "2 people in 2 steps" in outputs[report]["text"][0]


@pytest.mark.parametrize("name", NAMES)
def test_the_template_browser_shows_the_workflow_with_a_thumbnail(server, name):
    listed = requests.get(f"{server.url}/workflow_templates", timeout=60).json()
    assert name in listed[EXTENSION]
    # The frontend asks for this address; there is no other way to name a thumbnail.
    answer = requests.get(f"{server.url}/api/workflow_templates/{EXTENSION}/{quote(name)}.jpg", timeout=60)
    assert int(name.split()[0]) == 1 + NAMES.index(name), "they are numbered in the order in which they are of use"
    assert answer.status_code == 200 and len(answer.content) < LARGEST_THUMBNAIL
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "JPEG" and picture.width == picture.height >= 256
        assert np.asarray(picture.convert("L")).std() > 10
