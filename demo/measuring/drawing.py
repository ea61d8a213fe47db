"""Draws what is measured on real ComfyUI servers, several of them side by side."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from PIL import Image

from ...tools.comfy_server import ComfyServer
from ..generate import GUIDANCE, SAMPLER, SCHEDULER, STEPS
from ..kept import Kept, digest_of_graph
from ..loader import CLASSIC
from ..world.renderer import SIZE
from .prompts import PER_PROMPT, Request

TOGETHER = 8
"""Requests that a server draws at once: few enough that several servers have some of sixteen."""

MOST_SERVERS = 4
"""Side by side; each holds the host and the demo model, a gigabyte or so."""


@contextmanager
def servers_side_by_side(
    folder: Path, prefix: Path, report: Callable[[str], None] = print
) -> Iterator[tuple[ComfyServer, ...]]:
    """Servers that share the cores of this machine, each with a prefix file.

    Pictures of the demo are small: two cores draw more of them with a server each than with one for both.

    Args:
        folder: where their workspaces are.
        prefix: the file.
        report: see `ComfyServer`.

    Raises:
        ServerError: one does not start.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(cores, MOST_SERVERS)
    threads = {"OMP_NUM_THREADS": str(cores // count)}
    made = [
        ComfyServer(folder / f"drawing {number}", environment=threads, report=report) for number in range(1, count + 1)
    ]
    with ExitStack() as stack:
        for server in made:
            server.prefix_folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(prefix, server.prefix_folder / prefix.name)
            stack.callback(server.stop)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(ComfyServer.start, made))
        yield tuple(made)


def draw_side_by_side(
    servers: Sequence[ComfyServer],
    requests: Sequence[Request],
    draw: Callable[[ComfyServer, Sequence[Request]], np.ndarray],
) -> np.ndarray:
    """What `draw` makes of all requests, some at a time, each time on a server that has nothing else to do.

    Args:
        draw: gives `[pictures, …]` of some of the requests, as many pictures of each.
    """
    idle: SimpleQueue[ComfyServer] = SimpleQueue()
    for server in servers:
        idle.put(server)

    def drawn(some: Sequence[Request]) -> np.ndarray:
        server = idle.get()
        try:
            return draw(server, some)
        finally:
            idle.put(server)

    pool = ThreadPoolExecutor(len(servers))
    try:
        parts = [requests[start : start + TOGETHER] for start in range(0, len(requests), TOGETHER)]
        return np.concatenate(list(pool.map(drawn, parts)))
    finally:
        pool.shutdown(cancel_futures=True)


def drawing_graph(
    requests: Sequence[Request],
    prefix: str | None,
    strength: float = 1.0,
    layer: int | None = None,
    guidance: float = GUIDANCE,
    model: str = CLASSIC,
    pictures: int = PER_PROMPT,
) -> dict[str, Any]:
    """A workflow that draws all requests with a demo model, through Anonymize Faces if a prefix file is named.

    Args:
        layer: what CLIP Set Last Layer is set to, behind Anonymize Faces; None: it is not there.
        model: one of `KINDS`.
        pictures: of each request.
    """
    graph: dict[str, Any] = {
        "model": {"class_type": "LoadDemoModel", "inputs": {"model": model}},
        "latent": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": SIZE, "height": SIZE, "batch_size": pictures},
        },
    }
    clip = ["model", 1]
    if prefix is not None:
        inputs = {"clip": clip, "prefix": prefix, "strength": strength}
        graph["protect"] = {"class_type": "AnonymizeFaces", "inputs": inputs}
        clip = ["protect", 0]
    if layer is not None:
        graph["layer"] = {"class_type": "CLIPSetLastLayer", "inputs": {"clip": clip, "stop_at_clip_layer": layer}}
        clip = ["layer", 0]
    graph["negative"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": ""}}
    for i, request in enumerate(requests):
        graph[f"prompt{i}"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": request.prompt}}
        graph[f"sample{i}"] = {
            "class_type": "KSampler",
            "inputs": {
                "model": ["model", 0],
                "positive": [f"prompt{i}", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": request.seed,
                "steps": STEPS,
                "cfg": guidance,
                "sampler_name": SAMPLER,
                "scheduler": SCHEDULER,
                "denoise": 1.0,
            },
        }
        graph[f"decode{i}"] = {"class_type": "VAEDecode", "inputs": {"samples": [f"sample{i}", 0], "vae": ["model", 2]}}
        graph[f"picture{i}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"decode{i}", 0]}}
    return graph


def draw_pictures(
    server: ComfyServer,
    requests: Sequence[Request],
    prefix: str | None,
    strength: float = 1.0,
    kept: Kept | None = None,
    layer: int | None = None,
    guidance: float = GUIDANCE,
    model: str = CLASSIC,
    pictures: int = PER_PROMPT,
) -> np.ndarray:
    """Draws all requests on the server: uint8 [len(requests) * pictures, 96, 96, 3].

    Args:
        kept: where pictures are kept, and taken from if they were drawn before.
        pictures: of each request.
    """
    all_drawn = []
    for start in range(0, len(requests), TOGETHER):
        some = requests[start : start + TOGETHER]
        graph = drawing_graph(some, prefix, strength, layer, guidance, model, pictures)
        key = digest_of_graph(graph, None if prefix is None else server.prefix_folder / prefix) if kept else ""
        drawn = kept.pictures(key, len(some) * pictures) if kept else None
        if drawn is None:
            drawn = _drawn(server, graph, len(some))
            if kept:
                kept.keep_pictures(key, drawn)
        all_drawn.append(drawn)
    return np.concatenate(all_drawn)


def _drawn(server: ComfyServer, graph: Mapping[str, Any], count: int) -> np.ndarray:
    outputs = server.run(graph)["outputs"]
    references = [reference for i in range(count) for reference in outputs[f"picture{i}"]["images"]]
    return np.stack([np.asarray(Image.open(io.BytesIO(server.image(one))).convert("RGB")) for one in references])
