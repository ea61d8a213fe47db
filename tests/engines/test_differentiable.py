"""What is saved for the backward pass: safe from what is written over it, and laid out as it was."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.differentiable import differentiable


class Keeping(torch.autograd.Function):
    """Saves its second input, and tells in the backward pass how it is laid out then."""

    seen: tuple[int, ...] = ()

    @staticmethod
    def forward(ctx, x: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return x * 2

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        Keeping.seen = kept.stride()
        assert torch.equal(kept, torch.full_like(kept, 3.0))
        return gradient * 2, None


def layout_after(kept: Tensor) -> tuple[int, ...]:
    x = torch.ones(2, requires_grad=True)
    with differentiable(torch.nn.Linear(1, 1)):
        y = Keeping.apply(x, kept)
    kept.untyped_storage().fill_(0)
    y.sum().backward()
    return Keeping.seen


def test_a_mask_keeps_its_padded_rows_which_attention_on_graphics_cards_asks_for() -> None:
    padded = torch.full((1, 1, 77, 80), 3.0)[..., :77]
    assert layout_after(padded) == padded.stride()


def test_a_mask_that_all_heads_share_is_not_written_out_for_each() -> None:
    shared = torch.full((1, 1, 77, 80), 3.0)[..., :77].expand(4, 12, 77, 77)
    assert layout_after(shared) == shared.stride()


def test_a_small_part_of_a_large_tensor_is_copied_alone() -> None:
    part = torch.full((8, 100), 3.0)[:, :4]
    assert layout_after(part) == (4, 1)


class Square(torch.autograd.Function):
    """Saves its input, and lists where what it gets back lies in memory."""

    places: ClassVar[list[int]] = []

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        Square.places.append(x.untyped_storage().data_ptr())
        return 2 * x * gradient


@pytest.mark.parametrize(("once", "copies"), [(True, 2), (False, 4)])
def test_what_is_saved_several_times_is_copied_once_until_it_is_written_to(once: bool, copies: int) -> None:
    """The host's blocks add in place between two readings of one tensor."""
    Square.places = []
    x = torch.ones(3, 4, requires_grad=True)
    with differentiable(torch.nn.Linear(1, 1), once=once):
        y = x * 1
        first = Square.apply(y) + Square.apply(y.T).T
        y += 1
        second = Square.apply(y) + Square.apply(y.view(4, 3)).view(3, 4)
    (first + second).sum().backward()
    assert len(set(Square.places)) == copies
    assert torch.equal(x.grad, torch.full((3, 4), 2 * 2 * 1.0 + 2 * 2 * 2.0))
