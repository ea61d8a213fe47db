"""Checks that gradients reach a prefix, and says what is in their way where they do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..prefix.errors import TrainingError

STOPPED = (
    "does not require grad and does not have a grad_fn",
    "appears to not have been used in the graph",
    "Inference tensors cannot be saved for backward",
    "Cannot set version_counter for inference tensor",
)
"""What torch says where something on the way works without gradients."""


def require_gradient(outputs: Iterable[Tensor], inputs: Iterable[Tensor], part: str) -> None:
    """Raises `TrainingError` if outputs take no gradient although gradients are wanted of the inputs.

    Args:
        part: what made the outputs of the inputs, as a user calls it.
    """
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    if wanted and not all(tensor.requires_grad for tensor in outputs):
        raise _stopped(part)


@contextmanager
def gradient_through(part: str) -> Iterator[None]:
    """Inside, torch's own errors about gradients that something stops are a `TrainingError` that names the part."""
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in STOPPED):
            raise _stopped(part) from error
        raise


def _stopped(part: str) -> TrainingError:
    return TrainingError(
        f"No gradient comes through the {part}: a patch or wrapper on it, most likely of another extension, works"
        " without gradients. Connect it as the loader made it, or with LoRAs alone; what is learned serves with the"
        " patch too."
    )
