"""Where faces are is learned after the prefix, costs it nothing, and is judged by pictures that were kept apart."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anonymize_faces.prefix import MeasurementError, Prefix, TrainingError
from anonymize_faces.prefix.face_region import FaceRegion
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.finders import MiddleFinder, NoFinder
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.progress import Callbacks, Learned
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.stages import face_region
from anonymize_faces.trainer.stages.face_region import Examples, mask_of
from anonymize_faces.trainer.stages.finished_prefix import with_face_region
from anonymize_faces.trainer.training import learn_prefix

PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller\nCy Young: a man with a hat")
GENERAL = ("", "a red circle", "a dog in the snow", "a house")
SETTINGS = TrainingSettings(
    harden=0.0, steps=2, batch_size=4, vectors=2, portraits_per_identity=8, noisings_per_picture=1, conditional=False,
    text_steps=0, face_region=True, shards=1,
)  # fmt: skip


@pytest.fixture
def denoiser(make_checkpoint: Any, make_denoiser: Any) -> Any:
    return make_denoiser(make_checkpoint())


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEPS", 30), ("LEVELS", (0.1, 0.9999)), ("HELD_OUT", 8), ("LEARNED", 12), ("NOISINGS", 2)):
        monkeypatch.setattr(face_region, name, value)


def learn(
    denoiser: Any, finder: Any, runs: Path | None = None, settings: TrainingSettings = SETTINGS, **told: Any
) -> Learned:
    finding = None if finder is None else lambda: nullcontext(finder)
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(**told), runs=runs, finding=finding)


def test_the_prefix_is_the_same_to_the_last_bit_and_knows_where_faces_are(denoiser):
    stages: list[str] = []
    learned = learn(denoiser, MiddleFinder(), report=lambda progress: stages.append(progress.stage.name))
    without = learn(denoiser, MiddleFinder(), settings=dataclasses.replace(SETTINGS, face_region=False))
    assert torch.equal(numbers(learned.prefix), numbers(without.prefix)) and not without.prefix.face_region
    assert FaceRegion(learned.prefix.face_region).channels == denoiser.latent_shape[0]
    assert learned.prefix.record.scores["face_region_overlap"] > 0.5
    assert stages[-1] == "face_region" and any("Where faces are was learned" in note for note in learned.notes)
    again = learn(denoiser, MiddleFinder())
    assert all(torch.equal(part, learned.prefix.face_region[name]) for name, part in again.prefix.face_region.items())


def test_a_run_that_is_cancelled_while_it_looks_for_faces_loses_no_step(denoiser, tmp_path):
    def cancel(progress: Any) -> None:
        if progress.stage.name == "face_region":
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(denoiser, MiddleFinder(), tmp_path, report=cancel)
    made: list[int] = []
    learned = learn(denoiser, MiddleFinder(), tmp_path, look=lambda step, vectors: made.append(step))
    assert made == [SETTINGS.steps] and learned.prefix.face_region
    assert torch.equal(numbers(learned.prefix), numbers(learn(denoiser, MiddleFinder()).prefix))


@pytest.mark.parametrize(
    ("finder", "reason"), [(NoFinder(), "Too few faces"), (None, "nothing was there to find them with")]
)
def test_where_no_faces_are_found_the_prefix_is_whole_without(denoiser, finder, reason):
    learned = learn(denoiser, finder)
    assert not learned.prefix.face_region and any(reason in note for note in learned.notes)


def test_a_finder_that_cannot_run_is_told_of(denoiser):
    class Missing:
        def find(self, pictures: np.ndarray) -> Any:
            raise MeasurementError("It is not installed: install it.")

    assert "It was not learned where faces are: It is not installed: install it." in learn(denoiser, Missing()).notes


def test_a_finished_prefix_learns_it_afterwards(denoiser):
    prefix = learn(denoiser, None, settings=dataclasses.replace(SETTINGS, face_region=False)).prefix
    with torch.inference_mode():
        made = with_face_region(denoiser, prefix, PEOPLE, GENERAL, MiddleFinder(), SETTINGS)
    assert made.face_region and torch.equal(numbers(made), numbers(prefix))
    stranger = Prefix(prefix.vectors, dataclasses.replace(prefix.record, fingerprint="1" * 16))
    with pytest.raises(TrainingError, match="learned on another checkpoint"):
        with_face_region(denoiser, stranger, PEOPLE, GENERAL, MiddleFinder(), SETTINGS)


def test_boxes_become_masks_of_the_cells_that_they_touch():
    assert mask_of([(0.25, 0.5, 0.75, 1.0)], (4, 4)).tolist() == [[0] * 4, [0] * 4, [0, 1, 1, 0], [0, 1, 1, 0]]
    assert mask_of([(0.0, 0.0, 0.05, 0.05)], (4, 4)).sum() == 0 and mask_of([], (3, 2)).shape == (3, 2)


def examples(count: int, seed: int) -> Examples:
    """Faces that can be seen: squares of other values, in places of their own."""
    generator = torch.Generator().manual_seed(seed)
    plain, protected = torch.randn(2, count, 4, 12, 12, generator=generator)
    masks = torch.zeros(count, 12, 12)
    for mask, (row, column) in zip(masks, torch.randint(0, 7, (count, 2), generator=generator).tolist(), strict=True):
        mask[row : row + 5, column : column + 5] = 1
    levels = torch.tensor([0.2, 0.8]).repeat(count // 2)
    seen = plain + 3 * masks[:, None]
    return Examples(seen.half(), (seen + masks[:, None] * protected).half(), levels, masks, torch.ones(count).bool())


def test_thresholds_cover_the_share_of_unmet_faces_that_they_promise(monkeypatch):
    monkeypatch.setattr(face_region, "STEPS", 120)
    with torch.enable_grad():
        head = face_region._trained(examples(96, 0), 0, lambda made: None)
    tensors, overlap = face_region._with_thresholds(head, examples(64, 1))
    assert min(overlap.values()) > 0.6
    region, unmet = FaceRegion(tensors), examples(200, 2)
    with torch.no_grad():
        logits = region.logits(unmet.plain, unmet.protected, unmet.levels)
    covered = []
    for certainty in (0.5, 0.9, 0.99):
        masks = region.mask(logits, unmet.levels, certainty, 0.0, 0.0)
        inside = (masks * unmet.masks).sum((1, 2)) / unmet.masks.sum((1, 2))
        covered.append(float((inside >= 1 - face_region.COVERED - 0.01).float().mean()))
        assert covered[-1] >= certainty - 0.1
    assert covered == sorted(covered) and covered[0] < 0.75
