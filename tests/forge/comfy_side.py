"""Writes what ComfyUI's text encoders and Anonymize Faces make of prompts, to compare Forge with."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import safetensors.torch
import torch

from anonymize_faces.prefix import Prefix, PrefixRecord, save_prefix
from anonymize_faces.tests.forge import wanted
from anonymize_faces.tools.layout import host_folder


def write_reference(folder: Path) -> None:
    """Writes, for each family, small text encoders, a prefix, and what ComfyUI makes of the prompts with it."""
    sys.path.append(str(host_folder()))
    from comfy.cli_args import args

    args.cpu = True
    from anonymize_faces.engines.comfy.protected_clip import protect
    from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip_of

    for family, keys in wanted.FAMILIES.items():
        made = FAMILIES["chroma and pixart" if family == "chroma" else family]
        if t5 := made.options.get("t5xxl_model_config"):  # Forge's T5 has heads that are together as wide as itself.
            t5 = {**t5, "d_kv": t5["d_model"] // t5["num_heads"]}
            made = dataclasses.replace(made, options={**made.options, "t5xxl_model_config": t5})
        clip = make_clip_of(made, family)
        encoder = clip.cond_stage_model
        generator = torch.Generator().manual_seed(0)
        widths = made.widths
        vectors = {key: torch.randn(wanted.LENGTH, widths[key], generator=generator) for key in keys.split()}
        # Forge reads SD3's CLIPs at the last layer, ComfyUI at the last but one.
        layers = {"l": [-2, -1], "g": [-2, -1]} if family == "sd3" else {}
        prefix = Prefix(vectors, PrefixRecord(family=family, fingerprint="", layers=layers))
        save_prefix(prefix, folder / f"{family}.safetensors", overwrite=True)
        found = {f"weights.{name}": tensor.float().clone() for name, tensor in encoder.state_dict().items()}
        models = {key: getattr(encoder, wanted.ATTRIBUTES[key]).transformer for key in keys.split()}
        for strength in wanted.STRENGTHS:
            protected = protect(clip, prefix, strength)
            for name, prompt in (wanted.PLAIN | wanted.EMPHASIS).items():
                with torch.no_grad(), wanted.entering(models) as seen:
                    ((states, extras),) = protected.encode_from_tokens_scheduled(protected.tokenize(prompt))
                at = f"{name}.{strength}"
                for key, rows in seen.items():
                    found |= {f"entering.{at}.{key}.{number}": row for number, row in enumerate(rows)}
                found[f"states.{at}"] = states.clone()
                if extras.get("pooled_output") is not None:
                    found[f"pooled.{at}"] = extras["pooled_output"].clone()
        safetensors.torch.save_file(found, folder / f"{family}.reference")
