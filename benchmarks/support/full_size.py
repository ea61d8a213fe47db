"""Measures what leaving blocks out saves in a call of a UNet of full size, whose weights are random: time and weights.

Which blocks go says a fixed rule, since nothing can be learned of random weights: the innermost first, as the authors
of prompt-tailored pruning have it (docs/METHODS.md 8.3).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...engines.options import Drawing
from ...engines.pruning.parts import DenoiserPart, Prunable, without_parts
from ...experts.codes import kept_share
from ...prefix.errors import ExpertsError
from .paired import Pairs, in_turns

BATCH = 2


@dataclass(frozen=True)
class NarrowedCall:
    """What a call without some blocks takes, beside a whole one.

    Attributes:
        removed: names of the blocks.
        share: of the multiplications that is left.
        seconds: of the process's own computing, in turns.
        weights: bytes of the weights that are computed with, of both.
    """

    removed: tuple[str, ...]
    share: float
    seconds: Pairs
    weights: tuple[int, int]

    def lines(self, keep: float) -> list[str]:
        """What to print: for people, then the figures."""
        weights, all_weights = self.weights
        name = f"full_size_{keep * 100:.0f}"
        return [
            f"\n{keep}: {self.share:.3f} of the multiplications, without {', '.join(self.removed)}",
            self.seconds.summary(f"{BATCH} pictures, computing"),
            f"weights {weights / 2**20:.0f} of {all_weights / 2**20:.0f} MiB",
            f"RATIO {name}_time {self.seconds.ratio:.3f}",
            f"RATIO {name}_weights {weights / all_weights:.3f}",
        ]


def full_size_layout() -> Prunable:
    """The host's SD1.5 of random weights in bfloat16, and what can go; call inside the host."""
    from ...engines.comfy.denoiser import ComfyDenoiser
    from ...engines.comfy.expert_parts import prunable
    from .layouts import SIZES, build

    checkpoint = build("sd15", "bf16")
    size = SIZES["sd15"], SIZES["sd15"]
    denoiser = ComfyDenoiser(checkpoint.model, checkpoint.clip, checkpoint.vae, size, Drawing())
    return prunable(denoiser, checkpoint.model)


def innermost(parts: Sequence[DenoiserPart], keep: float, middle: str = "middle_block") -> tuple[str, ...]:
    """Blocks to remove, those nearest to the middle first, until no more than a share of the multiplications is left.

    Raises:
        ExpertsError: all blocks together are not enough.
    """
    at = [number for number, part in enumerate(parts) if part.name.startswith(middle)]
    centre = sum(at) / len(at) if at else len(parts) / 2
    removed: list[str] = []
    for _, part in sorted(enumerate(parts), key=lambda pair: abs(pair[0] - centre)):
        if kept_share(parts, removed) - keep <= 1e-9:
            break
        removed.append(part.name)
    if kept_share(parts, removed) - keep > 1e-9:
        raise ExpertsError(f"Without all the blocks that can go more than {keep:.0%} is left: keep more.")
    return tuple(removed)


def narrowed_calls(prunable: Prunable, shares: Sequence[float], turns: int) -> dict[float, NarrowedCall]:
    """Calls without blocks, each in turns with whole ones."""
    denoiser, network = prunable.denoiser, prunable.network
    found = {}
    with denoiser.gradients(BATCH), torch.no_grad():
        parts = prunable.parts()
        said = denoiser.encode(["a portrait of a person", ""])
        noised = torch.randn(BATCH, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))

        def call(removed: Sequence[str] = ()) -> float:
            with without_parts(network, removed):
                began = time.process_time()
                denoiser.predict(noised, torch.tensor([0.3, 0.7]), said)
                return time.process_time() - began

        for keep in shares:
            removed = innermost(parts, keep)
            gone = tuple(f"{name}." for name in removed)
            bytes_of = {name: weight.nbytes for name, weight in network.named_parameters()}
            left = sum(size for name, size in bytes_of.items() if not name.startswith(gone))
            seconds = in_turns(lambda removed=removed: call(removed), call, turns, turns, 0.0)  # type: ignore[misc]
            weights = left, sum(bytes_of.values())
            found[keep] = NarrowedCall(removed, kept_share(parts, removed), seconds, weights)
    return found
