"""Learns experts of a denoiser: draws pictures, sends prompts apart, chooses what is not computed, and distils.

The model itself is all that is learned from: it draws a picture for each prompt, and its own predictions are what each
expert is to answer (docs/METHODS.md 8).
"""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..engines.denoiser import LORA, Conditioning, Denoiser
from ..engines.micro_batches import MicroBatches
from ..engines.pruning.deltas import narrowed_delta
from ..engines.pruning.parts import DenoiserPart, Prunable, gated_parts, watched_parts
from ..engines.pruning.units import LeftOut, narrowed_layers
from ..finetuning.distillation import Answers, Distillation, answers_of, distance_share, unlikeness
from ..finetuning.general import general_set
from ..finetuning.loop import finetuned
from ..finetuning.progress import FinetuningCallbacks, FinetuningPlan
from ..finetuning.settings import FinetuningSettings
from ..finetuning.training_set import TrainingSet
from ..prefix.errors import ExpertsError
from ..runs.run_folder import RunFolder, run_key
from ..runs.seeds import generator
from .codes import Gates, exchanged, least_sensitive
from .importance import Noised, unit_importance
from .resuming import kept_left_out, kept_tuned
from .router import Router, embedding_of, fitted_router
from .settings import WIDTHS, ExpertsSettings
from .value import Experts, ExpertsRecord, TunedExpert
from .widths import least_important

MEASURED, MEASURED_EACH = 16, 4
"""Noised pictures, at most, on which the sensitivity of blocks is measured for an expert; of each picture, if few."""

PROBED = 2
"""Pictures, at most, of which it is measured together what units change."""

RECIPE = 1
"""Raised when the same arguments no longer give the same experts, so that none of an older version are gone on with."""

DENOISING, DISTILLATION, BLOCKS = 1.0, 0.2, 0.2
"""Weights of the losses of gates, as the authors have them."""

NOTHING = ""
"""The prompt of the prediction that guidance draws away from."""

LAYER_OF_MATRIX = re.compile(r"\.lora_(up|down|A|B)\.weight$")
"""What the names of a layer's two matrices end with, in ComfyUI or in PEFT."""

Altered = Callable[[], AbstractContextManager[None]]
"""Inside, a denoiser computes less."""

EXAMPLES = 4
"""Prompts of each expert that a report shows."""


@dataclass(frozen=True)
class ExpertsCallbacks:
    """What learning calls while it goes on. What they raise breaks it off, and comes through.

    Attributes:
        report: called with what is done and what there is to do, in pictures and steps.
        check: called more often than that.
        step: called after every step of gates and of tuning with the steps of all experts that are made, those that
            there are, and the loss of the last one; not a number for one of gates.
        plan: called with what tuning takes, for all experts that are left, before each of them learns.
        tell: called with what a person should hear of, sentences.
    """

    report: Callable[[int, int], None] = lambda done, of: None
    check: Callable[[], None] = lambda: None
    step: Callable[[int, int, float], None] = lambda done, of, loss: None
    plan: Callable[[FinetuningPlan], None] = lambda plan: None
    tell: Callable[[str], None] = lambda sentence: None


class ExpertLearning:
    """Learns experts, step by step, so that whoever measures it can take steps apart.

    Args:
        prunable: the denoiser and its parts.
        prompts: to learn from.
        delta_of: what files have of weights that were learned as LoRA.
        folder: of the run, where pictures and experts are kept, and unfinished tuning; None to keep nothing.

    Attributes:
        parts: blocks that can be removed.
        shares: of the multiplications those of all units of a layer, where layers can be narrowed.
        settings: how it learns.
        pictures: that the denoiser drew.
        embeddings: `[n, d]` of their prompts.

    Raises:
        ExpertsError: fewer prompts than experts, or layers of a model whose layers nobody narrows.
        TrainingError: not enough memory, or a model that cannot be fine-tuned.
    """

    def __init__(
        self,
        prunable: Prunable,
        prompts: Sequence[str],
        settings: ExpertsSettings,
        delta_of: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
        callbacks: ExpertsCallbacks | None = None,
        folder: RunFolder | None = None,
    ) -> None:
        chosen = list(dict.fromkeys(prompt for prompt in prompts if prompt.strip()))
        if len(chosen) < settings.experts:
            raise ExpertsError(
                f"There are {len(chosen)} prompts for {settings.experts} experts: give some for each kind, or ask for"
                " fewer experts."
            )
        if settings.leave_out == WIDTHS and not prunable.units:
            raise ExpertsError(
                "Nobody has tried to narrow the layers of this model: have experts leave out whole blocks."
            )
        callbacks = callbacks or ExpertsCallbacks()
        self._prunable = prunable
        self._denoiser = prunable.denoiser
        self.settings = settings
        self._delta_of = delta_of
        self._callbacks = callbacks
        self._folder = folder or RunFolder(None, "")
        self._gate_steps = 0 if settings.leave_out == WIDTHS else settings.steps
        steps = settings.tuning_steps + self._gate_steps
        count = max(settings.pictures, settings.experts)
        self._of = count + settings.experts * steps
        self._done = 0
        # By group and by the blocks that are gone: whoever wants several shares asks for most of them again.
        self._sensitivities: dict[tuple[float, ...], dict[frozenset[str], float]] = {}
        self.pictures = general_set(
            self._denoiser, chosen, count, settings.seed, self._drawn, callbacks.check, self._folder
        )
        self._micro_batches = MicroBatches(self._denoiser, settings.batch_size, callbacks.check)
        with self._denoiser.gradients(settings.batch_size), torch.no_grad():
            self.parts: tuple[DenoiserPart, ...] = prunable.parts()
            self.shares = prunable.unit_shares() if prunable.units else {}
            self._read = dict(zip(self._known, self._denoiser.encode(self._known), strict=True))
            read = self._denoiser.states([self._read[caption] for caption in self.pictures.captions])
        self.embeddings = torch.stack([embedding_of(states) for states in read])

    @property
    def _known(self) -> list[str]:
        return list(dict.fromkeys((*self.pictures.captions, NOTHING)))

    def learn(self) -> Experts:
        """All of it."""
        settings = self.settings
        router, groups = self.routed(settings.experts)
        made = [self._expert(group, number) for number, group in enumerate(groups)]
        return self.experts(router, groups, [gone for gone, _ in made], [tuned for _, tuned in made])

    def _expert(self, group: Sequence[int], number: int) -> tuple[LeftOut, TunedExpert]:
        """What an expert does without, and what it learned; as the folder has them, where it does."""
        done = self._done + self._gate_steps
        left_out = kept_left_out(self._folder, number, self._prunable.units, lambda: self.chosen(group, number))
        self._reach(done)
        tuned = kept_tuned(self._folder, number, lambda: self.tuned(group, left_out, number))
        self._reach(done + self.settings.tuning_steps)
        return left_out, tuned

    def routed(self, experts: int) -> tuple[Router, list[list[int]]]:
        """A router, and the pictures, by number, that it sends to each expert; an expert that gets none is left out."""
        router = fitted_router(self.embeddings, experts, self.settings.seed)
        sent = router.route(self.embeddings).tolist()
        used = sorted(set(sent))
        router = dataclasses.replace(router, centroids=router.centroids[used])
        return router, [[number for number, expert in enumerate(sent) if expert == one] for one in used]

    def keeping(self, keep: float, leave_out: str = "") -> ExpertLearning:
        """The same, of the same pictures, for another share of compute, or leaving out something else."""
        other = copy.copy(self)
        other.settings = dataclasses.replace(self.settings, keep=keep, leave_out=leave_out or self.settings.leave_out)
        return other

    def chosen(self, group: Sequence[int], number: int = 0, steps: int | None = None) -> LeftOut:
        """What an expert for some of the pictures does without.

        Args:
            number: of the expert.
            steps: in place of those of the settings.
        """
        if self.settings.leave_out == WIDTHS:
            return self._narrowed(group, number)
        return LeftOut(self._removed(group, number, self.settings.steps if steps is None else steps))

    def _narrowed(self, group: Sequence[int], number: int) -> LeftOut:
        """Layers of an expert, of whose units those stay that change most for the compute that they take."""
        settings = self.settings
        with self._denoiser.gradients(settings.batch_size):
            measured = self._noised(group, f"sensitivity {number}", _measured(group))
            random = generator(settings.seed, "units", number)
            micro_batches = MicroBatches(self._denoiser, PROBED, self._callbacks.check)

            def importance(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
                return unit_importance(self._prunable, measured, self._read[NOTHING], random, kept, micro_batches)

            return LeftOut(kept=least_important(self._prunable.units, self.shares, settings.keep_above, importance))

    def _removed(self, group: Sequence[int], number: int, steps: int) -> tuple[str, ...]:
        """Blocks of an expert that go: by their sensitivity, then as gates learned, if that is better."""
        settings, keep = self.settings, self.settings.keep_above
        with self._denoiser.gradients(settings.batch_size):
            measured = self._noised(group, f"sensitivity {number}", _measured(group))
            known = self._sensitivities.setdefault((settings.whole_until, number, *group), {})

            def error(removed: Sequence[str]) -> float:
                gone = frozenset(removed)
                if gone not in known:
                    known[gone] = self._error(measured, removed)
                return known[gone]

            by_sensitivity = exchanged(self.parts, least_sensitive(self.parts, keep, error), keep, error)
            if not steps or not by_sensitivity:
                return by_sensitivity
            gates = Gates(self.parts, by_sensitivity, keep, generator(settings.seed, "gates", number))
            for step in range(steps):
                batch = self._noised(group, f"gates {number}", settings.batch_size, step)
                gates.step(partial(self._loss, batch))
                self._report()
            held_out = self._noised(group, f"choice {number}", _measured(group))
            return min((by_sensitivity, gates.removed), key=lambda removed: self._error(held_out, removed))

    def tuned(
        self,
        group: Sequence[int],
        left_out: LeftOut,
        number: int = 0,
        steps: int | None = None,
    ) -> TunedExpert:
        """Has a denoiser that computes less learn to answer as the whole one, on some of the pictures."""
        settings = self.settings
        steps = settings.tuning_steps if steps is None else steps
        altered = self._without(left_out)
        with self._denoiser.gradients(settings.batch_size):
            held_out = self._noised(group, f"error {number}", MEASURED)
            before = self._distance(held_out, altered)
        if not steps:
            return TunedExpert({}, before, before)
        learned = TrainingSet(
            self.pictures.latents[list(group)], tuple(self.pictures.captions[index] for index in group)
        )
        tuning = FinetuningSettings(
            kind=LORA,
            steps=steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            rank=settings.rank,
            seed=settings.seed + number,
        )
        distilled = Distillation(
            altered,
            left_out.key,
            self._denoiser.guidance,
            self._denoiser.drawing_steps,
            watched=lambda: watched_parts(self._prunable.network, [part.name for part in self.parts]),
            until=settings.whole_until,
        )
        left, began = settings.experts - number, self._done

        def planned(plan: FinetuningPlan) -> None:
            whole = plan.seconds / max(plan.steps, 1) * steps
            every = dataclasses.replace(
                plan, steps=plan.steps + (left - 1) * steps, seconds=plan.seconds + (left - 1) * whole
            )
            self._callbacks.plan(every)

        callbacks = FinetuningCallbacks(
            report=lambda done, of, loss: self._report(loss, began + done), check=self._callbacks.check, plan=planned
        )
        with finetuned(self._denoiser, learned, tuning, callbacks, self._folder.inner("tuning"), distilled) as result:
            with result.denoiser.gradients(settings.batch_size):
                after = self._distance(held_out, altered, result.denoiser)
            delta = self._delta_of(result.weights)
        prunable = self._prunable
        cut = narrowed_layers(prunable.network, prunable.units, left_out)
        delta = narrowed_delta(delta, cut, prunable.network)
        return TunedExpert(_halved(delta), before, after) if after < before else TunedExpert({}, before, before)

    def experts(
        self,
        router: Router,
        groups: Sequence[Sequence[int]],
        left_out: Sequence[LeftOut],
        tuned: Sequence[TunedExpert],
    ) -> Experts:
        """What was learned, as a value."""
        record = ExpertsRecord(
            self._denoiser.family,
            self._prunable.fingerprint,
            tuple(part.name for part in self.parts),
            tuple(part.share for part in self.parts),
            dataclasses.asdict(self.settings),
            date.today().isoformat(),
            tuple(len(group) for group in groups),
            tuple((one.before, one.after) for one in tuned),
            self.settings.whole_until,
            {name: self.shares[name] for name in left_out[0].kept},
        )
        kept = torch.tensor([[part.name not in one.blocks for part in self.parts] for one in left_out])
        units = {name: torch.stack([one.kept[name] for one in left_out]) for name in record.units}
        examples = [
            list(dict.fromkeys(self.pictures.captions[index] for index in group))[:EXAMPLES] for group in groups
        ]
        return Experts(record, router, kept, tuple(one.delta for one in tuned), units, tuple(examples))

    def _noised(self, group: Sequence[int], purpose: str, count: int, step: int = 0) -> Noised:
        """Some of a group's pictures with noise at times that are spread evenly where blocks are left out; inside
        `gradients`."""
        random = generator(self.settings.seed, f"experts {purpose}", step)
        order = torch.randperm(len(group), generator=random).tolist()
        which = [group[order[place % len(order)]] for place in range(count)]
        t = (torch.arange(count) + torch.rand(count, generator=random)) / count
        t = torch.lerp(torch.tensor(self.settings.whole_until), torch.tensor(1.0), t).clamp(1e-3, 1 - 1e-3)
        noise = torch.randn(count, *self._denoiser.latent_shape, generator=random)
        latents = self.pictures.latents[which]
        noised = self._denoiser.add_noise(latents, noise, t)
        conditioning = [self._read[self.pictures.captions[index]] for index in which]
        whole = self._answered(noised, t, conditioning)
        return Noised(conditioning, noised, t, self._denoiser.target(latents, noise, t), whole)

    def _answered(
        self, noised: Tensor, t: Tensor, conditioning: Conditioning, denoiser: Denoiser | None = None
    ) -> Answers:
        asked = denoiser or self._denoiser

        def part_of(places: Sequence[int]) -> Tensor:
            some = list(places)
            prompts = [conditioning[place] for place in some]
            answers = answers_of(asked, noised[some], t[some], prompts, self._read[NOTHING], self._denoiser.guidance)
            return torch.stack(answers).float().cpu()

        with torch.no_grad():
            return Answers(*torch.cat(self._micro_batches.work(part_of, range(len(noised))), 1))

    def _without(self, left_out: LeftOut) -> Altered:
        return lambda: self._prunable.without(left_out)

    def _error(self, measured: Noised, removed: Sequence[str]) -> float:
        """`_distance` without some blocks."""
        return self._distance(measured, self._without(LeftOut(tuple(removed))))

    def _distance(self, measured: Noised, altered: Altered, denoiser: Denoiser | None = None) -> float:
        """Squared distance to what the whole denoiser answers, as a share of that answer's square, and the same of what
        the prompt changes in it, which is small beside the rest and says who is drawn: the mean of both."""
        with altered():
            found = self._answered(measured.noised, measured.t, measured.conditioning, denoiser)
        error = distance_share(found.conditional, measured.whole.conditional)
        if self._denoiser.guidance != 1:
            changed = found.guided - found.conditional
            error = (error + distance_share(changed, measured.whole.guided - measured.whole.conditional)) / 2
        return float(error)

    def _loss(self, batch: Noised, gates: Mapping[str, Tensor]) -> Tensor:
        """Denoising, distillation and block losses of a sample of gates, as shares of what they compare with."""
        network, names = self._prunable.network, [part.name for part in self.parts]
        asked = batch.noised, batch.t, batch.conditioning, self._read[NOTHING], self._denoiser.guidance
        with torch.no_grad(), watched_parts(network, names) as whole:
            answers_of(self._denoiser, *asked)
        with gated_parts(network, gates), watched_parts(network, names) as gated:
            answers = answers_of(self._denoiser, *asked)
        return (
            DENOISING * distance_share(answers.conditional, batch.target)
            + DISTILLATION * distance_share(answers.guided, batch.whole.guided)
            + BLOCKS * unlikeness(gated, whole)
        ).cpu()

    def _drawn(self, done: int, of: int) -> None:
        self._done = done
        self._callbacks.report(done, self._of)

    def _report(self, loss: float = math.nan, done: int = 0) -> None:
        self._reach(done or self._done + 1)
        drawn = len(self.pictures.captions)
        self._callbacks.step(self._done - drawn, self._of - drawn, loss)

    def _reach(self, done: int) -> None:
        """Says how much is done, if that is news."""
        if done > self._done:
            self._done = done
            self._callbacks.report(min(done, self._of), self._of)


def learned_by(
    prunable: Prunable,
    prompts: Sequence[str],
    settings: ExpertsSettings,
    delta_of: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    callbacks: ExpertsCallbacks | None = None,
    runs: Path | None = None,
) -> Experts:
    """Experts of a denoiser; broken off, the same call goes on where it was.

    Args:
        runs: the folder of unfinished runs; None to keep nothing.

    Raises:
        ExpertsError, TrainingError: see `ExpertLearning`.
    """
    key = run_key(recipe=RECIPE, model=prunable.denoiser.digest, settings=settings, prompts=list(prompts))
    with RunFolder(runs, key) as folder:
        experts = ExpertLearning(prunable, prompts, settings, delta_of, callbacks, folder).learn()
        folder.remove()
    if callbacks is not None and folder.trouble:
        callbacks.tell(folder.trouble)
    return experts


def _measured(group: Sequence[int]) -> int:
    """How many noised pictures of a group are measured."""
    return min(MEASURED, MEASURED_EACH * len(group))


def _halved(delta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoRA in half precision, without the layers that learned nothing, such as those of blocks that are gone.

    One of the two matrices of a layer is zeros before it learns, the other never is.
    """
    idle = {LAYER_OF_MATRIX.sub("", name) for name, weight in delta.items() if not weight.any()}
    return {name: weight.half() for name, weight in delta.items() if LAYER_OF_MATRIX.sub("", name) not in idle}
