"""Without this module a run would die when memory runs out: work is done in portions, and smaller ones if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..prefix.errors import TrainingError
from .denoiser import Denoiser

Item = TypeVar("Item")
Result = TypeVar("Result")


class Portions:
    """How many items one kind of work takes at once; halved whenever the device runs out of memory.

    Attributes:
        size: items in a portion, at most.
        halved: how often memory ran out.

    Args:
        check: called before each portion; may raise to break off.
    """

    def __init__(self, denoiser: Denoiser, size: int, check: Callable[[], None] = lambda: None) -> None:
        self._denoiser = denoiser
        self._check = check
        self.size = size
        self.halved = 0

    def work(self, do: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
        """What `do` makes of each portion of the items, in order. A portion that memory lacks for is done anew.

        Raises:
            TrainingError: memory lacks even for a single item.
        """
        results: list[Result] = []
        start = 0
        while start < len(items):
            self._check()
            portion = items[start : start + self.size]
            try:
                results.append(do(portion))
            except Exception as error:
                if not self._denoiser.out_of_memory(error):
                    raise
                lacking = len(portion)
            else:
                start += len(portion)
                continue
            # Only here is the error gone, and with it what its frames held on to.
            self._halve(lacking)
        return results

    def _halve(self, lacking: int) -> None:
        if self._denoiser.use_less_memory():
            self._denoiser.free_memory()
            return
        if lacking == 1:
            raise TrainingError(
                "There is not enough memory for a single picture: set a smaller width and height, set gradient"
                " checkpointing to 'on', or close what else uses memory."
            )
        self.size = (lacking + 1) // 2
        self.halved += 1
        self._denoiser.free_memory()
