"""Every input of every node of ours, over the real API, with every kind of value that does not belong there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from anonymize_faces.experts.files import FOLDER, save_experts
from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.experts import demo_experts
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

FILE = "inputs/one.safetensors"
NAN, INFINITE, HUGE = float("nan"), float("inf"), 10**400
PYTHONS = re.compile(
    "object has no attribute|NoneType|Traceback|not subscriptable|not callable|not iterable|unhashable|positional"
    "|unsupported operand|argument of type|must be str|expected str|is not in list|KeyError|cannot unpack|<class|0x"
)
"""Words that Python says, and that no artist can do anything with."""

THE_HOSTS = {
    "invalid_input_type",
    "value_smaller_than_min",
    "value_bigger_than_max",
    "value_not_in_list",
    "bad_linked_input",
    "return_type_mismatch",
    "required_input_missing",
}
"""What the host itself finds, and tells in its own way of nodes of every pack."""

OF_BROKEN_WIRES = {"exception_during_validation", "exception_during_inner_validation"}
"""What the host tells of a wire that comes from nowhere, before any node is asked."""

JUNK: tuple[Any, ...] = (None, 1.5, "no such thing", [], [1], {}, True, NAN, INFINITE, HUGE, {"a": [1]})
NOWHERE: tuple[Any, ...] = (["missing", 0], ["demo", 99], ["demo", "a"], [1, 2, 3])
MAKES = {"MODEL": ["demo", 0], "CLIP": ["demo", 1], "VAE": ["demo", 2]}
SETTINGS = {"width": 64, "height": 64, "steps": 1, "batch_size": 1, "seed": 3, "general_prompts": ""}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


BASES: dict[str, dict[str, Any]] = {
    "AnonymizeFaces": {"clip": ["demo", 1], "prefix": FILE, "strength": 1.0},
    "AnonymizeFaceRegion": {
        "model": ["demo", 0], "clip": ["demo", 1], "text": "a cat", "prefix": FILE, "certainty": 0.9, "margin": 0.0,
        "softness": 0.0,
    },
    "FaceMask": {"model": ["region", 0], "positive": ["region", 1], "samples": ["latents", 0]},
    "IdentityList": {"text": "Ada Example: a woman"},
    "LoadAnonymizationPrefix": {"file": FILE},
    "SaveAnonymizationPrefix": {"prefix": ["loaded", 0], "name": "inputs/one", "format": "safetensors"},
    "MeasureAnonymization": {"plain": ["empty", 0], "anonymized": ["empty", 0], "recognizer": "demo reader"},
    "EvaluateAnonymization": {
        **SETTINGS, "model": ["demo", 0], "clip": ["demo", 1], "vae": ["demo", 2], "recognizer": "demo reader",
        "prompts": "{name}", "images_per_name": 1, "images_per_prompt": 0, "cfg": 1.0, "filename_prefix": "inputs/x",
        "prefix_1": "(none)", "prefix_2": "(none)", "prefix_3": "(none)", "identities": ["people", 0],
    },
    "CompareStrengths": {
        "model": ["demo", 0], "clip": ["demo", 1], "vae": ["demo", 2], "prompts": "a cat", "strengths": "0, 1",
        "images_per_prompt": 1, "negative_prompt": "", "steps": 1, "cfg": 1.0, "seed": 3, "width": 64, "height": 64,
        "prefix_1": FILE, "prefix_2": "(none)", "prefix_3": "(none)",
    },
    "TrainAnonymizationPrefix": {
        **SETTINGS, "model": ["demo", 0], "clip": ["demo", 1], "vae": ["demo", 2], "identities": ["people", 0],
        "vectors": 1, "learning_rate": 0.1, "init": "", "portraits_per_identity": 1, "noisings_per_picture": 1,
        "drawing_steps": 1, "drawing_cfg": 1.0,
    },
    "DescribeFaces": {
        "images": ["empty", 0], "reader": "demo reader", "certainty": 0.85, "attributes": "usual", "order": "fixed",
        "style": "sentence", "several": "largest", "only_photographs": False, "seed": 3,
    },
    "DescribePeople": {
        "folder": "the demo's people", "reader": "demo reader", "certainty": 0.85, "attributes": "usual",
        "several": "largest", "only_photographs": False, "names": "Ada Example", "images": ["empty", 0],
    },
    "ProtectPhotos": {
        "photos": ["empty", 0], "model": ["demo", 0], "clip": ["demo", 1], "vae": ["demo", 2], "budget": 8,
        "method": "encoder", "steps": 1, "withstand": "nothing", "seed": 3, "width": 64, "height": 64,
    },
    "MeasurePhotoProtection": {
        "original": ["empty", 0], "protected": ["empty", 0], "model": ["demo", 0], "clip": ["demo", 1],
        "vae": ["demo", 2], "recognizer": "demo reader", "attacker": "full", "purification": "none", "steps": 1,
        "images_per_prompt": 1, "seed": 3, "width": 64, "height": 64,
    },
    "FineTuneOnCaptions": {
        "images": ["empty", 0], "captions": "a person", "model": ["demo", 0], "clip": ["demo", 1],
        "vae": ["demo", 2], "steps": 1, "batch_size": 1, "rank": 2, "text_encoder": True, "general_pictures": 1,
        "seed": 3, "width": 64, "height": 64,
    },
    "LearnExperts": {
        "model": ["demo", 0], "clip": ["demo", 1], "vae": ["demo", 2], "prompts": "a cat", "experts": 1, "keep": 0.9,
        "pictures": 1, "steps": 0, "tuning_steps": 0, "batch_size": 1, "seed": 3, "width": 64, "height": 64,
    },
    "SaveExperts": {"experts": ["experts", 0], "name": "inputs/one"},
    "LoadExperts": {"file": FILE},
    "RoutePrompt": {"model": ["demo", 0], "experts": ["experts", 0], "positive": ["said", 0], "expert": 0},
    "MeasureExperts": {
        "model": ["demo", 0], "experts": ["experts", 0], "positive": ["said", 0], "negative": ["said", 0],
        "latent_image": ["latents", 0], "steps": 1, "cfg": 1.0, "turns": 1, "seed": 3,
    },
    "LoadDemoModel": {"model": "classic"},
}  # fmt: skip
"""Inputs with which each node runs."""


SHOWS = {
    *("SaveAnonymizationPrefix", "MeasureAnonymization", "EvaluateAnonymization", "CompareStrengths"),
    "FaceMask",
    *("LearnExperts", "SaveExperts", "MeasureExperts"),
}
"""Nodes that are run for their own sake."""


def graph(kind: str, **inputs: Any) -> dict[str, Any]:
    """The node with what it needs, and nothing else that is run for its own sake."""
    shows = kind in SHOWS
    made = {
        "demo": node("LoadDemoModel"),
        "loaded": node("LoadAnonymizationPrefix", file=FILE),
        "people": node("IdentityList", text="Ada Example: a woman"),
        "region": node("AnonymizeFaceRegion", **BASES["AnonymizeFaceRegion"]),
        "experts": node("LoadExperts", file=FILE),
        "said": node("CLIPTextEncode", clip=["demo", 1], text="a cat"),
        "latents": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "empty": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "it": node(kind, **(BASES[kind] | inputs)),
    }
    return made if shows else made | {"show": node("PreviewAny", source=["it", 0])}


def wrong_values(kind: Any, needed: bool) -> Iterator[Any]:
    """What does not belong into an input of that type; the host makes text of anything, and numbers of yes and no."""
    yield from NOWHERE
    yield from (wire for made, wire in MAKES.items() if made != kind)
    for value in JUNK:
        if kind == "STRING" or kind == "BOOLEAN":
            fits = not isinstance(value, list)
        elif kind in ("INT", "FLOAT"):
            fits = value is True or value == 1.5
        else:
            fits = value is None and not needed
        if not fits:
            yield value
    if kind in ("MODEL", "CLIP", "VAE", "IMAGE", "IDENTITIES", "ANONYMIZATION_PREFIX", "PROMPT_EXPERTS"):
        yield {"__value__": {}}
        yield {"__value__": next(wire for made, wire in MAKES.items() if made != kind)}


@pytest.fixture(scope="module")
def inputs(server: ComfyServer) -> dict[str, list[tuple[str, str, bool]]]:
    """Name, type and whether it is needed, of every input of every node of ours, as the server tells them."""
    save_prefix(with_random_region(demo_prefix(1)), server.prefix_folder / FILE, overwrite=True)
    (experts := server.model_folder(FOLDER) / FILE).unlink(missing_ok=True)
    save_experts(demo_experts(), experts)
    return {
        kind: [
            (name, "COMBO" if isinstance(spec[0], list) else spec[0], needed == "required")
            for needed in ("required", "optional")
            for name, spec in told["input"].get(needed, {}).items()
        ]
        for kind, told in server.object_info().items()
        if told["category"].startswith("anonymize")
    }


def post(server: ComfyServer, prompt: dict[str, Any]) -> requests.Response:
    body = json.dumps({"prompt": prompt, "client_id": server.client_id})
    return requests.post(f"{server.url}/prompt", data=body, headers={"Content-Type": "application/json"}, timeout=60)


def faults_of_refusal(answer: dict[str, Any]) -> Iterator[str]:
    """What is wrong with how a workflow was refused."""
    errors = [error for told in answer["node_errors"].values() for error in told["errors"]]
    if not errors:
        yield f"refused without a reason: {answer}"
    if len({error["details"].split(" - ")[-1] for error in errors}) != len(errors):
        yield f"said more than once: {[error['details'] for error in errors]}"
    for error in errors:
        if error["type"] not in THE_HOSTS | OF_BROKEN_WIRES and PYTHONS.search(error["details"]):
            yield f"in Python's words: {error}"


def test_there_is_a_case_for_every_node(inputs) -> None:
    assert inputs.keys() == BASES.keys()
    for kind, told in inputs.items():
        assert BASES[kind].keys() <= {name for name, _, _ in told}


@pytest.mark.parametrize("kind", [kind for kind in BASES if BASES[kind]])
def test_what_does_not_belong_there_is_refused_in_a_sentence(server: ComfyServer, inputs, kind: str) -> None:
    faults, running = [], []
    for name, of_type, needed in inputs[kind]:
        for value in wrong_values(of_type, needed):
            response = post(server, graph(kind, **{name: value}))
            case = f"{kind}.{name} ({of_type}) = {value!r:.60}"
            if response.status_code == 400:
                faults += [f"{case}: {fault}" for fault in faults_of_refusal(response.json())]
                broken = value in NOWHERE if not isinstance(value, float) else False
                told = {e["type"] for t in response.json()["node_errors"].values() for e in t["errors"]}
                if told & OF_BROKEN_WIRES and not broken:
                    faults.append(f"{case}: an exception in a validator: {response.json()['node_errors']}")
            elif response.status_code == 200:
                running.append((case, response.json()["prompt_id"]))
            else:
                faults.append(f"{case}: {response.status_code} {response.text[:200]}")
    for case, prompt_id in running:
        try:
            server.wait(prompt_id)
            faults.append(f"{case}: it ran")
        except WorkflowError as failed:
            if PYTHONS.search(failed.exception_message) or not failed.exception_message.endswith((".", ")")):
                faults.append(f"{case}: {failed.exception_message}")
    assert faults == [], "\n".join(faults)


def test_a_wire_of_another_type_is_refused_before_anything_runs(server: ComfyServer) -> None:
    for name, wire in (("clip", ["demo", 2]), ("learned_prefix", ["demo", 1]), ("strength", ["demo", 0])):
        answer = post(server, graph("AnonymizeFaces", **{name: wire}))
        (told,) = answer.json()["node_errors"]["it"]["errors"]
        assert answer.status_code == 400 and told["type"] == "return_type_mismatch"
        assert told["extra_info"]["input_name"] == name


def test_a_missing_file_is_told_once_and_at_its_input(server: ComfyServer) -> None:
    for kind, name in (
        ("AnonymizeFaces", "prefix"),
        ("LoadAnonymizationPrefix", "file"),
        ("EvaluateAnonymization", "prefix_1"),
    ):
        answer = post(server, graph(kind, **{name: "gone.safetensors"}))
        (told,) = answer.json()["node_errors"]["it"]["errors"]
        assert (
            told["extra_info"]["input_name"] == name and "There is no prefix file 'gone.safetensors'" in told["details"]
        )


def test_a_place_outside_the_output_folder_is_refused_in_a_sentence(server: ComfyServer) -> None:
    with pytest.raises(WorkflowError, match=r"can only be saved below the output folder, not as '\.\./\.\./x': choose"):
        server.run(graph("EvaluateAnonymization", filename_prefix="../../x"))


def test_where_a_prefix_is_connected_none_has_to_be_chosen(server: ComfyServer) -> None:
    learned = {"clip": ["demo", 1], "learned_prefix": ["loaded", 0]}
    prompt = graph("AnonymizeFaces")
    prompt["it"]["inputs"] = learned
    assert "Protected with 10 vectors." in server.run(prompt)["outputs"]["it"]["text"][0]
    prompt["it"]["inputs"] = learned | {"prefix": "gone.safetensors", "strength": 1.0}
    assert "Protected with 10 vectors." in server.run(prompt)["outputs"]["it"]["text"][0]
    prompt["it"]["inputs"] = {"clip": ["demo", 1]}
    answer = post(server, prompt)
    assert answer.status_code == 400 and "There is no prefix to use" in answer.text
