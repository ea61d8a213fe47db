"""Offers a prefix to the benchmark `eval-unlearn`, beside ESD, UCE, MACE, SLD and others.

A technique for the public benchmark `eval-unlearn`, which finds it by the entry point in pyproject.toml once both are
installed:

    eval-unlearn … technique `anonymization_prefix`, technique_config:
      model_id: a hub name, a folder of diffusers or a .safetensors file
      prefix_path: people.safetensors

Nothing of the benchmark is imported: it asks for a class with `generate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...prefix import load_prefix
from ...prefix.errors import TrainingError, first_line
from . import protect_pipeline
from .loading import load_pipeline

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class TechniqueConfig:
    """What the benchmark's file says of the technique.

    Attributes:
        prefix_path: the prefix file.
        model_id: a model on the Hugging Face Hub, or a path.
        erase_concept: what the benchmark's report calls it; nothing else follows from it.
        device: such as "cuda"; None for the fastest there is.
        use_fp16: half precision, on a graphics card.
        num_inference_steps, guidance_scale: how pictures are drawn; the benchmark's own defaults.
    """

    prefix_path: str
    model_id: str = "CompVis/stable-diffusion-v1-4"
    erase_concept: str = ""
    device: str | None = None
    use_fp16: bool = True
    num_inference_steps: int = 50
    guidance_scale: float = 7.5


class AnonymizationPrefixTechnique:
    """Draws with a prefix before every prompt.

    Raises:
        TrainingError: no prefix is named, or the model cannot be loaded.
        PrefixFileError, PrefixMismatchError: the prefix cannot be read, or is not for this model.
    """

    def __init__(self, **options: Any) -> None:
        if not options.get("prefix_path"):
            raise TrainingError("No prefix is named: set 'prefix_path' in the technique's configuration.")
        # As the benchmark's own techniques do, whatever else its file says is for others.
        known = {field.name for field in dataclasses.fields(TechniqueConfig)}
        self.config = TechniqueConfig(**{name: value for name, value in options.items() if name in known})
        self._device = self.config.device or ("cuda" if torch.cuda.is_available() else "cpu")
        half = self.config.use_fp16 and self._device.startswith("cuda")
        pipeline = _load(self.config.model_id, torch.float16 if half else torch.float32).to(self._device)
        self._pipeline = protect_pipeline(pipeline, load_prefix(self.config.prefix_path))

    def generate(self, prompts: Sequence[str], seed: int | None = None, **options: Any) -> list[Image]:
        """A picture of each prompt; the noise of number i follows from `seed + i`, as in the benchmark's techniques."""
        options = {
            "num_inference_steps": self.config.num_inference_steps,
            "guidance_scale": self.config.guidance_scale,
            **options,
        }
        pictures = []
        for index, prompt in enumerate(prompts):
            noise = None if seed is None else torch.Generator(self._device).manual_seed(seed + index)
            pictures.append(self._pipeline(prompt, generator=noise, **options).images[0])
        return pictures


def _load(model: str, dtype: torch.dtype) -> Any:
    """The model at a path, or, as the benchmark's other techniques have it, one of the hub."""
    if Path(model).exists():
        return load_pipeline(Path(model), dtype=dtype, hub=True)
    from diffusers import DiffusionPipeline

    try:
        pipeline = DiffusionPipeline.from_pretrained(model, torch_dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"There is no model '{model}' here or on the hub ({first_line(error)}): name a path or a hub name."
        ) from error
    if hasattr(pipeline, "safety_checker"):  # Blackened pictures would count as erased.
        pipeline.safety_checker = None
    return pipeline
