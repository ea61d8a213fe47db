"""Checks that Forge's own engines get what ComfyUI's text encoders get.

    python engines.py FORGE_DIR FOLDER

Run by Forge's Python. The engines, diffusion classes, tokenizers, T5 and the loader of scripts are Forge's; the text
encoders are small, with the weights that `comfy_side` has written; denoiser and autoencoder are left out.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from anonymize_faces.tests.forge import wanted
from anonymize_faces.tests.forge.boot import boot

ROOT = Path(__file__).resolve().parents[2]
REPOSITORIES = {
    "sd1": "runwayml/stable-diffusion-v1-5",
    "sd2": "stabilityai/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "flux": "black-forest-labs/FLUX.1-dev",
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "chroma": "Chroma",
}
CLIP_SIZES = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
T5_SIZES = {"num_layers": 1, "num_heads": 2, "d_ff": 32}


def main(forge: Path, folder: Path) -> None:
    """Prints a line of JSON for each comparison: what was compared, and the largest difference."""
    boot(forge, folder / "forge data")
    import safetensors.torch
    import torch
    from modules import script_loading, shared

    shared.opts.data["sd3_enable_t5"] = True
    script = script_loading.load_module(str(ROOT / "scripts" / "anonymize_faces.py"))
    protection, load_prefix = script.part("protection"), sys.modules[f"{script.PACKAGE}.prefix"].load_prefix
    for family in wanted.FAMILIES:
        reference = safetensors.torch.load_file(folder / f"{family}.reference")
        weights = {name.removeprefix("weights."): value for name, value in reference.items() if "weights." in name}
        model = make_model(family, weights)
        models = {
            key: encoder.engine.text_encoder for key, encoder in script.part("encoders").encoders_of(model).items()
        }
        models = {key: getattr(engine, "transformer", engine) for key, engine in models.items()}
        prefix = load_prefix(folder / f"{family}.safetensors")
        for strength in wanted.STRENGTHS:
            guarded = protection.Protection(family, prefix, strength)
            guarded.require_model(model)
            for name, prompt in (wanted.PLAIN | wanted.EMPHASIS).items():
                scope = script.GUARD.scope(protection.RequestedProtection(guarded))
                with torch.inference_mode(), scope, wanted.entering(models) as seen:
                    conditioning = model.get_learned_conditioning([prompt])
                compare(family, f"{name}.{strength}", name in wanted.PLAIN, reference, seen, conditioning)


def compare(family: str, at: str, whole: bool, reference: Any, seen: Any, conditioning: Any) -> None:
    """What enters each encoder, in any order, and what comes out where both hosts treat it alike."""
    for key, rows in seen.items():
        theirs = [value for name, value in reference.items() if name.startswith(f"entering.{at}.{key}.")]
        distances = [[distance(one, other) for other in theirs] for one in rows]
        matched = {row.index(min(row)) for row in distances}
        # For words with emphasis ComfyUI encodes a blank prompt too, in each of its passes.
        blanks = 0 if whole else (1 if at.endswith(".1.0") else 2)
        alike = len(rows) == len(matched) == len(theirs) - blanks
        report(family, f"{at}: enters {key}", max(map(min, distances)) if alike else math.inf, chunks=len(rows))
    states = conditioning["crossattn"] if isinstance(conditioning, dict) else conditioning
    theirs = reference[f"states.{at}"]
    if whole and family in ("sd1", "sdxl", "flux", "chroma"):
        report(family, f"{at}: conditioning", float((states - theirs).abs().max()))
    if whole and family in ("sdxl", "flux"):
        pooled = reference[f"pooled.{at}"]
        report(family, f"{at}: pooled", float((conditioning["vector"][:, : pooled.shape[1]] - pooled).abs().max()))


def distance(one: Any, other: Any) -> float:
    """The largest difference, as far as both reach: the hosts pad prompts for T5 to different lengths."""
    length = min(len(one), len(other))
    return float((one[:length] - other[:length]).abs().max())


def report(family: str, what: str, difference: float, **more: Any) -> None:
    """One line of JSON."""
    print("CHECK " + json.dumps({"check": f"{family} {what}", "difference": difference, **more}), flush=True)


def make_model(family: str, weights: dict[str, Any]) -> Any:
    """Forge's own diffusion class of a family, with small text encoders."""
    from backend import args
    from backend.diffusion_engine import chroma, flux, sd15, sd20, sd35, sdxl

    module, cls = {
        "sd1": (sd15, "StableDiffusion"),
        "sd2": (sd20, "StableDiffusion2"),
        "sdxl": (sdxl, "StableDiffusionXL"),
        "flux": (flux, "Flux"),
        "sd3": (sd35, "StableDiffusion3"),
        "chroma": (chroma, "Chroma"),
    }[family]
    module.VAE = lambda model: None
    module.UnetPatcher = SimpleNamespace(from_model=lambda **parts: None)
    args.dynamic_args |= {"embedding_dir": None, "emphasis_name": "Original"}
    parts: dict[str, Any] = dict.fromkeys(("vae", "unet", "transformer", "scheduler"))
    for number, key in enumerate(wanted.FAMILIES[family].split(), start=1):
        suffix = "" if number == 1 else f"_{number}"
        parts[f"text_encoder{suffix}"], parts[f"tokenizer{suffix}"] = make_encoder(family, key, suffix, weights)
    config = SimpleNamespace(inpaint_model=lambda: False, huggingface_repo=REPOSITORIES[family])
    return getattr(module, cls)(config, parts)


def make_encoder(family: str, key: str, suffix: str, weights: dict[str, Any]) -> tuple[Any, Any]:
    """A text encoder as Forge's loader makes it, with other sizes, and its tokenizer."""
    import transformers
    from backend.nn.clip import IntegratedCLIP
    from backend.nn.t5 import IntegratedT5
    from backend.utils import read_arbitrary_config

    repository = Path("backend/huggingface") / REPOSITORIES[family]
    own = f"{wanted.ATTRIBUTES[key]}."
    state = {name.removeprefix(own): value for name, value in weights.items() if name.startswith(own)}
    if key == "t5xxl":
        width = state["transformer.shared.weight"].shape[1]
        config = read_arbitrary_config(str(repository / f"text_encoder{suffix}"))
        encoder = IntegratedT5({**config, **T5_SIZES, "d_model": width})
        tokenizer = transformers.T5TokenizerFast.from_pretrained(repository / f"tokenizer{suffix}")
    else:
        width = state["transformer.text_model.embeddings.token_embedding.weight"].shape[1]
        config = transformers.CLIPTextConfig.from_pretrained(repository / f"text_encoder{suffix}")
        config.update({**CLIP_SIZES, "hidden_size": width, "projection_dim": width})
        encoder = IntegratedCLIP(transformers.CLIPTextModel, config, add_text_projection=True)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(repository / f"tokenizer{suffix}")
    missing = encoder.load_state_dict(state, strict=False)[0]
    unwanted = [name for name in missing if "position_ids" not in name and name != "logit_scale"]
    if [name for name in unwanted if "text_projection" not in name and "embed_tokens" not in name]:
        raise SystemExit(f"Weights are missing: {unwanted}")
    return encoder.eval(), tokenizer


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
