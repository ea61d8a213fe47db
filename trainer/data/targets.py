"""Computes the teacher's answers once, and keeps them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ...engines.denoiser import Denoiser, Layer
from ...engines.micro_batches import MicroBatches
from ...runs.seeds import generator as seeded
from ...runs.seeds import stratified_times
from ...runs.tensor_store import TensorStore
from ..objective import beyond
from .pictures import NEGATIVE_PAIRS, Pair, Pictures
from .plain_text import PlainText, Spoken
from .shards import by_shard

HALF = Fraction(1, 2)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    Attributes:
        noised: noised pictures x_t, `[B, *latent_shape]`.
        t: their times, `[B]`.
        predictions: the teacher's, `[B, *latent_shape]`.
        prompts: the student's, B of them.
        names_somebody: which of the prompts do, `[B]` bool.
        layers: the layers that they are read at, B of them.
    """

    noised: Tensor
    t: Tensor
    predictions: Tensor
    prompts: tuple[str, ...]
    names_somebody: Tensor
    layers: tuple[Layer, ...]

    def part(self, indices: Sequence[int]) -> Batch:
        """The batch of these items alone."""
        chosen = list(indices)
        return Batch(
            self.noised[chosen],
            self.t[chosen],
            self.predictions[chosen],
            tuple(self.prompts[index] for index in chosen),
            self.names_somebody[chosen],
            tuple(self.layers[index] for index in chosen),
        )


class TargetPool:
    """Every picture, noised a few times, with the teacher's predictions, which depend on nothing that is learned.

    Predictions are computed when they are first asked for. Slot `s` of the pool belongs to picture `s // noisings`;
    its time and noise follow from the seed and from s alone, and so does the layer that its prompts are read at, the
    teacher's as the student's: each picture is seen at every layer in turn.

    Args:
        predictions: where the teacher's answers are kept, one row a slot.
        micro_batches: how many the teacher is asked at once.
        plain: what prompts say without a prefix.
        shards: of each picture, see `data.shards`; all in one if there are none.

    Attributes:
        layers: those that are learned at, all of the denoiser's at first; settled before anything is asked for.
        overshoot: see `objective.beyond`; settled then too.
        shards: of each slot's picture, `[n]`.
    """

    layers: Sequence[Layer]
    overshoot: float = 0.0

    def __init__(
        self,
        denoiser: Denoiser,
        pictures: Pictures,
        noisings: int,
        seed: int,
        predictions: TensorStore | None = None,
        micro_batches: MicroBatches | None = None,
        plain: PlainText | None = None,
        shards: Sequence[int] = (),
    ) -> None:
        count = len(pictures.pairs) * noisings
        self.predictions = TensorStore(count, denoiser.latent_shape) if predictions is None else predictions
        self._micro_batches = micro_batches or MicroBatches(denoiser, count)
        self._denoiser = denoiser
        self._pictures = pictures
        self._noisings = noisings
        self._seed = seed
        self.layers = denoiser.layers
        self._times = stratified_times(count, seeded(seed, "times"))
        self._plain = plain or PlainText(denoiser)
        self._kinds = [pair.names_somebody for pair in pictures.pairs]
        kinds = torch.tensor([pair.names_somebody for pair in pictures.pairs]).repeat_interleave(noisings)
        self._negatives = negatives_of(kinds, denoiser.unconditional_share, seed)
        self._slots = {kind: torch.nonzero(kinds == kind).flatten() for kind in (True, False)}
        self._shards = tuple(shards) or (0,) * len(pictures.pairs)
        self.shards = torch.tensor(self._shards, dtype=torch.long).repeat_interleave(noisings)
        self._instead: dict[int, int] = {}

    def slots(self, names_somebody: bool) -> Tensor:
        """The slots `[n]` of the pictures that name somebody, or of the others."""
        return self._slots[names_somebody]

    def pictures(self, slots: Sequence[int]) -> list[int]:
        """The pictures of these slots, and all others of the shards that they are of."""
        kinds = list(zip(self._kinds, self._shards, strict=True))
        begun = {kinds[slot // self._noisings] for slot in slots}
        return [index for index, kind in enumerate(kinds) if kind in begun]

    def leave_out(self, pictures: Collection[int]) -> None:
        """Has others of their kind take the place of these pictures, as drawn as they are; some must be left.

        Whatever is dealt keeps its place, so that this may be said at any time.
        """
        for picture in pictures:
            kind, shard = self._kinds[picture], self._shards[picture]
            others = [
                index
                for index, (its, of) in enumerate(zip(self._kinds, self._shards, strict=True))
                if its is kind and of <= shard and index not in pictures
            ]
            same = [index for index in others if self._shards[index] == shard] or others
            self._instead[picture] = same[picture % len(same)]

    def instead(self, slot: int) -> int:
        """The slot itself, or the one that takes its place, see `leave_out`."""
        picture, number = divmod(slot, self._noisings)
        return self._instead.get(picture, picture) * self._noisings + number

    def read(
        self, slots: Sequence[int], micro_batches: MicroBatches, report: Callable[[int], None] = lambda left: None
    ) -> None:
        """Encodes what the teacher is going to be told about those of these slots that it was never asked for.

        Args:
            report: called with how many prompts are left.
        """
        prompts: dict[Spoken, None] = {}
        for slot in slots:
            if slot not in self.predictions:
                pair = self._pair(slot)
                told = [pair.teacher, *([pair.student] if self._overshoots(pair) else [])]
                prompts |= dict.fromkeys((prompt, self._layer(slot)) for prompt in told)
        left = len(prompts)

        def prepare(some: Sequence[Spoken]) -> None:
            nonlocal left
            self._plain.prepare(some)
            left -= len(some)
            report(left)

        micro_batches.work(prepare, list(prompts))

    def prepare(self, slots: Sequence[int]) -> None:
        """Asks the teacher for these slots, and keeps the answers."""

        def ask(micro_batch: Sequence[int]) -> None:
            for slot, answer in zip(micro_batch, self._ask_teacher(micro_batch), strict=True):
                self.predictions.put(slot, answer)

        self._micro_batches.work(ask, slots)

    def names_somebody(self, slots: Sequence[int]) -> Tensor:
        """Which of the slots' pictures do, `[n]` bool."""
        return torch.tensor([self._pair(slot).names_somebody for slot in slots], dtype=torch.bool)

    def batch(self, slots: Sequence[int]) -> Batch:
        """The batch of these slots; asks the teacher for those that were never asked for before."""
        unique = list(dict.fromkeys(slots))
        answers = {slot: self.predictions[slot] for slot in unique if slot in self.predictions}
        missing = [slot for slot in unique if slot not in answers]
        for slot, answer in zip(missing, _joined(self._micro_batches.work(self._ask_teacher, missing)), strict=True):
            self.predictions.put(slot, answer)
            answers[slot] = answer
        noised, times = self._noised(slots)
        return Batch(
            noised=noised,
            t=times,
            predictions=torch.stack([answers[slot] for slot in slots]),
            prompts=tuple(self._pair(slot).student for slot in slots),
            names_somebody=self.names_somebody(slots),
            layers=tuple(map(self._layer, slots)),
        )

    def _pair(self, slot: int) -> Pair:
        return self._negatives.get(slot) or self._pictures.pairs[slot // self._noisings]

    def _layer(self, slot: int) -> Layer:
        return self.layers[sum(divmod(slot, self._noisings)) % len(self.layers)]

    def _overshoots(self, pair: Pair) -> bool:
        return pair.overshoots and self.overshoot > 0

    def _noised(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        latents = torch.stack([self._pictures.latents[slot // self._noisings] for slot in slots])
        noise = torch.stack([self._noise(slot, latents[0].shape) for slot in slots])
        times = self._times[torch.tensor(slots)]
        return self._denoiser.add_noise(latents, noise, times), times

    @torch.no_grad()
    def _ask_teacher(self, slots: Sequence[int]) -> Tensor:
        """The teacher's predictions; past them for who is named, see `objective.beyond`."""
        noised, times = self._noised(slots)
        layers = [self._layer(slot) for slot in slots]
        answers = self._predict(noised, times, [self._pair(slot).teacher for slot in slots], layers)
        named = [index for index, slot in enumerate(slots) if self._overshoots(self._pair(slot))]
        if named:
            prompts = [self._pair(slots[index]).student for index in named]
            plain = self._predict(noised[named], times[named], prompts, [layers[index] for index in named])
            answers[named] = beyond(answers[named], plain, self.overshoot)
        return answers

    def _predict(self, noised: Tensor, times: Tensor, prompts: Sequence[str], layers: Sequence[Layer]) -> Tensor:
        return self._denoiser.predict(noised, times, self._plain.of(prompts, layers)).float().cpu()

    def _noise(self, slot: int, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=seeded(self._seed, "noise", slot))


def negatives_of(names_somebody: Tensor, share: float, seed: int) -> dict[int, Pair]:
    """The slots at which a picture is seen with a negative prompt in place of its own, see `NEGATIVE_PAIRS`.

    Args:
        names_somebody: which slots do, `[n]` bool; only of the others some are chosen.
        share: of those others.
    """
    generator = seeded(seed, "negatives")
    drawn, which = torch.rand(2, len(names_somebody), generator=generator)
    chosen = torch.nonzero(~names_somebody & (drawn < share)).flatten().tolist()
    return {slot: NEGATIVE_PAIRS[int(float(which[slot]) * len(NEGATIVE_PAIRS))] for slot in chosen}


def deal(slots: Tensor, count: int, seed: int, purpose: str, start: int, shards: Tensor | None = None) -> list[int]:
    """Items `start` to `start + count` of an endless deal in which every slot comes once before any comes again.

    It follows from the arguments alone, so that a run can go on anywhere. Each round is shuffled anew.

    Args:
        shards: of the slots; in the first round those of earlier ones come first.
    """
    dealt: list[int] = []
    while len(dealt) < count:
        round_number, offset = divmod(start + len(dealt), len(slots))
        order = torch.randperm(len(slots), generator=seeded(seed, purpose, round_number))
        if shards is not None and round_number == 0:
            order = by_shard(order, shards[order])
        dealt += slots[order[offset : offset + count - len(dealt)]].tolist()
    return dealt


def slots_of_step(
    pool: TargetPool, batch_size: int, seed: int, step: int, count: int = 1, named_share: Fraction = HALF
) -> list[int]:
    """The slots of a step (from 0), or of `count` from there on; those that name somebody come first.

    Args:
        named_share: of each step's that do; where a batch cannot be divided so, of some steps more than of others.
    """
    of_all, before = step * batch_size, named_before(step, batch_size, named_share)
    names = named_before(step + count, batch_size, named_share) - before
    of_kind = {True: (names, "named", before), False: (count * batch_size - names, "general", of_all - before)}
    dealt: list[int] = []
    for kind, (number, purpose, start) in of_kind.items():
        slots = pool.slots(kind)
        dealt += map(pool.instead, deal(slots, number, seed, purpose, start, pool.shards[slots]))
    return dealt


def named_before(step: int, batch_size: int, named_share: Fraction = HALF) -> int:
    """How many of the slots of the steps before this one name somebody."""
    return math.ceil(step * batch_size * named_share)


def _joined(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    return torch.cat(list(parts)).unbind(0) if parts else ()
