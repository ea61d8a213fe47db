"""`python -m anonymize_faces.demo.check`: prints whether the demo model can be the ruler, on pictures it draws."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..tools.command import run_command
from ..tools.layout import ROOT
from .generate import GUIDANCE
from .host import enter_host
from .loader import CLASSIC, KINDS, WEIGHTS
from .world.language import describe
from .world.people import Looks, all_looks, cast
from .world.renderer import LANDMARKS, MASCOTS, picture_of

PER_PERSON = 4
PER_LOOKS = 2
HIGH = 2.5
"""Times the model's own guidance: a ruler must stand it."""

THINGS = (
    "a red circle",
    "a blue square in a garden",
    "a green tree",
    "a yellow star at night",
    "a house",
    "mountains",
    "a boat by the sea",
    "a sunset",
)


def main() -> None:
    """Prints reader, identification, looks, named things, at two guidances; writes a sheet of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sheet", type=Path, default=ROOT / "build" / "demo" / "check.png", help="where the pictures go"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the weights are")
    parser.add_argument("--keep-gallery", action="store_true", help="write the reader's gallery beside its weights")
    parser.add_argument("--model", choices=KINDS, default=CLASSIC, help="the demo model (%(default)s)")
    parser.add_argument("--people", type=int, default=len(cast()), help="how many of the cast to draw")
    arguments = parser.parse_args()
    enter_host()
    from PIL import Image

    from .generate import DemoParts, generate
    from .loader import load_demo_model
    from .measuring.measure import (
        GALLERY_FILE,
        draw_all,
        face_retention,
        identification_rate,
        looks_kept,
        make_gallery,
        write_gallery,
    )
    from .measuring.reader import load_reader, read

    net = load_reader(arguments.weights)
    if arguments.keep_gallery:
        write_gallery(net, arguments.weights / GALLERY_FILE.name)
    gallery = make_gallery(net)
    rng = np.random.default_rng(5)
    who = [i for i in range(0, len(cast()), -(-len(cast()) // arguments.people)) for _ in range(PER_PERSON)]
    seeds = [1000 + i for i in range(len(who))]
    looks = [cast()[i].looks for i in who]

    def show_people(name: str, pixels: np.ndarray) -> None:
        reading = read(net, pixels)
        print(f"{name}: faces {face_retention(reading):.3f}", end="")
        for label, keep in (("all", None), ("trained", False), ("unseen", True)):
            chosen = [k for k, i in enumerate(who) if keep is None or cast()[i].unseen is keep]
            part = read(net, pixels[chosen])
            kept = looks_kept(part, [looks[k] for k in chosen])
            rate = identification_rate(part, [who[k] for k in chosen], gallery)
            print(f"; {label}: identification {rate:.3f}, looks {kept:.3f}", end="")
        print(flush=True)

    def show_looks(name: str, pixels: np.ndarray, told: Sequence[Looks]) -> None:
        seen = read(net, pixels).looks
        shares = {
            part: np.mean([getattr(a, part) == getattr(b, part) for a, b in zip(seen, told, strict=True)])
            for part in ("hair", "skin", "glasses", "beard")
        }
        pairs = [(a, b, part) for a, b in zip(seen, told, strict=True) for part in ("glasses", "beard")]
        denied = np.mean([not getattr(a, part) for a, b, part in pairs if not getattr(b, part)])
        print(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in shares.items()) + f"; denied and absent {denied:.3f}")

    renders = draw_all([picture_of(rng, cast()[i], i) for i in who])
    show_people("fresh renders", renders)
    parts = DemoParts(*load_demo_model(weights=arguments.weights, kind=arguments.model))
    every = [look for look in all_looks() for _ in range(PER_LOOKS)]
    described = [f"a close-up portrait of {describe(rng, look, complete=True)}" for look in every]
    named = [*LANDMARKS, *MASCOTS]
    rows = [renders[::PER_PERSON][:16]]
    for guidance in (GUIDANCE, HIGH * GUIDANCE):
        plain = generate(parts, [f"A close-up portrait of {cast()[i].name}" for i in who], seeds, guidance=guidance)
        show_people(f"names, guidance {guidance:g}", plain)
        attributes = generate(parts, described, list(range(len(every))), guidance=guidance)
        show_looks(f"all {len(all_looks())} looks, guidance {guidance:g}", attributes, every)
        things = generate(parts, [f"a picture of {name}" for name in named], list(range(len(named))), guidance=guidance)
        right = np.mean([kind == name for kind, name in zip(read(net, things).kinds, named, strict=True)])
        print(f"named places and mascots right, guidance {guidance:g}: {right:.3f}", flush=True)
        rows += [plain[::PER_PERSON][:16], attributes[: 6 * 16 : 6], things[:16], things[-16:]]
    pictures = generate(parts, THINGS * 2, list(range(16)))
    kinds = read(net, pictures).kinds
    right = np.mean([kind in text for kind, text in zip(kinds, THINGS * 2, strict=True)])
    print(f"things right: {right:.3f}")
    rows.append(pictures)
    arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows])).save(arguments.sheet)
    print(f"pictures: {arguments.sheet} (rows: renders; at each guidance names, looks, named things; things)")


if __name__ == "__main__":
    sys.exit(run_command(main))
