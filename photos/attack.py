"""Plays the attacker: personalizes a copy of the model on photographs, draws the person, and sees who is recognized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..engines.denoiser import Denoiser
from ..faces.gallery import STRANGER, Gallery, join
from ..faces.recognizer import Recognizer
from ..faces.scoring import rank
from ..finetuning.loop import finetuned
from ..finetuning.progress import NO_CALLBACKS, FinetuningCallbacks
from ..finetuning.training_set import training_set_of
from ..prefix.errors import PhotoError
from ..runs.run_folder import RunFolder, run_key
from ..runs.seeds import derived_seed
from .levels import picture_digest
from .settings import AttackSettings
from .transforms import purified

Report = Callable[[int, int], None]

TITLES = ("originals", "protected")
"""The photos that are attacked one after the other, in this order."""

RECIPE = 2
"""Raised when the same arguments no longer give the same pictures, so that none of an older version are taken."""


@dataclass(frozen=True)
class PhotoSubject:
    """Whom the photos show, as a recognizer knows them.

    Attributes:
        gallery: faces of the person, number 0, and of others.
        number: of photos in which a face was found.
        notes: what there is to say of the photos, sentences.
    """

    gallery: Gallery
    number: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attacked:
    """What an attacker got.

    Attributes:
        pictures: uint8 `[n, height, width, 3]`, drawn by the personalized model.
        faces: share of them with a face.
        similarity: mean similarity to the person's nearest known face; a picture without a face counts as 0.
        recognized: share in which the person is recognized, by the recognizer's threshold.
        first: share in which the person ranks first in the gallery; NaN where there is nobody else in it.
        photos_similarity: the same of the photos themselves, as the attacker has them.
        similarities: of each picture.
        ranks: whether the person ranks first in each picture.
        notes: sentences.
    """

    pictures: np.ndarray
    faces: float
    similarity: float
    recognized: float
    first: float
    photos_similarity: float
    similarities: tuple[float, ...]
    ranks: tuple[bool, ...]
    notes: tuple[str, ...]


def person_of(recognizer: Recognizer, photos: Sequence[np.ndarray], others: Gallery | None = None) -> PhotoSubject:
    """The person whom photos uint8 `[height, width, 3]` show: the largest face of each.

    Args:
        others: faces of others to confuse the person with.

    Raises:
        PhotoError: there is no face in any of them.
    """
    found, several = [], 0
    for photo in photos:
        (faces,) = recognizer.find(photo[None])
        found += [face.embedding for face in faces[:1]]
        several += len(faces) > 1
    if not found:
        raise PhotoError(
            "No face was found in the original photos, so that nobody can be recognized: take photos with a face that"
            " is seen from the front, or another recognizer."
        )
    notes = []
    if len(found) < len(photos):
        notes.append(f"{len(photos) - len(found)} of {len(photos)} original photos show no face that was found.")
    if several:
        notes.append(f"{several} of {len(photos)} original photos show several faces: the largest one counts.")
    own = Gallery(np.stack(found), np.zeros(len(found), int), "the original photos")
    return PhotoSubject(own if others is None else join([own, others]), len(found), tuple(notes))


def gallery_of(recognizer: Recognizer, photos: Sequence[np.ndarray]) -> Gallery:
    """Faces of strangers, of photos uint8 `[height, width, 3]`.

    Raises:
        PhotoError: there is no face in any of them.
    """
    found = [faces[0].embedding for photo in photos for faces in recognizer.find(photo[None]) if faces]
    if not found:
        raise PhotoError("No face was found in the photos of strangers: take others, or leave them out.")
    return Gallery(np.stack(found), np.full(len(found), STRANGER), "photos of strangers")


def attack_both(
    denoiser: Denoiser,
    recognizer: Recognizer,
    originals: Sequence[np.ndarray],
    protected: Sequence[np.ndarray],
    person: PhotoSubject,
    how: AttackSettings,
    *,
    report: Callable[[str, int, int], None] = lambda title, done, of: None,
    check: Callable[[], None] = lambda: None,
    learning: FinetuningCallbacks = NO_CALLBACKS,
    runs: Path | None = None,
) -> tuple[Attacked, Attacked]:
    """Attacks photos as they were and as they are protected, uint8 `[height, width, 3]` each.

    Broken off, also by an error of the recognizer, it goes on where it was: what was drawn after an attack is kept
    until both are scored.

    Args:
        report: called with one of `TITLES`, what is done and what there is to do there.
        learning: of these, `plan` is called with what each attack takes, `report` with the steps of both together.
        runs: the folder of unfinished runs; None to keep nothing.

    Raises:
        PhotoError: there are no photos.
        TrainingError: see `finetuned`.
    """
    sets = dict(zip(TITLES, (originals, protected), strict=True))
    digests = {title: [picture_digest(photo) for photo in photos] for title, photos in sets.items()}
    found = []
    model = {"model": denoiser.digest, "vae": denoiser.vae_digest}
    with RunFolder(runs, run_key(recipe=RECIPE, settings=how, **model, **digests)) as folder:
        for number, (title, photos) in enumerate(sets.items()):

            def told(done: int, of: int, title: str = title) -> None:
                report(title, done, of)

            def learned(done: int, of: int, loss: float, number: int = number) -> None:
                learning.report(number * of + done, len(sets) * of, loss)

            if (saved := folder.load(title)) is None:
                own = FinetuningCallbacks(report=learned, plan=learning.plan)
                made, notes = _drawn(denoiser, photos, how, told, check, own, runs)
                # Before it is scored: what was learned is gone by now.
                folder.save(title, {"pictures": torch.from_numpy(made)}, {"notes": list(notes)})
            else:
                made, notes = saved[0]["pictures"].numpy(), tuple(saved[1]["notes"])
            found.append(_scored(recognizer, made, _purified(denoiser, photos, how), person, notes))
        folder.remove()
    if folder.trouble:
        found[-1] = replace(found[-1], notes=(*found[-1].notes, folder.trouble))
    return found[0], found[1]


def attack(
    denoiser: Denoiser,
    recognizer: Recognizer,
    photos: Sequence[np.ndarray],
    person: PhotoSubject,
    how: AttackSettings,
    *,
    report: Report = lambda done, of: None,
    check: Callable[[], None] = lambda: None,
    learning: FinetuningCallbacks = NO_CALLBACKS,
    runs: Path | None = None,
) -> Attacked:
    """Personalizes on photos uint8 `[height, width, 3]`, draws, and scores.

    Args:
        report: called with what is done and what there is to do: steps, then pictures.
        learning: its `plan` and `report` are called as well.
        runs: the folder of unfinished runs.

    Raises:
        PhotoError: there are no photos.
        TrainingError: see `finetuned`.
    """
    made, notes = _drawn(denoiser, photos, how, report, check, learning, runs)
    return _scored(recognizer, made, _purified(denoiser, photos, how), person, notes)


def _drawn(
    denoiser: Denoiser,
    photos: Sequence[np.ndarray],
    how: AttackSettings,
    report: Report,
    check: Callable[[], None],
    learning: FinetuningCallbacks,
    runs: Path | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What the personalized model draws, uint8 `[n, height, width, 3]`, and what there is to say; see `attack`."""
    if not photos:
        raise PhotoError("There are no photos to attack: connect or name some.")
    settings = how.finetuning.resolved(denoiser)
    taken = _purified(denoiser, photos, how)
    requests = [(prompt, number) for prompt in how.prompts for number in range(how.images_per_prompt)]
    of = settings.steps + len(requests)

    def step(done: int, steps: int, loss: float) -> None:
        learning.report(done, steps, loss)
        report(done, of)

    callbacks = FinetuningCallbacks(report=step, check=check, plan=learning.plan)
    pictures = [torch.from_numpy(photo.copy()).float() / 255 for photo in taken]
    training_set = training_set_of(denoiser, pictures, [how.caption] * len(taken), check)
    with finetuned(denoiser, training_set, settings, callbacks, runs) as tuned:
        seeds = [derived_seed(settings.seed, "attacker's picture", number) % 2**32 for _, number in requests]
        drawn = tuned.draw([prompt for prompt, _ in requests], seeds, check=check)
        notes = (*tuned.notes, *([tuned.stopped] if tuned.stopped else []))
    report(of, of)
    return (drawn.clamp(0, 1) * 255).round().to(torch.uint8).numpy(), notes


def _purified(denoiser: Denoiser, photos: Sequence[np.ndarray], how: AttackSettings) -> list[np.ndarray]:
    """Photos as the attacker learns from them."""
    seeds = [derived_seed(how.finetuning.seed, "purify", number) for number in range(len(photos))]
    return [purified(photo, how.purification, denoiser, seed) for photo, seed in zip(photos, seeds, strict=True)]


def _scored(
    recognizer: Recognizer,
    made: np.ndarray,
    taken: Sequence[np.ndarray],
    person: PhotoSubject,
    notes: tuple[str, ...],
) -> Attacked:
    """How alike pictures and photos are to the person."""
    faces, own, first = scores_of(recognizer, list(made), person)
    _, photos_own, _ = scores_of(recognizer, taken, person)
    counted = np.nan_to_num(own, nan=0.0)
    return Attacked(
        made,
        float(faces.mean()),
        float(counted.mean()),
        float((counted >= recognizer.threshold.value).mean()),
        float(first.mean()) if person.gallery.strangers else float("nan"),
        float(np.nan_to_num(photos_own, nan=0.0).mean()),
        tuple(counted.tolist()),
        tuple(first.tolist()),
        notes,
    )


def scores_of(
    recognizer: Recognizer, pictures: Sequence[np.ndarray], person: PhotoSubject
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each picture: whether it has a face, its similarity to the person (NaN without), whether they rank first."""
    found = [faces[:1] for picture in pictures for faces in recognizer.find(picture[None])]
    has_face = np.array([bool(faces) for faces in found])
    width = person.gallery.embeddings.shape[1]
    embeddings = np.stack([faces[0].embedding if faces else np.zeros(width, np.float32) for faces in found])
    ranked = rank(has_face, embeddings, np.zeros(len(found), int), person.gallery, recognizer.similarities)
    return has_face, ranked.own, ranked.first
