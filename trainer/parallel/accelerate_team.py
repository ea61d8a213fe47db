"""Lets processes on several graphics cards or machines learn together, by Accelerate.

`accelerate launch` starts the processes, and says how they reach each other; here is what they say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ...prefix.errors import TrainingError, first_line
from .team import ALONE, Team

Said = TypeVar("Said")


class AccelerateTeam:
    """The processes that `accelerate launch` has started.

    Raises:
        TrainingError: from any method, if another process is gone.
    """

    def __init__(self) -> None:
        from accelerate import Accelerator

        self._accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes
        self.device: torch.device = self._accelerator.device

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See `Team`. One message for all tensors; they come back where they were."""
        if not tensors:
            return []
        flat = torch.cat([tensor.detach().double().flatten().cpu() for tensor in tensors])
        message = flat.to(self.device, torch.float64)
        whole = self._ask(lambda: self._accelerator.reduce(message, reduction="sum")).cpu()
        parts = whole.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape).to(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def agreed(self, tensor: Tensor) -> Tensor:
        """See `Team`."""
        from accelerate.utils import broadcast

        return self._ask(lambda: broadcast(tensor.to(self.device))).to(tensor)

    def wait(self) -> None:
        """See `Team`."""
        self._ask(self._accelerator.wait_for_everyone)

    def _ask(self, say: Callable[[], Said]) -> Said:
        try:
            return say()
        except RuntimeError as error:  # Of whatever backend; torch has a type for some of them only.
            raise TrainingError(
                f"Another process of this run is gone ({first_line(error)}): start the run again, with"
                " as many processes as you like, and it goes on from its last snapshot."
            ) from error


def team_of_this_process() -> Team:
    """The team that `accelerate launch`, or torchrun, has put this process into; else it is alone.

    Raises:
        TrainingError: Accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    try:
        return AccelerateTeam()
    except ImportError as error:
        raise TrainingError("Several processes need Accelerate: 'pip install accelerate'.") from error
