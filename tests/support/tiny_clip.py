"""Makes a folder with a tiny CLIP model of random weights, as the Hugging Face hub has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch


def write_tiny_clip(folder: Path, host: Path) -> Path:
    """Config, weights and the tokenizer that the host brings for SD1, which is every CLIP's."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    part = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**part, "bos_token_id": 49406, "eos_token_id": 49407},
        vision_config={**part, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(host / "comfy" / "sd1_tokenizer" / name, folder)
    return folder
