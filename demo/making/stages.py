"""The order and default length of the build's stages, and what each takes from the ones before."""

from __future__ import annotations

from pathlib import Path

from .data import load_or_render

MINUTES = {"autoencoder": 12.0, "decoder": 12.0, "reader": 5.0, "language": 16.0, "denoiser": 40.0}
"""In this order. The decoder goes on with what the autoencoder began and is part of the same file."""


def file_of(stage: str, weights: Path) -> Path:
    """Where a stage keeps its weights."""
    return weights / f"{'autoencoder' if stage == 'decoder' else stage}.safetensors"


def forget(folder: Path, weights: Path) -> None:
    """Removes all weights, and what was computed with them; the rendered pictures stay."""
    for file in (*weights.glob("*.safetensors"), folder / "latents.pt", folder / "decoded.pt"):
        file.unlink(missing_ok=True)


def run(stage: str, folder: Path, weights: Path, minutes: float | None) -> None:
    """Runs one stage and writes its file."""
    minutes = minutes or MINUTES[stage]
    path = file_of(stage, weights)
    if stage == "autoencoder":
        from .common import on_all_cores

        load_or_render(folder)
        on_all_cores("autoencoder", "train_autoencoder", folder, path, minutes)
    elif stage == "decoder":
        from .autoencoder import refine_decoder

        refine_decoder(load_or_render(folder), path, minutes)
    elif stage == "reader":
        from .common import on_all_cores
        from .reader import decoded

        decoded(folder)
        on_all_cores("reader", "train_reader", folder, path, minutes)
    elif stage == "language":
        from .language import train_language

        train_language(path, minutes)
    else:
        from .common import on_all_cores
        from .denoiser import prepare_latents

        prepare_latents(folder, weights)
        on_all_cores("denoiser", "train_denoiser", folder, weights, minutes)
