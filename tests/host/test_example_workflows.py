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

from anonymize_faces.benchmarks._sd1 import write_checkpoint
from anonymize_faces.prefix import load_prefix, save_prefix
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import EXTENSION, ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

EXAMPLES = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
DEMO_PEOPLE = "demo people.safetensors"
LARGEST_THUMBNAIL = 40_000
QUICK = {
    "general_prompts": "a red circle",
    "text_steps": 1,
    "steps": 2,
    "batch_size": 2,
    "portraits_per_identity": 1,
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
    graph = shipped(server, "Train on your own checkpoint")
    (loader,) = of_kind(graph, "CheckpointLoaderSimple")
    path = write_checkpoint(server.model_folder("checkpoints") / graph[loader]["inputs"]["ckpt_name"])
    yield path
    path.unlink()


def test_train_on_the_demo_model_saves_the_file_that_the_others_choose(server, tidy):
    graph = shipped(server, "Train on the demo model")
    (train,), (people,) = of_kind(graph, "TrainAnonymizationPrefix"), of_kind(graph, "IdentityList")
    graph[train]["inputs"] |= QUICK
    graph[people]["inputs"]["text"] = "\n".join(graph[people]["inputs"]["text"].splitlines()[:2])
    (server.prefix_folder / DEMO_PEOPLE).unlink(missing_ok=True)
    server.run(graph)
    assert load_prefix(server.prefix_folder / DEMO_PEOPLE).record.identities == 2
    for name in ("Protect a workflow", "Compare strengths"):
        other = shipped(server, name)
        assert {other[node]["inputs"]["prefix"] for node in of_kind(other, "AnonymizeFaces")} == {DEMO_PEOPLE}


def test_protect_a_workflow_protects_both_prompts_and_nothing_at_strength_0(server, demo_people):
    graph = quick(shipped(server, "Protect a workflow"))
    (protect,) = of_kind(graph, "AnonymizeFaces")
    prompts = of_kind(graph, "CLIPTextEncode")
    assert len(prompts) == 2 and all(graph[name]["inputs"]["clip"] == [protect, 0] for name in prompts)
    assert graph[protect]["inputs"]["strength"] == 1
    (protected,) = pictures(server, graph, "SaveImage")
    graph[protect]["inputs"]["strength"] = 0.0
    (at_0,) = pictures(server, graph, "SaveImage")
    (plain,) = pictures(server, unprotected(graph), "SaveImage")
    assert not np.array_equal(protected, plain) and np.array_equal(at_0, plain)


def test_compare_strengths_draws_the_same_picture_at_four_strengths(server, demo_people):
    graph = quick(shipped(server, "Compare strengths"))
    nodes = load_workflow(EXAMPLES / "Compare strengths.json")["nodes"]
    titles = {str(node["id"]): node.get("title") for node in nodes}
    seeds, prompts, strengths = [], [], []
    for preview in of_kind(graph, "PreviewImage"):
        decode = graph[graph[preview]["inputs"]["images"][0]]["inputs"]
        sampling = graph[decode["samples"][0]]["inputs"]
        positive, negative = (graph[sampling[key][0]]["inputs"] for key in ("positive", "negative"))
        assert positive["clip"] == negative["clip"]
        strengths.append(graph[positive["clip"][0]]["inputs"]["strength"])
        assert titles[preview] == titles[positive["clip"][0]] == f"strength {strengths[-1]:g}"
        seeds.append(sampling["seed"])
        prompts.append(positive["text"])
    assert strengths == [0, 0.5, 0.75, 1]
    assert all(seed == seeds[0] for seed in seeds) and all(prompt == prompts[0] for prompt in prompts)

    drawn = pictures(server, graph, "PreviewImage")
    assert all(not np.array_equal(*pair) for pair in combinations(drawn, 2))
    assert np.array_equal(drawn[0], pictures(server, unprotected(graph), "PreviewImage")[0])


@pytest.mark.slow
def test_train_on_your_own_checkpoint_learns_with_the_nodes_defaults_and_saves(server, checkpoint):
    graph = shipped(server, "Train on your own checkpoint")
    (train,), (people,) = of_kind(graph, "TrainAnonymizationPrefix"), of_kind(graph, "IdentityList")
    asked = server.object_info()["TrainAnonymizationPrefix"]["input"]
    defaults = {name: spec[1].get("default") for kind in ("required", "optional") for name, spec in asked[kind].items()}
    settings = {name: value for name, value in graph[train]["inputs"].items() if not isinstance(value, list)}
    assert settings == {name: defaults[name] for name in settings} and settings["width"] == 0

    # The text encoder is as large as a real one: learning from it alone takes half a minute a step here.
    graph[train]["inputs"] |= QUICK | {"text_steps": 0}
    graph[people]["inputs"]["text"] = "\n".join(graph[people]["inputs"]["text"].splitlines()[:3])
    outputs = server.run(graph)["outputs"]
    learned = load_prefix(server.prefix_folder / "my people.safetensors")
    assert learned.record.family == "SD15" and learned.length == 10 and learned.vectors["l"].shape[1] == 768
    assert learned.record.identities == 2 and learned.record.steps == 2
    (report,) = of_kind(graph, "PreviewAny")
    assert "2 people in 2 steps" in outputs[report]["text"][0]


@pytest.mark.parametrize("name", NAMES)
def test_the_template_browser_shows_the_workflow_with_a_thumbnail(server, name):
    listed = requests.get(f"{server.url}/workflow_templates", timeout=60).json()
    assert name in listed[EXTENSION]
    # The frontend asks for this address; there is no other way to name a thumbnail.
    answer = requests.get(f"{server.url}/api/workflow_templates/{EXTENSION}/{quote(name)}.jpg", timeout=60)
    assert answer.status_code == 200 and len(answer.content) < LARGEST_THUMBNAIL
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "JPEG" and picture.width == picture.height >= 256
        assert np.asarray(picture.convert("L")).std() > 10
