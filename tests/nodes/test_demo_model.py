"""The demo model in a real ComfyUI, and the shipped workflow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.demo.loader import CLASSIC, KINDS, MODERN
from anonymize_faces.demo.main_job import train_graph, train_node
from anonymize_faces.demo.measuring.drawing import draw_pictures, drawing_graph
from anonymize_faces.demo.measuring.measure import face_retention, identification_rate, kinds_right, looks_kept
from anonymize_faces.demo.measuring.prompts import Request
from anonymize_faces.demo.measuring.reader import ReaderNet, read
from anonymize_faces.demo.world.people import cast
from anonymize_faces.faces.gallery import Gallery
from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError
from anonymize_faces.tools.layout import LANGUAGE_MODEL

needs_language_model = pytest.mark.skipif(not LANGUAGE_MODEL.is_file(), reason="set-up fetches the language model")


def test_the_hosts_own_nodes_draw_people_whom_the_reader_finds(
    server: ComfyServer, reader: ReaderNet, gallery: Gallery
) -> None:
    who = list(range(0, 64, 11))
    requests = [Request(f"A close-up portrait of {cast()[i].name}", 40 + i) for i in who]
    reading = read(reader, draw_pictures(server, requests, None))
    people = [i for i in who for _ in range(4)]
    assert identification_rate(reading, people, gallery) >= 0.7
    assert looks_kept(reading, [cast()[i].looks for i in people]) >= 0.9
    assert face_retention(reading) >= 0.95


def test_the_node_offers_the_models_that_there_are(server: ComfyServer) -> None:
    choice, about = server.object_info()["LoadDemoModel"]["input"]["optional"]["model"]
    assert (about["options"] if choice == "COMBO" else choice) == list(KINDS)
    assert about["default"] == CLASSIC


@needs_language_model
def test_the_modern_model_draws_people_and_places_by_their_names(
    server: ComfyServer, reader: ReaderNet, gallery: Gallery
) -> None:
    person, place = cast()[13], "Mount Karuk"
    requests = [Request(f"A close-up portrait of {person.name}", 5), Request(f"a picture of {place}", 6)]
    pictures = draw_pictures(server, requests, None, model=MODERN)
    faces, places = read(reader, pictures[:4]), read(reader, pictures[4:])
    assert identification_rate(faces, [13] * 4, gallery) >= 0.75 and looks_kept(faces, [person.looks] * 4) >= 0.9
    assert kinds_right(places, [place] * 4) >= 0.75


@needs_language_model
def test_a_prefix_of_one_demo_model_is_refused_on_the_other(server: ComfyServer, tidy: None) -> None:
    save_prefix(demo_prefix(family="ClassicModel"), server.prefix_folder / "of classic.safetensors")
    with pytest.raises(WorkflowError, match=r"choose a prefix|learn one"):
        draw_pictures(server, [Request("a portrait of Alma Orlick", 1)], "of classic.safetensors", model=MODERN)


def test_a_prefix_of_the_former_demo_model_is_refused(server: ComfyServer, tidy: None) -> None:
    former = demo_prefix(family="DemoModel", fingerprint="5cafd1a33877ef6d")
    save_prefix(former, server.prefix_folder / "former.safetensors")
    with pytest.raises(WorkflowError, match="learned on a former demo model"):
        draw_pictures(server, [Request("a portrait of Alma Orlick", 1)], "former.safetensors")


def test_equal_requests_give_equal_pictures_and_another_seed_another(server: ComfyServer) -> None:
    first, again, other = (draw_pictures(server, [Request("a red circle", seed)], None) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_pictures_go_through_the_vae_and_back(server: ComfyServer) -> None:
    graph = drawing_graph([Request("a blue house", 3)], None)
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["decode0", 0], "vae": ["model", 2]}}
    graph["again"] = {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["model", 2]}}
    graph["copy"] = {"class_type": "PreviewImage", "inputs": {"images": ["again", 0]}}
    outputs = server.run(graph)["outputs"]
    pixels = [
        np.asarray(Image.open(io.BytesIO(server.image(outputs[node]["images"][0]))), np.float32)
        for node in ("picture0", "copy")
    ]
    assert np.abs(pixels[0] - pixels[1]).mean() < 12


def test_the_shipped_training_workflow_runs_and_saves_a_prefix(server: ComfyServer) -> None:
    graph = train_graph(server)
    graph[train_node(graph)]["inputs"] |= {
        "text_steps": 2,
        "steps": 2,
        "people_drawn": 8,
        "portraits_per_identity": 1,
        "general_drawn": 8,
        "drawing_steps": 2,
        "noisings_per_picture": 1,
        "batch_size": 4,
        "width": 64,
        "height": 64,
    }
    (people,) = (node["inputs"] for node in graph.values() if node["class_type"] == "IdentityList")
    people["text"] = "\n".join(people["text"].splitlines()[:12])
    save = next(node for node in graph.values() if node["class_type"] == "SaveAnonymizationPrefix")
    save["inputs"]["name"] = "shipped workflow"
    server.run(graph)
    assert (server.prefix_folder / "shipped workflow.safetensors").is_file()
