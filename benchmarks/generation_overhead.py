"""Measures what protection costs an artist: time to a picture, and time to start.

Prints, last, `RATIO generation_time` (20 steps of KSampler on a random model of SD1's layout in a real ComfyUI, prompts
encoded anew each time, with Anonymize Faces and without), `RATIO enforced_time` (the same workflow without the node on
a server that enforces, and on one that does not) and `RATIO import_time` (start of ComfyUI until it answers, with the
extension and without).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import requests
import torch

from ..demo.host import enter_host
from ..prefix import Prefix, PrefixRecord, save_prefix
from ..tools.comfy_server import ComfyServer
from ..tools.command import run_command
from ..tools.layout import EXTENSION
from .support.paired import Pairs, in_turns
from .support.sd1 import UNET, write_checkpoint

STEPS, SIDE, VECTORS = 20, 64, 10
LEAST_PAIRS, UNCERTAINTY = 8, 0.003
POLL_SECONDS = 0.005
PREFIX = "random.safetensors"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Threads that wait for one another on a busy machine are most of the noise; the ratio does not need them."""


def workflow(number: int, protected: bool) -> dict[str, Any]:
    """Draws a latent; the number makes both prompts and the noise new, so that the host reuses nothing of them."""
    clip = ["protect" if protected else "checkpoint", 0 if protected else 1]
    positive, negative = (
        {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": f"{text}, number {number}"}}
        for text in ("a portrait of Ada Lovelace in a garden, smiling", "blurry, low quality")
    )
    nodes = {
        "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "random.safetensors"}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": SIDE, "height": SIDE, "batch_size": 1}},
        "positive": positive,
        "negative": negative,
        "sample": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["checkpoint", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": number,
                "steps": STEPS,
                "cfg": 7.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "save": {"class_type": "SaveLatent", "inputs": {"samples": ["sample", 0], "filename_prefix": "bench"}},
    }
    if protected:
        inputs = {"clip": ["checkpoint", 1], "prefix": PREFIX, "strength": 1.0}
        nodes["protect"] = {"class_type": "AnonymizeFaces", "inputs": inputs}
    return nodes


def seconds_of(entry: dict[str, Any]) -> float:
    """How long the host was at it, by its own clock."""
    times = {kind: data["timestamp"] for kind, data in entry["status"]["messages"]}
    return (times["execution_success"] - times["execution_start"]) / 1000


def prepared(workspace: Path, **environment: str) -> ComfyServer:
    """A server, not yet started, with a random checkpoint and a random prefix."""
    server = ComfyServer(workspace, environment={**ONE_THREAD, **environment})
    write_checkpoint(server.model_folder("checkpoints") / "random.safetensors")
    vectors = torch.randn(VECTORS, UNET["context_dim"], generator=torch.Generator().manual_seed(0)) * 0.02
    save_prefix(Prefix({"l": vectors}, PrefixRecord("sd1", "0" * 16)), server.prefix_folder / PREFIX)
    return server


def generation(workspace: Path, most: int) -> tuple[Pairs, Pairs]:
    """Times pictures with and without Anonymize Faces on one server, and without it on one that enforces and on it."""
    enter_host()
    server = prepared(workspace / "free")
    enforcing = prepared(workspace / "enforcing", ANONYMIZE_FACES_ENFORCE=PREFIX)
    numbers = count(1000)

    def draw(on: ComfyServer, protected: bool) -> float:
        return seconds_of(on.run(workflow(next(numbers), protected)))

    def plain() -> float:
        return draw(server, False)

    with server, enforcing:
        told = requests.get(f"{enforcing.url}/anonymize_faces/enforcement", timeout=60).json()
        if not told["enforced"] or told["fault"]:
            raise SystemExit(f"The server that should enforce does not: see {enforcing.log_path}.")
        ways = (lambda: draw(server, True), lambda: draw(enforcing, False))
        for warm_up in (*ways, plain):
            warm_up()
        node, enforced = (in_turns(way, plain, LEAST_PAIRS, most, UNCERTAINTY) for way in ways)
        return node, enforced


def start(workspace: Path, most: int) -> Pairs:
    """Times starts of the host with and without the extension, and with no other."""

    def begin(extension: str) -> float:
        only = ("--disable-all-custom-nodes", "--whitelist-custom-nodes", extension)
        server = ComfyServer(workspace, arguments=only, environment=ONE_THREAD, poll_seconds=POLL_SECONDS)
        began = time.perf_counter()
        with server:
            seconds = time.perf_counter() - began
            if ("AnonymizeFaces" in server.object_info()) != (extension == EXTENSION):
                raise SystemExit(f"ComfyUI did not do as told with the extension: see {server.log_path}.")
        return seconds

    begin(EXTENSION), begin("none")
    return in_turns(lambda: begin(EXTENSION), lambda: begin("none"), LEAST_PAIRS, most, UNCERTAINTY)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=40, help="most pairs of pictures")
    parser.add_argument("--starts", type=int, default=40, help="most pairs of starts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="generation-overhead-") as folder:
        pictures, enforced = generation(Path(folder) / "pictures", arguments.pictures)
        print(pictures.summary("a picture, the node"), flush=True)
        print(enforced.summary("a picture, enforcement"), flush=True)
        starts = start(Path(folder) / "starts", arguments.starts)
        print(starts.summary("a start"), flush=True)
    print(f"RATIO generation_time {pictures.ratio:.4f}")
    print(f"RATIO enforced_time {enforced.ratio:.4f}")
    print(f"RATIO import_time {starts.ratio:.4f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
