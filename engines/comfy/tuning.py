"""Fine-tunes the host's models: what is learned is added to a weight's copy whenever a layer reads the weight.

The host's `add_weight_wrapper` puts it there, on a clone that shares the weights with the model it was made of. No
weight is ever written to, so that the model that an artist connected stays what it was to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import comfy.weight_adapter.lora
import torch
from torch import Tensor, nn

from ...prefix.errors import TrainingError
from ...runs.seeds import cpu_seeded, derived_seed
from ..denoiser import LORA, WORDS
from .new_words import lora_of_words

DENOISER = "diffusion_model."
"""What the names of a denoiser's layers begin with in the host's models."""

FILE_NAMES = {f"model.{DENOISER}": DENOISER, "clip.": "text_encoders."}
"""How names of learned weights begin, and how the host's loader of LoRA files wants the same layers called."""

MATRICES = {".weight.lora_up.weight": ".lora_up.weight", ".weight.lora_down.weight": ".lora_down.weight"}


class LearnedLayer(nn.Module):
    """What the host calls a weight wrapper: gives the weight that a layer is to use in place of its own.

    Args:
        module: makes one of the other: one of the host's adapters, or `Added`.

    Attributes:
        is_paused: whether the layer's own weight is given, as though nothing were learned.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        self.is_paused = False

    def forward(self, weight: Tensor) -> Tensor:
        """The weight to use, in the number format of the one that is given."""
        return weight if self.is_paused else self.module(weight)

    def move_to(self, device: torch.device) -> int:
        """Called by the host where it moves the layer; bytes that this takes."""
        # The host may run in inference mode, where nothing that could be learned can be made.
        with torch.inference_mode(False):
            self.to(device)
        return sum(parameter.nbytes for parameter in self.parameters())


class Added(nn.Module):
    """A tensor that is added to a weight, zeros at first."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.zeros(weight.shape, device=weight.device, dtype=torch.float32))

    def forward(self, weight: Tensor) -> Tensor:
        """The sum, in the weight's number format."""
        return (weight.to(self.added.dtype) + self.added.to(weight.device)).to(weight.dtype)


class LearnedWeights:
    """The weights of one of the host's models that are learned.

    Args:
        patcher: the host's `ModelPatcher`.
        kind: `FULL` or `LORA`.
        rank: of the latter.
        seed: of what the weights start from.
        within: only layers whose names begin so.

    Attributes:
        patcher: a clone that computes with the learned weights.
        parameters: float32, by name.

    Raises:
        TrainingError: the weights are quantized, or none can be learned.
    """

    def __init__(self, patcher: Any, kind: str, rank: int, seed: int, within: str = "") -> None:
        self.patcher = patcher.clone()
        self.parameters: dict[str, nn.Parameter] = {}
        self._layers: dict[int, LearnedLayer] = {}
        with torch.inference_mode(False), cpu_seeded(derived_seed(seed, "fine-tuning")):
            for name, weight in _learnable(patcher.model, within, kind):
                layer = LearnedLayer(_low_rank(weight, rank) if kind == LORA else Added(weight))
                self.patcher.add_weight_wrapper(name, layer)
                self._layers[id(layer)] = layer
                for inner, parameter in layer.named_parameters():
                    if parameter.requires_grad:
                        self.parameters[f"{name}.{inner.removeprefix('module.')}"] = parameter
            for parameter in self.parameters.values():
                parameter.requires_grad_(False)
        if not self.parameters:
            raise TrainingError(
                "No weight of this model can be fine-tuned: load it with ComfyUI's own loader, not with one that"
                " quantizes."
            )

    def pause(self, is_paused: bool) -> None:
        """Has layers compute with their own weights, or with the learned ones again."""
        for layer in self._layers.values():
            layer.is_paused = is_paused

    def close(self) -> None:
        """Takes the learned weights off the model, which others share."""
        self.patcher.detach()
        for module in self.patcher.model.modules():
            for name in ("weight_function", "bias_function"):
                if hasattr(module, name):
                    kept = [function for function in getattr(module, name) if id(function) not in self._layers]
                    setattr(module, name, kept)


def _learnable(model: nn.Module, within: str, kind: str) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of the host's layers; LoRA takes matrices alone, and neither takes a table of words."""
    for name, module in model.named_modules():
        if not name.startswith(within) or not hasattr(module, "weight_function") or isinstance(module, nn.Embedding):
            continue
        for part in ("weight", "bias"):
            weight = getattr(module, part, None)
            if weight is None or (kind == LORA and weight.ndim < 2):
                continue
            if type(weight) not in (Tensor, nn.Parameter) or not weight.is_floating_point():
                raise TrainingError(
                    "This model's weights are quantized, and cannot be fine-tuned: load a version in half precision."
                )
            yield f"{name}.{part}", weight


def _low_rank(weight: Tensor, rank: int) -> nn.Module:
    """The host's own LoRA for a weight, which changes nothing at first."""
    most = min(weight.shape[0], weight[0].numel())
    taken = min(rank, most)
    # It takes shape, kind and device from the weight, and the first values from that device's own generator.
    like = torch.empty(1, dtype=weight.dtype).expand(weight.shape)
    made: nn.Module = comfy.weight_adapter.lora.LoRAAdapter.create_train(like, rank=taken, alpha=float(taken))
    return made.to(weight.device, torch.float32)


def joined(parts: Mapping[str, LearnedWeights]) -> dict[str, nn.Parameter]:
    """The parameters of several models, their names after the model's."""
    return {f"{model}.{name}": weight for model, part in parts.items() for name, weight in part.parameters.items()}


def lora_of(weights: Mapping[str, Tensor], clip: Any = None) -> dict[str, Tensor]:
    """What was learned as LoRA, as the host's LoRA files have it: its own nodes save it, load it and set its strength.

    Args:
        weights: those of `Tuned`, or of what came of fine-tuning.
        clip: the host's CLIP that learned; needed for new words.

    Raises:
        TrainingError: they are no LoRA.
    """
    of_words = {name: weight for name, weight in weights.items() if name.startswith(WORDS) and clip is not None}
    found = lora_of_words(of_words, clip) if of_words else {}
    for name, weight in weights.items():
        if name in of_words:
            continue
        begins = next((begin for begin in FILE_NAMES if name.startswith(begin)), None)
        ends = next((end for end in MATRICES if name.endswith(end)), None)
        if begins is None or ends is None:
            raise TrainingError(f"'{name}' is no part of a LoRA: choose 'LoRA' as what is learned.")
        layer = name.removeprefix(begins).removesuffix(ends)
        found[f"{FILE_NAMES[begins]}{layer}{MATRICES[ends]}"] = weight.detach().cpu().contiguous().clone()
    return found
