"""What is masked of two pictures: where a face gets its likeness, more than around it."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.engines.options import RegionSettings
from anonymize_faces.engines.two_pictures import AT_LIKENESS, LIKENESS, region_mask
from anonymize_faces.prefix.face_region import FaceRegion, FaceRegionHead, tensors_of


@pytest.fixture
def region(monkeypatch: pytest.MonkeyPatch) -> FaceRegion:
    """Takes one cell of 12 x 12 for a face, at all levels of noise."""
    logits = torch.full((2, 12, 12), -1.0)
    logits[:, 6, 6] = 1.0
    monkeypatch.setattr(FaceRegion, "logits", lambda *_: logits)
    levels, shares = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.9])
    return FaceRegion(tensors_of(FaceRegionHead(4), levels, shares, torch.zeros(2, 2)))


def test_where_a_face_gets_its_likeness_a_cell_around_it_is_masked_as_well(region: FaceRegion) -> None:
    given = torch.zeros(2, 4, 12, 12)
    levels = torch.tensor([LIKENESS + 0.01, LIKENESS])
    narrow = RegionSettings(certainty=0.9, margin=0.0, softness=0.0)
    early, late = region_mask(region, narrow, given, given, levels)
    assert early.sum() == 1 and early[6, 6] == 1
    assert late.sum() == 9 and bool((late[5:8, 5:8] == 1).all()), "a twelfth of 12 cells on all sides"
    wide = RegionSettings(certainty=0.9, margin=2 * AT_LIKENESS, softness=0.0)
    assert [int(mask.sum()) for mask in region_mask(region, wide, given, given, levels)] == [25, 25]
    everything = RegionSettings(certainty=1.0, margin=0.0, softness=0.0)
    assert bool((region_mask(region, everything, given, given, levels) == 1).all())
