"""Encodes prompts as the host does, and compares conditionings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from anonymize_faces.engines.comfy.text_encoders import text_encoders


def encode(clip, text, **kwargs):
    """The conditioning and the pooled output as the host's CLIPTextEncode makes them, without a gradient."""
    with torch.no_grad():
        ((cond, extras),) = clip.encode_from_tokens_scheduled(clip.tokenize(text, **kwargs))
    return cond, extras["pooled_output"]


def same(one, other) -> bool:
    """Whether two such pairs are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@contextmanager
def encoded_chunks(clip, *keys: str) -> Iterator[dict[str, list[list]]]:
    """Collects what the host's encoders are called with: `{encoder key: [chunks of one call, ...]}`."""
    calls = {key: [] for key in keys}
    encoders = text_encoders(clip.patcher.model)
    hooks = [
        encoders[key].register_forward_pre_hook(lambda _, arguments, key=key: calls[key].append(arguments[0]))
        for key in keys
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
