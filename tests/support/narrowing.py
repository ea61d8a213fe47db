"""Narrows layers by chance, and draws with the host's tiny checkpoints."""

from __future__ import annotations

from typing import Any

import torch

from anonymize_faces.engines.pruning.parts import Prunable
from anonymize_faces.engines.pruning.units import LeftOut


def narrowed_by_chance(prunable: Prunable, share: float = 0.5, seed: int = 0) -> LeftOut:
    """Of each layer about a share of the units, so many at a time as must go together, one such at least."""
    random = torch.Generator().manual_seed(seed)
    kept = {}
    for name, units in prunable.units.items():
        several = torch.rand(units.count // units.together, generator=random) < share
        several[0] = True
        kept[name] = several.repeat_interleave(units.together)
    return LeftOut(kept=kept)


def drawn(model: Any, length: int = 77, **said_with: Any) -> torch.Tensor:
    import comfy.sample

    random = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, 8, 8, generator=random)
    said = [[torch.randn(1, length, 32, generator=random), {"pooled_output": None, **said_with}]]
    return comfy.sample.sample(
        model, noise, 2, 2.0, "euler", "simple", said, said, torch.zeros_like(noise), disable_pbar=True, seed=1
    )


def controlnet(checkpoint: Any) -> Any:
    """The host's ControlNet for a checkpoint, of random weights, with a picture to go by."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    config = dict(checkpoint.model.model.model_config.unet_config)
    config.pop("out_channels")
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=comfy.ops.disable_weight_init)
    random = torch.Generator().manual_seed(7)
    for weight in network.parameters():
        weight.data = 0.05 * torch.randn(weight.shape, generator=random)
    made = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    return made.set_cond_hint(torch.rand(1, 3, 64, 64, generator=random), 1.0)
