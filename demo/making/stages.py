"""Orders the build's stages, with the default length of each and what it takes from the ones before."""

from __future__ import annotations

from pathlib import Path

from .common import whole
from .data import forget_computed, load_or_render

MINUTES = {
    "autoencoder": 12.0,
    "decoder": 12.0,
    "reader": 5.0,
    "face_finder": 3.0,
    "language": 16.0,
    "denoiser": 40.0,
    "flow_denoiser": 60.0,
}
"""In this order. The decoder goes on with what the autoencoder began and is part of the same file."""

TO_DO = "to-do.txt"
"""Names the stages that a build has yet to finish: a file with weights may be one that a stage saved on its way."""


def file_of(stage: str, weights: Path) -> Path:
    """Where a stage keeps its weights."""
    return weights / f"{'autoencoder' if stage == 'decoder' else stage}.safetensors"


def forget(folder: Path, weights: Path) -> None:
    """Removes all weights, and what was computed with them; the rendered pictures stay."""
    for file in weights.glob("*.safetensors"):
        file.unlink()
    forget_computed(folder)
    _set_to_do(folder, list(MINUTES))


def to_do(folder: Path, weights: Path) -> list[str]:
    """The stages that are not done: of a build that was begun and broken off, else those whose weights are missing."""
    if (folder / TO_DO).exists():
        return (folder / TO_DO).read_text(encoding="utf-8").split()
    return [stage for stage in MINUTES if not file_of(stage, weights).exists()]


def mark_done(folder: Path, stage: str) -> None:
    """Strikes a stage off the build that was begun, if there is one."""
    if (folder / TO_DO).exists():
        _set_to_do(folder, [other for other in to_do(folder, folder) if other != stage])


def _set_to_do(folder: Path, stages: list[str]) -> None:
    if stages:
        with whole(folder / TO_DO) as part:
            part.write_text("\n".join(stages), encoding="utf-8")
    else:
        (folder / TO_DO).unlink()


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

        decoded(folder, weights)
        on_all_cores("reader", "train_reader", folder, path, minutes)
    elif stage == "face_finder":
        from .face_finder import train_face_finder

        train_face_finder(path, minutes)
    elif stage == "language":
        from .language import train_language

        train_language(folder, path, minutes)
    elif stage == "flow_denoiser":
        from ..modern.language_model import language_model_file
        from .autoencoder import prepare_latents
        from .common import on_all_cores

        prepare_latents(folder, weights)
        on_all_cores("flow_denoiser", "train_flow_denoiser", folder, weights, minutes, language_model_file())
    else:
        from .autoencoder import prepare_latents
        from .common import on_all_cores

        prepare_latents(folder, weights)
        on_all_cores("denoiser", "train_denoiser", folder, weights, minutes)
