"""Nobody gets a prompt past enforcement: tries to, on a real server that enforces."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import requests
import torch

from anonymize_faces.experts.files import FOLDER, save_experts
from anonymize_faces.nodes.enforcement.rewriting import FOREIGN, HOST, Kind, PromptRefusedError, rewrite
from anonymize_faces.prefix import load_prefix, save_prefix
from anonymize_faces.prefix.enforced_setting import read_enforcement
from anonymize_faces.tests.support.enforced_workflow import CLIP, TEXT, encoding, node, sampling
from anonymize_faces.tests.support.experts import demo_experts
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import WorkflowError

TEXTS = (TEXT, "")


def anonymized(**inputs: Any) -> dict[str, Any]:
    return node("AnonymizeFaces", **{"clip": CLIP, "prefix": "other.safetensors", "strength": 1.0, **inputs})


def through(**nodes: Any) -> dict[str, Any]:
    """Both prompts encoded with what `clip` puts out."""
    return sampling(yes=encoding(["clip", 0]), no=encoding(["clip", 0], ""), **nodes)


def custom_sampling() -> dict[str, Any]:
    graph = sampling()
    graph["sample"] = node(
        "SamplerCustomAdvanced",
        noise=["noise", 0],
        guider=["guider", 0],
        sampler=["sampler", 0],
        sigmas=["sigmas", 0],
        latent_image=["latent", 0],
    )
    return graph | {
        "noise": node("RandomNoise", noise_seed=1),
        "guider": node("BasicGuider", model=["demo", 0], conditioning=["yes", 0]),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["demo", 0], scheduler="normal", steps=1, denoise=1.0),
    }


def saving(format: str, name: str = "planted") -> dict[str, Any]:
    """A workflow that saves a prefix."""
    return {
        "load": node("LoadAnonymizationPrefix", file="other.safetensors"),
        "save": node("SaveAnonymizationPrefix", prefix=["load", 0], name=name, format=format),
    }


PROTECTED = {
    "nothing at all": sampling(),
    "a sampler made of parts": custom_sampling(),
    "strength 0": through(clip=anonymized(strength=0.0)),
    "another prefix": through(clip=anonymized()),
    "another prefix at half strength": through(clip=anonymized(strength=0.5)),
    "a learned prefix of the artist's own": through(
        clip=anonymized(learned_prefix=["load", 0]), load=node("LoadAnonymizationPrefix", file="other.safetensors")
    ),
    "anonymized twice, the last at 0": through(first=anonymized(), clip=anonymized(clip=["first", 0], strength=0.0)),
    "the host's nodes between": through(clip=node("CLIPSetLastLayer", clip=CLIP, stop_at_clip_layer=-1)),
    "text from a wire": sampling(yes=encoding(CLIP, ["words", 0]), words=node("PrimitiveString", value=TEXT)),
    "text from another extension": sampling(yes=encoding(CLIP, ["words", 0]), words=node("ForeignText", text=TEXT)),
    "a foreign CLIP": through(clip=node("ForeignCLIP")),
    "a foreign CLIP of any type": through(clip=node("ForeignAny")),
    "a foreign CLIP under another type's name": through(
        lies=node("ForeignLies"), clip=node("ForeignSwitch", first=["lies", 0])
    ),
    "a pipe": through(pipe=node("ForeignPipe"), clip=node("ForeignUnpipe", pipe=["pipe", 0])),
    "a list": through(clip=node("ForeignList")),
    "a switch": through(clip=node("ForeignSwitch", first=CLIP, second=["yes2", 0]), yes2=encoding(CLIP)),
    "a lazy switch": through(clip=node("ForeignLazy", a=["yes2", 0], b=CLIP), yes2=encoding(CLIP)),
    "a switch of conditioning": sampling(["switch", 0], switch=node("ForeignSwitch", first=["yes", 0])),
    "a foreign node that sets an area": sampling(["area", 0], area=node("ForeignSetsArea", c=["yes", 0])),
    "a foreign encoder that uses its CLIP": sampling(yes=node("ForeignEncode", clip=CLIP, text=TEXT)),
    "a CLIP from nodes made while it runs": through(clip=node("ForeignExpandsCLIP")),
    "a wire wrapped up as a value": sampling(yes=encoding({"__value__": ["demo", 1]})),
    "a wire where nobody looks": sampling(
        yes=node("ForeignSwitch", first=["real", 0], third=CLIP), real=encoding(CLIP)
    ),
    "guards of the artist's own": through(
        clip=node("EnforcedAny", value=CLIP, derived=True, only_text=False),
        trust=node("EnforcedConditioning", value=["loaded", 0], derived=True, only_text=False),
        loaded=encoding(CLIP),
    ),
    "ids like those of guards": through(
        **{"anonymize-faces-0": node("CLIPSetLastLayer", clip=CLIP, stop_at_clip_layer=-1)},
        clip=node("CLIPSetLastLayer", clip=["anonymize-faces-0", 0], stop_at_clip_layer=-1),
    ),
    "results to be kept from before": sampling(yes={**encoding(CLIP), "is_changed": [0]}),
    "conditioning combined": sampling(
        ["both", 0], both=node("ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["no", 0])
    ),
    "several encoders": sampling(
        ["both", 0],
        both=node("ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["other", 0]),
        other=encoding(["foreign", 0]),
        foreign=node("ForeignCLIP"),
    ),
}
"""Workflows that run, and whose every conditioning is that of one of `TEXTS` with the server's prefix."""

REFUSED = {
    "loaded conditioning": (sampling(["loaded", 0], loaded=node("ForeignLoaded")), "brings conditioning"),
    "the host's loaded conditioning": (
        sampling(["loaded", 1], loaded=node("LoadTrainingDataset", folder_name="x")),
        "brings conditioning|does not exist",  # Older hosts have no such node.
    ),
    "loaded conditioning of any type": (
        sampling(["loaded", 0], loaded=node("ForeignLoadedAny")),
        "not made by a protected CLIP",
    ),
    "loaded conditioning with a third part": (
        sampling(["loaded", 0], loaded=node("ForeignTriples")),
        "not made by a protected CLIP",
    ),
    "loaded conditioning in no list": (sampling(["loaded", 0], loaded=node("ForeignIterates")), "cannot look into"),
    "loaded conditioning through the host's nodes": (
        sampling(
            ["both", 0],
            both=node("ConditioningCombine", conditioning_1=["yes", 0], conditioning_2=["loaded", 0]),
            loaded=node("ForeignLoadedAny"),
        ),
        "not made by a protected CLIP",
    ),
    "an encoder of its own": (
        sampling(yes=node("ForeignOwnEncoder", clip=CLIP, text=TEXT)),
        "not made by a protected CLIP",
    ),
    "an encoder that goes inside": (
        sampling(yes=node("ForeignInside", clip=CLIP, text=TEXT)),
        "does not carry the prefix",
    ),
    "an encoder that takes the weights": (
        sampling(yes=node("ForeignWeights", clip=CLIP, text=TEXT)),
        "do not carry the prefix",
    ),
    "an embedding": (sampling(yes=encoding(CLIP, "a portrait of embedding:ada")), "uses an embedding"),
    "an embedding with a weight": (sampling(yes=encoding(CLIP, "a (embedding:people/ada:1.2)")), "uses an embedding"),
    "an embedding in the negative prompt": (sampling(no=encoding(CLIP, "embedding:ada,")), "uses an embedding"),
    "an embedding that another extension puts in": (
        sampling(yes=node("ForeignVector", clip=CLIP, text=TEXT)),
        "uses an embedding",
    ),
    "a prefix saved as an embedding": (saving("textual inversion"), "nobody but its operator puts embeddings"),
    "a prefix saved under the server's name": (saving("safetensors", name="Studio"), "only its operator can"),
    "conditioning from nodes made while it runs": (
        sampling(yes=node("ForeignExpands", clip=CLIP, text=TEXT)),
        "not made by a protected CLIP",
    ),
    "conditioning from nodes made while it runs, of nothing": (
        sampling(yes=node("ForeignExpands", text=TEXT)),
        "brings conditioning",
    ),
    "conditioning that another extension altered": (
        sampling(["altered", 0], altered=node("ForeignAlters", c=["yes", 0])),
        "not made by a protected CLIP",
    ),
    "a CLIP in a box": (
        through(box=node("ForeignBox"), clip=node("ForeignUnbox", box=["box", 0])),
        "cannot look into",
    ),
    "an encoder without its CLIP": (
        sampling(["takes", 0], takes=node("ForeignTakesAny", e=["encoder", 0]), encoder=node("ForeignEncoder")),
        "cannot look into",
    ),
    "a layer that the server's prefix was not learned at": (
        through(clip=node("CLIPSetLastLayer", clip=CLIP, stop_at_clip_layer=-2)),
        "learned at clip skip 1, and here the prompt is read at clip skip 2",
    ),
    "a layer that was not learned, behind a node of the artist's own": (
        through(mine=anonymized(strength=0.0), clip=node("CLIPSetLastLayer", clip=["mine", 0], stop_at_clip_layer=-3)),
        "learned at clip skip 1, and here the prompt is read at clip skip 3",
    ),
    "pictures of text": (
        {"draw": node("ForeignDraws", text=TEXT), "show": node("PreviewImage", images=["draw", 0])},
        "makes IMAGE of text by itself",
    ),
    "pictures of text from a wire": (
        {
            "words": node("PrimitiveString", value=TEXT),
            "switch": node("ForeignSwitch", first=["words", 0]),
            "draw": node("ForeignDraws", text=["switch", 0]),
            "show": node("PreviewImage", images=["draw", 0]),
        },
        "makes IMAGE of text by itself",
    ),
    "pictures of text under any type": (
        {"draw": node("ForeignDrawsAny", text=TEXT), "show": node("PreviewImage", images=["draw", 0])},
        "cannot look into",
    ),
    "pictures of text hidden in the workflow": (
        {"draw": node("ForeignDrawsWorkflow"), "show": node("PreviewImage", images=["draw", 0])},
        "makes IMAGE of text by itself",
    ),
    "a node that draws and saves by itself": ({"draw": node("ForeignShows", text=TEXT)}, "saves or shows"),
    "an output counted from the end": (
        sampling(yes=encoding(["demo", -2])),
        "an output that node 'demo' has not",
    ),
    "an output that is no whole number": (sampling(yes=encoding(["demo", 1.0])), "an output that node 'demo' has not"),
    "loaded conditioning behind a guard of the artist's own": (
        sampling(
            ["guard", 0],
            guard=node("EnforcedConditioning", value=["loaded", 0], derived=True, only_text=False),
            loaded=node("ForeignLoadedAny"),
        ),
        "not made by a protected CLIP",
    ),
    "a wire from nowhere": (sampling(yes=encoding(["gone", 0])), "which is not there"),
    "guards in a circle": (
        through(
            clip=node("EnforcedAny", value=["other", 0], derived=True, only_text=False),
            other=node("EnforcedAny", value=["clip", 0], derived=True, only_text=False),
        ),
        "runs in a circle",
    ),
    "learning": (
        sampling(train=node("TrainAnonymizationPrefix", model=["demo", 0], clip=CLIP)),
        "draws people without protection",
    ),
    "evaluating": (
        sampling(rate=node("EvaluateAnonymization", model=["demo", 0], clip=CLIP)),
        "draws people without protection",
    ),
    "comparing": (
        sampling(compare=node("CompareStrengths", model=["demo", 0], clip=CLIP)),
        "draws people without protection",
    ),
    "protecting photos": (
        sampling(protect=node("ProtectPhotos", model=["demo", 0], clip=CLIP, vae=["demo", 2])),
        "reads prompts without protection",
    ),
    "attacking photos": (
        sampling(attack=node("MeasurePhotoProtection", model=["demo", 0], clip=CLIP, vae=["demo", 2])),
        "trains a model on a person and draws them",
    ),
    "fine-tuning": (
        sampling(tune=node("FineTuneOnCaptions", model=["demo", 0], clip=CLIP, vae=["demo", 2])),
        "reads captions and draws prompts without protection",
    ),
    "learning experts": (
        sampling(learn=node("LearnExperts", model=["demo", 0], clip=CLIP, vae=["demo", 2])),
        "Learning experts draws prompts without protection",
    ),
    "no node": ({"demo": {"inputs": {}}}, "This is no node"),
    "no workflow": ([["demo"]], "This is no workflow"),
}
"""Workflows that do not run, and a part of the reason."""


@pytest.fixture(scope="module")
def conditionings(host_modules: None) -> dict[str, list[torch.Tensor]]:
    """What the demo's encoder makes of `TEXTS`, plain and with the server's prefix."""
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.protected_clip import protect

    _, clip, _ = load_demo_model()
    protected = protect(clip, demo_prefix(0), 1.0)
    return {
        name: [encoder.encode_from_tokens(encoder.tokenize(text)) for text in TEXTS]
        for name, encoder in (("plain", clip), ("protected", protected))
    }


def is_one_of(tensor: torch.Tensor, those: list[torch.Tensor]) -> bool:
    return any(tensor.shape == one.shape and torch.allclose(tensor, one, atol=1e-4) for one in those)


@pytest.mark.parametrize("name", PROTECTED)
def test_whatever_runs_reaches_the_sampler_protected(enforcing, conditionings, name):
    enforcing.reached()
    graph = copy.deepcopy(PROTECTED[name])
    enforcing.server.run(graph)
    if not (reached := enforcing.reached()):  # The host kept the result of a workflow that is the same once guarded.
        graph["sample"]["inputs"] |= {"seed": 1000 + list(PROTECTED).index(name)}
        enforcing.server.run(graph)
        reached = enforcing.reached()
    assert reached
    for tensor in reached:
        assert is_one_of(tensor, conditionings["protected"]) and not is_one_of(tensor, conditionings["plain"])


def test_what_a_routed_expert_draws_is_protected(enforcing, conditionings):
    experts = enforcing.server.model_folder(FOLDER) / "routed.safetensors"
    experts.unlink(missing_ok=True)
    save_experts(demo_experts(), experts)
    route = node("RoutePrompt", model=["demo", 0], experts=["load", 0], positive=["yes", 0], expert=0)
    graph = sampling(load=node("LoadExperts", file="routed.safetensors"), route=route)
    graph["sample"]["inputs"] |= {"model": ["route", 0], "seed": 77}
    enforcing.reached()
    enforcing.server.run(graph)
    reached = enforcing.reached()
    assert reached and all(is_one_of(tensor, conditionings["protected"]) for tensor in reached)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_protected_is_refused_with_the_reason(enforcing, name):
    enforcing.reached()
    graph, reason = REFUSED[name]
    with pytest.raises(WorkflowError, match=reason):
        enforcing.server.run(graph)
    assert enforcing.reached() == []


def test_a_refusal_answers_400_and_names_the_node(enforcing):
    for targets in ({}, {"partial_execution_targets": ["save"]}):
        body = {"prompt": REFUSED["loaded conditioning"][0], **targets}
        answer = requests.post(enforcing.server.url + "/prompt", json=body, timeout=60)
        assert answer.status_code == 400
        (error,) = answer.json()["node_errors"]["loaded"]["errors"]
        assert "encode the prompt with CLIP Text Encode." in error["details"]


def test_a_request_for_some_outputs_is_guarded_as_well(enforcing, conditionings):
    enforcing.reached()
    graph = sampling(other=node("SaveLatent", samples=["latent", 0], filename_prefix="other"))
    graph["sample"]["inputs"]["seed"] = 99
    body = {"prompt": graph, "partial_execution_targets": ["save"]}
    answer = requests.post(enforcing.server.url + "/prompt", json=body, timeout=60).json()
    entry = enforcing.server.wait(answer["prompt_id"])
    assert "other" not in entry["outputs"]
    reached = enforcing.reached()
    assert reached and all(is_one_of(tensor, conditionings["protected"]) for tensor in reached)


def test_what_is_no_request_is_not_run(enforcing):
    for body in ([], ["prompt"], {"prompt": None}, {"prompt": 3}, {"prompt": {}}, {"prompt": {"1": None}}):
        answer = requests.post(enforcing.server.url + "/prompt", json=body, timeout=60)
        assert answer.status_code == 400


def test_what_sends_prompts_to_a_service_is_refused(enforcing):
    info = enforcing.server.object_info()
    services = [name for name, told in info.items() if told["python_module"].startswith("comfy_api_nodes")]
    assert services
    with pytest.raises(WorkflowError, match="sends the prompt to a service elsewhere"):
        enforcing.server.queue({"service": node(services[0])})


KINDS = {
    "Loads": Kind(HOST, ("MODEL", "CLIP")),
    "Encodes": Kind(HOST, ("CONDITIONING",), sources=("clip",)),
    "Pictures": Kind(HOST, ("IMAGE",), shows=True),
    "Draws": Kind(FOREIGN, ("IMAGE",), choices={"style": ("plain",)}),
    "Shows": Kind(FOREIGN, ("STRING",), shows=True),
}


def test_with_a_wrong_setting_only_what_has_no_text_conditioning_runs():
    pictures = {"1": node("Pictures", size=3), "2": node("Pictures", image=["1", 0])}
    assert rewrite(pictures, KINDS.get, fault="because") == pictures
    with pytest.raises(PromptRefusedError, match="because"):
        rewrite({"1": node("Loads"), "2": node("Encodes", clip=["1", 1], text="x")}, KINDS.get, fault="because")


def test_a_node_of_another_extension_may_do_what_it_likes_once_it_is_trusted_or_gets_no_text():
    for inputs in ({"text": "words"}, {"style": "another"}, {"anything": ["words"]}):
        with pytest.raises(PromptRefusedError, match="makes IMAGE of text"):
            rewrite({"1": node("Draws", **inputs)}, KINDS.get)
        assert rewrite({"1": node("Draws", **inputs)}, KINDS.get, {"Draws"})["1"]["inputs"] == inputs
    assert rewrite({"1": node("Draws", style="plain", size=3)}, KINDS.get)
    with pytest.raises(PromptRefusedError, match="saves or shows"):
        rewrite({"1": node("Shows", text="words")}, KINDS.get)
    assert rewrite({"1": node("Shows", text="words")}, KINDS.get, {"Shows"})


def test_a_workflow_that_was_guarded_before_is_guarded_alike_and_stays_as_it_is():
    graph = {"1": node("Loads"), "2": node("Encodes", clip=["1", 1], text="x"), "3": node("Pictures", c=["2", 0])}
    before = copy.deepcopy(graph)
    once = rewrite(graph, KINDS.get)
    assert graph == before and len(once) == 5
    assert rewrite(once, KINDS.get) == once


def test_embeddings_that_the_operator_lists_are_drawn_by_their_vectors_and_not_by_their_names(enforcing):
    graph = sampling(yes=encoding(CLIP, "a portrait, (embedding:styles/ink:1.2)"))
    enforcing.server.run(graph)
    listed = enforcing.reached()
    enforcing.put_embedding("styles/ink", 0.5)
    with pytest.raises(WorkflowError, match=r"uses an embedding .* ask the server's operator to list it"):
        enforcing.server.run(sampling(yes=encoding(CLIP, "a portrait, (embedding:styles/ink:1.2), of ink")))
    enforcing.put_embedding("people/ada", 0.25)  # The same vectors by another name.
    enforcing.server.run(sampling(yes=encoding(CLIP, "a portrait, (embedding:people/ada:1.2)")))
    again = enforcing.reached()
    assert len(listed) == len(again) > 0 and all(map(torch.equal, listed, again))
    for name, value in (("styles/ink", 0.25), ("people/ada", 1.0)):
        enforcing.put_embedding(name, value)


def test_the_servers_prefix_is_told_and_cannot_be_changed_by_those_who_use_it(enforcing):
    url = enforcing.server.url + "/anonymize_faces/"
    told = requests.get(url + "enforcement", timeout=60).json()
    assert told == {"enforced": True, "prefix": "studio.safetensors", "fault": None}
    name = {"name": "studio.safetensors"}
    assert requests.post(url + "prefixes/delete", json=name, timeout=60).status_code == 409
    assert requests.post(url + "prefixes/rename", json={**name, "to": "x"}, timeout=60).status_code == 409
    other = {"name": "other.safetensors", "to": "studio"}
    assert requests.post(url + "prefixes/rename", json=other, timeout=60).status_code == 409
    folder = enforcing.server.prefix_folder
    (folder / "alias.safetensors").hardlink_to(folder / "studio.safetensors")
    for change, body in (
        ("delete", {"name": "alias.safetensors"}),
        ("rename", {"name": "alias.safetensors", "to": "x"}),
    ):
        assert requests.post(url + f"prefixes/{change}", json=body, timeout=60).status_code == 409
    (folder / "alias.safetensors").unlink()
    for name in ("studio.safetensors", "studio.pt", "STUDIO.bin", "ｓtudio.pt"):
        answer = requests.post(
            url + f"prefixes/import?name={name}",
            data=(folder / "other.safetensors").read_bytes(),
            headers={"Content-Type": "application/octet-stream"},
            timeout=60,
        )
        assert answer.status_code == 409
    assert sorted(path.name for path in folder.iterdir()) == ["other.safetensors", "studio.safetensors"]
    assert load_prefix(folder / "studio.safetensors").record == demo_prefix(0).record
    assert {path.name for path in enforcing.server.embedding_folder.rglob("*.*")} == {
        "ada.safetensors",
        "ink.safetensors",
    }


def test_a_server_that_enforces_nothing_has_no_guards(server):
    told = requests.get(server.url + "/anonymize_faces/enforcement", timeout=60).json()
    assert told == {"enforced": False, "prefix": None, "fault": None}
    assert (
        not {"EnforcedCLIP", "EnforcedAny", "EnforcedConditioning", "ProtectionRefused"} & server.object_info().keys()
    )


def test_the_setting_is_read_from_a_variable_or_a_file_and_is_never_silently_off(tmp_path):
    save_prefix(demo_prefix(), tmp_path / "p.safetensors")
    file = tmp_path / "enforce.ini"
    folders = [tmp_path]
    assert read_enforcement({}, file, folders) is None
    found = read_enforcement(
        {"ANONYMIZE_FACES_ENFORCE": "p.safetensors", "ANONYMIZE_FACES_TRUST": "A, B"}, file, folders
    )
    assert found.fault is None and found.prefix.length == 10 and found.trusted == {"A", "B"}
    file.write_text("[enforcement]\nprefix = p.safetensors\ntrusted_nodes =\n    Show: Text\n    B\n")
    found = read_enforcement({}, file, folders)
    assert found.fault is None and found.prefix.length == 10 and found.trusted == {"Show: Text", "B"}
    for wrong in ("", "[enforcement]\n", "prefix = p", "[enforcement]\nprefix = none.safetensors", "\0"):
        file.write_text(wrong)
        found = read_enforcement({}, file, folders)
        assert found.prefix is None and "must anonymize every prompt and cannot" in found.fault
    file.unlink()
    for blank in ("", " "):
        found = read_enforcement({"ANONYMIZE_FACES_ENFORCE": blank}, file, folders)
        assert found.prefix is None and "names no prefix" in found.fault
    (tmp_path / "p.safetensors").write_bytes(b"damaged")
    found = read_enforcement({"ANONYMIZE_FACES_ENFORCE": "p.safetensors"}, file, folders)
    assert found.prefix is None and "cannot be used as a prefix" in found.fault
