"""What says where faces are: what it reads, what it masks, and what files must not hold."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from anonymize_faces.prefix import PrefixFileError, PrefixValueError, load_prefix, save_prefix
from anonymize_faces.prefix.face_region import (
    MARGIN,
    MOST_PARAMETERS,
    SOFTNESS,
    START,
    FaceRegion,
    FaceRegionHead,
    blended,
    grown,
    noise_level,
    softened,
)
from anonymize_faces.tests.support.prefixes import demo_prefix, random_region, with_random_region


@pytest.mark.parametrize("channels", [4, 12, 16, 128, 1024])
def test_a_head_serves_any_number_of_channels_and_stays_small(channels):
    head = FaceRegionHead(channels)
    assert sum(part.numel() for part in head.parameters()) <= MOST_PARAMETERS
    assert head(torch.randn(2, channels, 9, 7), torch.randn(2, channels, 9, 7), torch.rand(2)).shape == (2, 9, 7)


@pytest.mark.parametrize("pixels", [128, 256])
def test_two_people_and_a_tiny_face_are_masked_each_in_its_place_in_pictures_of_any_size(pixels):
    region, cells, levels = FaceRegion(random_region(4)), pixels // 8, torch.tensor([0.5])
    latents = torch.randn(1, 4, cells, 2 * cells)
    assert region.logits(latents, latents, levels).shape == (1, cells, 2 * cells)
    logits = torch.full((1, cells, cells), -5.0)
    side, low, high = cells // 4, cells // 8, 5 * cells // 8
    faces = [(slice(low, low + side), slice(low, low + side)), (slice(low, low + side), slice(high, high + side))]
    tiny = (slice(3 * cells // 4, 3 * cells // 4 + 1),) * 2  # One cell, which is 8 pixels.
    for rows, columns in (*faces, tiny):
        logits[:, rows, columns] = 5.0
    mask = region.mask(logits, levels, 0.75, 0.0, 0.0)[0]
    assert torch.equal(mask, (logits[0] > 0).float())
    wide = region.mask(logits, levels, 0.75, MARGIN, SOFTNESS)[0]
    assert (wide >= mask).all() and float(wide.sum()) > float(mask.sum()) + 1
    assert float(wide[:, cells // 2 - 1].max()) == 0 and float(wide.mean()) < 0.3  # Nothing between the two.
    grown_by = region.mask(logits, levels, 0.75, 1 / 16, 0.0)[0]
    assert float(grown_by.sum()) == 2 * (side + cells // 8) ** 2 + (1 + cells // 8) ** 2


def test_frames_of_a_film_are_looked_at_apart():
    region = FaceRegion(random_region(4))
    plain, protected = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8)
    levels = torch.tensor([0.2, 0.7])
    together = region.logits(plain, protected, levels)
    alone = region.logits(plain[1:, :, 2], protected[1:, :, 2], levels[1:])
    assert together.shape == (2, 3, 8, 8)
    torch.testing.assert_close(together[1, 2], alone[0])


def test_the_more_certain_the_more_is_masked_and_at_the_fullest_everything():
    region = FaceRegion(random_region(4))
    logits, levels = torch.randn(3, 16, 16), torch.full((3,), 0.5)
    shares = [float(region.mask(logits, levels, certainty, 0.0, 0.0).mean()) for certainty in (0.5, 0.75, 0.9, 1.0)]
    assert shares == sorted(shares) and shares[0] < shares[1] < shares[2] < shares[3] == 1.0


def test_what_is_no_number_is_masked():
    region = FaceRegion(random_region(4))
    lowest = float(region.thresholds.min()) - 1
    logits = torch.tensor([[[lowest, float("nan")]], [[lowest, lowest]]])
    levels = torch.tensor([0.5, float("nan")])
    assert region.mask(logits, levels, 0.9, 0.0, 0.0).tolist() == [[[0.0, 1.0]], [[1.0, 1.0]]]


def test_more_noise_than_was_tried_masks_everything():
    region = FaceRegion(random_region(4, threshold=1e6))
    levels = torch.tensor([0.5, 0.955, 0.999])
    shares = region.mask(torch.zeros(3, 4, 4), levels, 0.75, 0.0, 0.0).mean((1, 2))
    assert shares.tolist() == [0.0, 0.0, 1.0]


def test_margins_grow_a_mask_and_soft_edges_weaken_none_of_it():
    mask = torch.zeros(1, 20, 20)
    mask[0, 8:12, 8:12] = 1
    wide = grown(mask, 0.1)
    assert wide[0, 6:14, 6:14].all() and wide.sum() == 64
    torch.testing.assert_close(grown(mask, 0.01).sum(), torch.tensor(16 + 0.2 * 20))  # A fifth of a cell, not none.
    assert torch.equal(grown(mask, 0.0), mask)
    soft = softened(wide, 0.2)
    assert (soft >= wide).all() and bool(((soft > 0) & (soft < 1)).any()) and soft.max() == 1
    assert torch.equal(softened(torch.zeros(1, 20, 20), 0.5), torch.zeros(1, 20, 20))


def test_blending_is_exact_where_all_or_nothing_is_masked():
    plain, protected = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    mask = torch.tensor([[[1.0, 0.0], [0.5, 1.0]]])
    made = blended(plain, protected, mask)
    assert torch.equal(made[..., 0, 0], protected[..., 0, 0]) and torch.equal(made[..., 0, 1], plain[..., 0, 1])
    torch.testing.assert_close(made[..., 1, 0], (plain + protected)[..., 1, 0] / 2)


def test_the_level_of_noise_is_the_same_in_every_scale():
    sigma = torch.tensor(3.0)
    one = noise_level(torch.tensor(1.0), sigma)
    other = noise_level(1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt())
    torch.testing.assert_close(one, other)


def test_a_file_brings_the_head_back_to_the_last_bit(tmp_path):
    prefix = with_random_region(demo_prefix())
    back = load_prefix(save_prefix(prefix, tmp_path / "region.safetensors"))
    assert back.face_region.keys() == prefix.face_region.keys()
    assert all(torch.equal(back.face_region[name], part) for name, part in prefix.face_region.items())
    assert back.record.format_version == 4 and back.parameters.keys() == demo_prefix().parameters.keys()
    assert pickle.loads(pickle.dumps(prefix)).face_region.keys() == prefix.face_region.keys()


def test_files_without_a_head_are_what_they_were(tmp_path):
    path = save_prefix(demo_prefix(), tmp_path / "plain.safetensors")
    assert load_prefix(path).face_region == {} and load_prefix(path).record.format_version == 1
    assert b"face_region" not in path.read_bytes()


def test_a_head_that_was_changed_in_its_file_refuses(tmp_path):
    path = save_prefix(with_random_region(demo_prefix()), tmp_path / "region.safetensors")
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")  # The first tensor behind the header is the head's.
    data[start] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(PrefixFileError, match="changed or damaged"):
        load_prefix(path)


def _changed(**changes):
    return {**random_region(4), **{START + name: tensor for name, tensor in changes.items()}}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({START + "levels": torch.rand(2)}, "how many channels"),
        (_changed(more=torch.zeros(1)), "should not"),
        ({name: part for name, part in random_region(4).items() if "answer" not in name}, "lacks"),
        (_changed(levels=torch.tensor([0.5, 0.4])), "ascend"),
        (_changed(shares=torch.tensor([0.5, 0.6, 1.2])), "ascend"),
        (_changed(levels=torch.zeros(1)), "not whole"),
        (_changed(thresholds=torch.tensor([[0.0, 1.0, 2.0]]).repeat(2, 1)), "must not rise"),
        (_changed(thresholds=torch.zeros(3, 3)), "of shape"),
        (_changed(**{"answer.bias": torch.full((1,), float("nan"))}), "not finite"),
        (_changed(**{"answer.bias": torch.zeros(1, dtype=torch.float16)}), "float32"),
    ],
)
def test_a_head_that_is_not_whole_or_sound_refuses(tensors, reason):
    with pytest.raises(PrefixValueError, match=reason):
        dataclasses.replace(demo_prefix(), face_region=tensors)
