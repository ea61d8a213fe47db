"""Computes the digests of a prefix: the seal of its vectors and record, the fingerprint of a text encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def seal(vectors: Mapping[str, Tensor], fields: Mapping[str, Any]) -> str:
    """A digest of vectors, float32 on the CPU by encoder key, and of JSON values: 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for key in sorted(vectors):
        digest.update(f"{key}{tuple(vectors[key].shape)}".encode())
        digest.update(vectors[key].numpy().astype("<f4").tobytes())
    return digest.hexdigest()


_SAMPLES = 64

_NOT_COUNTED = ("logit_scale", "text_projection.weight")
"""Ends of names of what CLIP compares with pictures: few files bring them, and hosts then put in what they like."""


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A short stable hash of a text encoder's weights: 16 hexadecimal digits.

    Up to 64 evenly spaced elements of every floating-point tensor are hashed, in half precision, with its name and
    shape: milliseconds for any encoder, and a checkpoint stored in float32 has the fingerprint of its float16 copy.
    (bfloat16 and 8-bit copies hold other values and have other fingerprints.) Whole-number buffers are left out:
    hosts add and drop them between versions. So are a CLIP's weights that a text encoder's file may lack.

    Args:
        tensors: weights by name, of any shape, dtype and device, such as a `state_dict`.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if not tensor.is_floating_point() or tensor.numel() == 0 or name.endswith(_NOT_COUNTED):
            continue
        flat = tensor.detach().reshape(-1)
        samples = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES]
        # `+ 0.0` makes the two zeros one.
        halves = samples.to("cpu", torch.float32).to(torch.float16) + 0.0
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(halves.numpy().tobytes())
    return digest.hexdigest()[:16]
