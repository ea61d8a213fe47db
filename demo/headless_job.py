"""`python -m anonymize_faces.demo.headless_job`: learns on the demo model without ComfyUI, and measures in ComfyUI.

The demo model is written as a pipeline of diffusers, `python -m trainer train` learns a prefix on it with the people,
prompts and settings of the shipped workflow, and a real ComfyUI server draws with it: the same figures and the same
limits as `make demo`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..prefix import load_prefix
from ..tools.comfy_server import ComfyServer
from ..tools.command import run_command
from ..tools.layout import ROOT
from .diffusers_folder import demo_pipeline
from .main_job import measure, status, train_graph, train_node
from .measuring.measure import make_gallery
from .measuring.reader import load_reader
from .measuring.report import print_table

PREFIX = "learned headless.safetensors"
RENAMED = {"gradient_checkpointing": "checkpointing"}
"""Widgets of the node whose options are called something else."""


def command_line(graph: Mapping[str, Any], folder: Path, model: Path, output: Path) -> list[str]:
    """The command that learns what the workflow's node would."""
    node = graph[train_node(graph)]["inputs"]
    people = graph[node["identities"][0]]["inputs"]["text"]
    options: dict[str, Any] = {"model": str(model), "output": str(output), "runs": str(folder / "runs")}
    for name, text in (("identities", people), ("general_prompts", node["general_prompts"])):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        options[name] = str(folder / f"{name}.txt")
    options |= {
        RENAMED.get(name, name): value
        for name, value in node.items()
        if not isinstance(value, list) and name != "general_prompts"
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    (folder / "settings.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [sys.executable, "-m", "trainer", "train", "--settings", str(folder / "settings.toml"), "--overwrite"]


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "headless", help="where report and picture go")
    output = parser.parse_args().output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    demo_pipeline().save_pretrained(output / "model")
    net = load_reader()
    with ComfyServer(output / "server", report=status) as server:
        prefix = server.prefix_folder / PREFIX
        command = command_line(train_graph(server), output, output / "model", prefix)
        print(f"$ {' '.join(command[1:])}", flush=True)
        started = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True)
        seconds = time.monotonic() - started
        print("Drawing people without and with it, in ComfyUI", flush=True)
        report, picture = measure([server], PREFIX, net, make_gallery(net))
        report |= {"training_seconds": seconds, "steps": load_prefix(prefix).record.steps}
    (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    picture.save(output / "before_after.png")
    if not print_table(report):
        raise SystemExit("A figure falls short of what is asked: see the table.")


if __name__ == "__main__":
    sys.exit(run_command(main))
