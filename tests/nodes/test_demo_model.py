"""The demo model in a real ComfyUI, and the shipped workflow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anonymize_faces.demo.main_job import Request, draw_pictures, drawing_graph, train_graph, train_node
from anonymize_faces.demo.measure import face_retention, identification_rate, looks_kept
from anonymize_faces.demo.reader import ReaderNet, read
from anonymize_faces.demo.world.people import cast
from anonymize_faces.faces.gallery import Gallery
from anonymize_faces.tools.comfy_server import ComfyServer


def test_the_hosts_own_nodes_draw_people_whom_the_reader_finds(
    server: ComfyServer, reader: ReaderNet, gallery: Gallery
) -> None:
    who = list(range(0, 64, 8))
    requests = [Request(f"A close-up portrait of {cast()[i].name}", 40 + i) for i in who]
    reading = read(reader, draw_pictures(server, requests, None))
    people = [i for i in who for _ in range(4)]
    assert identification_rate(reading, people, gallery) >= 0.7
    assert looks_kept(reading, [cast()[i].looks for i in people]) >= 0.9
    assert face_retention(reading) >= 0.95


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
    }
    save = next(node for node in graph.values() if node["class_type"] == "SaveAnonymizationPrefix")
    save["inputs"]["name"] = "shipped workflow"
    server.run(graph)
    assert (server.prefix_folder / "shipped workflow.safetensors").is_file()
