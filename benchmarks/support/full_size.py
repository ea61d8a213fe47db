"""Measures what computing less saves in a call of a UNet of full size, whose weights are random: time and weights.

What goes says a fixed rule, since nothing can be learned of random weights: of blocks the innermost first, as the
authors of prompt-tailored pruning have it (docs/METHODS.md 8.3); of all layers the same share of their width.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...engines.options import Drawing
from ...engines.pruning.parts import DenoiserPart, Prunable
from ...engines.pruning.units import LeftOut, narrowed_layers
from ...experts.codes import kept_share
from ...experts.widths import kept_share as kept_width
from ...prefix.errors import ExpertsError
from .paired import Pairs, in_turns
from .uniform_width import uniform_width

BATCH = 2


@dataclass(frozen=True)
class NarrowedCall:
    """What a call that computes less takes, beside a whole one.

    Attributes:
        told: what is left out, for people.
        name: the same, for figures.
        share: of the multiplications that is left.
        seconds: of the process's own computing, in turns.
        weights: bytes of the weights that are computed with, of both.
    """

    told: str
    name: str
    share: float
    seconds: Pairs
    weights: tuple[int, int]

    def lines(self, keep: float) -> list[str]:
        """What to print: for people, then the figures."""
        weights, all_weights = self.weights
        name = f"full_size_{keep * 100:.0f}{self.name}"
        return [
            f"\n{keep}: {self.share:.3f} of the multiplications, {self.told}",
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


def narrowed_calls(prunable: Prunable, shares: Sequence[float], turns: int) -> list[tuple[float, NarrowedCall]]:
    """Calls without blocks and calls with narrower layers, by share, each in turns with whole ones."""
    from ...engines.comfy.expert_parts import Smaller

    denoiser, network = prunable.denoiser, prunable.network
    with denoiser.gradients(BATCH), torch.no_grad():
        parts, unit_shares = prunable.parts(), prunable.unit_shares()
        said = denoiser.encode(["a portrait of a person", ""])
        noised = torch.randn(BATCH, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
        bytes_of = {name: weight.nbytes for name, weight in network.named_parameters()}

        def measured(left_out: LeftOut, share: float, told: str, name: str) -> NarrowedCall:
            smaller, whole = (Smaller(network, prunable.units, what) for what in (left_out, LeftOut()))

            def call(computing: Smaller) -> float:
                with computing(network, {}):
                    began = time.process_time()
                    denoiser.predict(noised, torch.tensor([0.3, 0.7]), said)
                    return time.process_time() - began

            seconds = in_turns(lambda: call(smaller), lambda: call(whole), turns, turns, 0.0)
            weights = _computed_with(prunable, left_out, bytes_of), sum(bytes_of.values())
            return NarrowedCall(told, name, share, seconds, weights)

        found = []
        for keep in shares:
            blocks = innermost(parts, keep)
            told = f"without {', '.join(blocks)}"
            found.append((keep, measured(LeftOut(blocks), kept_share(parts, blocks), told, "")))
            widths = uniform_width(prunable, keep)
            share = kept_width(unit_shares, widths.kept)
            told = f"{float(torch.cat(list(widths.kept.values())).float().mean()):.2f} of all units"
            found.append((keep, measured(widths, share, told, "_narrower")))
    return found


def _computed_with(prunable: Prunable, left_out: LeftOut, bytes_of: Mapping[str, int]) -> int:
    """Bytes of the weights that a call computes with."""
    gone = tuple(f"{name}." for name in left_out.blocks)
    left = {name: size for name, size in bytes_of.items() if not name.startswith(gone)}
    for about in narrowed_layers(prunable.network, prunable.units, left_out):
        layer: Any = prunable.network.get_submodule(about.name)
        left[f"{about.name}.weight"] = about.weight(layer.weight).nbytes
        if layer.bias is not None:
            left[f"{about.name}.bias"] = about.bias(layer.bias).nbytes
    return sum(left.values())
