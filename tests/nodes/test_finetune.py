"""Fine-tuning on captions in a real ComfyUI: our node, and the host's own dataset and LoRA nodes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from safetensors.torch import load_file

from anonymize_faces.demo.world.people import cast
from anonymize_faces.demo.world.renderer import draw_all, picture_of
from anonymize_faces.tests.support.training_workflow import followed, node
from anonymize_faces.tools.comfy_server import ComfyServer, ServerProgress, WorkflowError, WorkflowInterruptedError
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

DESCRIBING = {
    "reader": "demo reader", "certainty": 0.85, "attributes": "usual", "order": "varied", "style": "sentence",
    "several": "largest", "only_photographs": False, "seed": 0,
}  # fmt: skip
TUNING = {
    "steps": 2, "batch_size": 2, "rank": 4, "text_encoder": True, "general_pictures": 2, "seed": 0, "width": 64,
    "height": 64, "general_prompts": "a red circle",
}  # fmt: skip
MODEL = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2]}


@pytest.fixture(scope="module")
def described(server: ComfyServer) -> dict[str, Any]:
    """Two portraits, and their descriptions."""
    pictures = draw_all([picture_of(np.random.default_rng(4), cast()[number], number) for number in (3, 9)])
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(server.workspace / "input" / f"described{number}.png")
    return {
        "file0": node("LoadImage", image="described0.png"),
        "file1": node("LoadImage", image="described1.png"),
        "both": node("ImageBatch", image1=["file0", 0], image2=["file1", 0]),
        "describe": node("DescribeFaces", images=["both", 0], **DESCRIBING),
        "load": node("LoadDemoModel"),
    }


def tuning(described: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    wires = {"images": ["describe", 3], "captions": ["describe", 0], **MODEL}
    return described | {"tune": node("FineTuneOnCaptions", **(wires | TUNING | inputs))}


def drawing(name: str, model: Any, clip: Any) -> dict[str, Any]:
    """Draws with a model, and shows that as the node `name`."""
    return {
        f"{name} text": node("CLIPTextEncode", clip=clip, text="a portrait of a person with red hair"),
        f"{name} latent": node("EmptyLatentImage", width=96, height=96, batch_size=1),
        f"{name} sample": node(
            "KSampler", model=model, positive=[f"{name} text", 0], negative=[f"{name} text", 0], seed=1, steps=2,
            cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0, latent_image=[f"{name} latent", 0],
        ),
        f"{name} decode": node("VAEDecode", samples=[f"{name} sample", 0], vae=["load", 2]),
        name: node("PreviewImage", images=[f"{name} decode", 0]),
    }  # fmt: skip


def drawn(server: ComfyServer, entry: Any, name: str) -> np.ndarray:
    (shown,) = entry["outputs"][name]["images"]
    return np.asarray(Image.open(io.BytesIO(server.image(shown)))).astype(int)


def test_a_model_learns_from_descriptions_and_the_saved_file_draws_alike(
    server: ComfyServer, described: dict[str, Any]
) -> None:
    graph = tuning(described, learning_rate=0.02, new_words="hair, glasses")
    graph |= drawing("plain", ["load", 0], ["load", 1]) | drawing("tuned", ["tune", 0], ["tune", 1])
    graph["save"] = node("SaveLoRA", lora=["tune", 2], prefix="loras/captions")
    entry = server.run(graph)
    (told,) = entry["outputs"]["tune"]["text"]
    assert told.startswith("Learned from 2 pictures with captions and 2 that the model drew itself, in 2 steps.")
    plain, tuned = (drawn(server, entry, name) for name in ("plain", "tuned"))
    assert np.abs(plain - tuned).mean() > 1
    (file,) = server.workspace.rglob("captions*.safetensors")
    saved = load_file(file)
    assert {name.partition(".")[0] for name in saved} == {"diffusion_model", "text_encoders"}
    (words,) = (value for name, value in saved.items() if name.endswith("token_embedding.lora_down.weight"))
    assert len(words) == 2 and words.abs().max() > 0.01
    folder = server.model_folder("loras")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.safetensors").write_bytes(file.read_bytes())
    again = {
        "load": node("LoadDemoModel"),
        "lora": node(
            "LoraLoader", model=["load", 0], clip=["load", 1], lora_name="captions.safetensors", strength_model=1.0,
            strength_clip=1.0,
        ),
    } | drawing("again", ["lora", 0], ["lora", 1])  # fmt: skip
    assert np.abs(drawn(server, server.run(again), "again") - tuned).max() <= 2


def test_a_run_is_followed_and_stopped_with_what_it_has_learned(server: ComfyServer, described: dict[str, Any]) -> None:
    seen: list[dict[str, Any]] = []
    answers: list[requests.Response] = []

    def look(progress: ServerProgress) -> None:
        if progress.node_id != "tune":
            return
        seen.append(followed(server))
        if seen[-1]["state"] == "learning" and seen[-1]["done"] >= 3 and not answers:
            answers.append(requests.post(f"{server.url}/anonymize_faces/stop", json={}, timeout=60))

    graph = tuning(described, steps=600, seed=5)
    graph["save"] = node("SaveLoRA", lora=["tune", 2], prefix="loras/stopped")
    prompt_id = server.queue(graph, {"extra_pnginfo": {"workflow": {"id": "of-the-browser"}}})
    entry = server.wait(prompt_id, on_progress=look)
    assert [answer.status_code for answer in answers] == [200]
    whose = {(run["prompt_id"], run["node_id"], run["workflow_id"], run["kind"]) for run in seen if run["done"]}
    assert whose == {(prompt_id, "tune", "of-the-browser", "fine-tuning")}
    states = list(dict.fromkeys(run["state"] for run in seen if run["prompt_id"] == prompt_id))
    assert states[-2:] == ["drawing", "learning"]
    run = followed(server)
    assert run["state"] == "stopped" and 3 <= run["done"] < run["of"] == 600
    assert (
        run["message"] == f"You stopped it at step {run['done']}."
        and run["message"] in (entry["outputs"]["tune"]["text"][0])
    )
    assert run["plan"]["parameters"] > 1000 and run["plan"]["steps"] == 600
    assert run["curve"]["steps"][-1] == run["done"] and all(loss > 0 for loss in run["curve"]["loss"])
    assert list(server.workspace.rglob("stopped*.safetensors"))


def test_a_run_that_is_cancelled_says_so_and_goes_on_where_it_was(
    server: ComfyServer, described: dict[str, Any]
) -> None:
    def cancel(progress: ServerProgress) -> None:
        if progress.node_id == "tune" and followed(server)["state"] == "learning" and followed(server)["done"] >= 2:
            server.interrupt()

    graph = tuning(described, steps=8, seed=6)
    with pytest.raises(WorkflowInterruptedError):
        server.wait(server.queue(graph), on_progress=cancel)
    broken_off = followed(server)
    assert broken_off["state"] == "cancelled" and broken_off["done"] < 8
    (told,) = server.run(graph)["outputs"]["tune"]["text"]
    run = followed(server)
    assert f"went on from step {broken_off['done']}." in told and run["notes"] == told.splitlines()[-1:]
    assert run["state"] == "finished" and run["curve"]["loss"][: broken_off["done"]] == [None] * broken_off["done"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"captions": "a person"}, "There are 2 pictures and 1 captions"),
        (
            {"general_prompts": "# nothing\n", "general_pictures": 0, "images": ["file0", 0], "captions": " "},
            "0 captions",
        ),
        ({"new_words": "hair", "text_encoder": False}, "switch text_encoder on"),
        ({"general_prompts": ["describe", 0]}, "takes one value and was given a list of 2"),
    ],
)
def test_what_cannot_be_learned_from_is_a_sentence(
    server: ComfyServer, described: dict[str, Any], inputs: dict[str, Any], words: str
) -> None:
    with pytest.raises(WorkflowError) as failed:
        server.run(tuning(described, **inputs))
    assert words in failed.value.exception_message


def test_descriptions_go_into_the_hosts_own_dataset_and_lora_nodes(
    server: ComfyServer, described: dict[str, Any]
) -> None:
    known = server.object_info()
    if "MakeTrainingDataset" not in known:
        pytest.skip("this host has no dataset nodes")
    graph = described | {
        "dataset": node(
            "MakeTrainingDataset", images=["describe", 3], texts=["describe", 0], vae=["load", 2], clip=["load", 1]
        ),
        "train": node("TrainLoraNode", model=["load", 0], latents=["dataset", 0], positive=["dataset", 1]),
    }
    info = known["TrainLoraNode"]
    for name, (kind, *options) in info["input"]["required"].items():  # Newer hosts ask for more.
        if name not in graph["train"]["inputs"]:
            about = options[0] if options else {}
            choices = kind if isinstance(kind, list) else about.get("options", [None])
            graph["train"]["inputs"][name] = about.get("default", choices[0])
    graph["train"]["inputs"] |= {"steps": 1, "rank": 2, "training_dtype": "fp32", "lora_dtype": "fp32"}
    graph["save"] = node("SaveLoRA", lora=["train", info["output"].index("LORA_MODEL")], prefix="loras/hosts")
    server.run(graph)
    (file,) = server.workspace.rglob("hosts*.safetensors")
    assert load_file(file)


@pytest.mark.parametrize("name", ["10 Describe faces, then make a dataset", "11 Describe faces, then train a LoRA"])
def test_the_example_runs(server: ComfyServer, name: str) -> None:
    known = server.object_info()
    content = load_workflow(ROOT / "example_workflows" / f"{name}.json")
    if any(one["type"] not in known for one in content["nodes"] if one["type"] != "MarkdownNote"):
        pytest.skip("this host has no dataset nodes")
    graph = workflow_to_prompt(content, known)
    for one in graph.values():
        if one["class_type"] in ("EmptyLatentImage", "KSampler", "FineTuneOnCaptions"):
            quick = {"batch_size": 2, "steps": 8, "general_pictures": 1}
            one["inputs"] |= {key: value for key, value in quick.items() if key in one["inputs"]}
        if one["class_type"] == "FineTuneOnCaptions":
            one["inputs"]["steps"] = 1
    outputs = server.run(graph)["outputs"]
    captions = [text for output in outputs.values() for text in output.get("text", ())]
    assert any(text.startswith("a person with") for text in captions)
