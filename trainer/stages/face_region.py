"""Learns where a prefix's faces are: the head that lets it change these places alone (docs/METHODS.md 2.11).

A finder looks for faces in pictures that the run has drawn. At several levels of noise the denoiser is asked about
each, told the plain prompt and the protected one, and the head learns to tell the finder's boxes from the two answers.
Then thresholds are set on pictures that it did not learn from.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.clean import clean_latents, signal_and_noise
from ...engines.denoiser import Denoiser, Vectors
from ...engines.micro_batches import MicroBatches
from ...faces.pictures import pictures_of
from ...faces.recognizer import Finder
from ...prefix.errors import TrainingError
from ...prefix.face_region import CERTAINTY, FaceRegion, FaceRegionHead, noise_level, tensors_of
from ...prefix.value import Prefix
from ...runs.seeds import cpu_seeded, derived_seed, noise_of, rate_factor, stratified_times
from ...runs.seeds import generator as seeded
from ..data.pictures import Pair, Pictures
from ..validation import spread

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of a picture's sides."""

Finding = Callable[[], AbstractContextManager[Finder]]
"""Gives what finds faces, for as long as it is needed."""

LEARNED = 48
"""Pictures of each kind (that name somebody, and that do not) that the head learns from, at most."""

NOISINGS = 4
"""Levels of noise that it sees each of them at."""

HELD_OUT = 16
"""Pictures that name somebody, at most, that thresholds are set on."""

FEWEST = 6
"""Pictures with faces that thresholds can be set on."""

LEVELS = (0.02, 0.15, 0.3, 0.45, 0.6, 0.75, 0.88, 0.96, 0.9999)
"""Times at which thresholds are set, from clean to noise."""

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
"""Shares of faces that thresholds are set for."""

BEYOND = 0.25
"""Where there are too few faces for a share: how far below the lowest answer the threshold is, as a share of the
distance from there to the median."""

COVERED = 0.1
"""Share of a face's cells, those of the lowest answers, that may be outside of the mask while it counts as masked: a
face is a box, and they lie in its corners."""

SHIFTED = 1 / 6
"""How far examples are moved to and fro while learning, at most, as a share of their shorter side: so that faces are
told by what is there, not by where they usually are."""

ENLARGED, ENLARGED_SHARE = 2, 0.25
"""How much larger some batches are shown while learning, and their share: faces in larger pictures are known, too."""

TOUCHED = 0.25
"""Share of a cell that a box must cover."""

STEPS = 400
BATCH = 24
RATE = 4e-3
FACE_WEIGHT = 4.0
"""Of cells of faces in the loss: a face that is missed is worse than a place that is masked for nothing."""

KEPT_BYTES = 2**28
"""Of the denoiser's answers, at most; large latents are seen at fewer levels of noise."""


OVERLAP = "face_region_overlap"
"""What a record calls how well what is covered fits; see `LearnedRegion`."""


class Examples(NamedTuple):
    """What the head learns from or is tried on.

    Attributes:
        plain, protected: what the denoiser takes each picture for, `[n, channels, h, w]` in half precision.
        levels: of noise, `[n]`.
        masks: 1 where a face is, `[n, h, w]`.
        found: whether the finder found one, `[n]`.
    """

    plain: Tensor
    protected: Tensor
    levels: Tensor
    masks: Tensor
    found: Tensor


@dataclass(frozen=True)
class LearnedRegion:
    """What came of it.

    Attributes:
        tensors: as a prefix holds them.
        overlap: by level of noise, intersection over union of what it masks at the usual certainty with the boxes.
        found: pictures with faces that the head learned from.
        seconds: that it took.
        evaluations: of the denoiser.
    """

    tensors: Mapping[str, Tensor]
    overlap: Mapping[float, float]
    found: int
    seconds: float
    evaluations: int

    @property
    def mean_overlap(self) -> float:
        """Over all levels of noise."""
        return sum(self.overlap.values()) / max(1, len(self.overlap))

    def joined(self, prefix: Prefix) -> Prefix:
        """The prefix with this head in place of one that it had, and word of it in its record."""
        scores = dict(prefix.record.scores) | {OVERLAP: self.mean_overlap}
        scores |= {f"{OVERLAP}_at_noise_{level:.2f}": overlap for level, overlap in self.overlap.items()}
        record = dataclasses.replace(prefix.record, scores=scores)
        return dataclasses.replace(prefix, face_region=self.tensors, record=record)


def learn_face_region(
    denoiser: Denoiser,
    vectors: Vectors,
    pictures: Pictures,
    available: Sequence[int],
    held_out: Sequence[int],
    finder: Finder,
    seed: int,
    micro_batches: MicroBatches,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> LearnedRegion:
    """Learns a head for a prefix; outside of `Denoiser.gradients`.

    Args:
        vectors: the prefix's parameters.
        pictures: that were drawn without it.
        available: those that may be learned from.
        held_out: those that name somebody and were not learned from at all; others are taken where these are few.
        report: called often with what is done and what there is to do; may raise to break off.

    Raises:
        TrainingError: too few faces are found to learn from, or to set thresholds on.
        MeasurementError: the finder cannot run here.
    """
    began = time.monotonic()
    of_people, others, tried = _chosen(pictures.pairs, available, held_out)
    learned = [*of_people, *others]
    noisings = _noisings(denoiser, len(learned))
    of = noisings * len(learned) + len(LEVELS) * len(tried) + STEPS
    asking = _Asking(denoiser, vectors, pictures, seed, micro_batches, lambda done: report(done, of))
    boxes = asking.find([*learned, *tried], finder)
    if sum(bool(boxes[index]) for index in of_people) < FEWEST or sum(bool(boxes[index]) for index in tried) < FEWEST:
        raise TrainingError(
            "Too few faces are found in the pictures that were drawn to learn where faces are: draw larger pictures, or"
            " of more people."
        )
    times = stratified_times(noisings * len(learned), seeded(seed, "face region times")).clamp(max=LEVELS[-1])
    examples = asking.examples([index for index in learned for _ in range(noisings)], times, boxes)
    at_levels = torch.tensor(LEVELS).repeat(len(tried))
    judged = asking.examples([index for index in tried for _ in LEVELS], at_levels, boxes)
    with torch.inference_mode(False), torch.enable_grad():
        head = _trained(examples, seed, lambda made: report(of - STEPS + made, of))
        tensors, overlap = _with_thresholds(head, judged)
    report(of, of)
    found = sum(bool(boxes[index]) for index in learned)
    return LearnedRegion(tensors, overlap, found, time.monotonic() - began, asking.evaluations)


class Needed(NamedTuple):
    """What learning a head takes.

    Attributes:
        pictures: that faces are looked for in.
        evaluations: of the denoiser.
    """

    pictures: int
    evaluations: int


def needed(denoiser: Denoiser, pairs: Sequence[Pair], available: Sequence[int], held_out: Sequence[int]) -> Needed:
    """What `learn_face_region` takes of these pictures."""
    of_people, others, tried = _chosen(pairs, available, held_out)
    learned = len(of_people) + len(others)
    evaluations = 2 * (_noisings(denoiser, learned) * learned + len(LEVELS) * len(tried))
    return Needed(learned + len(tried), evaluations)


class Chosen(NamedTuple):
    """Pictures by their places: those that a head learns from, naming somebody or nobody, and those it is tried on."""

    of_people: list[int]
    others: list[int]
    tried: list[int]


def _chosen(pairs: Sequence[Pair], available: Sequence[int], held_out: Sequence[int]) -> Chosen:
    of_people = [index for index in available if pairs[index].names_somebody]
    others = [index for index in available if not pairs[index].names_somebody]
    tried = spread(sorted(held_out), HELD_OUT)
    of_people = spread(of_people, LEARNED + HELD_OUT - len(tried))
    lacking = HELD_OUT - len(tried)
    if lacking > 0:  # The people were learned from by the prefix, not by the head.
        kept = set(spread(of_people, min(lacking, len(of_people) // 3)))
        tried += sorted(kept)
        of_people = [index for index in of_people if index not in kept]
    return Chosen(of_people, spread(others, LEARNED), tried)


def dry_head(denoiser: Denoiser, micro_batches: MicroBatches) -> tuple[float, float]:
    """Seconds that decoding a picture takes, and those of a head's step; outside of `Denoiser.gradients`.

    Raises:
        TrainingError: there is not enough memory for a single picture.
    """
    shape = denoiser.latent_shape

    def decode(_: Sequence[int]) -> float:
        began = time.perf_counter()
        with torch.no_grad():
            denoiser.decode(torch.zeros(1, *shape))
        return time.perf_counter() - began

    decoded = min(part for _ in range(2) for part in micro_batches.work(decode, [0]))
    levels = torch.full((BATCH,), 0.5)
    flat = torch.zeros(BATCH, shape[0], *shape[-2:])
    nothing = Examples(flat, flat, levels, flat[:, 0], levels > 0)
    times = [time.perf_counter()]
    with torch.inference_mode(False), torch.enable_grad():
        _trained(nothing, 0, lambda made: times.append(time.perf_counter()), steps=2)
    return decoded, times[2] - times[1]


def _noisings(denoiser: Denoiser, pictures: int) -> int:
    each = 2 * 2 * torch.Size(denoiser.latent_shape).numel() * max(1, pictures)
    return max(1, min(NOISINGS, KEPT_BYTES // each))


class _Asking:
    """Asks the denoiser and the finder about pictures."""

    def __init__(
        self,
        denoiser: Denoiser,
        vectors: Vectors,
        pictures: Pictures,
        seed: int,
        micro_batches: MicroBatches,
        report: Callable[[int], None],
    ) -> None:
        self._denoiser = denoiser
        self._vectors = {name: rows.detach() for name, rows in vectors.items()}
        self._pictures = pictures
        self._seed = seed
        self._micro_batches = micro_batches
        self._report = report
        self._done = 0
        self.evaluations = 0

    def find(self, indices: Sequence[int], finder: Finder) -> dict[int, list[Box]]:
        """The boxes of faces in each picture, as shares of its sides."""
        width, height = self._denoiser.picture_size
        found: dict[int, list[Box]] = {}

        def look(some: Sequence[int]) -> None:
            latents = torch.stack([self._pictures.latents[index] for index in some])
            with torch.no_grad():
                drawn = pictures_of(self._denoiser.decode(latents), "pictures")
            for index, faces in zip(some, finder.find(drawn), strict=True):
                boxes = [face.box for face in faces]
                found[index] = [(box[0] / width, box[1] / height, box[2] / width, box[3] / height) for box in boxes]

        self._micro_batches.work(look, list(indices))
        return found

    @torch.no_grad()
    def examples(
        self,
        indices: Sequence[int],
        times: Tensor,
        boxes: Mapping[int, Sequence[Box]],
    ) -> Examples:
        """What the denoiser makes of each picture, noised to a time `[n]` of its own."""
        size = self._denoiser.latent_shape[-2:]

        def ask(some: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
            asked = [indices[number] for number in some]
            t = times[list(some)]
            noise = torch.stack(
                [noise_of(self._denoiser.latent_shape, derived_seed(self._seed, "face region", n)) for n in some]
            )
            noised = self._denoiser.add_noise(torch.stack([self._pictures.latents[index] for index in asked]), noise, t)
            prompts = [self._pictures.pairs[index].student for index in asked]
            answers = []
            for vectors in (None, self._vectors):
                predicted = self._denoiser.predict(noised, t, self._denoiser.encode(prompts, vectors))
                answers.append(clean_latents(self._denoiser, noised, t, predicted).half().cpu())
            self.evaluations += 2 * len(some)
            self._done += len(some)
            self._report(self._done)
            return answers[0], answers[1], noise_level(*signal_and_noise(self._denoiser, t))

        with self._denoiser.gradients(self._micro_batches.size), torch.no_grad():
            parts = self._micro_batches.work(ask, list(range(len(indices))))
        plain, protected, levels = (torch.cat(part) for part in zip(*parts, strict=True))
        masks, found = [], []
        for index in indices:
            seen = boxes[index]
            # Of a prompt that names somebody, a face that was not found may be anywhere.
            missed = self._pictures.pairs[index].names_somebody and not seen
            masks.append(torch.ones(size) if missed else mask_of(seen, size))
            found.append(bool(seen))
        frames = plain.shape[2:-2].numel()
        flat = [answer.movedim(1, -3).reshape(-1, answer.shape[1], *size) for answer in (plain, protected)]
        rest = [part.repeat_interleave(frames, 0) for part in (levels, torch.stack(masks), torch.tensor(found))]
        return Examples(*flat, *rest)


def mask_of(boxes: Sequence[Box], size: Sequence[int]) -> Tensor:
    """1 in cells that boxes touch, else 0, `[h, w]`.

    Args:
        boxes: left, top, right, bottom as shares of the picture's sides.
    """
    height, width = size
    mask = torch.zeros(height, width)
    for left, top, right, bottom in boxes:
        rows, columns = _covered(top, bottom, height), _covered(left, right, width)
        mask = torch.maximum(mask, (rows[:, None] * columns[None] >= TOUCHED).float())
    return mask


def _covered(start: float, stop: float, cells: int) -> Tensor:
    """How much of each cell lies between two places, `[cells]`."""
    edges = torch.arange(cells + 1) / cells
    return (edges[1:].clamp(max=stop) - edges[:-1].clamp(min=start)).clamp(min=0) * cells


def _trained(examples: Examples, seed: int, report: Callable[[int], None], steps: int | None = None) -> FaceRegionHead:
    """A head that was trained on examples; the same seed gives the same one."""
    with cpu_seeded(derived_seed(seed, "face region head")):
        head = FaceRegionHead(examples.plain.shape[1])
    choices = seeded(seed, "face region batches")
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    order = torch.empty(0, dtype=torch.long)
    steps = STEPS if steps is None else steps
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(examples.levels), generator=choices)])
        some, order = order[:BATCH], order[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_factor(step, steps, 0.05)
        plain, protected, masks = (part[some].float() for part in (examples.plain, examples.protected, examples.masks))
        if torch.rand((), generator=choices) < 0.5:
            plain, protected, masks = (part.flip(-1) for part in (plain, protected, masks))
        most = int(SHIFTED * min(masks.shape[-2:]))
        across, down = torch.randint(-most, most + 1, (2,), generator=choices).tolist()
        plain, protected, masks = (_moved(part, across, down) for part in (plain, protected, masks))
        if torch.rand((), generator=choices) < ENLARGED_SHARE:
            plain, protected = (
                F.interpolate(part, scale_factor=ENLARGED, mode="bilinear") for part in (plain, protected)
            )
            masks = masks.repeat_interleave(ENLARGED, -2).repeat_interleave(ENLARGED, -1)
        logits = head(plain, protected, examples.levels[some].float())
        loss = F.binary_cross_entropy_with_logits(logits, masks, pos_weight=torch.tensor(FACE_WEIGHT))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        report(step + 1)
    return head.eval()


def _moved(latents: Tensor, across: int, down: int) -> Tensor:
    """Latents `[n, ..., h, w]` moved by so many cells; what comes in is the edge once more."""
    rows, columns = (
        (torch.arange(size) - by).clamp(0, size - 1)
        for size, by in zip(latents.shape[-2:], (down, across), strict=True)
    )
    return latents[..., rows, :][..., columns]


@torch.no_grad()
def _with_thresholds(head: FaceRegionHead, judged: Examples) -> tuple[dict[str, Tensor], dict[float, float]]:
    """The head with thresholds that were set on these examples, and how well what it then masks fits, by level."""
    parts = zip(*(part.split(BATCH) for part in (judged.plain, judged.protected, judged.levels)), strict=True)
    logits = torch.cat([head(plain.float(), protected.float(), level.float()) for plain, protected, level in parts])
    levels, thresholds = judged.levels.unique().float(), []
    for level in levels:
        here = (judged.levels == level) & judged.found
        faces = [
            answers[mask > 0].quantile(COVERED, interpolation="lower")
            for answers, mask in zip(logits[here], judged.masks[here], strict=True)
        ]
        lowest = torch.stack(faces).sort().values
        thresholds.append(torch.stack([_threshold(lowest, share) for share in SHARES]))
    made = tensors_of(head, levels, torch.tensor(SHARES), torch.stack(thresholds))
    region = FaceRegion(made)  # What could not be read again must not be kept.
    overlap = {}
    for level in levels:
        here = (judged.levels == level) & judged.found
        masks = region.mask(logits[here], level.expand(int(here.sum())), CERTAINTY, 0.0, 0.0) > 0
        faces = judged.masks[here] > 0
        overlap[float(level)] = float((masks & faces).sum() / (masks | faces).sum())
    return made, overlap


def _threshold(lowest: Tensor, share: float) -> Tensor:
    """Above which a share of faces lies, of each of which the lowest answer is given in ascending order, `[n]`.

    As in conformal prediction: of n faces and one that is yet to come, each is as likely the lowest.
    """
    place = int((len(lowest) + 1) * (1 - share) + 1e-9)
    if place > 0:
        return lowest[place - 1]
    return lowest[0] - BEYOND * (lowest.median() - lowest[0]) - BEYOND
