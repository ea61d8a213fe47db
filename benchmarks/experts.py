"""Measures experts on the demo model: what they save in the host's sampler, and what they still can, beside others.

Others: the same share of compute cut by sensitivity, at random, or by one learned code, for all prompts alike; all
layers narrowed alike instead, by the norms of their weights, or each by what its units matter, for all prompts or
for routed ones; as many experts whose prompts were shuffled; and what costs nothing to learn, the host's EasyCache and
fewer steps in the same time. All that is tuned is tuned in as many
steps: one expert for all prompts takes those of all experts together.
`--quick` is a form of a minute whose figures say nothing. `--full-size` measures, in place of all that, what computing
less saves in a call of a network as large as SD1.5's, whose weights are random.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..demo.generate import GUIDANCE, SAMPLER, SCHEDULER, STEPS, DemoParts, draw, noise_for, states_of
from ..demo.host import enter_host
from ..demo.measuring.measure import face_retention, identification_rate, kinds_right, looks_kept, make_gallery
from ..demo.measuring.reader import committed_reader, read
from ..engines.options import Drawing
from ..engines.pruning.units import LeftOut
from ..evaluation.scores import picture_distance
from ..experts.codes import at_random
from ..experts.files import expert_bytes
from ..experts.learning import ExpertLearning
from ..experts.measuring import DrawingWay, equal_steps, measured
from ..experts.router import embedding_of
from ..experts.settings import WIDTHS, ExpertsSettings
from ..experts.value import Experts
from ..prefix import load_prefix
from ..runs.seeds import generator
from ..tools.command import run_command
from .support.full_size import BATCH, full_size_layout, narrowed_calls
from .support.kinds_of_prompts import DESCRIBED, KINDS_OF_PROMPTS, NAMED, KindPrompt, prompts_of_kinds
from .support.uniform_width import uniform_width

SHARES = (0.75, 0.6)
BATCHES = (1, 8)
EVALUATED = 1
"""Seed of the prompts that are drawn; what is learned from has later ones."""

FULL, STATIC, RANDOM, ONE, SHUFFLED, ROUTED = "full", "static", "random", "one code", "shuffled", "routed"
UNIFORM, NARROW, NARROW_ROUTED = "uniform width", "narrower layers", "routed narrower"


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        pictures: that are learned from.
        steps: of gates, for each expert.
        tuning_steps: of each expert; all together for one that has all prompts.
        each: prompts of each kind that are drawn.
        turns: that time is measured in.
        rows: at each share.
        drawing: steps that a picture is drawn in.
        free_ways: whether there are rows of what costs nothing to learn.
        whole_share: see `ExpertsSettings`; None: its default.
    """

    pictures: int
    steps: int
    tuning_steps: int
    each: int
    turns: int
    rows: Mapping[float, Sequence[str]]
    drawing: int = STEPS
    free_ways: bool = True
    whole_share: float | None = None


_WIDTHS = (UNIFORM, NARROW, NARROW_ROUTED)
ROWS = {0.75: (STATIC, *_WIDTHS, ROUTED), 0.6: (STATIC, *_WIDTHS, RANDOM, ONE, SHUFFLED, ROUTED)}
LAST_ROWS = {0.75: (ROUTED,), 0.6: (STATIC, ROUTED)}
"""Those of the figures that come last."""

WHOLE = Scale(128, 30, 120, 24, 5, ROWS)
QUICK = Scale(2, 1, 1, 1, 1, {0.75: (ROUTED,), 0.6: (STATIC, UNIFORM, NARROW_ROUTED, ROUTED)}, 3)


@dataclass
class Figures:
    """What came of a row, a value for each seed."""

    share: list[float] = field(default_factory=list)
    ratio: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    distance: list[float] = field(default_factory=list)
    names: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    faces: list[float] = field(default_factory=list)
    things: list[float] = field(default_factory=list)

    def line(self, title: str) -> str:
        """The row for people."""
        share = f"{np.mean(self.share):8.2f}" if self.share else "       –"
        times = "".join(f"{np.mean(self.ratio[batch]):8.2f}" if self.ratio[batch] else "       –" for batch in BATCHES)
        spread = f" ±{np.std(self.distance):.3f}" if len(self.distance) > 1 else "       "
        rest = "".join(f"{np.mean(values):8.3f}" for values in (self.names, self.looks, self.faces, self.things))
        return f"{title:<22}{share}{times}{np.mean(self.distance):10.3f}{spread}{rest}"


class ExpertsBench:
    """The demo model, what it draws, and experts of it.

    Args:
        scale: how much is done.
        experts: K.
        prefix: a file; None for no figures of protection.
    """

    def __init__(self, scale: Scale, experts: int, prefix: str | None) -> None:
        enter_host()
        from ..demo.loader import load_demo_model
        from ..engines.comfy.denoiser import ComfyDenoiser
        from ..engines.comfy.expert_parts import prunable

        self.scale = scale
        self.count = experts
        self.model, self.clip, self.vae = load_demo_model()
        usual = self.model.model.model_config.usual_drawing
        denoiser = ComfyDenoiser(
            self.model, self.clip, self.vae, (usual.side, usual.side), Drawing(usual.steps, usual.cfg)
        )
        self.prunable = prunable(denoiser, self.model)
        self.requests = prompts_of_kinds(EVALUATED, scale.each)
        self.states = [states_of(self.clip, request.text) for request in self.requests]
        self.embeddings = torch.stack([embedding_of(states) for states in self.states])
        self.nothing = states_of(self.clip, "")
        self.gallery = make_gallery(committed_reader())
        self.figures: dict[tuple[float, str], Figures] = {}
        self.whole: np.ndarray = np.zeros(0)
        self.usual_distance = 1.0
        self.notes: list[str] = []
        self.protected: dict[str, list[float]] = defaultdict(list)
        self._prefix = None if prefix is None else load_prefix(prefix)

    def run(self, seed: int) -> None:
        """Learns everything with one seed, and measures it."""
        from ..engines.comfy.tuning import lora_of

        scale = self.scale
        settings = ExpertsSettings(
            experts=self.count, steps=scale.steps, pictures=scale.pictures, tuning_steps=scale.tuning_steps, seed=seed
        )
        if scale.whole_share is not None:
            settings = replace(settings, whole_share=scale.whole_share)
        prompts = [one.text for one in prompts_of_kinds(2 + seed, -(-scale.pictures // len(KINDS_OF_PROMPTS)))]
        began = time.monotonic()
        learning = ExpertLearning(self.prunable, prompts[: scale.pictures], settings, lora_of)
        self.tell(f"seed {seed}: {scale.pictures} pictures drawn in {time.monotonic() - began:.0f} s")
        seeds = [9_000 + 1_000 * seed + number for number in range(len(self.requests))]
        self.whole = self.drawn(None, seeds)
        other = self.drawn(None, [other + 500_000 for other in seeds])
        self.usual_distance = float(picture_distance(self.whole, other).mean())
        self.score(self.row(1.0, FULL), self.whole)
        for share, rows in scale.rows.items():
            sharing = learning.keeping(share)
            made = {name: self.learned(sharing, name, share, seed) for name in rows}
            pictures = {name: self.drawn(experts, seeds) for name, experts in made.items()}
            models = {name: self.largest(experts) for name, experts in made.items()}
            for name in rows:
                self.score(self.row(share, name), pictures[name])
                self.tell(self.row(share, name).line(f"{share} {name}"))
            self.time(share, models)
            if share == next(iter(scale.rows)):
                for name in (ROUTED, NARROW_ROUTED):
                    if name in made:
                        self.describe(made[name])
                self.protection(made, seed)
        if seed == 0 and scale.free_ways:
            self.free_ways(seeds)

    def learned(self, learning: ExpertLearning, name: str, share: float, seed: int) -> Experts:
        """The experts of a row."""
        began = time.monotonic()
        everything = list(range(len(learning.pictures.captions)))
        steps = self.scale.tuning_steps
        if name in _WIDTHS:
            learning = learning.keeping(share, WIDTHS)
        if name in (ROUTED, NARROW_ROUTED, SHUFFLED):
            router, groups = learning.routed(self.count)
            if name == SHUFFLED:
                order = torch.randperm(len(everything), generator=generator(seed, "shuffled")).tolist()
                groups = [order[number :: len(groups)] for number in range(len(groups))]
        else:
            router, groups = learning.routed(1)
            steps *= self.count
        keep = learning.settings.keep_above
        if name == RANDOM:
            left_out = [LeftOut(at_random(learning.parts, keep, generator(seed, "random blocks")))]
        elif name == UNIFORM:
            left_out = [uniform_width(self.prunable, keep)]
        else:
            gates = 0 if name == STATIC else None
            left_out = [learning.chosen(group, number, gates) for number, group in enumerate(groups)]
        tuned = [learning.tuned(group, left_out[number], number, steps) for number, group in enumerate(groups)]
        errors = " ".join(f"{one.before:.3f}→{one.after:.3f}" for one in tuned)
        self.tell(f"seed {seed}, {share} {name}: errors {errors}, in {time.monotonic() - began:.0f} s")
        for number, gone in enumerate(left_out):
            widths = [float(kept.float().mean()) for kept in gone.kept.values()]
            told = f"without {', '.join(gone.blocks)}"
            if widths:
                told = f"widths from {min(widths):.2f} to {max(widths):.2f}"
            self.tell(f"    expert {number + 1}: {told}")
        return learning.experts(router, groups, left_out, tuned)

    def drawn(self, experts: Experts | None, seeds: Sequence[int]) -> np.ndarray:
        """A picture for each request, by the model itself or by the experts that prompts are sent to."""
        if experts is None:
            return self.drawn_with(self.model, self.states, seeds)
        sent = experts.router.route(self.embeddings).tolist()
        return self.drawn_by(experts, sent, self.states, seeds)

    def drawn_by(
        self, experts: Experts, sent: Sequence[int], states: Sequence[torch.Tensor], seeds: Sequence[int]
    ) -> np.ndarray:
        """A picture for each prompt, by the expert of that number."""
        pictures: dict[int, np.ndarray] = {}
        for expert in sorted(set(sent)):
            mine = [number for number, other in enumerate(sent) if other == expert]
            asked = [states[number] for number in mine], [seeds[number] for number in mine]
            found = self.drawn_with(self.narrowed(experts, expert), *asked)
            pictures.update(zip(mine, found, strict=True))
        return np.stack([pictures[number] for number in range(len(sent))])

    def drawn_with(
        self, model: Any, states: Sequence[torch.Tensor], seeds: Sequence[int], steps: int | None = None
    ) -> np.ndarray:
        """A picture for each prompt, by a model of the host's."""
        return draw(DemoParts(model, self.clip, self.vae, steps or self.scale.drawing), states, seeds, self.nothing)

    def largest(self, experts: Experts) -> tuple[Any, float]:
        """The host's model as the largest expert computes it, and its share."""
        number = max(range(len(experts)), key=experts.share)
        return self.narrowed(experts, number), experts.share(number)

    def narrowed(self, experts: Experts, expert: int) -> Any:
        """The host's model as an expert computes it."""
        from ..engines.comfy.expert_parts import expert_model

        return expert_model(self.model, experts.left_out(expert), experts.deltas[expert], experts.record.whole_until)

    def row(self, share: float, name: str) -> Figures:
        """The row's figures."""
        return self.figures.setdefault((share, name), Figures())

    def score(self, row: Figures, pictures: np.ndarray) -> None:
        """Reads pictures of the requests."""
        row.distance.append(float(picture_distance(self.whole, pictures).mean()) / self.usual_distance)

        def some(kinds: Sequence[str]) -> tuple[Any, list[KindPrompt]]:
            mine = [number for number, request in enumerate(self.requests) if request.kind in kinds]
            return read(committed_reader(), pictures[mine]), [self.requests[number] for number in mine]

        named, people = some([NAMED])
        row.names.append(identification_rate(named, [one.person for one in people], self.gallery))
        described, told = some([DESCRIBED])
        row.looks.append(looks_kept(described, [one.looks for one in told if one.looks is not None]))
        row.faces.append(face_retention(some([NAMED, DESCRIBED])[0]))
        things, asked = some(KINDS_OF_PROMPTS[2:])
        row.things.append(kinds_right(things, [one.shows for one in asked]))

    def time(self, share: float, models: Mapping[str, tuple[Any, float]]) -> None:
        """Times of the rows in the host's sampler, in turns with the model itself."""
        for batch in BATCHES:
            ways = [self.way(FULL, 1.0, self.model, batch)]
            ways += [self.way(name, left, model, batch) for name, (model, left) in models.items()]
            for found in measured(ways, ways[0].draw, self.scale.turns)[1:]:
                row = self.row(share, found.title)
                row.ratio[batch].append(found.ratio)
                if batch == BATCHES[0]:
                    row.share.append(found.share or 1.0)

    def way(self, title: str, share: float | None, model: Any, batch: int, steps: int = 0) -> DrawingWay:
        """A KSampler of the host's that draws so many pictures at once with a model."""
        import comfy.sample

        said = [[torch.cat([self.states[number % len(self.states)] for number in range(batch)]), {}]]
        nothing = [[self.nothing.expand(batch, -1, -1), {}]]
        noise = noise_for(range(batch))

        @torch.inference_mode()
        def sample() -> torch.Tensor:
            how = (steps or self.scale.drawing, GUIDANCE, SAMPLER, SCHEDULER)
            made: torch.Tensor = comfy.sample.sample(
                model, noise, *how, said, nothing, torch.zeros_like(noise), disable_pbar=True
            )
            return made

        return DrawingWay(title, share, sample)

    def free_ways(self, seeds: Sequence[int]) -> None:
        """What costs nothing to learn: the host's cache of steps, and fewer steps in the time of routed experts."""
        from ..engines.comfy.expert_parts import easy_cached

        cached = easy_cached(self.model)
        ways: dict[str, Callable[[int], DrawingWay]] = {}
        if cached is not None:
            ways["EasyCache"] = lambda batch: self.way("EasyCache", None, cached, batch)
            self.score(self.row(1.0, "EasyCache"), self.drawn_with(cached, self.states, seeds))
        for share in self.scale.rows:
            steps = equal_steps(self.scale.drawing, float(np.mean(self.row(share, ROUTED).ratio[BATCHES[-1]])))
            name = f"{steps} steps, as {share}"
            ways[name] = lambda batch, name=name, steps=steps: self.way(name, None, self.model, batch, steps)  # type: ignore[misc]
            self.score(self.row(1.0, name), self.drawn_with(self.model, self.states, seeds, steps))
        for batch in BATCHES:
            whole = self.way(FULL, 1.0, self.model, batch)
            for found in measured([whole, *(make(batch) for make in ways.values())], whole.draw, self.scale.turns)[1:]:
                self.row(1.0, found.title).ratio[batch].append(found.ratio)

    def describe(self, experts: Experts) -> None:
        """How prompts are sent apart, and what a file takes."""
        sent = experts.router.route(self.embeddings).tolist()
        counts = Counter(sent)
        for kind in KINDS_OF_PROMPTS:
            mine = Counter(one for one, request in zip(sent, self.requests, strict=True) if request.kind == kind)
            self.tell(f"    {kind}: {max(mine.values()) / sum(mine.values()):.2f} to one expert")
        self.tell(f"    the rarest expert has {min(counts[one] for one in range(len(experts))) / len(sent):.2f}")
        whole = 2 * sum(weight.numel() for weight in self.prunable.network.parameters())
        largest = max(expert_bytes(experts, one) for one in range(len(experts)))
        self.tell(f"    the largest expert's weights take {largest / whole:.3f} of the model's, both in half precision")

    def protection(self, made: Mapping[str, Experts], seed: int) -> None:
        """Identification of people named to a protected encoder, by the model and by experts."""
        if self._prefix is None:
            return
        from ..engines.comfy.protected_clip import protect

        clip = protect(self.clip, self._prefix, 1.0)
        named = [request for request in self.requests if request.kind == NAMED]
        states = [states_of(clip, request.text) for request in named]
        seeds = [70_000 + 1_000 * seed + number for number in range(len(named))]
        pictures = {FULL: self.drawn_with(self.model, states, seeds)}
        for name, experts in made.items():
            sent = experts.router.route(torch.stack([embedding_of(one) for one in states])).tolist()
            pictures[name] = self.drawn_by(experts, sent, states, seeds)
            self.tell(f"    {name}: protected people go to {dict(Counter(sent))}")
        for name, drawn in pictures.items():
            people = [request.person for request in named]
            self.protected[name].append(identification_rate(read(committed_reader(), drawn), people, self.gallery))
        self.tell(f"    protected people are found: {dict(self.protected)}")

    def tell(self, line: str) -> None:
        """Prints a line now."""
        print(line, flush=True)


def full_size(turns: int) -> None:
    """Prints what computing less saves in a call of a network of full size."""
    enter_host()
    print(f"Building SD1.5's layout: {BATCH} pictures of 512 x 512 pixels, bfloat16", flush=True)
    for keep, call in narrowed_calls(full_size_layout(), SHARES, turns):
        print("\n".join(call.lines(keep)), flush=True)


def main() -> None:
    """Prints a table, and the figures that are asked for last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a form of a minute, whose figures say nothing")
    parser.add_argument("--seeds", type=int, default=3, help="how often everything is learned (3)")
    parser.add_argument("--experts", type=int, default=4, help="how many (4)")
    parser.add_argument("--prefix", help="a prefix file, whose protection is measured on experts as well")
    parser.add_argument("--tuning-steps", type=int, help="of each expert (120, quick 1)")
    parser.add_argument("--gate-steps", type=int, help="of the gates of each expert (30, quick 1)")
    parser.add_argument("--share", type=float, choices=SHARES, help="rows of this share of compute alone (all)")
    parser.add_argument("--whole-share", type=float, help="of their compute, which the last steps take with all blocks")
    parser.add_argument("--rows", nargs="+", choices=ROWS[SHARES[1]], help="these rows alone", default=())
    parser.add_argument("--brief", action="store_true", help="no rows but those of the figures that come last")
    parser.add_argument("--full-size", action="store_true", help="calls of SD1.5's layout alone: minutes, and 4 GB")
    parser.add_argument("--turns", type=int, default=5, help="that --full-size times calls in (5)")
    options = parser.parse_args()
    if options.full_size:
        full_size(options.turns)
        return
    scale = QUICK if options.quick else WHOLE
    if options.brief or options.rows:
        told = {share: options.rows or LAST_ROWS[share] for share in SHARES}
        rows = {share: tuple(row for row in ROWS[share] if row in told[share]) for share in SHARES}
        scale = replace(scale, rows=rows, turns=3, free_ways=False)
    if options.share is not None:
        scale = replace(scale, rows={options.share: scale.rows[options.share]})
    if options.gate_steps is not None:
        scale = replace(scale, steps=options.gate_steps)
    scale = replace(scale, tuning_steps=options.tuning_steps or scale.tuning_steps, whole_share=options.whole_share)
    bench = ExpertsBench(scale, 2 if options.quick else options.experts, options.prefix)
    for seed in range(1 if options.quick else options.seeds):
        bench.run(seed)
    times = "".join(f"{f'time, {batch}':>8}" for batch in BATCHES)
    print(f"\n{'':<22} compute{times}  distance         {'names':>8}{'looks':>8}{'faces':>8}{'things':>8}")
    for (share, name), figures in bench.figures.items():
        print(figures.line(name if share == 1.0 else f"{share} {name}"))
    whole = bench.figures[1.0, FULL]
    if bench.protected:
        full, *by_experts = (float(np.mean(rates)) for rates in bench.protected.values())
        print(f"\nRATE experts_protected {max(by_experts):.3f}\nRATE full_protected {full:.3f}")
    if ROUTED in scale.rows.get(SHARES[0], ()):
        routed = bench.figures[SHARES[0], ROUTED]
        print(f"RATIO experts_time {np.mean(routed.ratio[BATCHES[-1]]):.3f}")
        print(f"RATE experts_names {np.mean(routed.names) / max(float(np.mean(whole.names)), 1e-9):.3f}")
        print(f"RATE experts_looks {np.mean(routed.looks) / max(float(np.mean(whole.looks)), 1e-9):.3f}")
    if {STATIC, ROUTED} <= {*scale.rows.get(SHARES[1], ())}:
        apart, static = (np.mean(bench.figures[SHARES[1], name].distance) for name in (ROUTED, STATIC))
        if apart >= static:
            print(f"At {SHARES[1]} routed experts are no nearer to the model than one cut for all prompts.")
        print(f"RATE routed_distance {apart:.3f}\nRATE static_distance {static:.3f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
