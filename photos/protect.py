"""Changes photographs step by step within their budget, so that a model learns little from them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..engines.denoiser import Denoiser
from ..engines.gradient_flow import gradient_through
from ..engines.micro_batches import MicroBatches
from ..finetuning.training_set import fitted_to, resized
from ..prefix.errors import PhotoError
from ..runs.amounts import duration
from ..runs.run_folder import RunFolder, run_key, saved_if_broken_off
from .levels import changed, file_of, largest_change, levels_of, picture_digest, psnr, random_signs, random_start
from .objectives import OBJECTIVES, Objective
from .settings import BOTH, ENCODER, PAPER, RANDOM, RESAVING, ProtectionSettings
from .transforms import altered
from .views import LARGE, PhotoView, view_at

RECIPE = 3
"""Raised when the same arguments no longer give the same photos, so that no run of an older version is gone on with."""

SMALLEST = 32
"""Pixels of the shorter side below which a photo shows nobody."""

FIRST_MOVE, LAST_MOVE = 8.0, 40.0
"""What share of the budget a step moves each colour by, at first and in the end: one in so many."""

RELEASED_MOVE = 0.5
"""Levels that a step of the released code moves each colour by, 1/255 of the range from -1 to 1."""

SEEN_TOGETHER = 4
"""Photos that the search for prompts looks at in a step."""

MOST_SAVED = 2**31
"""Bytes of changes that are saved on the way."""


@dataclass(frozen=True)
class ProtectedPhotos:
    """Photographs that were protected, as their files have them.

    Attributes:
        photos: uint8 `[height, width, 3]` each, in order.
        changes: by how many levels the most changed colour of each differs.
        psnr: of each, in dB.
        moved: how far the latents of each have come on the way to the other picture's, 0 (not at all) to 1 (all of
            it), read off the rounded photo; empty for methods that pull towards none.
        passes: how often the denoiser was asked, forward passes of the set.
        seconds: in this process.
        notes: what there is to say beside, sentences.
    """

    photos: tuple[np.ndarray, ...]
    changes: tuple[int, ...]
    psnr: tuple[float, ...]
    moved: tuple[float, ...]
    passes: int
    seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ProtectionPlan:
    """What protecting takes, as its first two steps tell.

    Attributes:
        photos: that are changed.
        steps: that are made, the first one included.
        passes: how often the denoiser is asked in all of them; 0 where the VAE alone is.
        seconds: of all steps.
    """

    photos: int
    steps: int
    passes: int
    seconds: float

    @property
    def words(self) -> str:
        """The plan in a line, for people."""
        passes = f", which ask the model {self.passes:,} times" if self.passes else ""
        return f"{self.steps} steps on {self.photos} photos{passes}: {duration(self.seconds)}"


@dataclass(frozen=True)
class ProtectionCallbacks:
    """What protecting calls; what they raise breaks it off, and comes through.

    Attributes:
        report: called after every step with the steps made, and how many there are.
        check: called more often than that.
        tell: called before the first step with what there is to say of the photos, a sentence each time.
        plan: called after the second step that is made now with what all take, or after the only one.
    """

    report: Callable[[int, int], None] = lambda done, of: None
    check: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = lambda sentence: None
    plan: Callable[[ProtectionPlan], None] = lambda plan: None


NO_CALLBACKS = ProtectionCallbacks()


def protect(
    denoiser: Denoiser,
    photos: Sequence[np.ndarray],
    settings: ProtectionSettings,
    *,
    masks: Sequence[np.ndarray] | None = None,
    target: np.ndarray | None = None,
    callbacks: ProtectionCallbacks = NO_CALLBACKS,
    runs: Path | None = None,
) -> ProtectedPhotos:
    """Protects photographs of one person (docs/METHODS.md 6).

    Args:
        photos: uint8 `[height, width, 3]` of any sizes.
        masks: for each photo where it may change, float `[height, width]`, 0 for nowhere; None for everywhere.
        target: the picture to pull towards, uint8 `[height, width, 3]`; None for one that the model draws.
        runs: the folder of unfinished runs, where one that was broken off is gone on with; None to keep nothing.

    Raises:
        PhotoError: no photos, or one that is too small, or a mask that leaves nothing.
        TrainingError: not enough memory for a single photo, or a model through which no gradient comes.
    """
    _require(photos)
    began = time.monotonic()
    with torch.inference_mode(False), torch.no_grad():
        levels = [levels_of(photo) for photo in photos]
        allowed = None if masks is None else _all_allowed(masks, levels)
        notes = _notes(photos, denoiser, settings, runs is not None)
        for note in notes:
            callbacks.tell(note)
        if settings.method == RANDOM:
            changes = [random_signs(photo, settings.budget, settings.seed, i) for i, photo in enumerate(levels)]
            changes = [_masked(change, allowed, i) for i, change in enumerate(changes)]
            return _protected(photos, levels, changes, (), 0, began, notes)
        other = _target(denoiser, target, settings, callbacks) if settings.method in _PULLING else None
        key = run_key(
            recipe=RECIPE,
            model=denoiser.digest,
            vae=denoiser.vae_digest,
            settings=settings,
            photos=[picture_digest(photo) for photo in photos],
            masks=[picture_digest(mask) for mask in masks or ()],
            target=None if target is None else picture_digest(target),
        )
        with RunFolder(runs, key) as folder:
            ascent = _Ascent(denoiser, levels, allowed, other, settings, callbacks, folder)
            changes, passes = ascent.run()
            moved = ascent.moved(changes) if other is not None else ()
            folder.remove()
            notes = (*notes, *ascent.notes, *([folder.trouble] if folder.trouble else []))
    return _protected(photos, levels, changes, moved, passes, began, notes)


_PULLING = frozenset({ENCODER, BOTH})
"""Methods that need a picture to pull towards."""


class _Ascent:
    """The steps, from the first to the last."""

    def __init__(
        self,
        denoiser: Denoiser,
        photos: Sequence[Tensor],
        allowed: Sequence[Tensor] | None,
        target: Tensor | None,
        settings: ProtectionSettings,
        callbacks: ProtectionCallbacks,
        folder: RunFolder,
    ) -> None:
        self._denoiser = denoiser
        self._photos = photos
        self._allowed = allowed
        self._settings = settings
        self._callbacks = callbacks
        self._folder = folder
        self._micro_batches = MicroBatches(denoiser, min(8, len(photos)), callbacks.check)
        # One picture for all photos, each time in the photo's own size, so that parts of both are alike.
        self._targets = (
            None if target is None else [resized(target, (photo.shape[1], photo.shape[0])) for photo in photos]
        )
        self._seen: dict[tuple[int, PhotoView], Tensor] = {}

    def run(self) -> tuple[list[Tensor], int]:
        """The changes, and how often the denoiser was asked."""
        settings = self._settings
        changes = [self._start(number) for number in range(len(self._photos))]
        with self._denoiser.gradients(self._micro_batches.size, pictures=True):
            objective = OBJECTIVES[settings.method](self._denoiser, settings)
            step = self._resume(changes, objective)

            # A step moves what the objective knows before all of it is made: until then what it knew before is saved.
            state, passes = objective.state(), _passes(objective)

            def save() -> None:
                self._save(changes, state, step, passes)

            with saved_if_broken_off(save):
                # The first step also pays for what is done once: the second tells what all others take.
                marks = [(time.perf_counter(), _passes(objective))]
                left = settings.steps - step
                while step < settings.steps:
                    self._make(changes, objective, step)
                    step += 1
                    state, passes = objective.state(), _passes(objective)
                    if len(marks) <= 2:
                        marks.append((time.perf_counter(), _passes(objective)))
                        if len(marks) == 1 + min(left, 2):
                            self._callbacks.plan(_plan(len(changes), left, marks))
                    if step % settings.snapshot_every == 0 or step == settings.steps:
                        save()
                    self._callbacks.report(step, settings.steps)
        return changes, _passes(objective)

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened on the way, sentences."""
        if not self._micro_batches.halved:
            return ()
        return (f"Memory ran out: from there on each step took the photos in parts of {self._micro_batches.size}.",)

    def _start(self, number: int) -> Tensor:
        """The change that a photo's first step finds."""
        photo, settings = self._photos[number], self._settings
        if settings.method == PAPER:
            return torch.zeros_like(photo)
        return _masked(random_start(photo, settings.budget, settings.seed, number), self._allowed, number)

    def moved(self, changes: Sequence[Tensor]) -> tuple[float, ...]:
        """See `ProtectedPhotos.moved`."""
        found = []
        with self._denoiser.gradients(1, pictures=True), torch.no_grad():
            for number, (photo, change) in enumerate(zip(self._photos, changes, strict=True)):
                assert self._targets is not None
                pictures = (photo, changed(photo, change), self._targets[number])
                fitted = [fitted_to(picture / 255, self._denoiser.picture_size) for picture in pictures]
                plain, mine, other = (self._denoiser.encode_pictures(one[None])[0] for one in fitted)
                way = float((plain - other).norm())  # Nothing where a photo is pulled towards itself.
                found.append(1 - float((mine - other).norm()) / way if way > 1e-6 else 0.0)
        return tuple(found)

    def _make(self, changes: list[Tensor], objective: Objective, step: int) -> None:
        """One step for all photos; none of them changes unless all could be computed."""
        settings, size = self._settings, self._denoiser.picture_size
        views = [
            view_at(photo, size, None if self._allowed is None else self._allowed[number], settings.seed, number, step)
            for number, photo in enumerate(self._photos)
        ]

        def shown(number: int) -> Tensor:
            view = views[number]
            seen = view.brought(changed(view.part(self._photos[number]), given[number]) / 255)
            return altered(seen, settings.withstand, settings.seed, number, step)

        # Nothing but what the views show is computed: elsewhere the gradient is none, and photos may be large.
        given = [view.part(change) for view, change in zip(views, changes, strict=True)]
        if objective.counted is not None:
            together = min(SEEN_TOGETHER, len(given))
            looked_at = sorted((step * SEEN_TOGETHER + place) % len(given) for place in range(together))
            parts = self._micro_batches.work(
                lambda some: self._denoiser.encode_pictures(torch.stack([shown(number) for number in some])), looked_at
            )
            with torch.enable_grad():
                objective.prepare(torch.cat(parts), looked_at, step)

        def part_of(numbers: Sequence[int]) -> list[Tensor]:
            with torch.enable_grad():
                leaves = [given[number].detach().requires_grad_() for number in numbers]
                for number, leaf in zip(numbers, leaves, strict=True):
                    given[number] = leaf
                # In two stages where the denoiser is asked: nothing of the VAE is kept while it computes.
                with torch.no_grad() if objective.counted is not None else nullcontext():
                    latents = self._denoiser.encode_pictures(torch.stack([shown(number) for number in numbers]))
                targets = None if self._targets is None else self._target_latents(numbers, views)
                wanted = objective.gradient(latents.detach(), targets, numbers, step)
                if objective.counted is not None:
                    latents = self._denoiser.encode_pictures(torch.stack([shown(number) for number in numbers]))
                with gradient_through("VAE"):
                    return list(torch.autograd.grad(latents, leaves, wanted.to(latents)))

        found = self._micro_batches.work(part_of, range(len(given)))
        move = self._move(step)
        for number, gradient in enumerate(gradient for part in found for gradient in part):
            part = views[number].part(changes[number])
            part.sub_(move * gradient.sign()).clamp_(-settings.budget, settings.budget)
            if self._allowed is not None:
                part.mul_(views[number].part(self._allowed[number]))

    def _move(self, step: int) -> float:
        """Levels that a step moves a colour by."""
        settings = self._settings
        if settings.method == PAPER:
            return RELEASED_MOVE
        share = step / max(1, settings.steps - 1)
        return settings.budget / (FIRST_MOVE * (LAST_MOVE / FIRST_MOVE) ** share)

    def _target_latents(self, numbers: Sequence[int], views: Sequence[PhotoView]) -> Tensor:
        """Latents of the same views of the other picture; those of photos that are looked at as a whole are kept."""
        assert self._targets is not None
        found = []
        for number in numbers:
            key = (number, views[number])
            if key not in self._seen:
                picture = views[number].of(self._targets[number] / 255)
                with torch.no_grad():
                    self._seen = {other: kept for other, kept in self._seen.items() if other[0] != number}
                    self._seen[key] = self._denoiser.encode_pictures(picture[None])[0]
            found.append(self._seen[key])
        return torch.stack(found)

    def _save(self, changes: Sequence[Tensor], state: Mapping[str, Tensor], step: int, passes: int) -> None:
        """Keeps what the steps so far came to.

        Args:
            state: the objective's.
            passes: how often the denoiser was asked in these steps.
        """
        if not _is_saved(self._photos):
            return
        tensors = {f"change.{number}": change.contiguous() for number, change in enumerate(changes)}
        tensors |= {f"method.{name}": value.cpu().contiguous() for name, value in state.items()}
        self._folder.save("snapshot", tensors, {"step": step, "passes": passes})

    def _resume(self, changes: list[Tensor], objective: Objective) -> int:
        """The step to go on from."""
        saved = self._folder.load("snapshot")
        if saved is None or any(f"change.{number}" not in saved[0] for number in range(len(changes))):
            return 0
        tensors, table = saved
        changes[:] = [tensors[f"change.{number}"] for number in range(len(changes))]
        state = {name.removeprefix("method."): tensor for name, tensor in tensors.items() if name.startswith("method.")}
        if state:
            objective.restore(state)
        if objective.counted is not None:
            objective.counted.passes = int(table["passes"])
        return int(table["step"])


def _plan(photos: int, steps: int, marks: Sequence[tuple[float, int]]) -> ProtectionPlan:
    """Of times and passes before the first step, and after the first ones."""
    first, later = marks[1], marks[-1]
    rest = (steps - 1) if len(marks) > 2 else 0
    seconds = first[0] - marks[0][0] + rest * (later[0] - first[0])
    passes = first[1] - marks[0][1] + rest * (later[1] - first[1])
    return ProtectionPlan(photos, steps, passes, seconds)


def _passes(objective: Objective) -> int:
    """How often the denoiser has been asked."""
    return 0 if objective.counted is None else objective.counted.passes


def _require(photos: Sequence[np.ndarray]) -> None:
    if not photos:
        raise PhotoError("There are no photos to protect: connect or name some.")
    for number, photo in enumerate(photos, 1):
        if min(photo.shape[:2]) < SMALLEST:
            raise PhotoError(
                f"Photo {number} is {photo.shape[1]} by {photo.shape[0]} pixels: too small to show a face. Take one of"
                f" {SMALLEST} pixels or more."
            )


def _notes(
    photos: Sequence[np.ndarray], denoiser: Denoiser, settings: ProtectionSettings, is_kept: bool
) -> tuple[str, ...]:
    """What is to be said before anything is done.

    Args:
        is_kept: whether there is a folder of unfinished runs.
    """
    notes = []
    width, height = denoiser.picture_size
    scale = max(min(photo.shape[1] / width, photo.shape[0] / height) for photo in photos)
    if scale > LARGE:
        remedy = "" if settings.withstand == RESAVING else f", or set withstand to '{RESAVING}'"
        notes.append(
            f"The largest photo is {scale:.1f} times as wide as what the model draws ({width} × {height}): protect"
            f" photos at the size at which you publish them{remedy}."
        )
    if is_kept and settings.method != RANDOM and not _is_saved(photos):
        notes.append(
            "So many large photos are not saved on the way: broken off, it would start anew. Protect fewer at once."
        )
    return tuple(notes)


def _is_saved(photos: Sequence[np.ndarray] | Sequence[Tensor]) -> bool:
    """Whether changes of photos are few enough to be saved on the way."""
    return 4 * sum(math.prod(photo.shape) for photo in photos) <= MOST_SAVED


def _target(
    denoiser: Denoiser, target: np.ndarray | None, settings: ProtectionSettings, callbacks: ProtectionCallbacks
) -> Tensor:
    """The picture to pull towards, in levels `[height, width, 3]`."""
    if target is not None:
        return levels_of(target)
    callbacks.check()
    drawn = denoiser.decode(denoiser.sample([settings.target_prompt], [settings.seed % 2**32]))[0]
    return (drawn.float().cpu().clamp(0, 1) * 255).round()


def _all_allowed(masks: Sequence[np.ndarray], photos: Sequence[Tensor]) -> list[Tensor]:
    """Where photos may change, `[height, width, 1]` of zeros and ones each.

    Raises:
        PhotoError: nowhere in one of them, as in a mask of a few pixels that is brought to the size of a small photo.
    """
    allowed = []
    for number, (mask, photo) in enumerate(zip(masks, photos, strict=True), 1):
        whole = torch.from_numpy(np.ascontiguousarray(mask)).float()[..., None]
        allowed.append((resized(whole, (photo.shape[1], photo.shape[0])) > 0.5).float())
        if not allowed[-1].any():
            raise PhotoError(f"The mask of photo {number} is empty: paint over what may change, or take the mask off.")
    return allowed


def _masked(change: Tensor, allowed: Sequence[Tensor] | None, number: int) -> Tensor:
    return change if allowed is None else change * allowed[number]


def _protected(
    photos: Sequence[np.ndarray],
    levels: Sequence[Tensor],
    changes: Sequence[Tensor],
    moved: tuple[float, ...],
    passes: int,
    began: float,
    notes: Sequence[str],
) -> ProtectedPhotos:
    files = tuple(file_of(photo, change) for photo, change in zip(levels, changes, strict=True))
    return ProtectedPhotos(
        files,
        tuple(largest_change(before, after) for before, after in zip(photos, files, strict=True)),
        tuple(psnr(before, after) for before, after in zip(photos, files, strict=True)),
        moved,
        passes,
        time.monotonic() - began,
        tuple(notes),
    )
