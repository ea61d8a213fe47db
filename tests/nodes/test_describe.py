"""Describe Faces and Describe People in a real ComfyUI: what they hand on, and what they refuse."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.demo.world.people import cast, identities
from anonymize_faces.demo.world.renderer import draw_all, picture_of, random_picture
from anonymize_faces.tests.support.tiny_clip import write_tiny_clip
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError
from anonymize_faces.trainer.data.identities import parse_identities

DEMO = {"reader": "demo reader"}
FACES = {
    "certainty": 0.85,
    "attributes": "usual",
    "order": "fixed",
    "style": "sentence",
    "several": "largest",
    "only_photographs": False,
    "seed": 0,
}
PEOPLE = {name: FACES[name] for name in ("certainty", "attributes", "several", "only_photographs")}
WHO = (0, 20, 40)


@pytest.fixture(scope="module")
def photos(server: ComfyServer) -> list[str]:
    """Three of the demo's people in the input folder, one of them in another size, and something that is nobody."""
    rng = np.random.default_rng(17)
    pictures = list(draw_all([picture_of(rng, cast()[number], number) for number in WHO]))
    pictures[1] = pictures[1].repeat(2, 0).repeat(2, 1)
    pictures += list(draw_all([random_picture(rng, "house")]))
    folder = server.workspace / "input" / "people to describe"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{cast()[number].name} 1.png" for number in WHO] + ["IMG_0001.png"]
    for name, pixels in zip(names, pictures, strict=True):
        Image.fromarray(pixels).save(folder / name)
        Image.fromarray(pixels).save(server.workspace / "input" / name)
    (folder / "words.jpg").write_text("words", encoding="utf-8")
    return names


def faces(**inputs: object) -> dict:
    return {"class_type": "DescribeFaces", "inputs": FACES | DEMO | inputs}


def people(**inputs: object) -> dict:
    inputs = {"folder": "the demo's people", "names": ""} | PEOPLE | DEMO | inputs
    return {"class_type": "DescribePeople", "inputs": inputs}


def shown(node: str, slot: int) -> dict:
    return {"class_type": "PreviewAny", "inputs": {"source": [node, slot]}}


def listed(names: list[str]) -> dict:
    """Pictures of any sizes, by a node of the host that hands on a list, from first to last."""
    return {f"load {n}": {"class_type": "LoadImage", "inputs": {"image": name}} for n, name in enumerate(names)}


def run(server: ComfyServer, graph: dict) -> dict:
    return server.run(graph)["outputs"]


def refused(server: ComfyServer, graph: dict) -> str:
    with pytest.raises(WorkflowError) as failed:
        server.run(graph)
    return str(failed.value)


def test_faces_are_described_in_a_list_that_dataset_nodes_take(server, photos):
    folder = "people to describe"
    if "LoadImageDataSetFromFolder" not in server.object_info():
        pytest.skip("this host has no dataset nodes")
    (server.workspace / "input" / folder / "words.jpg").unlink(missing_ok=True)
    graph = {
        "load": {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": folder}},
        "describe": faces(images=["load", 0]),
        "captions": shown("describe", 0),
        "table": shown("describe", 1),
        "crops": {"class_type": "PreviewImage", "inputs": {"images": ["describe", 2]}},
        "save": {
            "class_type": "SaveImageTextDataSetToFolder",
            "inputs": {
                "images": ["describe", 3],
                "texts": ["describe", 0],
                "folder_name": "described",
                "filename_prefix": "face",
            },
        },
    }
    if "mode" in server.object_info()["SaveImageTextDataSetToFolder"]["input"]["required"]:
        graph["save"]["inputs"]["mode"] = "overwrite"  # Newer hosts ask what becomes of files that are there.
    outputs = run(server, graph)
    (report,) = outputs["describe"]["text"]
    assert report.startswith("3 faces described in 4 pictures, by demo reader.") and "no face was found" in report
    captions = outputs["captions"]["text"]
    assert sorted(captions) == sorted(cast()[number].looks.describe() for number in WHO)
    assert len(outputs["crops"]["images"]) == 3
    rows = list(csv.DictReader(io.StringIO(outputs["table"]["text"][0])))
    assert {row["said"] for row in rows if row["attribute"]} == {"yes"}
    saved = sorted(path for path in (server.workspace).rglob("face*.txt") if "described" in path.parts)
    assert [path.read_text(encoding="utf-8") for path in saved] == captions
    sizes = [Image.open(path.with_suffix(".png")).width for path in saved]
    assert len(set(sizes)) == 2, "whole pictures of their own sizes, in the order of the captions"


def test_the_demos_people_become_the_list_that_a_prefix_is_learned_on(server):
    graph = {
        "describe": people(),
        "text": shown("describe", 1),
        "faces": {"class_type": "PreviewImage", "inputs": {"images": ["describe", 3]}},
    }
    outputs = run(server, graph)
    lines = outputs["text"]["text"][0].splitlines()
    true = [f"{one.name}: {one.description}" for one in identities(unseen=(False,))]
    assert len(lines) == len(true) and sum(line in true for line in lines) >= 0.95 * len(true)
    assert len(parse_identities("\n".join(lines))) == len(true)
    assert outputs["describe"]["text"][0].startswith("48 of 48 people described from 96 pictures, by demo reader.")
    assert len(outputs["faces"]["images"]) == len(true)


def test_people_come_from_a_folder_or_from_images_with_names(server, photos):
    folder = server.workspace / "input" / "people to describe"
    (folder / "words.jpg").write_text("words", encoding="utf-8")
    graph = {
        "describe": people(folder=folder.name),
        "text": shown("describe", 1),
        "faces": {"class_type": "PreviewImage", "inputs": {"images": ["describe", 3]}},
    }
    outputs = run(server, graph)
    named = [f"{cast()[number].name}: {cast()[number].looks.describe()}" for number in WHO]
    assert sorted(outputs["text"]["text"][0].splitlines()) == sorted(named)
    (report,) = outputs["describe"]["text"]
    assert "is no picture" in report and "want of a person's name: 1." in report
    assert len(outputs["faces"]["images"]) == len(WHO)

    batch = {
        **listed([photos[0], photos[2]]),
        "batch": {"class_type": "ImageBatch", "inputs": {"image1": ["load 0", 0], "image2": ["load 1", 0]}},
    }
    names = "Ada: Example\nBen Sample"
    graph = {**batch, "describe": people(images=["batch", 0], names=names), "text": shown("describe", 1)}
    assert run(server, graph)["text"]["text"][0].splitlines() == [
        f"Ada Example: {cast()[WHO[0]].looks.describe()}",
        f"Ben Sample: {cast()[WHO[2]].looks.describe()}",
    ]
    graph["describe"]["inputs"]["names"] = "Ada Example"
    assert "2 images and 1 names" in refused(server, graph)


def test_a_clip_model_reads_photographs(server, host, tmp_path):
    from skimage import data

    Image.fromarray(data.astronaut()).save(server.workspace / "input" / "Eileen Example.png")
    graph = {
        **listed(["Eileen Example.png"]),
        "describe": faces(images=["load 0", 0], reader="CLIP", clip_model="tiny", certainty=0.5),
        "captions": shown("describe", 0),
        "crops": {"class_type": "PreviewImage", "inputs": {"images": ["describe", 2]}},
    }
    told = refused(server, graph)
    assert "no CLIP model in" in told and "zero_shot_clip" in told and "model.safetensors" in told
    where = server.model_folder("zero_shot_clip")
    write_tiny_clip(tmp_path / "tiny", host)
    shutil.copytree(tmp_path / "tiny", where / "tiny")
    outputs = run(server, graph)
    assert outputs["captions"]["text"][0].startswith("a ")
    with Image.open(io.BytesIO(server.image(outputs["crops"]["images"][0]))) as crop:
        assert 200 < crop.width == crop.height < 280
    for name in ("../tiny", "a/b", "..", ""):
        graph["describe"]["inputs"]["clip_model"] = name
        assert "names no folder" in refused(server, graph)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"reader": "vision language model"}, "No language model is connected"),
        ({"reword": True}, "No language model is connected"),
        ({"only_photographs": True}, "cannot tell photographs"),
        ({"attributes": "nose"}, "no attribute 'nose'"),
        ({"images": ["load 1", 0]}, "No face could be described (no face was found)"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(server, photos, inputs, words):
    graph = {**listed([photos[0], photos[3]]), "describe": faces(**{"images": ["load 0", 0], **inputs})}
    assert words in refused(server, graph)


def test_the_text_encoder_of_a_checkpoint_is_no_language_model(server, photos):
    graph = {
        **listed(photos[:1]),
        "model": {"class_type": "LoadDemoModel", "inputs": {}},
        "describe": faces(images=["load 0", 0], reader="vision language model", language_model=["model", 1]),
    }
    told = refused(server, graph)
    assert "writes no text" in told or "reads no pictures" in told


def test_a_list_where_one_value_belongs_is_refused(server, photos):
    folder = Path(server.workspace / "input" / "people to describe")
    (folder / "words.jpg").unlink(missing_ok=True)
    if "LoadImageDataSetFromFolder" not in server.object_info():
        pytest.skip("this host has no dataset nodes")
    graph = {
        "load": {"class_type": "LoadImageDataSetFromFolder", "inputs": {"folder": folder.name}},
        "first": faces(images=["load", 0]),
        "second": faces(images=["load", 0], attributes=["first", 0]),
    }
    assert "takes one value and was given a list of 3" in refused(server, graph)
