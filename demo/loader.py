"""Loads the demo models' committed weights into ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .sizes import VOCABULARY, WIDTH

if TYPE_CHECKING:
    import comfy.model_patcher
    import comfy.sd
    import torch

WEIGHTS = Path(__file__).resolve().parent / "weights"
CLASSIC, MODERN = "classic", "modern"
KINDS = (CLASSIC, MODERN)
"""An SD1-type model with a CLIP-type text model, and a transformer that reads a pretrained language model."""

FAMILIES = ("ClassicModel", "ModernModel")
"""What the host calls their families (`Denoiser.family`)."""


@cache
def frozen_embeddings() -> np.ndarray:
    """Rows for tokens that the demo's language does not use: float32 [49408, 192], the same on every machine."""
    values = np.random.default_rng(7).integers(-1000, 1001, (VOCABULARY, WIDTH), dtype=np.int16)
    return (values * np.float32(0.03 / 577)).astype(np.float32)


def text_model_weights(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The full state of the text model from the stored one, which holds rows for the language's tokens only."""
    import torch

    stored = dict(stored)
    table = torch.from_numpy(frozen_embeddings().copy())
    table[stored.pop("row_tokens").long()] = stored.pop("rows").float()
    return {"text_model.embeddings.token_embedding.weight": table, **{n: t.float() for n, t in stored.items()}}


def load_weights(name: str, folder: Path = WEIGHTS) -> dict[str, torch.Tensor]:
    """One stage's weights, the committed ones if no folder is named, as float32."""
    from safetensors.torch import load_file

    return {k: v.float() if v.is_floating_point() else v for k, v in load_file(folder / f"{name}.safetensors").items()}


def load_clip(embedding_directory: list[str] | None = None, weights: Path = WEIGHTS) -> comfy.sd.CLIP:
    """The demo's CLIP: encoder key `l`, width 192, the host's tokenizer."""
    from .model import new_clip

    clip = new_clip(embedding_directory)
    clip.load_sd(text_model_weights(load_weights("language", weights)))
    return clip


def load_demo_model(
    embedding_directory: list[str] | None = None, weights: Path = WEIGHTS, kind: str = CLASSIC
) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """A demo model's MODEL, CLIP and VAE, as a checkpoint loader of the host would return them.

    Args:
        kind: one of `KINDS`.

    Raises:
        AnonymizationError: there is no such model, or the language model that the modern one reads is not there.
    """
    from ..prefix.errors import AnonymizationError
    from .modern.language_model import language_model_file

    if kind not in KINDS:
        raise AnonymizationError(f"There is no demo model '{kind}': choose {' or '.join(KINDS)}.")
    language_model = language_model_file() if kind == MODERN else None
    from .model import new_vae

    vae = new_vae(load_weights("autoencoder", weights))
    model = load_model(weights, kind)
    if language_model is None:
        return model, load_clip(embedding_directory, weights), vae
    from .modern.text_model import clip_of

    return model, clip_of(language_model, embedding_directory), vae


def load_model(weights: Path = WEIGHTS, kind: str = CLASSIC, **_: Any) -> comfy.model_patcher.ModelPatcher:
    """A demo model's MODEL alone.

    Newer hosts call it again, with options of loaders that make no difference here, for nodes that need weights of
    their own, as *Train LoRA*.
    """
    if kind == CLASSIC:
        from .model import new_model

        model = new_model(load_weights("denoiser", weights))
    else:
        from .modern.model import new_model as new_modern_model

        model = new_modern_model(load_weights("flow_denoiser", weights))
    model.cached_patcher_init = (load_model, (weights, kind))
    return model
