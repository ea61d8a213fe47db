"""The objective against the reference loop's, as docs/METHODS.md 1.3 writes it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from anonymize_faces.trainer.objective import distances


@given(seed=st.integers(0, 1000), eta=st.floats(0, 2))
def test_its_gradient_is_the_reference_ones_but_for_a_factor(seed: int, eta: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, 4, 3, 3, generator=generator, dtype=torch.float64).float().requires_grad_()
    neutral = torch.randn(2, 4, 3, 3, generator=generator)

    target = neutral - eta * (student.detach() - neutral)
    (reference,) = torch.autograd.grad(torch.nn.functional.mse_loss(student, target), student)
    (ours,) = torch.autograd.grad(distances(student, neutral).mean(), student)

    torch.testing.assert_close(reference, (1 + eta) * ours)


def test_each_picture_has_a_distance_of_its_own() -> None:
    student = torch.zeros(2, 4, 3, 3)
    teacher = torch.stack([torch.zeros(4, 3, 3), torch.full((4, 3, 3), 2.0)])
    assert distances(student, teacher).tolist() == [0, 4]
