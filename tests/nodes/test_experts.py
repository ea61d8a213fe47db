"""Experts in a real ComfyUI: they are learned, saved, loaded, routed and measured; the model stays as it is."""

from __future__ import annotations

import io
import re
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.experts.files import FOLDER, load_experts, save_experts
from anonymize_faces.experts.settings import BLOCKS, WIDTHS
from anonymize_faces.tests.support.experts import PARTS, demo_experts, demo_fingerprint
from anonymize_faces.tests.support.training_workflow import followed, node
from anonymize_faces.tools.comfy_server import ComfyServer, ServerProgress, WorkflowError, WorkflowInterruptedError
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

MODEL = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2]}
QUICK = {
    "prompts": "a red circle\na blue boat\na portrait of a person with red hair\na person with glasses", "experts": 2,
    "keep": 0.6, "pictures": 4, "steps": 1, "tuning_steps": 6, "batch_size": 4, "seed": 0, "width": 64, "height": 64,
    "rank": 2, "learning_rate": 0.0,
}  # fmt: skip
PORTRAIT = "a portrait of a person with red hair"


def drawing(name: str, model: Any, text: str = PORTRAIT) -> dict[str, Any]:
    """Draws with a model, and shows that as the node `name`."""
    return {
        f"{name} text": node("CLIPTextEncode", clip=["load", 1], text=text),
        f"{name} latent": node("EmptyLatentImage", width=96, height=96, batch_size=1),
        f"{name} sample": node(
            "KSampler", model=model, positive=[f"{name} text", 0], negative=[f"{name} text", 0], seed=1, steps=2,
            cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0, latent_image=[f"{name} latent", 0],
        ),
        f"{name} decode": node("VAEDecode", samples=[f"{name} sample", 0], vae=["load", 2]),
        name: node("PreviewImage", images=[f"{name} decode", 0]),
    }  # fmt: skip


def routed(experts: Any, expert: int = 0, text: str = PORTRAIT, **others: Any) -> dict[str, Any]:
    graph = {
        "load": node("LoadDemoModel"),
        "said": node("CLIPTextEncode", clip=["load", 1], text=text),
        "route": node("RoutePrompt", model=["load", 0], experts=experts, positive=["said", 0], expert=expert),
        "told": node("PreviewAny", source=["route", 1]),
    }
    return graph | others


def drawn(server: ComfyServer, entry: Any, name: str) -> np.ndarray:
    (shown,) = entry["outputs"][name]["images"]
    return np.asarray(Image.open(io.BytesIO(server.image(shown)))).astype(int)


@pytest.fixture
def file(server: ComfyServer) -> str:
    """Two experts of the demo model, of which the first is larger; they learned nothing."""
    path = server.model_folder(FOLDER) / "two.safetensors"
    path.unlink(missing_ok=True)
    return save_experts(demo_experts(), path).name


@pytest.mark.parametrize(("leave_out", "name"), [(BLOCKS, "learned"), (WIDTHS, "narrower")])
def test_experts_are_learned_saved_loaded_and_draw_alike(server: ComfyServer, leave_out: str, name: str) -> None:
    graph = {
        "load": node("LoadDemoModel"),
        "learn": node("LearnExperts", **MODEL, **QUICK, leave_out=leave_out),
        "save": node("SaveExperts", experts=["learn", 0], name=f"sub/{name}"),
        "plot": node("PreviewImage", images=["learn", 2]),
    }
    graph |= routed(["learn", 0]) | drawing("plain", ["load", 0]) | drawing("expert", ["route", 0])
    entry = server.run(graph)
    (report,) = entry["outputs"]["learn"]["text"]
    shares = [float(share) for share in re.findall(r"^Expert \d: ([\d.]+) of the compute", report, re.M)]
    assert report.startswith("2 experts of a ClassicModel model.") and 0 < max(shares) <= 0.6
    (saved,) = entry["outputs"]["save"]["text"]
    read = load_experts(server.model_folder(FOLDER) / "sub" / f"{name}.safetensors")
    assert bool(read.units) == (leave_out == WIDTHS) == ("of their width" in report)
    assert saved.endswith(f"{name}.safetensors") and read.record.fingerprint == demo_fingerprint()
    assert any(read.deltas) and all(weight.dtype.itemsize == 2 for delta in read.deltas for weight in delta.values())
    for number, delta in enumerate(read.deltas):
        gone = tuple(f"diffusion_model.{name}." for name in read.removed(number))
        assert all(weight.any() for weight in delta.values())
        assert not any(name.startswith(gone) for name in delta), "blocks that are gone take no room"
    plain, expert = (drawn(server, entry, name) for name in ("plain", "expert"))
    assert np.abs(plain - expert).mean() > 0.5
    loaded = {"file": node("LoadExperts", file=f"sub/{name}.safetensors")}
    again = server.run(routed(["file", 0]) | loaded | drawing("again", ["route", 0]))
    assert np.abs(drawn(server, again, "again") - expert).max() <= 2
    bypassed = server.run({"load": node("LoadDemoModel")} | drawing("bypassed", ["load", 0]))
    assert np.array_equal(drawn(server, bypassed, "bypassed"), plain), "the model is as it was, to the last bit"


def test_cancel_stops_learning_leaves_the_model_alone_and_the_next_run_ends_as_an_unbroken_one(
    server: ComfyServer,
) -> None:
    settings = QUICK | {"experts": 1, "pictures": 4, "tuning_steps": 8, "seed": 12}
    first = settings["pictures"] + settings["steps"] + 2  # While it tunes.

    def learning(name: str, prompts: str = QUICK["prompts"]) -> dict[str, Any]:
        return {
            "load": node("LoadDemoModel"),
            "learn": node("LearnExperts", **MODEL, **(settings | {"prompts": prompts})),
            "save": node("SaveExperts", experts=["learn", 0], name=name),
        }

    def cancel(progress: ServerProgress) -> None:
        if progress.value >= first:
            server.interrupt()

    folder = server.model_folder(FOLDER)
    for path in folder.glob("cancel*"):
        path.unlink()
    shutil.rmtree(server.workspace / "user" / "__anonymize_faces" / "experts", ignore_errors=True)
    plain = drawn(server, server.run({"load": node("LoadDemoModel")} | drawing("plain", ["load", 0])), "plain")
    with pytest.raises(WorkflowInterruptedError) as stopped:
        server.wait(server.queue(learning("cancel")), on_progress=cancel)
    assert stopped.value.node_id == "learn" and not list(folder.glob("cancel*"))
    again = drawing("again", ["load", 0], PORTRAIT + " ") | {"load": node("LoadDemoModel")}
    assert np.array_equal(drawn(server, server.run(again), "again"), plain)
    assert followed(server)["state"] == "cancelled"
    server.run(learning("cancel after"))
    run = followed(server)
    assert (run["state"], run["kind"], run["node_id"], run["done"]) == ("finished", "fine-tuning", "learn", run["of"])
    assert run["of"] == settings["steps"] + settings["tuning_steps"] and run["curve"]["loss"][-1] > 0
    (kept,) = (server.workspace / "user" / "__anonymize_faces" / "experts").glob("*/done")
    # Lest it is given again what it has kept. An empty line is no prompt, and another text to the host.
    shutil.rmtree(kept.parent)
    server.run(learning("cancel whole", QUICK["prompts"] + "\n"))
    after, whole = (load_experts(folder / f"cancel {name}.safetensors") for name in ("after", "whole"))
    assert after.record == whole.record and after.deltas[0].keys() == whole.deltas[0].keys()
    assert all(weight.equal(whole.deltas[0][name]) for name, weight in after.deltas[0].items())


def test_the_prompt_chooses_unless_an_expert_is_asked_for(server: ComfyServer, file: str) -> None:
    loaded = {"file": node("LoadExperts", file=file)}
    for asked, told in ((1, "expert 1 of 2: 95%"), (2, "expert 2 of 2: 80%")):
        assert server.run(routed(["file", 0], asked, **loaded))["outputs"]["told"]["text"][0].startswith(told)
    chosen = {
        text: server.run(routed(["file", 0], text=text, **loaded))["outputs"]["told"]["text"][0]
        for text in ("a red circle", "mountains", PORTRAIT, "a blue boat at the beach", "")
    }
    assert all(told.startswith("expert ") for told in chosen.values())
    both = {
        "one": node("CLIPTextEncode", clip=["load", 1], text="a red circle"),
        "two": node("CLIPTextEncode", clip=["load", 1], text="mountains"),
        "said": node("ConditioningCombine", conditioning_1=["one", 0], conditioning_2=["two", 0]),
    }
    expected = min(chosen["a red circle"], chosen["mountains"])  # The first is the larger one.
    assert server.run(routed(["file", 0], **loaded) | both)["outputs"]["told"]["text"][0] == expected


def test_what_does_not_fit_is_a_sentence(server: ComfyServer, file: str) -> None:
    other = server.model_folder(FOLDER) / "other.safetensors"
    other.unlink(missing_ok=True)
    save_experts(demo_experts(of="fedcba9876543210"), other)
    (server.model_folder(FOLDER) / "broken.safetensors").write_bytes(b"nothing")
    twice = {
        "file": node("LoadExperts", file=file),
        "again": node("RoutePrompt", model=["route", 0], experts=["file", 0], positive=["said", 0], expert=1),
        "shown": node("PreviewAny", source=["again", 1]),
    }
    cases = [
        (routed(["file", 0], file=node("LoadExperts", file="other.safetensors")), "learned on another model"),
        (routed(["file", 0], file=node("LoadExperts", file="broken.safetensors")), "cannot be used as experts"),
        (routed(["file", 0], file=node("LoadExperts", file="gone.safetensors")), "There is no file of experts"),
        (routed(["file", 0], file=node("LoadExperts", file="../x.safetensors")), "cannot name"),
        (routed(["file", 0], 3, file=node("LoadExperts", file=file)), "There is no expert 3: there are 2"),
        (routed(["file", 0]) | twice, "This model is an expert already"),
        (
            {"load": node("LoadDemoModel"), "learn": node("LearnExperts", **MODEL, **(QUICK | {"experts": 5}))},
            "There are 4 prompts for 5 experts",
        ),
        (
            {"load": node("LoadDemoModel"), "learn": node("LearnExperts", **MODEL, **(QUICK | {"keep": 0.1}))},
            "keep more",
        ),
    ]
    for graph, words in cases:
        with pytest.raises(WorkflowError) as failed:
            server.run(graph)
        assert words in str(failed.value), words


def test_experts_are_measured_beside_what_costs_nothing(server: ComfyServer, file: str) -> None:
    graph = {
        "load": node("LoadDemoModel"),
        "file": node("LoadExperts", file=file),
        "said": node("CLIPTextEncode", clip=["load", 1], text=PORTRAIT),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=2),
        "measure": node(
            "MeasureExperts", model=["load", 0], experts=["file", 0], positive=["said", 0], negative=["said", 0],
            latent_image=["latent", 0], steps=4, cfg=2.0, turns=1, seed=3,
        ),
    }  # fmt: skip
    (report,) = server.run(graph)["outputs"]["measure"]["text"]
    rows = re.findall(r"^(the model|expert \d|EasyCache|the model, \d steps) .* (\d+\.\d+) +(\d+\.\d+)$", report, re.M)
    assert rows[0] == ("the model", "1.00", "0.000")
    assert rows[1][0].startswith("expert") and float(rows[1][2]) > 0
    assert {"EasyCache"} <= {row[0] for row in rows} and rows[-1][0].startswith("the model, ")


def test_a_lora_is_right_on_an_expert(server: ComfyServer, file: str) -> None:
    """One that is loaded before or after draws the same."""
    import torch
    from safetensors.torch import save_file

    from anonymize_faces.demo.loader import load_weights

    weights = load_weights("denoiser")
    kept = [name for name in weights if name.endswith("proj_in.weight") and not name.startswith(tuple(PARTS))]
    random = torch.Generator().manual_seed(0)
    lora = {}
    for name in kept:
        layer, weight = f"diffusion_model.{name.removesuffix('.weight')}", weights[name]
        lora[f"{layer}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=random) / 8
        lora[f"{layer}.lora_down.weight"] = torch.randn(2, weight[0].numel(), generator=random) / 8
    folder = server.model_folder("loras")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(lora, folder / "experts.safetensors")
    load = {"lora_name": "experts.safetensors", "strength_model": 1.0}
    loaded = {"file": node("LoadExperts", file=file)}
    after = routed(["file", 0], 2, **loaded) | drawing("plain", ["route", 0])
    after |= {"lora": node("LoraLoaderModelOnly", model=["route", 0], **load)} | drawing("after", ["lora", 0])
    before = routed(["file", 0], 2, **loaded, lora=node("LoraLoaderModelOnly", model=["load", 0], **load))
    before["route"]["inputs"]["model"] = ["lora", 0]
    before |= drawing("before", ["route", 0])
    entry = server.run(after)
    plain, last = (drawn(server, entry, name) for name in ("plain", "after"))
    assert np.abs(plain - last).mean() > 0.5
    assert np.array_equal(drawn(server, server.run(before), "before"), last)


def test_the_example_runs(server: ComfyServer) -> None:
    known = server.object_info()
    graph = workflow_to_prompt(load_workflow(ROOT / "example_workflows" / "13 Learn experts.json"), known)
    for one in graph.values():
        quick = {"pictures": 4, "steps": 1, "tuning_steps": 1, "batch_size": 4, "turns": 1}
        one["inputs"] |= {name: value for name, value in quick.items() if name in one["inputs"]}
        if one["class_type"] == "KSampler":
            one["inputs"]["steps"] = 4
    outputs = server.run(graph)["outputs"]
    said = [text for output in outputs.values() for text in output.get("text", ())]
    assert any("of the compute, learned from" in text for text in said)
    assert any("Distance: 0 as the model draws" in text for text in said)
