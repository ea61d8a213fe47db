"""Makes the workflow of a short training run, for a real server, and asks what it tells of the last run."""

from __future__ import annotations

from typing import Any

import requests

from anonymize_faces.tools.comfy_server import ComfyServer

PEOPLE = "Ada Example: a woman with brown hair\nBen Sample: a man with a beard"

TRAINING = {
    "general_prompts": "a red circle",
    "vectors": 4,
    "text_steps": 2,
    "steps": 3,
    "batch_size": 4,
    "learning_rate": 0.01,
    "seed": 1,
    "init": "",
    "portraits_per_identity": 1,
    "noisings_per_picture": 2,
    "general_drawn": 4,
    "held_out": 0.0,
    "width": 64,
    "height": 64,
    "drawing_steps": 2,
    "drawing_cfg": 3.0,
    "conditional": False,
    "harden": 0.0,
    "face_region": False,
}
"""Settings of a run of seconds. Fitting a gate, which conditional prefixes have, takes longer than all of it."""

Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def training(people: str = PEOPLE, name: str = "learned", **settings: Any) -> Graph:
    """Learns a prefix on the demo model and saves it."""
    sockets = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "identities": ["people", 0]}
    return {
        "load": node("LoadDemoModel"),
        "people": node("IdentityList", text=people),
        "train": node("TrainAnonymizationPrefix", **sockets, **(TRAINING | settings)),
        "save": node("SaveAnonymizationPrefix", prefix=["train", 0], name=name, format="safetensors"),
    }


def followed(server: ComfyServer) -> dict[str, Any]:
    """What the server tells pages of the last run."""
    return requests.get(f"{server.url}/anonymize_faces/training", timeout=60).json()["run"]
