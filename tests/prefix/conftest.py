"""Without this module the tests of the prefix could not use the host's real tokenizers and text encoders in-process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from anonymize_faces.prefix import Prefix, PrefixRecord

TINY = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
RECORD = PrefixRecord(family="sd1", fingerprint="0" * 16)


@pytest.fixture(scope="session")
def comfy(host_modules):
    """The host's package, on the CPU."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.sdxl_clip
    import comfy.text_encoders.pixart_t5
    import comfy.text_encoders.sd2_clip

    return comfy


def _initialize(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


@pytest.fixture(scope="session")
def make_clip(comfy):
    """Builds the host's own CLIP of one family with small text encoders of the widths given, by encoder key."""

    def make(family: str, embedding_directory: Path | None = None, **widths: int):
        sd2, pixart = comfy.text_encoders.sd2_clip, comfy.text_encoders.pixart_t5
        tokenizer, model = {
            "sd1": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
            "sd2": (sd2.SD2Tokenizer, sd2.SD2ClipModel),
            "sdxl": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
            "pixart": (pixart.PixArtTokenizer, pixart.pixart_te()),
        }[family]
        options = {f"clip_{key}_model_config": {**TINY, "hidden_size": width} for key, width in widths.items()}
        options["t5xxl_model_config"] = {"num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8, "d_model": 16}
        clip = comfy.sd.CLIP(
            SimpleNamespace(params={}, clip=model, tokenizer=tokenizer),
            embedding_directory=None if embedding_directory is None else [str(embedding_directory)],
            model_options={**options, "dtype": torch.float32},
        )
        for key, width in widths.items():
            getattr(clip.tokenizer, f"clip_{key}").embedding_size = width
        _initialize(clip.cond_stage_model)
        return clip

    return make


@pytest.fixture(scope="session")
def make_prefix():
    """Builds a prefix of m vectors with the widths given, by encoder key."""

    def make(m: int = 10, seed: int = 0, **widths: int) -> Prefix:
        generator = torch.Generator().manual_seed(seed)
        return Prefix({key: torch.randn(m, d, generator=generator) for key, d in widths.items()}, RECORD)

    return make
