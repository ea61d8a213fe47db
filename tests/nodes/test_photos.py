"""Protecting photos, and measuring how well it holds, in a real ComfyUI."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw_all, picture_of
from anonymize_faces.tests.support.training_workflow import node
from anonymize_faces.tools.comfy_server import ComfyServer, ServerProgress, WorkflowError, WorkflowInterruptedError
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

MODEL = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2]}
PROTECTING = {
    "budget": 8,
    "method": "encoder + prompts",
    "steps": 2,
    "withstand": "re-saving and resizing",
    "seed": 0,
    "width": 64,
    "height": 64,
}
MEASURING = {
    "recognizer": "demo reader",
    "attacker": "full",
    "purification": "JPEG 75",
    "steps": 2,
    "images_per_prompt": 1,
    "seed": 0,
    "width": 64,
    "height": 64,
    "prompts": "a face of sks person",
}


@pytest.fixture(scope="module")
def photos(server: ComfyServer) -> list[str]:
    """Two pictures of one of the demo's people in the server's input folder, and one of 50 by 80 pixels."""
    rng = np.random.default_rng(4)
    pictures = draw_all([picture_of(rng, cast()[3], 3) for _ in range(3)])
    names = [f"photo{number}.png" for number in range(3)]
    for name, pixels in zip(names, pictures, strict=True):
        image = Image.fromarray(pixels)
        image = image.resize((50, 80)) if name == names[2] else image
        image.save(server.workspace / "input" / name)
    return names


def loaded(names: list[str]) -> dict[str, Any]:
    """Loads pictures of the input folder as one batch, `photos`."""
    graph = {f"file{number}": node("LoadImage", image=name) for number, name in enumerate(names)}
    if len(names) == 1:
        return {"photos": graph["file0"]}
    return graph | {"photos": node("ImageBatch", image1=["file0", 0], image2=["file1", 0])}


def protecting(names: list[str], **inputs: Any) -> dict[str, Any]:
    return loaded(names) | {
        "load": node("LoadDemoModel"),
        "protect": node("ProtectPhotos", photos=["photos", 0], **MODEL, **(PROTECTING | inputs)),
        "save": node("SaveImage", images=["protect", 0], filename_prefix="protected"),
        "difference": node("PreviewImage", images=["protect", 2]),
    }


def measuring(names: list[str], protected: list[str], **inputs: Any) -> dict[str, Any]:
    other = {f"{name}b": entry for name, entry in loaded(protected).items()}
    for entry in other.values():
        wired = {key: [f"{value[0]}b", 0] for key, value in entry["inputs"].items() if isinstance(value, list)}
        entry["inputs"] |= wired
    sockets = {"original": ["photos", 0], "protected": ["photosb", 0], **MODEL}
    return (
        loaded(names)
        | other
        | {
            "load": node("LoadDemoModel"),
            "measure": node("MeasurePhotoProtection", **(sockets | MEASURING | inputs)),
            "pictures": node("PreviewImage", images=["measure", 1]),
            "recognized": node("PreviewAny", source=["measure", 3]),
        }
    )


def pictures(server: ComfyServer, entry: Any, node_id: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(server.image(shown)))) for shown in entry["outputs"][node_id]["images"]]


def original(server: ComfyServer, name: str) -> np.ndarray:
    return np.asarray(Image.open(Path(server.workspace) / "input" / name).convert("RGB"))


def test_the_saved_file_is_within_the_budget_and_the_node_says_what_it_is_worth(
    server: ComfyServer, photos: list[str]
) -> None:
    entry = server.run(protecting(photos[:2]))
    files = pictures(server, entry, "save")
    changes = [
        np.abs(file.astype(int) - original(server, name)).max() for file, name in zip(files, photos, strict=False)
    ]
    assert len(files) == 2 and all(0 < change <= 8 for change in changes)
    (told,) = entry["outputs"]["protect"]["text"]
    assert "2 photos changed by at most 8 of 255 levels" in told and "IP-Adapter" in told and "PNG" in told
    # As the host does, which names the files in what it saves.
    saved = Image.open(io.BytesIO(server.image(entry["outputs"]["save"]["images"][0])))
    assert photos[0] in saved.info["prompt"] and "start ComfyUI with --disable-metadata" in told
    assert pictures(server, entry, "difference")[0].shape == original(server, photos[0]).shape
    assert "face" not in told.split("Save as PNG")[0]


def test_a_photo_without_a_face_is_protected_and_told_of(server: ComfyServer, photos: list[str]) -> None:
    """Grey from edge to edge beside a portrait: somebody may have taken the wrong file."""
    Image.new("RGB", (96, 96), (90, 90, 90)).save(server.workspace / "input" / "grey.png")
    entry = server.run(protecting([photos[0], "grey.png"], method="random"))
    (told,) = entry["outputs"]["protect"]["text"]
    assert "No face was found in photo 2: " in told and len(pictures(server, entry, "save")) == 2


def test_a_single_photo_of_another_size_with_a_mask_and_a_target(server: ComfyServer, photos: list[str]) -> None:
    graph = protecting(photos[2:], method="encoder", mask=["mask", 0], pull_towards=["target", 0])
    graph["mask"] = node("SolidMask", value=1.0, width=50, height=80)
    graph["target"] = node("LoadImage", image=photos[0])
    (file,) = pictures(server, server.run(graph), "save")
    assert file.shape == (80, 50, 3) and (file != original(server, photos[2])).mean() > 0.3


def test_an_attack_is_measured_and_leaves_the_model_as_it_was(server: ComfyServer, photos: list[str]) -> None:
    drawing = {
        "load": node("LoadDemoModel"),
        "prompt": node("CLIPTextEncode", clip=["load", 1], text="a person"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "draw": node(
            "KSampler",
            model=["load", 0],
            positive=["prompt", 0],
            negative=["prompt", 0],
            latent_image=["latent", 0],
            seed=3,
            steps=2,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["draw", 0], vae=["load", 2]),
        "picture": node("PreviewImage", images=["decode", 0]),
    }
    before = pictures(server, server.run(drawing), "picture")
    entry = server.run(measuring(photos[:2], photos[1::-1], purification="VAE round trip"))
    (told,) = entry["outputs"]["measure"]["text"]
    assert "VAE round trip" in told and "recognized" in told and "cannot be strengthened later" in told
    assert 0 <= float(entry["outputs"]["recognized"]["text"][0]) <= 1
    run = requests.get(f"{server.url}/anonymize_faces/training", timeout=60).json()["run"]
    assert (run["node_id"], run["kind"], run["state"], run["done"]) == ("measure", "fine-tuning", "finished", 4)
    assert run["curve"]["steps"] == [1, 2, 3, 4] and run["plan"]["steps"] == 2
    assert pictures(server, entry, "pictures")[0].shape[1] > 300
    drawing["draw"]["inputs"]["denoise"] = 0.99999  # Else the host would not draw anew.
    assert np.array_equal(before[0], pictures(server, server.run(drawing), "picture")[0])


@pytest.mark.parametrize("attacker", ["LoRA", "embedding"])
def test_other_attackers_run(server: ComfyServer, photos: list[str], attacker: str) -> None:
    entry = server.run(measuring(photos[:1], photos[1:2], attacker=attacker, purification="none"))
    assert f"Attacker: {attacker}" in entry["outputs"]["measure"]["text"][0]


def test_as_many_protected_photos_as_originals_are_asked_for(server: ComfyServer, photos: list[str]) -> None:
    with pytest.raises(WorkflowError, match="2 original photos and 1 protected") as failed:
        server.run(measuring(photos[:2], photos[:1]))
    assert failed.value.node_id == "measure"


def test_photos_without_a_face_or_too_small_are_the_nodes_errors(server: ComfyServer) -> None:
    folder = server.workspace / "input"
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "nobody.png")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "tiny.png")
    with pytest.raises(WorkflowError, match="No face was found in the original photos") as failed:
        server.run(measuring(["nobody.png"], ["nobody.png"]))
    assert failed.value.node_id == "measure"
    with pytest.raises(WorkflowError, match="too small to show a face") as failed:
        server.run(protecting(["tiny.png"]))
    assert failed.value.node_id == "protect"


def test_cancel_stops_it_and_it_goes_on_where_it_was(server: ComfyServer, photos: list[str]) -> None:
    seen: list[float] = []

    def cancel(progress: ServerProgress) -> None:
        seen.append(progress.value)
        if len(seen) == 4:
            server.interrupt()

    graph = protecting(photos[:1], method="encoder", steps=300, seed=9)
    with pytest.raises(WorkflowInterruptedError):
        server.wait(server.queue(graph), on_progress=cancel)
    kept = server.workspace / "user" / "__anonymize_faces" / "photos"
    assert len([run for run in kept.iterdir() if not (run / "done").exists()]) == 1
    graph["protect"]["inputs"]["steps"] = 2
    server.run(graph)


@pytest.mark.parametrize("name", ["8 Protect photos", "9 Measure how photos are protected"])
def test_the_shipped_workflow_runs(server: ComfyServer, name: str) -> None:
    graph = workflow_to_prompt(load_workflow(ROOT / "example_workflows" / f"{name}.json"), server.object_info())
    kinds = {entry["class_type"]: key for key, entry in graph.items()}
    for kind, quick in {
        "KSampler": {"steps": 4},
        "EmptyLatentImage": {"batch_size": 2},
        "ProtectPhotos": {"steps": 2},
        "MeasurePhotoProtection": {"steps": 2, "images_per_prompt": 1},
    }.items():
        if kind in kinds:
            graph[kinds[kind]]["inputs"] |= quick
    outputs = server.run(graph)["outputs"]
    assert "2 photos changed" in outputs[kinds["ProtectPhotos"]]["text"][0]
