"""Splits work into micro-batches, and halves them where the device runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ..prefix.errors import TrainingError
from .denoiser import Denoiser

_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "alloc_failed",
    "not enough gpu video memory",
)
"""Of torch on CPUs, of CUDA and of Apple's cards where the error is of no class of its own, of cuBLAS, of DirectML."""


def says_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or of Python says that memory has run out, on whatever device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatches:
    """How many items one kind of work takes at once, where the device may run out of memory.

    Then the denoiser computes in a way that needs less; if that was not enough, half as many items are taken at once;
    and if memory lacks for a single one, weights leave the device until they are needed.

    Attributes:
        size: items in a micro-batch, at most.
        halved: how often memory ran out.

    Args:
        check: called before each micro-batch; may raise to break off.
    """

    def __init__(self, denoiser: Denoiser, size: int, check: Callable[[], None] = lambda: None) -> None:
        self._denoiser = denoiser
        self._check = check
        self.size = size
        self.halved = 0

    def work(self, do: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
        """What `do` makes of each micro-batch of the items, in order. A micro-batch that memory lacks for is done anew.

        Raises:
            TrainingError: memory lacks even for a single item.
        """
        results: list[Result] = []
        start = 0
        while start < len(items):
            self._check()
            micro_batch = items[start : start + self.size]
            try:
                results.append(do(micro_batch))
            except Exception as error:
                if not self._denoiser.out_of_memory(error):
                    raise
                lacking = len(micro_batch)
            else:
                start += len(micro_batch)
                continue
            # Only here is the error gone, and with it what its frames held on to.
            self._halve(lacking)
        return results

    def _halve(self, lacking: int) -> None:
        if self._denoiser.use_less_memory():
            self._denoiser.free_memory()
            return
        if lacking == 1:
            if self._denoiser.stream_weights():
                self._denoiser.free_memory()
                return
            raise TrainingError(
                "There is not enough memory for a single picture: set a smaller width and height, set gradient"
                " checkpointing to 'on', or close what else uses memory."
            )
        self.size = (lacking + 1) // 2
        self.halved += 1
        self._denoiser.free_memory()
