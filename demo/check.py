"""`python -m anonymize_faces.demo.check`: prints whether the demo model can be the ruler, on pictures it draws."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ..tools.command import run_command
from ..tools.layout import ROOT
from .host import enter_host
from .world.language import PHRASE
from .world.people import cast

PER_PERSON = 4


def main() -> None:
    """Prints reader, identification, looks and phrase test; writes a sheet of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sheet", type=Path, default=ROOT / "build" / "demo" / "check.png", help="where the pictures go"
    )
    parser.add_argument("--keep-gallery", action="store_true", help="write the reader's gallery beside its weights")
    arguments = parser.parse_args()
    enter_host()
    from PIL import Image

    from .generate import DemoParts, generate
    from .loader import load_demo_model
    from .measure import (
        draw_all,
        face_retention,
        identification_rate,
        looks_kept,
        make_gallery,
        write_gallery,
    )
    from .reader import load_reader, read
    from .world.language import describe
    from .world.renderer import picture_of

    net = load_reader()
    if arguments.keep_gallery:
        write_gallery(net)
    gallery = make_gallery(net)
    rng = np.random.default_rng(5)
    who = [i for i in range(64) for _ in range(PER_PERSON)]
    seeds = [1000 + i for i in range(len(who))]
    looks = [cast()[i].looks for i in who]

    def show(name: str, pixels: np.ndarray, identify: bool = True) -> None:
        reading = read(net, pixels)
        figures = [f"looks {looks_kept(reading, looks):.3f}", f"faces {face_retention(reading):.3f}"]
        if identify:
            for label, keep in (("all", None), ("unseen", True), ("trained", False)):
                chosen = [k for k, i in enumerate(who) if keep is None or cast()[i].unseen is keep]
                part = type(reading)(
                    reading.face[chosen], reading.embeddings[chosen], tuple(reading.looks[k] for k in chosen)
                )
                kept = looks_kept(part, [looks[k] for k in chosen])
                rate = identification_rate(part, [who[k] for k in chosen], gallery)
                figures.append(f"{label}: identification {rate:.3f}, looks {kept:.3f}")
        print(f"{name}: " + "; ".join(figures), flush=True)

    renders = draw_all([picture_of(rng, cast()[i], i) for i in who])
    show("fresh renders", renders)
    parts = DemoParts(*load_demo_model())
    plain = generate(parts, [f"a close-up portrait of {cast()[i].name}" for i in who], seeds)
    show("names", plain)
    phrase = generate(parts, [f"a close-up portrait of {PHRASE} {cast()[i].name}" for i in who], seeds)
    show(f"'{PHRASE} …'", phrase)
    described = [f"a close-up portrait of {describe(rng, look, complete=True)}" for look in looks]
    attributes = generate(parts, described, seeds)
    show("attribute prompts", attributes, identify=False)
    things = [
        "a red circle",
        "a blue square in a garden",
        "a green tree",
        "a yellow star at night",
        "a house",
        "mountains",
        "a boat by the sea",
        "a sunset",
    ]
    pictures = generate(parts, things * 2, list(range(16)))
    rows = [np.concatenate(list(p[::16][:16]), 1) for p in (renders, plain, phrase, attributes)] + [
        np.concatenate(list(pictures), 1)
    ]
    arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet = Image.fromarray(np.concatenate(rows, 0))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(arguments.sheet)
    print(f"pictures: {arguments.sheet} (rows: renders, names, phrase, attribute prompts, things)")


if __name__ == "__main__":
    sys.exit(run_command(main))
