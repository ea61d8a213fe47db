"""Counts evaluations of the demo's denoiser until a prefix is good: the authors' settings and the shipped workflow's.

Good means what `make demo` asks of people whom a prefix never met, and of what names nobody (`demo.report.LIMITS`): how
often they are found, their looks, preservation and named things (docs/METHODS.md 1.8), each at the worse of two
guidances, read from two pictures of each prompt.

Everything that asks the denoiser counts, as it is asked: the dry step, drawing what is learned from, the teacher's
answers, learning, validation, the figures of the record, and preview. A backward pass counts as two evaluations. Steps
in the text encoder's space ask no denoiser.

Ours is a whole run of `PrefixTraining` with the shipped workflow's settings, never ended early, and its prefix. The
authors' settings are docs/METHODS.md 1.5: vectors that are always the same, from U(0, 1), Adam at 1e-3, one picture a
step, looked at every 2,000 steps and ended at the first good one, or after their 20,000. Their loop makes three forward
passes and one backward pass a step. As it has the trajectory of ours without overshoot (docs/METHODS.md 1.4;
`tests/trainer/test_reference.py` shows it), ours is what runs here, and theirs is what counts. Of their pictures the
portraits count, which they draw as well; the others they take from LAION. They validate nothing and show nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..demo.ablation import shipped_prompts
from ..demo.generate import DemoParts, generate
from ..demo.host import enter_host
from ..demo.measuring.measure import identification_rate, kinds_right, looks_kept, make_gallery, preservation
from ..demo.measuring.prompts import Request, name_prompt, named_things, things
from ..demo.measuring.reader import load_reader, read
from ..demo.measuring.report import GUIDANCES, LIMITS
from ..demo.world.people import cast, identities
from ..prefix import Prefix, PrefixRecord
from ..tools.command import run_command
from ..trainer.presets import BALANCED, PRESETS
from ..trainer.settings import TrainingSettings

if TYPE_CHECKING:
    from ..trainer.data.identities import Identity
    from ..trainer.data.pictures import Pictures

ASKED = ("unseen.identification_rate", "unseen.attribute_retention", "preservation", "pinpoint")
"""The figures that a prefix is good by."""

PICTURES = 2
"""Of each prompt."""

PORTRAITS_OF_THEIRS = 4

THEIRS_A_STEP = 5
"""Three forward passes and a backward pass."""

THEIR_VECTORS, THEIR_STEPS, THEIR_SNAPSHOTS = 10, 20_000, 2_000

NOISINGS = 200
"""Of each picture for the authors' settings: as good as a new noise each step."""


class Ruler:
    """Reads how good a prefix is from pictures of the demo model."""

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        self._parts = DemoParts(model, clip, vae)
        self._net = load_reader()
        self._gallery = make_gallery(self._net)
        unseen = [index for index, person in enumerate(cast()) if person.unseen]
        self._who = [index for index in unseen for _ in range(PICTURES)]
        self._names = [name_prompt(index) for index in unseen]
        self._kinds = [kind for kind in named_things() for _ in range(PICTURES)]
        self._plain = {guidance: self._draw(things(), guidance) for guidance in GUIDANCES}
        self._other_noise = {guidance: self._draw(things(other_noise=True), guidance) for guidance in GUIDANCES}
        self._right = {guidance: self._kinds_right(guidance) for guidance in GUIDANCES}

    def is_good(self, prefix: Prefix) -> bool:
        """Whether all figures hold; prints them."""
        from ..engines.comfy.protected_clip import protect

        clip = protect(self._parts.clip, prefix, 1.0)
        by_guidance = [self._figures(clip, guidance) for guidance in GUIDANCES]
        worst = {
            name: (min if LIMITS[name][0] == ">=" else max)(figures[name] for figures in by_guidance) for name in ASKED
        }
        print("    " + ", ".join(f"{name} {value:.3f}" for name, value in worst.items()), flush=True)
        return all(
            value >= LIMITS[n][1] if LIMITS[n][0] == ">=" else value <= LIMITS[n][1] for n, value in worst.items()
        )

    def _figures(self, clip: Any, guidance: float) -> Mapping[str, float]:
        reading = read(self._net, self._draw(self._names, guidance, clip))
        moved = preservation(self._plain[guidance], self._draw(things(), guidance, clip), self._other_noise[guidance])
        figures = (
            identification_rate(reading, self._who, self._gallery),
            looks_kept(reading, [cast()[index].looks for index in self._who]),
            moved,
            self._kinds_right(guidance, clip) / self._right[guidance],
        )
        return dict(zip(ASKED, figures, strict=True))

    def _kinds_right(self, guidance: float, clip: Any = None) -> float:
        return kinds_right(read(self._net, self._draw(tuple(named_things().values()), guidance, clip)), self._kinds)

    def _draw(self, requests: Sequence[Request], guidance: float, clip: Any = None) -> np.ndarray:
        parts = replace(self._parts, clip=clip or self._parts.clip)
        prompts = [request.prompt for request in requests for _ in range(PICTURES)]
        seeds = [PICTURES * request.seed + number for request in requests for number in range(PICTURES)]
        return generate(parts, prompts, seeds, guidance=guidance)


class Theirs:
    """A run with the authors' settings.

    Attributes:
        vectors: as they are now.
        steps: made so far.
    """

    def __init__(self, denoiser: Any, pictures: Pictures, seed: int) -> None:
        from ..engines.micro_batches import MicroBatches
        from ..trainer.data.targets import TargetPool
        from ..trainer.state import new_state

        denoiser.layers = denoiser.layers[:1]  # Theirs reads one layer of the text encoder.
        self._denoiser = denoiser
        self._settings = TrainingSettings(
            conditional=False,
            vectors=THEIR_VECTORS,
            seed=seed,
            steps=10**6,
            batch_size=1,
            warmup=0.0,
            general_weight=1.0,
            overshoot=0.0,
        )
        self._pool = TargetPool(denoiser, pictures, NOISINGS, seed)
        self._micro_batches = MicroBatches(denoiser, 1)
        generator = torch.Generator().manual_seed(seed)
        self.vectors = {
            key: torch.rand(self._settings.vectors, table.shape[1], generator=generator).requires_grad_()
            for key, table in denoiser.token_embeddings("").items()
        }
        self._state = new_state(self.vectors, self._settings)
        for group in self._state.optimizer.param_groups:
            group |= {"peak": 1e-3, "eps": 1e-8}

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self._state.step

    def go_on(self, steps: int) -> None:
        """Makes so many steps."""
        from ..trainer.data.targets import slots_of_step
        from ..trainer.step import make_step

        with self._denoiser.gradients(1):
            for step in range(self.steps, self.steps + steps):
                batch = self._pool.batch(slots_of_step(self._pool, 1, self._settings.seed, step))
                make_step(self._denoiser, self._state, batch, self._settings, self._micro_batches)
                self._state.rate = 1.0  # Their rate is constant.


class Count:
    """Counts what an engine's denoiser is asked, wherever it is asked from."""

    def __init__(self, denoiser: Any) -> None:
        self.made: Counter[str] = Counter()
        predict, sample = denoiser.predict, denoiser.sample

        def predicted(noised: torch.Tensor, *arguments: Any) -> torch.Tensor:
            found = predict(noised, *arguments)
            self.made["learning" if found.requires_grad else "asking"] += len(noised) * (
                3 if found.requires_grad else 1
            )
            return found

        def sampled(prompts: Sequence[str], *arguments: Any) -> torch.Tensor:
            self.made["drawing"] += len(prompts) * denoiser.evaluations_a_picture
            return sample(prompts, *arguments)

        denoiser.predict, denoiser.sample = predicted, sampled

    @property
    def whole(self) -> int:
        """All evaluations so far."""
        return sum(self.made.values())


def ours(
    denoiser: Any, settings: TrainingSettings, people: Sequence[Identity], prompts: Sequence[str]
) -> tuple[int, Prefix]:
    """Evaluations of a whole run, and its prefix."""
    from ..trainer.progress import Callbacks
    from ..trainer.reporting.preview import BeforeAfter
    from ..trainer.training import PrefixTraining

    count = Count(denoiser)
    training = PrefixTraining(denoiser, people, prompts, settings)
    preview = BeforeAfter(denoiser, training.held_out.people or people, settings.seed, lambda: None)
    planned: list[str] = []
    learned = training.learn(
        Callbacks(show=lambda vectors: preview.draw(vectors), plan=lambda plan: planned.append(plan.words))
    )
    print(f"  planned: {planned[0]}", flush=True)
    print(f"  made: {dict(count.made)}, {learned.prefix.record.steps} steps", flush=True)
    return count.whole, learned.prefix


def theirs(
    denoiser: Any, people: Sequence[Identity], prompts: Sequence[str], seed: int, most: int, ruler: Ruler
) -> Iterator[tuple[int, bool]]:
    """Evaluations made, and whether the vectors are good, at every snapshot."""
    from ..engines.micro_batches import MicroBatches
    from ..runs.seeds import generator
    from ..runs.tensor_store import TensorStore
    from ..trainer.data.pictures import draw_pictures, general_pairs, identity_pairs

    pairs = identity_pairs(people, PORTRAITS_OF_THEIRS, generator(seed, "choices")) + general_pairs(prompts)
    rows = TensorStore(len(pairs), denoiser.latent_shape)
    pictures = draw_pictures(denoiser, pairs, seed, MicroBatches(denoiser, 64), rows, lambda drawn: None)
    drawing = denoiser.evaluations_a_picture * sum(pair.names_somebody for pair in pairs)
    run = Theirs(denoiser, pictures, seed)
    record = PrefixRecord(family=denoiser.family, fingerprint=denoiser.fingerprint)
    while run.steps < most:
        run.go_on(min(THEIR_SNAPSHOTS, most - run.steps))
        made = drawing + THEIRS_A_STEP * run.steps
        print(f"  after {run.steps} steps and {made} evaluations, {drawing} of them for portraits", flush=True)
        yield made, ruler.is_good(Prefix({key: rows.detach().clone() for key, rows in run.vectors.items()}, record))


def main() -> None:
    """Runs both for each seed, and prints the ratio of our worst to their best last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--preset", choices=tuple(PRESETS), default=BALANCED, help="ours (%(default)s, as shipped)")
    parser.add_argument(
        "--most", type=int, default=THEIR_STEPS, help="steps of the authors' settings, at most (%(default)s)"
    )
    arguments = parser.parse_args()
    enter_host()
    from ..demo.loader import load_demo_model
    from ..engines.automatic import usual_drawing_of
    from ..engines.comfy.denoiser import ComfyDenoiser, Drawing
    from ..trainer.data.prompts import general_prompts

    people = identities(unseen=(False,))
    prompts = general_prompts(shipped_prompts(), people)
    evaluations: dict[str, list[int]] = {"theirs": [], "ours": []}
    reached = {"theirs": False, "ours": True}
    with torch.inference_mode(False), torch.enable_grad():
        parts = load_demo_model()
        usual = usual_drawing_of(parts[0])
        size = usual.size(0, 0)
        ruler = Ruler(*parts)
        for seed in arguments.seeds:
            settings = TrainingSettings(preset=arguments.preset, seed=seed)
            print(f"seed {seed}, ours: preset {settings.preset}", flush=True)
            began = time.monotonic()
            drawing = usual.drawing(Drawing(0, 0.0), settings.drawing_share)
            made, prefix = ours(ComfyDenoiser(*parts, size, drawing), settings, people, prompts)
            print(f"  {made} evaluations in {time.monotonic() - began:.0f} s", flush=True)
            reached["ours"] &= ruler.is_good(prefix)
            evaluations["ours"].append(made)
            print(f"seed {seed}, theirs", flush=True)
            engine = ComfyDenoiser(*parts, size, usual.drawing(Drawing(0, 0.0)))
            for made, good in theirs(engine, people, prompts, seed, arguments.most, ruler):  # noqa: B007
                if good:
                    reached["theirs"] = True
                    break
            evaluations["theirs"].append(made)
    mine, reference = max(evaluations["ours"]), min(evaluations["theirs"])
    print(f"worst of ours {mine}, best of theirs {reference}")
    if not reached["theirs"]:
        print(
            "The authors' settings did not reach what is asked: they count as what they made, so the ratio is a limit."
        )
    if not reached["ours"]:
        print("Ours did not reach what is asked with every seed: they count as what they made.")
    print(f"RATIO evaluations_to_quality {mine / reference:.4f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
