"""Tells the model family of a checkpoint from its header."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path

LARGEST_HEADER = 2**25


def checkpoint_family(name: str) -> str:
    """What the host calls the family of a checkpoint file, told by the header alone; empty where that does not tell.

    Reads no weights: the host's own detection is asked about tensors that have shapes and nothing in them.

    Args:
        name: as in the list of Load Checkpoint.
    """
    import folder_paths
    from comfy import model_detection

    path = folder_paths.get_full_path("checkpoints", name)
    if path is None or not path.lower().endswith((".safetensors", ".sft")):
        return ""
    try:
        shapes = _hollow_tensors(Path(path))
        config = model_detection.model_config_from_unet(shapes, model_detection.unet_prefix_from_state_dict(shapes))
    except Exception as error:  # Whatever a strange file makes the host's detection do, nothing is known then.
        logging.debug("Anonymize Faces: the family of %s cannot be told (%s).", name, error)
        return ""
    return "" if config is None else type(config).__name__


def _hollow_tensors(path: Path) -> dict[str, object]:
    """`{key: tensor on no device}` of a safetensors file."""
    import torch

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > LARGEST_HEADER:
            raise ValueError("the header is too long")
        header = json.loads(file.read(length))
    return {key: torch.empty(entry["shape"], device="meta") for key, entry in header.items() if key != "__metadata__"}
