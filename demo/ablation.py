"""`python -m anonymize_faces.demo.ablation`: learns a prefix without a server, on a GPU if there is one; measures it.

What differs from the defaults is given as settings, so that each part of the recipe can be left out or changed. Prints
the figures of docs/METHODS.md 1.8 at each guidance, then all of them as JSON in a line that begins with RESULT.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..tools.command import run_command
from ..tools.workflow import load_workflow
from ..trainer.data.identities import Identity
from .host import enter_host
from .loader import CLASSIC, KINDS, WEIGHTS
from .main_job import WORKFLOW
from .measuring.prompts import PER_PROMPT, Request
from .measuring.report import GUIDANCES, draw_all, figures
from .world.people import identities
from .world.renderer import SIZE

if TYPE_CHECKING:
    from ..trainer.progress import Learned
    from .generate import DemoParts


def learn_and_measure(kind: str, changes: dict[str, Any], weights: Path) -> dict[str, Any]:
    """Settings, validation scores, seconds, and the figures by guidance.

    Args:
        kind: which demo model, one of `KINDS`.
        changes: values of `TrainingSettings` that differ from the shipped workflow's.

    Raises:
        AnonymizationError: a setting is out of range, or learning ended without a prefix.
    """
    from .generate import generate
    from .measuring.measure import make_gallery
    from .measuring.reader import load_reader

    plain, prefixed, learned = learn(kind, identities(unseen=(False,)), changes, weights)

    def draw(requests: Sequence[Request], with_prefix: bool, guidance: float) -> np.ndarray:
        prompts = [request.prompt for request in requests for _ in range(PER_PROMPT)]
        seeds = [PER_PROMPT * request.seed + k for request in requests for k in range(PER_PROMPT)]
        return generate(prefixed if with_prefix else plain, prompts, seeds, guidance=guidance)

    net = load_reader(weights)
    gallery, by_guidance = make_gallery(net), {}
    for guidance in GUIDANCES:
        found, _ = figures(draw_all(draw, guidance), net, gallery)
        by_guidance[f"{guidance:g}"] = {name: round(float(value), 4) for name, value in found.items()}
        print(f"  guidance {guidance:g}: {by_guidance[f'{guidance:g}']}", flush=True)
    return {
        "model": kind,
        "changes": changes,
        "scores": [(score.step, score.identities, score.general) for score in learned.scores],
        "drawing_seconds": learned.drawing_seconds,
        "learning_seconds": learned.learning_seconds,
        "figures": by_guidance,
    }


def learn(
    kind: str, people: Sequence[Identity], changes: dict[str, Any], weights: Path = WEIGHTS
) -> tuple[DemoParts, DemoParts, Learned]:
    """The demo model without and with a prefix that is learned on some people, and what came of learning.

    Args:
        kind, changes, weights: see `learn_and_measure`.

    Raises:
        AnonymizationError: see `learn_and_measure`.
    """
    from ..engines.comfy.denoiser import ComfyDenoiser, Drawing
    from ..engines.comfy.protected_clip import protect
    from ..trainer.data.prompts import general_prompts
    from ..trainer.progress import Callbacks, Progress
    from ..trainer.settings import TrainingSettings
    from ..trainer.training import learn_prefix
    from .generate import GUIDANCE, STEPS, DemoParts
    from .loader import load_demo_model

    model, clip, vae = load_demo_model(weights=weights, kind=kind)
    settings = TrainingSettings(**changes)
    denoiser = ComfyDenoiser(model, clip, vae, (SIZE, SIZE), Drawing(steps=STEPS, cfg=GUIDANCE))
    shown = -1

    def report(progress: Progress) -> None:
        nonlocal shown
        share = 10 * progress.done // sum(progress.of)
        if share > shown:
            shown = share
            print(f"  {progress.stage}: {10 * share} %", flush=True)

    with torch.inference_mode(False), torch.enable_grad():
        learned = learn_prefix(
            denoiser, people, general_prompts(shipped_prompts(), people), settings, Callbacks(report=report)
        )
    return DemoParts(model, clip, vae), DemoParts(model, protect(clip, learned.prefix, 1.0), vae), learned


def shipped_prompts() -> str:
    """The general prompts of the shipped workflow."""
    nodes = load_workflow(WORKFLOW)["nodes"]
    (trainer,) = (node for node in nodes if node["type"] == "TrainAnonymizationPrefix")
    return str(trainer["widgets_values"][0])


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Reads which model is to be learned on, and which settings differ."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="SETTING=VALUE", help="as in text_steps=0 overshoot=0.3")
    parser.add_argument("--model", choices=KINDS, default=CLASSIC)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights are")
    return parser


def changes_of(texts: Sequence[str]) -> dict[str, Any]:
    """Settings of texts as `parser_of` reads them."""
    changes = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return changes


def main() -> None:
    """Learns with the given changes and prints what came of it."""
    arguments = parser_of(__doc__).parse_args()
    enter_host(cpu=not torch.cuda.is_available())
    changes = changes_of(arguments.changes)
    print(f"RESULT {json.dumps(learn_and_measure(arguments.model, changes, arguments.weights))}")


if __name__ == "__main__":
    sys.exit(run_command(main))
