"""`python -m anonymize_faces.demo.thumbnails`: runs the example workflows and makes their thumbnails of what they draw.

Each runs whole, in a real ComfyUI and on the demo model, in the order of their numbers, since later ones use the prefix
that the first one learns. The one for a checkpoint of one's own, which nobody has here, shows the demo's run in another
cut. Takes some minutes; after a change of the demo model or of an example, run it again and commit the pictures.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..faces.palette import PAPER
from ..tools.comfy_server import ComfyServer
from ..tools.command import run_command
from ..tools.layout import ROOT
from ..tools.workflow import load_workflow, workflow_to_prompt
from .main_job import status

EXAMPLES = ROOT / "example_workflows"
WORKSPACE = ROOT / "build" / "thumbnails"
SIDE = 400
QUALITY = 85
LARGEST = 40_000
"""Bytes of a thumbnail, which the browser of templates loads with all others."""

Shown = Mapping[str, Sequence[Image.Image]]
"""Pictures by the type of the node that showed them."""


def stacked(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Two pictures, each as wide as the thumbnail where it has room."""
    upper, lower = (_fitted(picture, SIDE, most) for picture, most in ((upper, SIDE), (lower, SIDE)))
    page = Image.new("RGB", (SIDE, max(SIDE, upper.height + lower.height)), PAPER)
    gap = (page.height - upper.height - lower.height) // 3
    page.paste(upper, ((SIDE - upper.width) // 2, gap))
    page.paste(lower, ((SIDE - lower.width) // 2, page.height - gap - lower.height))
    return page.crop((0, 0, SIDE, SIDE))


def tiled(pictures: Sequence[Image.Image], columns: int = 2, rows: int = 2) -> Image.Image:
    """The first ones, side by side."""
    side = SIDE // columns
    page = Image.new("RGB", (SIDE, side * rows), PAPER)
    for place, picture in enumerate(pictures[: columns * rows]):
        row, column = divmod(place, columns)
        page.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (column * side, row * side))
    return page


def whole(picture: Image.Image) -> Image.Image:
    """One picture, as large as it has room."""
    fitted = _fitted(picture, SIDE, SIDE)
    page = Image.new("RGB", (SIDE, SIDE), PAPER)
    page.paste(fitted, ((SIDE - fitted.width) // 2, (SIDE - fitted.height) // 2))
    return page


def top(picture: Image.Image) -> Image.Image:
    """The upper part of a picture that is higher than wide."""
    return whole(picture.crop((0, 0, picture.width, min(picture.height, picture.width))))


THUMBNAILS: Mapping[str, Callable[[Shown], Image.Image]] = {
    "1 Train on the demo model": lambda shown: stacked(shown["TrainAnonymizationPrefix"][0], shown["PreviewImage"][0]),
    "2 Protect a workflow": lambda shown: tiled(shown["SaveImage"]),
    "3 Compare strengths": lambda shown: whole(shown["PreviewImage"][0]),
    "4 Measure before and after": lambda shown: whole(shown["MeasureAnonymization"][0]),
    "5 Evaluate on the demo model": lambda shown: top(shown["EvaluateAnonymization"][0]),
    "7 Describe people, then train": lambda shown: stacked(
        tiled(shown["PreviewImage"][1:], 4, 2), shown["TrainAnonymizationPrefix"][0]
    ),
    "8 Protect photos": lambda shown: tiled([*shown["ProtectPhotos"][:2], *shown["PreviewImage"][:2]]),
    "9 Measure how photos are protected": lambda shown: top(shown["PreviewImage"][0]),
    "10 Describe faces, then make a dataset": lambda shown: tiled(shown["PreviewImage"], 4, 4),
    "13 Learn experts": lambda shown: stacked(shown["PreviewImage"][0], tiled(shown["SaveImage"], 4, 1)),
    "11 Describe faces, then train a LoRA": lambda shown: tiled(shown["SaveImage"]),
    "12 Change faces alone": lambda shown: tiled([shown["FaceMask"][place] for place in (0, 4, 1, 5)]),
}
"""What is shown of each example's own pictures."""

OF_YOUR_OWN = "6 Train on your own checkpoint"


def run(server: ComfyServer, name: str) -> Shown:
    """Runs an example; what its nodes showed."""
    graph = workflow_to_prompt(load_workflow(EXAMPLES / f"{name}.json"), server.object_info())
    outputs = server.run(graph)["outputs"]
    shown: dict[str, list[Image.Image]] = {}
    for node, output in outputs.items():
        pictures = [picture for key in ("before_after", "compared", "images") for picture in output.get(key, ())]
        shown.setdefault(graph[node]["class_type"], []).extend(_picture(server, picture) for picture in pictures)
    return shown


def save(picture: Image.Image, name: str) -> Path:
    """Writes a thumbnail, as well as there is room for."""
    path = EXAMPLES / f"{name}.jpg"
    for quality in range(QUALITY, 0, -5):
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() < LARGEST:
            break
    path.write_bytes(data.getvalue())
    return path


def _picture(server: ComfyServer, reference: Mapping[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(server.image(reference))).convert("RGB")


def _fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    """Runs them all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="examples; all if none is named")
    names = parser.parse_args().names or list(THUMBNAILS)
    if strange := [name for name in names if name not in THUMBNAILS]:
        parser.error(f"there is no example {strange[0]!r}: choose of {', '.join(map(repr, THUMBNAILS))}")
    with ComfyServer(WORKSPACE, report=status) as server:
        for name in names:
            status(f"running '{name}'")
            shown = run(server, name)
            made = [save(THUMBNAILS[name](shown), name)]
            if name == names[0] == next(iter(THUMBNAILS)):
                made.append(save(whole(shown["PreviewImage"][0]), OF_YOUR_OWN))
            for path in made:
                print(f"\n{path}")


if __name__ == "__main__":
    sys.exit(run_command(main))
