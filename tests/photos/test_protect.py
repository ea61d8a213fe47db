"""Protecting photos: within the budget, in the file as it is written, by every method, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anonymize_faces.photos.levels import changed, file_of
from anonymize_faces.photos.protect import ProtectionCallbacks, ProtectionPlan, protect
from anonymize_faces.photos.report import LIMITS, describe_protection
from anonymize_faces.photos.settings import BOTH, ENCODER, METHODS, PAPER, RANDOM, RESAVING, ProtectionSettings
from anonymize_faces.photos.views import view_at
from anonymize_faces.prefix.errors import PhotoError
from anonymize_faces.runs.run_folder import kept_once_done

QUICK = {"steps": 3, "budget": 6}


@pytest.mark.parametrize("method", METHODS)
def test_no_colour_changes_by_more_than_the_budget(method: str, demo_denoiser: Any, stranger: list[np.ndarray]) -> None:
    with torch.inference_mode():
        protected = protect(demo_denoiser, stranger[:2], ProtectionSettings(method=method, **QUICK))
    assert all(0 < change <= 6 for change in protected.changes)
    for before, after, change in zip(stranger, protected.photos, protected.changes, strict=False):
        assert after.dtype == np.uint8 and after.shape == before.shape
        assert np.abs(after.astype(int) - before.astype(int)).max() == change
    assert bool(protected.moved) == (method in (ENCODER, BOTH))
    assert (protected.passes == 0) == (method in (ENCODER, RANDOM))


def test_the_encoder_is_pulled_towards_the_other_picture_in_the_file(
    demo_denoiser: Any, stranger: list[np.ndarray]
) -> None:
    target = stranger[3][:, ::-1].copy()
    settings = ProtectionSettings(method=ENCODER, steps=12, budget=16)
    protected = protect(demo_denoiser, stranger[:1], settings, target=target)
    noise = protect(demo_denoiser, stranger[:1], ProtectionSettings(method=RANDOM, budget=16), target=target)

    def distance(photo: np.ndarray) -> float:
        pair = torch.stack([torch.from_numpy(one.copy()).float() / 255 for one in (photo, target)])
        with demo_denoiser.gradients(1, pictures=True), torch.no_grad():
            mine, other = demo_denoiser.encode_pictures(pair)
        return float((mine - other).norm())

    plain, after = distance(stranger[0]), distance(protected.photos[0])
    assert after < 0.97 * plain and after < distance(noise.photos[0])
    assert protected.moved[0] == pytest.approx(1 - after / plain, abs=1e-4)


def test_it_costs_a_fraction_of_the_released_codes_passes(demo_denoiser: Any, stranger: list[np.ndarray]) -> None:
    passes = {
        method: protect(demo_denoiser, stranger[:1], ProtectionSettings(method=method, **QUICK)).passes / 3
        for method in (PAPER, BOTH)
    }
    assert passes[PAPER] == 22 and passes[BOTH] < 11


def test_the_released_method_begins_at_the_photo_and_goes_half_a_level_a_step(
    demo_denoiser: Any, stranger: list[np.ndarray]
) -> None:
    """1/255 of the range from -1 to 1, as its authors count, and no random start."""
    settings = ProtectionSettings(method=PAPER, steps=4, budget=32)
    assert 0 < protect(demo_denoiser, stranger[:1], settings).changes[0] <= 2


def test_a_batch_that_memory_lacks_for_is_taken_in_parts_and_told(
    demo_denoiser: Any, stranger: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ProtectionSettings(method=ENCODER, steps=2)
    whole = protect(demo_denoiser, stranger, settings)
    real = type(demo_denoiser).encode_pictures

    def encode(self: Any, pictures: torch.Tensor) -> torch.Tensor:
        if len(pictures) > 2:
            raise MemoryError
        return real(self, pictures)

    monkeypatch.setattr(type(demo_denoiser), "encode_pictures", encode)
    parts = protect(demo_denoiser, stranger, settings)
    assert "in parts of 2" in parts.notes[-1] and not whole.notes
    assert np.mean([(one != other).mean() for one, other in zip(parts.photos, whole.photos, strict=True)]) < 0.01


def test_what_is_not_saved_on_the_way_is_told_before_it_begins(
    demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.photos.protect.MOST_SAVED", 4 * stranger[0].size)
    told: list[str] = []
    callbacks = ProtectionCallbacks(report=lambda done, of: told.append(f"step {done}"), tell=told.append)
    settings = ProtectionSettings(method=ENCODER, steps=1)
    protect(demo_denoiser, stranger[:2], settings, callbacks=callbacks, runs=tmp_path)
    assert "are not saved on the way" in told[0] and told[1:] == ["step 1"]
    assert not protect(demo_denoiser, stranger[:1], settings, runs=tmp_path).notes
    assert not protect(demo_denoiser, stranger[:2], settings).notes, "nothing was to be saved"


def test_photos_of_other_sizes_and_proportions_are_protected_all_over(
    demo_denoiser: Any, stranger: list[np.ndarray]
) -> None:
    large = np.kron(stranger[0], np.ones((4, 3, 1), np.uint8))
    small = stranger[1][:40, :50].copy()
    protected = protect(demo_denoiser, [large, small], ProtectionSettings(method=ENCODER, **QUICK))
    assert [photo.shape for photo in protected.photos] == [large.shape, small.shape]
    for before, after in zip((large, small), protected.photos, strict=True):
        assert ((after != before).any(-1)).mean() > 0.8
    assert "3.0 times as wide" in protected.notes[0] and RESAVING in protected.notes[0]


def test_views_of_large_photos_are_all_of_it_and_parts_of_full_size_where_the_mask_is() -> None:
    photo, mask = torch.zeros(800, 1000, 3), torch.zeros(800, 1000, 1)
    mask[100:160, 700:760] = 1
    views = [view_at(photo, (64, 64), mask, 0, 0, step) for step in range(20)]
    assert {(view.width, view.height) for view in views[::2]} == {(800, 800)}
    assert {(view.width, view.height) for view in views[1::2]} == {(64, 64)}
    assert all(600 < view.left < 800 and view.top < 200 for view in views[1::2])
    assert view_at(torch.zeros(64, 64, 3), (64, 64), None, 0, 0, 1)[:4] == (0, 0, 64, 64)


def test_only_what_the_mask_covers_changes(demo_denoiser: Any, stranger: list[np.ndarray]) -> None:
    mask = np.zeros((32, 32), np.float32)
    mask[8:24, 8:24] = 1
    protected = protect(demo_denoiser, stranger[:1], ProtectionSettings(**QUICK), masks=[mask])
    moved = (protected.photos[0] != stranger[0]).any(-1)
    inside = np.kron(mask, np.ones((3, 3))) > 0
    assert moved[inside].mean() > 0.8 and not moved[~inside].any()


def test_a_run_that_is_broken_off_goes_on_to_the_same_files(
    demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path
) -> None:
    settings = ProtectionSettings(method=ENCODER, steps=4)
    whole = protect(demo_denoiser, stranger[:2], settings)

    def break_off(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        protect(demo_denoiser, stranger[:2], settings, callbacks=ProtectionCallbacks(break_off), runs=tmp_path)
    made: list[int] = []
    again = protect(
        demo_denoiser,
        stranger[:2],
        settings,
        callbacks=ProtectionCallbacks(lambda done, of: made.append(done)),
        runs=tmp_path,
    )
    # The step in which it was broken off had been made.
    assert made in ([3, 4], [4]) and again.passes == whole.passes
    assert all(np.array_equal(*pair) for pair in zip(whole.photos, again.photos, strict=True))
    assert list(tmp_path.iterdir()) == []
    plans: list[ProtectionPlan] = []
    protect(demo_denoiser, stranger[:2], settings, callbacks=ProtectionCallbacks(plan=plans.append))
    assert [(plan.photos, plan.steps) for plan in plans] == [(2, 4)] and plans[0].seconds > 0
    assert plans[0].passes == whole.passes and "ask the model" not in plans[0].words
    with kept_once_done():  # As in a host, which may crash before they are saved.
        protect(demo_denoiser, stranger[:2], settings, runs=tmp_path)
        made.clear()
        callbacks = ProtectionCallbacks(lambda done, of: made.append(done))
        at_once = protect(demo_denoiser, stranger[:2], settings, callbacks=callbacks, runs=tmp_path)
    assert not made and at_once.passes == whole.passes
    assert all(np.array_equal(*pair) for pair in zip(whole.photos, at_once.photos, strict=True))


def test_it_goes_on_to_the_same_files_wherever_it_was_broken_off(
    demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path
) -> None:
    """Be it between the search for prompts and what a step changes by them."""
    settings, target = ProtectionSettings(method=BOTH, steps=2), stranger[3]

    def run(check: Callable[[], None], runs: Path | None) -> Any:
        callbacks = ProtectionCallbacks(check=check)
        return protect(demo_denoiser, stranger[:2], settings, target=target, callbacks=callbacks, runs=runs)

    checks: list[None] = []
    whole = run(lambda: checks.append(None), None)
    assert len(checks) >= 4
    for place in range(len(checks)):
        left = [place]

        def check(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(check, tmp_path)
        again = run(lambda: None, tmp_path)
        assert again.passes == whole.passes
        assert all(np.array_equal(*pair) for pair in zip(whole.photos, again.photos, strict=True)), place


def test_a_run_of_another_vae_mask_or_target_is_another_one(
    demo_denoiser: Any, stranger: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, made = ProtectionSettings(method=ENCODER, steps=1), []
    callbacks = ProtectionCallbacks(lambda done, of: made.append(done))

    def run(photos: list[np.ndarray], **others: Any) -> None:
        with kept_once_done():
            protect(demo_denoiser, photos, settings, callbacks=callbacks, runs=tmp_path, **others)

    run(stranger[:2])
    run(stranger[:1], target=stranger[1])
    mask = np.ones(stranger[0].shape[:2], np.float32)
    run(stranger[:1], masks=[mask], target=stranger[1])
    monkeypatch.setattr(type(demo_denoiser), "vae_digest", "another")
    run(stranger[:1], masks=[mask], target=stranger[1])
    assert len(made) == 4
    run(stranger[:1], masks=[mask], target=stranger[1])
    assert len(made) == 4, "the same again is there already"


def test_what_it_is_to_withstand_changes_the_file_and_keeps_to_the_budget(
    demo_denoiser: Any, stranger: list[np.ndarray]
) -> None:
    plain, other = (
        protect(demo_denoiser, stranger[:1], ProtectionSettings(steps=8, budget=6, withstand=withstand))
        for withstand in ("nothing", RESAVING)
    )
    assert not np.array_equal(plain.photos[0], other.photos[0]) and other.changes[0] <= 6


def test_photos_that_show_nobody_are_refused(demo_denoiser: Any, stranger: list[np.ndarray]) -> None:
    with pytest.raises(PhotoError, match="no photos"):
        protect(demo_denoiser, [], ProtectionSettings())
    with pytest.raises(PhotoError, match="too small to show a face"):
        protect(demo_denoiser, [stranger[0][:20]], ProtectionSettings())
    with pytest.raises(PhotoError, match="mask of photo 1 is empty"):
        protect(demo_denoiser, stranger[:1], ProtectionSettings(), masks=[np.zeros((64, 64), np.float32)])
    speck = np.zeros((960, 960), np.float32)  # Of which nothing is left at the photo's size.
    speck[3, 3] = 1
    with pytest.raises(PhotoError, match="mask of photo 2 is empty"):
        protect(demo_denoiser, stranger[:2], ProtectionSettings(), masks=[np.ones((64, 64), np.float32), speck])
    with pytest.raises(PhotoError, match="budget"):
        ProtectionSettings(budget=64)


def test_the_report_says_what_it_is_worth(demo_denoiser: Any, stranger: list[np.ndarray]) -> None:
    settings = ProtectionSettings(method=RANDOM)
    told = describe_protection(protect(demo_denoiser, stranger[:2], settings), settings)
    assert "2 photos changed by at most 8 of 255 levels" in told and told.endswith(LIMITS)
    for word in ("IP-Adapter", "InstantID", "PuLID", "cannot be strengthened later", "unprotected photos"):
        assert word in LIMITS
    assert "PNG" in told


def test_rounding_is_that_of_the_file_and_lets_the_gradient_pass() -> None:
    photo = torch.tensor([[[0.0, 254.0, 100.0]]])
    change = torch.tensor([[[-3.0, 5.0, 0.6]]], requires_grad=True)
    moved = changed(photo, change)
    assert moved.tolist() == [[[0.0, 255.0, 101.0]]]
    (gradient,) = torch.autograd.grad(moved.sum(), [change])
    assert gradient.tolist() == [[[0.0, 0.0, 1.0]]]
    assert file_of(photo, change.detach()).tolist() == [[[0, 255, 101]]]
