"""Learning a prefix in a real ComfyUI, over its API."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from PIL import Image

from anonymize_faces.prefix import load_prefix
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.tests.support.training_workflow import PEOPLE, Graph, node, training
from anonymize_faces.tools.comfy_server import ComfyServer, ServerProgress, WorkflowError, WorkflowInterruptedError


def drawing(clip: list[Any], denoise: float = 1.0) -> Graph:
    """Draws a picture with the demo model and the given CLIP."""
    prompts = {"positive": ["positive", 0], "negative": ["negative", 0]}
    sampling = {"seed": 5, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    return {
        "load": node("LoadDemoModel"),
        "positive": node("CLIPTextEncode", clip=clip, text="A portrait of Ada Example"),
        "negative": node("CLIPTextEncode", clip=clip, text=""),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sample": node("KSampler", model=["load", 0], latent_image=["latent", 0], **prompts, **sampling),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 2]),
        "picture": node("PreviewImage", images=["decode", 0]),
    }


def picture(server: ComfyServer, entry: Mapping[str, Any], node_id: str, kind: str = "images") -> Image.Image:
    return Image.open(io.BytesIO(server.image(entry["outputs"][node_id][kind][0])))


@pytest.mark.parametrize(
    ("node_id", "outputs"),
    [("IdentityList", ["IDENTITIES"]), ("TrainAnonymizationPrefix", ["ANONYMIZATION_PREFIX", "IMAGE", "STRING"])],
)
def test_the_nodes_are_listed_and_each_socket_explains_itself(
    server: ComfyServer, node_id: str, outputs: list[str]
) -> None:
    info = server.object_info()[node_id]
    assert info["category"] == "anonymize" and info["description"]
    assert info["output"] == outputs and all(info["output_tooltips"])
    assert all(options[1]["tooltip"] for options in info["input"]["required"].values())


def test_a_prefix_is_learned_saved_and_used_in_one_workflow(server: ComfyServer) -> None:
    graph = training(name="in_one_workflow") | drawing(["protect", 0])
    graph["protect"] = node(
        "AnonymizeFaces", clip=["load", 1], prefix="(no prefix files yet)", strength=1.0, learned_prefix=["train", 0]
    )
    graph["plot"] = node("PreviewImage", images=["train", 1])
    graph["report"] = node("PreviewAny", source=["train", 2])
    protected = server.run(graph)
    plain = server.run(drawing(["load", 1]))

    prefix = load_prefix(server.prefix_folder / "in_one_workflow.safetensors")
    assert prefix.length == 4 and prefix.record.identities == 2 and prefix.record.steps == 3
    assert picture(server, protected, "train", "before_after").size == (128, 128)
    assert picture(server, protected, "plot").size == (960, 540)
    assert "2 people in 3 steps" in protected["outputs"]["report"]["text"][0]
    assert picture(server, protected, "picture").tobytes() != picture(server, plain, "picture").tobytes()


def test_the_same_seed_gives_the_same_prefix(server: ComfyServer) -> None:
    # The note makes another text of the same people, so that the host does not reuse the first result.
    for name, people in (("first", PEOPLE), ("second", PEOPLE + "\n# again")):
        server.run(training(people, name, seed=2))
    first, second = (load_prefix(server.prefix_folder / f"{name}.safetensors") for name in ("first", "second"))
    assert torch.equal(numbers(first), numbers(second))


def test_after_learning_a_plain_prompt_draws_the_same_picture_to_the_last_bit(server: ComfyServer) -> None:
    before = server.run(drawing(["load", 1]))
    server.run(training(name="between", seed=3))
    # To the sampler a denoise above 0.9999 is 1, but to the host's cache it is a picture not yet drawn.
    after = server.run(drawing(["load", 1], denoise=0.99995))
    assert picture(server, before, "picture").tobytes() == picture(server, after, "picture").tobytes()


@pytest.mark.parametrize("when", [1, 8], ids=["drawing", "learning"])
def test_cancel_stops_a_run_and_the_next_one_works(server: ComfyServer, when: int) -> None:
    seen: list[float] = []

    def cancel(progress: ServerProgress) -> None:
        seen.append(progress.value)
        if len(seen) == when:
            server.interrupt()

    prompt_id = server.queue(training(name="cancelled", steps=2_000, batch_size=1, seed=4, patience=0))
    with pytest.raises(WorkflowInterruptedError) as stopped:
        server.wait(prompt_id, on_progress=cancel)
    assert stopped.value.node_id == "train"
    assert not (server.prefix_folder / "cancelled.safetensors").exists()
    server.run(training(name="after_cancel", seed=5))


@pytest.mark.parametrize(
    ("people", "words"),
    [
        ("Ada Example\n: a woman", "Line 2 has no name"),
        ("Ada Example\nBen Sample:", "Line 2 has no description"),
        ("Ada Example\n\nAda Example: a woman", "Line 3 names Ada Example again, after line 1: keep one"),
        ("# nobody", "names nobody: write one person a line"),
        ('[{"name": "Ada"}]', "Line 1 looks like JSON"),
        ("Ada: a woman\u2028Bob", "Line 1 holds another line separator"),
    ],
)
@pytest.mark.parametrize("linked", [False, True], ids=["widget", "linked"])
def test_a_list_that_cannot_be_read_is_the_nodes_error(
    server: ComfyServer, people: str, words: str, linked: bool
) -> None:
    graph = training(people)
    if linked:
        graph["text"] = node("PrimitiveStringMultiline", value=people)
        graph["people"]["inputs"]["text"] = ["text", 0]
    with pytest.raises(WorkflowError, match=words) as failed:
        server.run(graph)
    assert failed.value.node_id == "people"


def test_a_protected_clip_is_the_nodes_error(server: ComfyServer) -> None:
    graph = training()
    graph["train"]["inputs"]["clip"] = ["protect", 0]
    graph["first"] = node("TrainAnonymizationPrefix", **(graph["train"]["inputs"] | {"clip": ["load", 1]}))
    graph["protect"] = node(
        "AnonymizeFaces", clip=["load", 1], prefix="(no prefix files yet)", strength=1.0, learned_prefix=["first", 0]
    )
    with pytest.raises(WorkflowError, match="carries a prefix already: connect the checkpoint's own CLIP") as failed:
        server.run(graph)
    assert failed.value.node_id == "train"


def test_a_vae_of_another_kind_of_model_is_the_nodes_error_before_anything_is_drawn(server: ComfyServer) -> None:
    if "pixel_space" not in str(server.object_info()["VAELoader"]["input"]):
        pytest.skip("This host has no VAE of its own.")
    graph = training(seed=11)
    graph["vae"] = node("VAELoader", vae_name="pixel_space")  # The host's own, of pixels for latents.
    graph["train"]["inputs"]["vae"] = ["vae", 0]
    seen: list[float] = []
    with pytest.raises(WorkflowError, match="connect the checkpoint's own VAE") as failed:
        server.wait(server.queue(graph), on_progress=lambda progress: seen.append(progress.value))
    assert failed.value.node_id == "train" and seen == []
