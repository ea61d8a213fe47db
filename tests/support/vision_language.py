"""Builds the host's own vision language model small, with random weights, where the host has one."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch

from .text_encoders import QWEN_USER, EncoderFamily, make_clip_of

MODEL = "qwen3vl_4b"
VISION = {"hidden_size": 32, "intermediate_size": 48, "depth": 2, "deepstack_visual_indexes": [0, 1]}
LANGUAGE = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "hidden_size": 16,
}
FAMILY = EncoderFamily(
    f"text_encoders.qwen3vl:tokenizer(model_type='{MODEL}')",
    f"text_encoders.qwen3vl:te(model_type='{MODEL}')",
    {f"{MODEL}_model_config": LANGUAGE},
    {MODEL: 16},
    {MODEL: QWEN_USER},
    longer=True,
)


def writes_text() -> bool:
    """Whether the host's text encoders write text, and see pictures."""
    import comfy.sd

    return hasattr(comfy.sd.CLIP, "generate")


def seeing_clip() -> Any:
    """The host's Qwen3-VL, tiny."""
    from comfy.text_encoders import qwen3vl

    with (
        mock.patch.dict(qwen3vl.QWEN3VL_VISION, {MODEL: VISION}),
        mock.patch.dict(qwen3vl.QWEN3VL_VISION_COMMON, {"num_heads": 2}),
    ):
        clip = make_clip_of(FAMILY, MODEL)
    for name, weight in clip.cond_stage_model.named_parameters():
        if ".visual." in name:
            weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    return clip
