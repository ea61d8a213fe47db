"""`make demo`: a real ComfyUI server learns a prefix from the shipped workflow, then draws people without and with it.

Prints the figures of docs/METHODS.md 1.8 and writes `build/demo/report.json` and `build/demo/before_after.png`. Broken
off, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..faces.gallery import Gallery
from ..prefix import load_prefix
from ..tools.comfy_server import ComfyServer, ServerProgress
from ..tools.command import run_command
from ..tools.layout import ROOT
from ..tools.workflow import load_workflow, workflow_to_prompt
from .generate import GUIDANCE, SAMPLER, SCHEDULER, STEPS
from .kept import Kept, digest_of_graph, digest_of_inputs
from .measure import face_retention, identification_rate, looks_kept, make_gallery, preservation
from .reader import load_reader, read
from .sheet import before_after
from .world.people import THING_PROMPTS, cast, cast_looks

if TYPE_CHECKING:
    from .reader import ReaderNet, Reading


WORKFLOW = ROOT / "example_workflows" / "1 Train on the demo model.json"
PER_PROMPT = 4
FIRST_SEED = 777_000


class Status:
    """The line that says what is going on: rewritten in place on a terminal, printed once elsewhere."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, text: str) -> None:
        """Shows the line, if it is news."""
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            print(f"  {text}"[:width].ljust(width), end="\r", flush=True)
        elif text != self._shown:
            print(f"  {text}", flush=True)
        self._shown = text


status = Status()


@dataclass(frozen=True)
class Request:
    """One prompt and the seed of its noise; each gives `PER_PROMPT` pictures."""

    prompt: str
    seed: int


def name_prompt(index: int) -> Request:
    """The evaluation's prompt for one of the cast."""
    return Request(f"A close-up portrait of {cast()[index].name}", FIRST_SEED + index)


def drawing_graph(
    requests: Sequence[Request], prefix: str | None, strength: float = 1.0, layer: int | None = None
) -> dict[str, Any]:
    """A workflow that draws all requests with the demo model, through Anonymize Faces if a prefix file is named.

    Args:
        layer: what CLIP Set Last Layer is set to, behind Anonymize Faces; None: it is not there.
    """
    graph: dict[str, Any] = {
        "model": {"class_type": "LoadDemoModel", "inputs": {}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": PER_PROMPT}},
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
                "cfg": GUIDANCE,
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
) -> np.ndarray:
    """Draws all requests on the server: uint8 [len(requests) * PER_PROMPT, 64, 64, 3].

    Args:
        kept: where pictures are kept, and taken from if they were drawn before.
    """
    pictures = []
    for start in range(0, len(requests), 16):
        some = requests[start : start + 16]
        graph = drawing_graph(some, prefix, strength, layer)
        key = digest_of_graph(graph, None if prefix is None else server.prefix_folder / prefix) if kept else ""
        drawn = kept.pictures(key, len(some) * PER_PROMPT) if kept else None
        if drawn is None:
            drawn = _drawn(server, graph, len(some))
            if kept:
                kept.keep_pictures(key, drawn)
        pictures.append(drawn)
    return np.concatenate(pictures)


def _drawn(server: ComfyServer, graph: Mapping[str, Any], count: int) -> np.ndarray:
    outputs = server.run(graph)["outputs"]
    references = [reference for i in range(count) for reference in outputs[f"picture{i}"]["images"]]
    return np.stack([np.asarray(Image.open(io.BytesIO(server.image(one))).convert("RGB")) for one in references])


def train_graph(server: ComfyServer, seed: int | None = None) -> dict[str, Any]:
    """The shipped example workflow, as the server's API takes it; with another seed if one is given."""
    graph = workflow_to_prompt(load_workflow(WORKFLOW), server.object_info())
    if seed is not None:
        graph[train_node(graph)]["inputs"]["seed"] = seed
    return graph


def train_node(graph: Mapping[str, Any]) -> str:
    """The id of the node that trains."""
    return next(key for key, node in graph.items() if node["class_type"] == "TrainAnonymizationPrefix")


def learn(server: ComfyServer, seed: int | None = None) -> tuple[str, float, int]:
    """Runs the shipped workflow: the prefix file it saved, the seconds of training, the steps it made."""
    graph = train_graph(server, seed)
    train = train_node(graph)
    before = {path.name for path in server.prefix_folder.glob("*.safetensors")}
    started = time.monotonic()

    def show(progress: ServerProgress) -> None:
        if progress.node_id == train:
            share = int(20 * progress.value / progress.maximum) * 5
            status(f"drawing what to learn from, then learning: {share} %")

    server.wait(server.queue(graph), on_progress=show)
    seconds = time.monotonic() - started
    saved = {path.name for path in server.prefix_folder.glob("*.safetensors")} - before
    if len(saved) != 1:
        raise SystemExit(f"The workflow saved {len(saved)} new prefixes in {server.prefix_folder}; expected one.")
    name = saved.pop()
    return name, seconds, load_prefix(server.prefix_folder / name).record.steps


def measure(
    server: ComfyServer, prefix: str, net: ReaderNet, gallery: Gallery, kept: Kept | None = None
) -> tuple[dict[str, Any], Image.Image]:
    """Draws everything without and with the prefix and reads it: the report, and the picture of pairs."""
    people = cast()
    who = [i for i in range(len(people)) for _ in range(PER_PROMPT)]
    names = [name_prompt(i) for i in range(len(people))]
    status("drawing people without the prefix")
    plain = draw_pictures(server, names, None, kept=kept)
    status("drawing people with the prefix")
    prefixed = draw_pictures(server, names, prefix, kept=kept)
    status("drawing described people")
    described = [
        Request(f"a portrait of {look.describe()}", FIRST_SEED + 100 + i) for i, look in enumerate(cast_looks())
    ]
    attributes, attributes_prefixed = (draw_pictures(server, described, choice, kept=kept) for choice in (None, prefix))
    attribute_looks = [look for look in cast_looks() for _ in range(PER_PROMPT)]
    status("drawing things")
    things = [Request(prompt, FIRST_SEED + 200 + i) for i, prompt in enumerate(THING_PROMPTS)]
    others = [Request(request.prompt, request.seed + 10_000) for request in things]
    things_plain, things_prefixed = (
        draw_pictures(server, things, None, kept=kept),
        draw_pictures(server, things, prefix, kept=kept),
    )

    def part(pixels: np.ndarray, unseen: bool | None) -> tuple[Reading, list[int]]:
        keep = [k for k, i in enumerate(who) if unseen is None or people[i].unseen is unseen]
        return read(net, pixels[keep]), [who[k] for k in keep]

    def figures(unseen: bool) -> dict[str, float]:
        reading, chosen = part(prefixed, unseen)
        return {
            "identification_rate": identification_rate(reading, chosen, gallery),
            "attribute_retention": looks_kept(reading, [people[i].looks for i in chosen]),
        }

    report = {
        "base": {
            "identification_rate": identification_rate(*part(plain, None), gallery),
            "attribute_accuracy": looks_kept(read(net, attributes), attribute_looks),
        },
        "trained": figures(unseen=False),
        "unseen": figures(unseen=True),
        "preservation": preservation(things_plain, things_prefixed, draw_pictures(server, others, None, kept=kept)),
        "face_retention": face_retention(part(prefixed, None)[0]),
    }
    shown = [next(i for i in range(4 * g, 4 * g + 4) if people[i].unseen == bool(g % 2)) for g in range(0, 16)]
    pairs = [(people[i].name, people[i].unseen, plain[4 * i], prefixed[4 * i]) for i in shown]
    others_shown = [("described, not named", attributes[4 * k], attributes_prefixed[4 * k]) for k in range(1, 16, 5)]
    others_shown += [(r.prompt, things_plain[4 * k], things_prefixed[4 * k]) for k, r in enumerate(things[:13])]
    return report, before_after(pairs, others_shown)


LIMITS = {
    "base.identification_rate": (">=", 0.80),
    "base.attribute_accuracy": (">=", 0.90),
    "trained.identification_rate": ("<=", 0.08),
    "trained.attribute_retention": (">=", 0.90),
    "unseen.identification_rate": ("<=", 0.15),
    "unseen.attribute_retention": (">=", 0.90),
    "preservation": ("<=", 0.20),
    "face_retention": (">=", 0.95),
}


def print_table(report: dict[str, Any]) -> bool:
    """Prints each figure beside what is asked; True if all hold."""
    holds = True
    print(f"\n{'figure':<30} {'measured':>9}   asked")
    for name, (sign, limit) in LIMITS.items():
        value: Any = report
        for key in name.split("."):
            value = value[key]
        good = value >= limit if sign == ">=" else value <= limit
        holds &= good
        print(f"{name:<30} {value:>9.3f}   {sign} {limit:.2f} {'' if good else '  NOT REACHED'}")
    print(f"{'training_seconds':<30} {report['training_seconds']:>9.0f}\n{'steps':<30} {report['steps']:>9d}")
    return holds


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "demo", help="where report and picture go")
    parser.add_argument("--seed", type=int, help="learn with another seed than the workflow's")
    arguments = parser.parse_args()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    net = load_reader()
    kept = Kept(output / "kept", digest_of_inputs(seed=arguments.seed))
    print("Starting a real ComfyUI server with the extension", flush=True)
    with ComfyServer(output / "server", report=status) as server:
        if found := kept.learned(server.prefix_folder):
            prefix, seconds, steps = found
            print(f"\nGoing on where the last demo was broken off: it had learned {prefix}", flush=True)
        else:
            for old in server.prefix_folder.glob("*.safetensors"):
                old.unlink()
            print(f"Learning a prefix on 48 of 64 invented people ({WORKFLOW.name})", flush=True)
            prefix, seconds, steps = learn(server, arguments.seed)
            kept.keep_learned(server.prefix_folder, prefix, seconds, steps)
            print(f"\nLearned {prefix} in {seconds:.0f} s; drawing people without and with it", flush=True)
        report, picture = measure(server, prefix, net, make_gallery(net), kept)
    report |= {"training_seconds": seconds, "steps": steps}
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    picture.save(output / "before_after.png")
    kept.done()
    holds = print_table(report)
    print(f"\n{output / 'before_after.png'}\n{output / 'report.json'}")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")
    if not holds:
        raise SystemExit("A figure falls short of what is asked: see the table.")


if __name__ == "__main__":
    sys.exit(run_command(main, "It was interrupted; the same command goes on where it was."))
