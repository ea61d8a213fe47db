"""Measures what changing faces alone costs and leaves, on a demo model: against the whole prefix and the plain model.

Every picture is drawn by the host's own sampler three times from the same noise: plain, with the whole prefix, and
with the MODEL of Anonymize Face Region as it comes. A face that is missed counts as it is read, which is as the person.
Where faces are tells the demo's finder, in the plain picture, with a margin of 10 %. How well what is masked fits is
told twice: at each step of drawing, by the finder's boxes, and in scenes that were put together of renders (two people,
tiny faces, larger pictures), which it looks at once as Face Mask does, by the true ones. A prefix that does not know
where faces are learns it first, which leaves it as it is otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..demo.generate import FEW_STEPS, GUIDANCE, SAMPLER, SCHEDULER, STEPS, noise_for
from ..demo.host import enter_host
from ..demo.loader import CLASSIC, KINDS, load_demo_model
from ..demo.main_job import status
from ..demo.measuring.face_finder import DemoFaceFinder
from ..demo.measuring.measure import identification_rate, make_gallery, preservation
from ..demo.measuring.prompts import Request, name_prompt, things
from ..demo.measuring.reader import load_reader, read
from ..demo.strength import newest_prefix
from ..demo.world.people import cast, identities
from ..demo.world.renderer import SIZE
from ..engines.options import USUAL_REGION, Drawing, RegionSettings
from ..faces.palette import BLUE
from ..prefix import Prefix
from ..prefix.face_region import FaceRegion
from ..prefix.files.prefix_file import load_prefix
from ..tools.command import run_command
from ..tools.layout import ROOT
from ..trainer.data.prompts import general_prompts
from ..trainer.reporting.chart import Axis, Curve, draw_chart
from ..trainer.settings import TrainingSettings
from ..trainer.stages.face_region import COVERED, TOUCHED, mask_of
from ..trainer.stages.finished_prefix import with_face_region
from .support.face_scenes import SCENES, Scene, shown
from .support.memory import peak_bytes
from .support.paired import in_turns

if TYPE_CHECKING:
    from PIL.Image import Image

PLOT = ROOT / "build" / "face_region.png"
MARGIN = 0.1
GROUP = 32
"""Pictures that are drawn together."""

MASKED = 0.5
"""A cell of a mask counts as masked from here on: with less, most of what is drawn there is plain."""

TIMED = 4
"""Pictures that are drawn together where time is measured."""

IN_SCENES = 16
"""Pictures of each scene."""


class RegionFigures(NamedTuple):
    """Of one way to draw. Moves are root mean squares, 0 to 1."""

    identified: float
    faces: float
    moved_things: float
    moved_outside: float
    moved_inside: float


class SceneFigures(NamedTuple):
    """Of one kind of scene: intersection over union, faces covered as a whole, and share of the pictures masked."""

    overlap: float
    covered: float
    masked: float


def _overlap(masks: torch.Tensor, truth: torch.Tensor) -> float:
    return float((masks & truth).sum() / (masks | truth).sum().clamp(min=1))


class RegionDemo:
    """A demo model, plain, with a prefix, and with its faces alone changed."""

    def __init__(self, kind: str, prefix: Prefix, certainty: float | None, quick: bool) -> None:
        from ..engines.comfy.denoiser import ComfyDenoiser
        from ..engines.comfy.face_blending import FaceBlending
        from ..engines.comfy.face_region import change_faces_alone
        from ..engines.comfy.protected_clip import protect

        self.model, self.clip, self.vae = load_demo_model(kind=kind)
        if not prefix.face_region:
            usual = Drawing(steps=10, cfg=GUIDANCE)
            denoiser = ComfyDenoiser(self.model, self.clip, self.vae, (SIZE, SIZE), usual)
            people = identities(unseen=(False,))
            settings = TrainingSettings(preset="quick" if quick else "balanced", held_out=0.125)
            began = time.monotonic()
            with torch.inference_mode():
                prefix = with_face_region(
                    denoiser, prefix, people, general_prompts("", people), DemoFaceFinder(), settings
                )
            status(f"learned where faces are in {time.monotonic() - began:.0f} s, drawing included")
        self.prefix = prefix
        self.protected = protect(self.clip, prefix, 1.0)
        chosen = USUAL_REGION if certainty is None else RegionSettings(certainty=certainty)
        self.steps = FEW_STEPS if quick else STEPS
        self.region = change_faces_alone(self.model, prefix, chosen)
        self.watched = self.region.clone()
        self.seen: list[tuple[float, torch.Tensor]] = []
        self.masks: dict[float, list[torch.Tensor]] = {}
        blending = FaceBlending.of(self.region)
        assert blending is not None
        blending.watched(lambda mask, levels: self.seen.append((float(levels[0]), mask.cpu()))).join(self.watched)

    @torch.inference_mode()
    def draw(self, requests: Sequence[Request], way: str) -> np.ndarray:
        """One picture for each request, "plain", "whole" or "region": uint8 [n, SIZE, SIZE, 3].

        Afterwards `masks` has those of the last, by level of noise, each `[n, h, w]`.
        """
        import comfy.sample

        from ..engines.comfy.face_region import with_plain

        drawn = []
        self.masks = {}
        for start in range(0, len(requests), GROUP):
            some = requests[start : start + GROUP]
            plain, protected = (
                [self._told(clip, request.prompt) for request in some] for clip in (self.clip, self.protected)
            )
            told = plain if way == "plain" else protected
            by_length: dict[int, list[int]] = {}
            for place, states in enumerate(told):
                by_length.setdefault(states.shape[1], []).append(place)
            pictures: dict[int, np.ndarray] = {}
            for places in by_length.values():
                positive = [[torch.cat([told[place] for place in places]), {}]]
                if way == "region":
                    positive = with_plain(positive, [[torch.cat([plain[place] for place in places]), {}]])
                empty = self._told(self.clip if way == "plain" else self.protected, "")
                negative = [[empty.expand(len(places), -1, -1), {}]]
                noise = noise_for([some[place].seed for place in places])
                self.seen.clear()
                samples = comfy.sample.sample(
                    self.watched if way == "region" else self.model,
                    noise,
                    self.steps,
                    GUIDANCE,
                    SAMPLER,
                    SCHEDULER,
                    positive,
                    negative,
                    torch.zeros_like(noise),
                    disable_pbar=True,
                )
                decoded = (self.vae.decode(samples).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
                pictures.update(zip(places, decoded, strict=True))
                for level, mask in self.seen:
                    rows = self.masks.setdefault(level, [torch.empty(0)] * len(requests))
                    for place, row in zip(places, mask, strict=True):
                        rows[start + place] = row
            drawn += [pictures[place] for place in range(len(some))]
        return np.stack(drawn)

    @torch.inference_mode()
    def overlap_in(self, scene: Scene, count: int) -> SceneFigures:
        """How well the mask fits in so many pictures of a scene, of people whom nothing was learned on."""
        from ..engines.comfy.face_region import CELL, face_masks, with_plain

        unseen = [index for index, person in enumerate(cast()) if person.unseen]
        masks, truth, covered = [], [], []
        for number in range(count):
            people = [unseen[(number + 5 * place) % len(unseen)] for place in range(len(scene.places))]
            made = shown(scene, people, number)
            pixels = torch.from_numpy(made.pixels.astype(np.float32) / 255)[None]
            told = [[[self._told(clip, made.prompt), {}]] for clip in (self.protected, self.clip)]
            mask = face_masks(self.region, with_plain(*told), self.vae.encode(pixels))
            size = (scene.height // CELL, scene.width // CELL)
            masks.append(mask[0, ::CELL, ::CELL] >= MASKED)
            truth.append(mask_of(made.boxes, size) > 0)
            faces = [mask_of([box], size) > 0 for box in made.boxes]
            covered += [float(masks[-1][face].float().mean()) >= 1 - COVERED for face in faces]
        share = float(torch.stack(masks).float().mean())
        return SceneFigures(_overlap(torch.stack(masks), torch.stack(truth)), float(np.mean(covered)), share)

    @staticmethod
    def _told(clip: Any, prompt: str) -> torch.Tensor:
        return clip.encode_from_tokens(clip.tokenize(prompt))


def _distances(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Root mean square difference over the pixels that count, [n, SIZE, SIZE]; mean over pictures."""
    squares = np.square((one.astype(np.float32) - other.astype(np.float32)) / 255).mean(-1)
    return float(np.mean(np.sqrt((squares * where).sum((1, 2)) / np.maximum(1, where.sum((1, 2))))))


def _masks(pictures: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """1 where a face is, with a margin, [n, SIZE, SIZE]."""
    masks = []
    for faces in DemoFaceFinder().find(pictures):
        boxes = []
        for left, top, right, bottom in (face.box for face in faces):
            wide, high = margin * (right - left), margin * (bottom - top)
            boxes.append(tuple(edge / SIZE for edge in (left - wide, top - high, right + wide, bottom + high)))
        masks.append(mask_of(boxes, (SIZE, SIZE)).numpy())
    return np.stack(masks)


def measured(demo: RegionDemo, seed: int, quick: bool, overlaps: dict[float, list[float]]) -> dict[str, RegionFigures]:
    """Of the whole prefix and of faces alone, on noises of a seed.

    Args:
        overlaps: by level of noise; one is added to each.
    """
    unseen = [index for index, person in enumerate(cast()) if person.unseen][:: 16 if quick else 1]
    each = 1 if quick else 4
    shift = 100_000 * seed
    people = [
        Request(name_prompt(i).prompt, name_prompt(i).seed + 1000 * n + shift) for i in unseen for n in range(each)
    ]
    of = [index for index in unseen for _ in range(each)]
    others = [Request(request.prompt, request.seed + shift) for request in things()[:: 24 if quick else 1]]
    noised = [Request(request.prompt, request.seed + shift + 10_000) for request in others]
    net = load_reader()
    gallery = make_gallery(net)
    plain, plain_things, other_noise = (demo.draw(some, "plain") for some in (people, others, noised))
    masks, boxes = _masks(plain), _masks(plain, 0.0)
    rows = {}
    for way in ("plain", "whole", "region"):
        pictures = plain if way == "plain" else demo.draw(people, way)
        for level, rows_of_masks in demo.masks.items():
            size = rows_of_masks[0].shape[-1]
            cells = torch.from_numpy(boxes).unflatten(1, (size, -1)).unflatten(3, (size, -1)).mean((2, 4))
            overlaps.setdefault(level, []).append(_overlap(torch.stack(rows_of_masks) >= MASKED, cells >= TOUCHED))
        moved = plain_things if way == "plain" else demo.draw(others, way)
        reading = read(net, pictures)
        rows[way] = RegionFigures(
            identification_rate(reading, of, gallery),
            float(reading.face.mean()),
            preservation(plain_things, moved, other_noise),
            _distances(plain, pictures, 1 - masks),
            _distances(plain, pictures, masks),
        )
    return rows


def plot(overlaps: Mapping[float, float]) -> Image:
    """Intersection over union by level of noise."""
    across = Axis(0, 1, [(tenth / 5, f"{tenth / 5:g}") for tenth in range(6)])
    curve = Curve(sorted(overlaps.items()), BLUE, dots=True)
    return draw_chart(
        "What is masked and faces: intersection over union", "level of noise", across, across, [curve], []
    )


def _seconds(demo: RegionDemo, way: str, pictures: int = TIMED) -> float:
    requests = [name_prompt(index) for index in range(pictures)]
    began = time.perf_counter()
    demo.draw(requests, way)
    return time.perf_counter() - began


def main() -> None:
    """Prints the figures of each seed, those of all, and the rates last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=Path, help="a prefix for the demo model; else the one that make demo learned")
    parser.add_argument("--model", choices=KINDS, default=CLASSIC, help="which demo model (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of noises (%(default)s)")
    parser.add_argument("--certainty", type=float, help="instead of the usual one")
    parser.add_argument(
        "--plot", type=Path, default=PLOT, help="where the overlap by level of noise goes (%(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few people, prompts and steps, one seed: nothing but a try"
    )
    arguments = parser.parse_args()
    chosen = arguments.prefix or newest_prefix()
    enter_host()
    status(f"{chosen.name}, model {arguments.model}")
    demo = RegionDemo(arguments.model, load_prefix(chosen), arguments.certainty, arguments.quick)
    region = FaceRegion(demo.prefix.face_region)
    print(
        f"head: {sum(part.numel() for part in demo.prefix.face_region.values()):,} numbers, {region.channels} channels"
    )
    timed, peaks = 1 if arguments.quick else TIMED, []
    # First of all: what was freed once is had again for nothing.
    for way in ("plain", "region"):
        with peak_bytes() as peak:
            _seconds(demo, way, timed)
        peaks.append(peak[0] / 2**20)
    print(f"memory at its peak beside the model: {peaks[0]:.0f} MiB plain, {peaks[1]:.0f} MiB more with the region")
    print(f"\n{'scenes':<22}" + "".join(f"{name:>12}" for name in SceneFigures._fields))
    for scene in SCENES[:: 2 if arguments.quick else 1]:
        figures = demo.overlap_in(scene, 1 if arguments.quick else IN_SCENES)
        print(f"{scene.name:<22}" + "".join(f"{figure:>12.3f}" for figure in figures), flush=True)
    overlaps: dict[float, list[float]] = {}
    rows: dict[str, list[RegionFigures]] = {}
    print(f"\n{'':<16}" + "".join(f"{name:>15}" for name in RegionFigures._fields))
    for seed in range(1 if arguments.quick else arguments.seeds):
        for way, figures in measured(demo, seed, arguments.quick, overlaps).items():
            rows.setdefault(way, []).append(figures)
            print(f"seed {seed}, {way:<8}" + "".join(f"{figure:>15.4f}" for figure in figures), flush=True)
    by_level = {level: float(np.mean(found)) for level, found in sorted(overlaps.items())}
    print("\nintersection over union of what is masked with boxes of faces, while drawing, by level of noise:")
    for level, overlap in by_level.items():
        print(f"  {level:<6.3f} {overlap:.3f} {'#' * round(40 * overlap)}")
    arguments.plot.parent.mkdir(parents=True, exist_ok=True)
    plot(by_level).save(arguments.plot)
    print(f"  {np.mean(list(by_level.values())):.3f} at all of them, {arguments.plot}\n")
    mean = {way: RegionFigures(*np.mean(found, 0).tolist()) for way, found in rows.items()}
    for way, figures in mean.items():
        print(f"mean, {way:<10}" + "".join(f"{figure:>15.4f}" for figure in figures))
    outside = mean["region"].moved_outside / max(1e-9, mean["whole"].moved_outside)
    print(f"\noutside of faces, pictures of people move {outside:.3f} of what they move with the whole prefix")
    print(f"identified: {mean['region'].identified - mean['whole'].identified:+.4f} against the whole prefix")
    least = 1 if arguments.quick else 5
    ways = [lambda way=way: _seconds(demo, way, timed) for way in ("region", "plain")]
    pairs = in_turns(*ways, least, 3 * least, 0.02)
    print(pairs.summary(f"{timed} pictures at guidance {GUIDANCE:g}"))
    print(f"RATE region_identification {mean['region'].identified:.4f}")
    print(f"RATE region_preservation {mean['region'].moved_things:.4f}")
    print(f"RATIO region_time {pairs.ratio:.3f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
