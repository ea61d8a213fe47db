"""Holds what tests of pipelines share."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch

from anonymize_faces.prefix import Prefix
from anonymize_faces.tests.support.pipelines import WIDTHS
from anonymize_faces.tests.support.prefixes import random_prefix

SHORT, LONG = "a photo of Ada Lovelace", "a photo of a red circle on a table, " * 12 + "and Ada Lovelace"


DRAWN = {"num_inference_steps": 1, "height": 64, "width": 64, "output_type": "latent"}


def prefix_for(family: str, m: int = 4, seed: int = 0, layers: Any = MappingProxyType({}), **widths: int) -> Prefix:
    return random_prefix(widths or WIDTHS[family], m, seed, family=family, fingerprint="", layers=layers)


def arguments(pipeline: Any) -> dict[str, Any]:
    """What this family's `encode_prompt` needs beside the prompt."""
    name = type(pipeline).__name__
    given: dict[str, Any] = {"device": torch.device("cpu"), "num_images_per_prompt": 1}
    if name != "FluxPipeline":
        given["do_classifier_free_guidance"] = False
    if name == "StableDiffusion3Pipeline":
        given |= {"prompt_2": None, "prompt_3": None}
    return given
