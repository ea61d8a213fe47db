"""Measuring in a real ComfyUI: the node, the shipped workflow, and hundreds of odd pictures."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw_all, picture_of
from anonymize_faces.faces.facenet import VGGFACE2
from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.facenet_weights import random_weights
from anonymize_faces.tests.support.offline_host import OfflineHost
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

FACENET, READER = "facenet", "demo reader"
ODD_PICTURES, MEASURED_AT_LEAST = 208, 170
GROUP = 8
"""Odd pictures that are measured together."""


@pytest.fixture(scope="module")
def weights(server: ComfyServer) -> Path:
    """Random weights in the server's models/facenet."""
    path = server.model_folder("facenet") / VGGFACE2.name
    torch.save(random_weights(), path)
    return path


@pytest.fixture(scope="module")
def astronaut(server: ComfyServer) -> str:
    """The photograph in the server's input folder."""
    from skimage import data

    return put(server, "astronaut.png", data.astronaut())


def put(server: ComfyServer, name: str, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(server.workspace / "input" / name)
    return name


def load(name: str) -> dict:
    return {"class_type": "LoadImage", "inputs": {"image": name}}


def measuring(plain: str, anonymized: str, recognizer: str, reference: str | None = None) -> dict:
    """Measures two pictures of the input folder, and shows report and similarity."""
    inputs = {"plain": ["plain", 0], "anonymized": ["anonymized", 0], "recognizer": recognizer}
    graph = {"plain": load(plain), "anonymized": load(anonymized)}
    if reference is not None:
        graph["reference"] = load(reference)
        inputs["reference"] = ["reference", 0]
    return graph | {
        "measure": {"class_type": "MeasureAnonymization", "inputs": inputs},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["measure", 0]}},
        "plot": {"class_type": "PreviewImage", "inputs": {"images": ["measure", 1]}},
        "similarity": {"class_type": "PreviewAny", "inputs": {"source": ["measure", 2]}},
    }


def outcome(server: ComfyServer, graph: dict) -> tuple[str, float]:
    """The report and the similarity."""
    outputs = server.run(graph)["outputs"]
    assert outputs["measure"]["text"] == outputs["report"]["text"]
    return outputs["report"]["text"][0], float(outputs["similarity"]["text"][0])


@pytest.fixture(scope="module")
def people(server: ComfyServer) -> list[str]:
    """Two pictures of one of the demo's people, and one of another."""
    rng = np.random.default_rng(8)
    pictures = draw_all([picture_of(rng, cast()[who], who) for who in (0, 0, 20)])
    return [put(server, f"person{number}.png", pixels) for number, pixels in enumerate(pictures)]


def test_the_node_tells_one_person_from_another(server, people):
    told, similarity = outcome(server, measuring(people[0], people[1], READER))
    assert told.startswith("Not protected") and similarity > 0.9
    told, similarity = outcome(server, measuring(people[0], people[2], READER))
    assert told.startswith("Protected") and similarity < 0.9


def test_the_node_compares_with_reference_photos(server, people):
    told, _ = outcome(server, measuring(people[0], people[2], READER, people[1]))
    assert "1 face recognized as one of them before, 0 still are after" in told


def test_the_node_shows_its_plot_and_its_words(server, people):
    outputs = server.run(measuring(people[0], people[2], READER) | {"again": load(people[1])})["outputs"]
    plots = [
        np.asarray(Image.open(io.BytesIO(server.image(outputs[node]["images"][0])))) for node in ("measure", "plot")
    ]
    assert plots[0].shape[1] == 960 and np.array_equal(*plots)
    assert "Recognized means a similarity of at least 0.900" in outputs["measure"]["text"][0]


def test_a_photograph_is_recognized_as_itself_by_facenet(server, weights, astronaut):
    told, similarity = outcome(server, measuring(astronaut, astronaut, FACENET))
    assert similarity == pytest.approx(1, abs=1e-4) and told.startswith("Not protected: the one face")
    assert "0.379" in told and "1503.03832" in told and "facenet (VGGFace2, weights" in told


def test_a_picture_without_a_face_is_a_finding(server, weights, astronaut):
    empty = put(server, "empty.png", np.full((64, 64, 3), 90, np.uint8))
    told, similarity = outcome(server, measuring(astronaut, empty, FACENET))
    assert told.startswith("No face is left") and np.isnan(similarity)
    told, _ = outcome(server, measuring(empty, astronaut, FACENET))
    assert told.startswith("Not measured")


def test_wrong_weights_are_refused_and_right_ones_work_after(server, weights, astronaut):
    kept = weights.with_suffix(".kept")
    weights.replace(kept)
    try:
        weights.write_bytes(kept.read_bytes()[:100_000])
        with pytest.raises(WorkflowError, match=r"cannot be used.*Remove it") as failure:
            server.run(measuring(astronaut, astronaut, FACENET))
        assert failure.value.node_id == "measure"
    finally:
        kept.replace(weights)
    assert outcome(server, measuring(astronaut, astronaut, FACENET) | {"again": load("person0.png")})[1] > 0.99


def test_a_picture_that_is_broken_off_is_measured_as_what_is_left_of_it(server, weights, astronaut):
    whole = (server.workspace / "input" / astronaut).read_bytes()
    (server.workspace / "input" / "broken off.png").write_bytes(whole[:5000])
    told, _ = outcome(server, measuring("broken off.png", astronaut, FACENET))
    assert told.startswith("Not measured: no face was found")


def test_a_corrupt_picture_is_an_error_and_the_server_goes_on(server, weights, astronaut):
    (server.workspace / "input" / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"?" * 500)
    with pytest.raises(WorkflowError) as failure:
        server.run(measuring("corrupt.png", astronaut, FACENET))
    assert failure.value.node_id == "plain"
    assert server.object_info()


def test_the_shipped_workflow_measures_a_prefix_that_is_there(server, tidy):
    save_prefix(demo_prefix(), server.prefix_folder / "demo people.safetensors", overwrite=True)
    workflow = load_workflow(ROOT / "example_workflows" / "4 Measure before and after.json")
    graph = workflow_to_prompt(workflow, server.object_info())
    kinds = {node["class_type"]: name for name, node in graph.items()}
    assert "TrainAnonymizationPrefix" not in kinds
    graph[kinds["EmptyLatentImage"]]["inputs"]["batch_size"] = 3
    (told,) = server.run(graph)["outputs"][kinds["MeasureAnonymization"]]["text"]
    assert "Face retention" in told and "tests/" not in told and "Still recognized  " in told and "demo reader" in told


def odd_picture(rng: np.random.Generator, number: int, folder: Path, face: Image.Image) -> str:
    """Writes a picture of an odd size, kind, content or format; some are broken off."""
    name = f"odd{number}"
    width, height = (int(side) for side in rng.integers(1 if alone(number) else 8, 96, 2))
    if alone(number) and rng.random() < 0.5:
        width, height = (1, int(rng.integers(1, 600))) if rng.random() < 0.5 else (int(rng.integers(1, 600)), 1)
    content = rng.integers(4)
    if content == 0:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    elif content == 1:
        image = Image.new("RGB", (width, height), tuple(map(int, rng.integers(0, 256, 3))))
    else:
        image = face.rotate(float(rng.choice([0, 0, 10, 90, 180, 270]))).resize((width, height))
    modes = ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16", "F"] if alone(number) else ["RGB", "RGBA"]
    mode = str(rng.choice(modes))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    else:
        image = image.convert("L").convert(mode) if mode in ("LA", "F") else image.convert(mode)
    suffix = {"CMYK": "jpg", "F": "tiff", "I;16": "png"}.get(mode) or str(
        rng.choice(["png", "webp"] if alone(number) else ["png"])
    )
    path = folder / f"{name}.{suffix}"
    image.save(path)
    if alone(number) and rng.random() < 0.2:
        whole = path.read_bytes()
        path.write_bytes(whole[: int(rng.integers(0, len(whole)))])
    return path.name


def alone(number: int) -> bool:
    """Whether this picture's group is not made a batch, which hosts cannot do with strips and broken files."""
    return number // GROUP % 5 == 0


def odd_graphs(names: list[str], recognizer: str, in_pairs: bool) -> Iterator[tuple[dict, int]]:
    """Measures pictures pair by pair, or all as one pair of batches; with each graph the number of its pictures."""
    if in_pairs:
        for pair in zip(names[::2], names[1::2], strict=True):
            yield measuring(*pair, recognizer), 2
        return
    graph = measuring(*names[:2], recognizer)
    for number, name in enumerate(names[2:]):
        side = ("plain", "anonymized")[number % 2]
        graph[f"more{number}"] = load(name)
        images = {"image1": graph["measure"]["inputs"][side], "image2": [f"more{number}", 0]}
        graph[f"both{number}"] = {"class_type": "ImageBatch", "inputs": images}
        graph["measure"]["inputs"][side] = [f"both{number}", 0]
    yield graph, len(names)


def test_hundreds_of_odd_pictures_never_end_the_server(server, weights):
    from skimage import data

    rng = np.random.default_rng(2026)
    face = Image.fromarray(data.astronaut()[20:200, 140:310])
    process, measured, refused = server._process.pid, 0, []
    names = [odd_picture(rng, number, server.workspace / "input", face) for number in range(ODD_PICTURES)]
    waiting = []
    for start in range(0, ODD_PICTURES, GROUP):
        group, recognizer = names[start : start + GROUP], READER if start % (2 * GROUP) else FACENET
        for graph, size in odd_graphs(group, recognizer, alone(start)):
            try:
                waiting.append((server.queue(graph), size))
            except WorkflowError as failure:
                refused.append(failure)
    for prompt, size in waiting:
        try:
            entry = server.wait(prompt)
        except WorkflowError as failure:
            refused.append(failure)
            continue
        assert re.match(r"Protected|Not|No face", entry["outputs"]["measure"]["text"][0])
        measured += size
    assert server._process.poll() is None and server._process.pid == process
    assert measured >= MEASURED_AT_LEAST, refused
    # What is refused is refused by the host's own nodes, as no picture.
    assert "MeasureAnonymization" not in {failure.node_type for failure in refused}, refused


def test_without_facenet_or_its_weights_the_node_says_what_to_do_and_everything_else_works(
    offline: OfflineHost, astronaut: str, server: ComfyServer
) -> None:
    alone = offline.server
    shutil.copy(server.workspace / "input" / astronaut, alone.workspace / "input" / astronaut)
    with pytest.raises(WorkflowError, match=r'not installed: run ".*python.*" ".*install\.py" and start'):
        alone.run(measuring(astronaut, astronaut, FACENET))
    assert {"AnonymizeFaces", "TrainAnonymizationPrefix"} <= alone.object_info().keys()
    assert alone.run(measuring(astronaut, astronaut, READER))["outputs"]["measure"]["text"]

    offline.install_facenet()
    folder = alone.model_folder("facenet")
    with pytest.raises(WorkflowError, match=rf"could not be downloaded.*{VGGFACE2.url}.*'{folder}'"):
        alone.run(measuring(astronaut, astronaut, FACENET))
    assert os.listdir(folder) == []
