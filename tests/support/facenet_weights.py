"""Stands in for the official weights, which tests cannot download."""

from __future__ import annotations

import torch


def random_weights() -> dict[str, torch.Tensor]:
    """A state dict of the shape of the official one: the embedder's, and its classifier's."""
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    return InceptionResnetV1(classify=True, num_classes=8631).state_dict()
