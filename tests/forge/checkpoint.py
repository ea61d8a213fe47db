"""Writes a checkpoint of SD 1 with random weights for Forge's own loader.

    python checkpoint.py FORGE_DIR FOLDER

Run by Forge's Python. Text encoder and autoencoder are as large as they are; the denoiser has one block a level, which
Forge recognizes all the same. 630 MB in half precision.
"""

from __future__ import annotations

import sys
from pathlib import Path

from anonymize_faces.tests.forge.boot import boot

REPOSITORY = Path("backend/huggingface/runwayml/stable-diffusion-v1-5")
WORDS = "oil painting of a red boat"
"""The prefix that is made beside it has the embeddings of these words for vectors, so that it says what they say."""


def main(forge: Path, folder: Path) -> None:
    """Writes checkpoint and prefixes where Forge looks for them."""
    boot(forge, folder)
    import safetensors.torch
    import torch
    import transformers
    from backend.nn.unet import IntegratedUNet2DConditionModel
    from backend.nn.vae import IntegratedAutoencoderKL

    from anonymize_faces.prefix import Prefix, PrefixRecord, save_prefix

    torch.manual_seed(0)
    config = transformers.CLIPTextConfig.from_pretrained(REPOSITORY / "text_encoder")
    parts = {
        "cond_stage_model.transformer.": transformers.CLIPTextModel(config),
        "first_stage_model.": IntegratedAutoencoderKL.from_config(
            IntegratedAutoencoderKL.load_config(REPOSITORY / "vae")
        ),
        "model.diffusion_model.": IntegratedUNet2DConditionModel(
            in_channels=4,
            model_channels=320,
            out_channels=4,
            num_res_blocks=[1, 1],
            channel_mult=(1, 2),
            num_heads=8,
            use_spatial_transformer=True,
            transformer_depth=[1, 1],
            transformer_depth_output=[1, 1, 1, 1],
            transformer_depth_middle=1,
            context_dim=768,
        ),
    }
    weights = {
        f"{prefix}{name}": value.half().contiguous()
        for prefix, part in parts.items()
        for name, value in part.state_dict().items()
        if value.is_floating_point()
    }
    models = folder / "models"
    (models / "Stable-diffusion").mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(weights, models / "Stable-diffusion" / "small.safetensors")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(REPOSITORY / "tokenizer")
    ids = tokenizer(WORDS, add_special_tokens=False)["input_ids"]
    vectors = weights["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"][ids].float()
    prefixes = models / "anonymization_prefixes"
    (folder / "embeddings").mkdir(exist_ok=True)
    own = {"emb_params": torch.randn(4, 768) * 0.02}
    safetensors.torch.save_file(own, folder / "embeddings" / "ownstyle.safetensors")
    for name, family, held in (
        ("words", "sd1", {"l": vectors}),
        ("others", "sd1", {"l": torch.randn(8, 768) * 0.02}),
        ("xl", "sdxl", {"l": vectors, "g": torch.randn(len(ids), 1280)}),
    ):
        save_prefix(Prefix(held, PrefixRecord(family=family, fingerprint="")), prefixes / f"{name}.safetensors", True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
