"""Loads a pipeline, from a folder of diffusers or from one file.

No weights are ever unpickled, and nothing is fetched for a folder. A single file brings weights alone: what it lacks,
sizes and tokenizers, comes from a folder of the same family, from what diffusers has kept of earlier runs, or, if that
is allowed, from the Hugging Face Hub.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from ...prefix.errors import TrainingError, first_line

INDEX = "model_index.json"
SINGLE_FILE = ".safetensors"

_CLASSES = {
    "xl": "StableDiffusionXLPipeline",
    "playground": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
    "v1": "StableDiffusionPipeline",
    "v2": "StableDiffusionPipeline",
}
"""The pipeline for each type of file, by what diffusers' name of the type begins with."""


def load_pipeline(path: Path, config: Path | None = None, dtype: torch.dtype = torch.float32, hub: bool = False) -> Any:
    """A pipeline of diffusers, on the CPU.

    Args:
        path: a folder with a `model_index.json`, or a single `.safetensors` file as ComfyUI and A1111 use it.
        config: for a single file: a folder of diffusers of the same family; its weights, if it has any, are not read.
        dtype: of the weights.
        hub: whether what a single file lacks may be fetched.

    Raises:
        TrainingError: there is no such model, it cannot be loaded, or something is missing for it.
    """
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            f"The headless trainer needs diffusers and transformers ({error}): 'pip install diffusers transformers'."
        ) from error
    _calm()
    with warnings.catch_warnings():
        # Newer versions of diffusers have another name for `torch_dtype`, which older ones do not know.
        warnings.simplefilter("ignore", FutureWarning)
        if path.is_dir():
            return _from_folder(path, dtype)
        if path.is_file() and path.suffix == SINGLE_FILE:
            return _from_file(path, config, dtype, hub)
    raise TrainingError(
        f"There is no model at '{path}': name a folder of diffusers, in which a {INDEX} lies, or a single"
        f" {SINGLE_FILE} file."
    )


def _from_folder(path: Path, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    if not (path / INDEX).is_file():
        raise TrainingError(f"'{path}' holds no {INDEX}, so it is no pipeline of diffusers: name the folder that does.")
    try:
        return DiffusionPipeline.from_pretrained(
            path, torch_dtype=dtype, local_files_only=True, use_safetensors=True, **_without_checker(path)
        )
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise TrainingError(
            f"'{path}' cannot be loaded ({first_line(error)}): see that it is whole, and that its weights are"
            " .safetensors files."
        ) from error


def _without_checker(path: Path) -> dict[str, Any]:
    """The checker of finished pictures is left out where there is one: no pictures are shown to anybody."""
    if "safety_checker" not in (path / INDEX).read_text(encoding="utf-8"):
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


def _from_file(path: Path, config: Path | None, dtype: torch.dtype, hub: bool) -> Any:
    import diffusers

    if config is None and not hub and not _is_cached(path):
        raise TrainingError(
            f"'{path.name}' holds weights alone. Name a folder of diffusers of the same family for sizes and"
            " tokenizers with --config (its weights are not needed), or let them be fetched once with --hub."
        )
    kind = getattr(diffusers, _class_of(path))
    checker = {} if kind is not diffusers.StableDiffusionPipeline else {"safety_checker": None}
    try:
        return kind.from_single_file(
            str(path),
            config=None if config is None else str(config),
            torch_dtype=dtype,
            local_files_only=not hub,
            **checker,
        )
    except Exception as error:  # Whatever does not fit raises what it likes.
        raise TrainingError(
            f"'{path.name}' cannot be loaded ({first_line(error)}): see that the folder given with --config is of the"
            " same family, or load the model with diffusers once and save it with save_pretrained."
        ) from error


def _class_of(path: Path) -> str:
    """Name of the pipeline for a file, told by the weights in it."""
    kind = _type_of(path)
    found = next((name for start, name in _CLASSES.items() if kind.startswith(start)), None)
    if found is None or "inpaint" in kind:
        raise TrainingError(
            f"'{path.name}' is a model that cannot be learned on ({kind}): use one of Stable Diffusion 1, 2, XL or 3,"
            " or of Flux, that draws from text alone."
        )
    return found


def _type_of(path: Path) -> str:
    """What diffusers calls the file's type; its weights are not read, but for their names and shapes."""
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"'{path}' is no sound safetensors file ({error}): fetch it again.") from error
    return infer_diffusers_model_type(names)


def _is_cached(path: Path) -> bool:
    """Whether diffusers has kept what this file lacks from an earlier run."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS
    from huggingface_hub import try_to_load_from_cache

    repository = DIFFUSERS_DEFAULT_PIPELINE_PATHS.get(_type_of(path), {}).get("pretrained_model_name_or_path", "")
    return bool(repository) and isinstance(try_to_load_from_cache(repository, INDEX), str)


def _calm() -> None:
    """Keeps diffusers and transformers from telling what every pipeline makes them tell."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
