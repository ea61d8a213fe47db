"""Tells what a file is that is no prefix, by the names of the weights in it: a LoRA, a checkpoint, a text encoder, …

Every reader in this folder asks it before it refuses a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEAD_BYTES = 2**20
"""Names stand in the first part of a file."""

_KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (
            "a LoRA",
            rb"lora_(up|down|mid|A|B|a|b)\b|lora_(unet|te\d?)_|\.(hada|lokr|oft|boft)_|_lora\.|\.lora\.|dora_scale",
        ),
        ("a ControlNet", rb"control_model\.|controlnet_(cond|down|mid|blocks)|input_hint_block"),
        (
            "a checkpoint",
            rb"model\.diffusion_model|diffusion_model\.|cond_stage_model|first_stage_model|(double|joint)_blocks\.\d"
            rb"|(down|up)_blocks\.\d+\.(attentions|resnets)\.|transformer_blocks\.\d|pytorch-lightning_version",
        ),
        ("a text encoder", rb"text_model\.(encoder|embeddings)|encoder\.block\.\d|model\.layers\.\d"),
        ("a VAE", rb"(decoder|encoder)\.(conv_in|mid\.block|up\.\d|down\.\d)|post_quant_conv"),
    )
)


def kind_of(head: bytes) -> str | None:
    """What a file is, by its beginning; None if that does not tell."""
    return next((kind for kind, pattern in _KINDS if pattern.search(head[:HEAD_BYTES])), None)


def kind_of_names(names: Iterable[object]) -> str | None:
    """What holds tensors of such names; None if they do not tell."""
    return kind_of("\n".join(map(str, names)).encode("utf-8", "replace"))
