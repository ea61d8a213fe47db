"""The optimizer of meta-networks: Muon for matrices, Adam for the rest."""

from __future__ import annotations

import torch

from anonymize_faces.engines.muon import AdamAndMuon, Muon, orthogonalized
from anonymize_faces.engines.vectors import MATRIX_RATE, NETWORK_RATE, scale_free_adam
from anonymize_faces.prefix.meta_network import MATRICES, new_network, part_name


def test_a_matrix_steps_along_its_momentum_with_all_directions_alike() -> None:
    torch.manual_seed(0)
    for shape in ((1, 24, 60), (2, 60, 24)):
        for dtype in (torch.bfloat16, torch.float32):
            values = torch.linalg.svdvals(orthogonalized(torch.randn(shape), dtype=dtype))
            assert 0.6 < values.min() and values.max() < 1.3
    kernel, target = torch.nn.Parameter(torch.zeros(8, 4, 3, 3)), torch.randn(8, 4, 3, 3)
    optimizer = Muon([kernel], lr=0.05, weight_decay=0.0)
    for _ in range(200):
        optimizer.zero_grad()
        (kernel - target).square().sum().backward()
        optimizer.step()
    assert (kernel - target).abs().max() < 0.5


def test_matrices_take_muons_steps_stacks_side_by_side_and_the_rest_takes_adams() -> None:
    generator = torch.Generator().manual_seed(1)
    matrix, stack, rest = (torch.randn(shape, generator=generator) for shape in ((12, 30), (3, 12, 10), (3, 10)))
    mine = [tensor.clone().requires_grad_() for tensor in (matrix, stack, rest)]
    ours = AdamAndMuon([{"params": [each], "lr": 0.1, "matrices": each.ndim == 3 or len(each) == 12} for each in mine])
    side_by_side = stack.transpose(0, 1).flatten(1).clone().requires_grad_()
    theirs = [matrix.clone().requires_grad_(), side_by_side, rest.clone().requires_grad_()]
    muon, adam = Muon(theirs[:2], lr=0.1, weight_decay=0.0), torch.optim.Adam(theirs[2:], lr=0.1)
    for _ in range(3):
        gradients = [torch.randn(each.shape, generator=generator) for each in (matrix, stack, rest)]
        for each, gradient in zip(mine, gradients, strict=True):
            each.grad = gradient.clone()
        theirs[0].grad, theirs[2].grad = gradients[0].clone(), gradients[2].clone()
        theirs[1].grad = gradients[1].transpose(0, 1).flatten(1)
        for optimizer in (ours, muon, adam):
            optimizer.step()
    # Muon by itself computes in bfloat16.
    assert torch.allclose(mine[0], theirs[0], atol=0.02)
    assert torch.allclose(mine[1].transpose(0, 1).flatten(1), theirs[1], atol=0.02)
    assert torch.equal(mine[2], theirs[2])
    assert (mine[0] - matrix).square().mean().sqrt() > 0.02


def test_whatever_the_scale_of_a_gradient_and_with_no_gradient_at_all_a_step_is_finite() -> None:
    for size in (0.0, 1e-30, 1e30):
        matrix = torch.ones(4, 6).requires_grad_()
        optimizer = AdamAndMuon([{"params": [matrix], "lr": 0.1, "matrices": True}])
        matrix.grad = size * torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
        optimizer.step()
        assert bool(torch.isfinite(matrix).all()) and matrix.grad is None
        optimizer.step()


def test_a_network_moves_as_far_by_either_kind_of_step() -> None:
    vectors = torch.randn(4, 32)
    network = new_network(vectors, torch.randn(40, 48), torch.Generator().manual_seed(0))
    parameters = {"clip_l": vectors} | {part_name("clip_l", part): tensor for part, tensor in network.items()}
    optimizer = scale_free_adam(parameters, rate=0.1)
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        group["lr"], parameter.grad = group["peak"], torch.randn_like(parameter)
    optimizer.step()
    moved = {
        name: float((tensor.detach() - before[name]).square().mean().sqrt())
        for name, tensor in parameters.items()
        if not torch.equal(tensor.detach(), before[name])
    }
    assert set(moved) == {part_name("clip_l", part) for part in (*MATRICES, "offset")}
    assert MATRIX_RATE == 5 * NETWORK_RATE
    assert all(0.5 < distance / (0.1 * NETWORK_RATE) < 1.5 for distance in moved.values())
