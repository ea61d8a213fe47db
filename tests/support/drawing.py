"""Draws on the server, for all tests alike."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anonymize_faces.tools.comfy_server import ComfyServer

PROTECTED = ["anonymize", 0]
PLAIN = ["demo", 1]


def anonymize(prefix: str = "anonymize/one.safetensors", clip=PLAIN, **inputs) -> dict:
    return {"class_type": "AnonymizeFaces", "inputs": {"clip": clip, "prefix": prefix, "strength": 1.0, **inputs}}


def drawing(clip, text: str = "a portrait of Ada Lovelace", positive=("yes", 0), **nodes) -> dict:
    """A workflow that draws one picture; `positive` is the wire to the sampler, `nodes` are added or replace others."""
    encode = {
        name: {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": t}}
        for name, t in (("yes", text), ("no", ""))
    }
    sampling = {"seed": 7, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"model": ["demo", 0], "positive": list(positive), "negative": ["no", 0], "latent_image": ["latent", 0]}
    return {
        "demo": {"class_type": "LoadDemoModel", "inputs": {}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        **encode,
        "sample": {"class_type": "KSampler", "inputs": {**sampling, **wires}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["demo", 2]}},
        "show": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "anonymize"}},
        **nodes,
    }


class Draw:
    """Draws `drawing(...)` on a server; the picture as an array of bytes."""

    def __init__(self, server: ComfyServer) -> None:
        self._server = server
        self._count = 0

    def __call__(self, clip, text: str = "a portrait of Ada Lovelace", **nodes) -> np.ndarray:
        # The host shows nothing for a workflow that it has run before: each picture gets a name of its own.
        graph = drawing(clip, text, **nodes)
        self._count += 1
        graph["show"]["inputs"]["filename_prefix"] = f"anonymize/{self._count}"
        (picture,) = self._server.run(graph)["outputs"]["show"]["images"]
        return np.asarray(Image.open(io.BytesIO(self._server.image(picture))))
