"""`make demo`: a real ComfyUI server learns a prefix from the shipped workflow, then draws people without and with it.

Prints the figures of docs/METHODS.md 1.8 and writes `build/demo/report.json` and `build/demo/before_after.png`. Broken
off, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..prefix import load_prefix
from ..tools.comfy_server import ComfyServer, ServerProgress
from ..tools.command import run_command
from ..tools.layout import BUILD, ROOT
from ..tools.workflow import load_workflow, workflow_to_prompt
from .kept import Kept, digest_of_inputs
from .loader import CLASSIC, KINDS, MODERN
from .measuring.drawing import draw_pictures, draw_side_by_side, servers_side_by_side
from .measuring.measure import make_gallery
from .measuring.prompts import PER_PROMPT, Request
from .measuring.reader import load_reader
from .measuring.report import DRAWINGS, GUIDANCES, draw_all, figures, picture_of_pairs, print_table, report_of
from .modern.language_model import language_model_file

if TYPE_CHECKING:
    from ..faces.gallery import Gallery
    from .measuring.reader import ReaderNet


WORKFLOW = ROOT / "example_workflows" / "1 Train on the demo model.json"
OUTPUTS = {CLASSIC: BUILD / "demo", MODERN: BUILD / "demo-modern"}
"""Where each demo model's report and picture go."""


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


def train_graph(server: ComfyServer, seed: int | None = None, model: str = CLASSIC) -> dict[str, Any]:
    """The shipped example workflow on a demo model, as the server's API takes it; with another seed if one is given."""
    graph = workflow_to_prompt(load_workflow(WORKFLOW), server.object_info())
    for node in graph.values():
        if node["class_type"] == "LoadDemoModel":
            node["inputs"]["model"] = model
    if seed is not None:
        graph[train_node(graph)]["inputs"]["seed"] = seed
    return graph


def train_node(graph: Mapping[str, Any]) -> str:
    """The id of the node that trains."""
    return next(key for key, node in graph.items() if node["class_type"] == "TrainAnonymizationPrefix")


def learn(server: ComfyServer, seed: int | None = None, model: str = CLASSIC) -> tuple[str, float, int]:
    """Runs the shipped workflow: the prefix file it saved, the seconds of training, the steps it made."""
    graph = train_graph(server, seed, model)
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
    servers: Sequence[ComfyServer],
    prefix: str,
    net: ReaderNet,
    gallery: Gallery,
    kept: Kept | None = None,
    seed: int | None = None,
    model: str = CLASSIC,
    short: bool = False,
) -> tuple[dict[str, Any], Image.Image]:
    """Draws everything without and with the prefix at each guidance: the report, and the picture of pairs.

    Args:
        servers: which all have the prefix; they draw side by side.
    """
    by_guidance, counts, picture = {}, {}, None
    part = itertools.count(1)

    def draw(requests: Sequence[Request], prefixed: bool, guidance: float) -> np.ndarray:
        how = f"{'with' if prefixed else 'without'} the prefix at guidance {guidance:g}"
        status(f"drawing {how}, part {next(part)} of {DRAWINGS * len(GUIDANCES)}")
        pictures = requests[0].in_short if short else PER_PROMPT
        options = {"kept": kept, "guidance": guidance, "model": model, "pictures": pictures}
        chosen = prefix if prefixed else None
        return draw_side_by_side(servers, requests, lambda server, some: draw_pictures(server, some, chosen, **options))

    for guidance in GUIDANCES:
        drawn = draw_all(draw, guidance)
        by_guidance[guidance], counts = figures(drawn, net, gallery)
        picture = picture or picture_of_pairs(drawn)
    report = report_of(by_guidance, counts, train_seed(servers[0]) if seed is None else seed)
    return report | {"model": model}, picture


def train_seed(server: ComfyServer) -> int:
    """The seed of the shipped workflow."""
    graph = train_graph(server)
    return int(graph[train_node(graph)]["inputs"]["seed"])


def run(output: Path, seed: int | None = None, model: str = CLASSIC, short: bool = False) -> dict[str, Any]:
    """Learns with a seed, the workflow's if none is given, measures, and writes report and picture: the report.

    Args:
        short: see `Request.in_short`.

    Raises:
        AnonymizationError: the language model that the demo model reads is not there.
    """
    if model == MODERN:
        language_model_file()
    output.mkdir(parents=True, exist_ok=True)
    net = load_reader()
    inputs = digest_of_inputs(seed=seed, model=model, short=short)
    kept = Kept(output / "kept", inputs)
    server = ComfyServer(output / "server", report=status)
    if found := kept.learned(server.prefix_folder):
        prefix, seconds, steps = found
        print(f"Going on where the last demo was broken off: it had learned {prefix}", flush=True)
    else:
        for old in server.prefix_folder.glob("*.safetensors"):
            old.unlink()
        print("Starting a real ComfyUI server with the extension", flush=True)
        with server:
            print(f"Learning a prefix on 48 of 64 invented people ({WORKFLOW.name}, model {model})", flush=True)
            prefix, seconds, steps = learn(server, seed, model)
        kept.keep_learned(server.prefix_folder, prefix, seconds, steps)
        print(f"\nLearned {prefix} in {seconds:.0f} s; drawing people without and with it", flush=True)
    with servers_side_by_side(output, server.prefix_folder / prefix, status) as drawing:
        report, picture = measure(drawing, prefix, net, make_gallery(net), kept, seed, model, short)
    report |= {"training_seconds": seconds, "steps": steps, "inputs": inputs}
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    picture.save(output / "before_after.png")
    kept.done()
    return report


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=KINDS, default=CLASSIC, help="the demo model (%(default)s)")
    parser.add_argument("--output", type=Path, help="where report and picture go (build/demo, build/demo-modern)")
    parser.add_argument("--seed", type=int, help="learn with another seed than the workflow's")
    parser.add_argument("--full", action="store_true", help=f"draw {PER_PROMPT} pictures of each prompt, not 1 or 2")
    arguments = parser.parse_args()
    started = time.monotonic()
    output = arguments.output or OUTPUTS[arguments.model]
    holds = print_table(run(output, arguments.seed, arguments.model, short=not arguments.full))
    print(f"\n{output / 'before_after.png'}\n{output / 'report.json'}")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")
    if not holds:
        raise SystemExit("A figure falls short of what is asked: see the table.")


if __name__ == "__main__":
    sys.exit(run_command(main, "It was interrupted; the same command goes on where it was."))
