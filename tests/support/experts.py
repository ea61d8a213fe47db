"""Makes experts of the demo model without learning any."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anonymize_faces.demo.loader import load_weights
from anonymize_faces.demo.sizes import WIDTH
from anonymize_faces.experts.router import Router
from anonymize_faces.experts.value import Experts, ExpertsRecord
from anonymize_faces.prefix import fingerprint

PARTS = {"input_blocks.3.1": 0.07, "middle_block.0": 0.05, "middle_block.1": 0.01, "output_blocks.0.1": 0.07}


def demo_fingerprint() -> str:
    return fingerprint({f"diffusion_model.{name}": weight for name, weight in load_weights("denoiser").items()})


def demo_experts(removed: Sequence[Sequence[str]] = (("middle_block.0",), tuple(PARTS)), of: str = "") -> Experts:
    """Experts that lack these blocks, and learned nothing; prompts go to the first or the second by chance.

    Args:
        of: the fingerprint of another model.
    """
    random = torch.Generator().manual_seed(0)
    count = len(removed)
    record = ExpertsRecord(
        "ClassicModel", of or demo_fingerprint(), tuple(PARTS), tuple(PARTS.values()), {}, "2026-01-01", (1,) * count,
        ((0.0, 0.0),) * count,
    )  # fmt: skip
    centroids = torch.nn.functional.normalize(torch.randn(count, 4, generator=random), dim=1)
    router = Router(torch.zeros(WIDTH), torch.randn(WIDTH, 4, generator=random), centroids)
    kept = torch.tensor([[name not in gone for name in PARTS] for gone in removed])
    return Experts(record, router, kept, tuple({} for _ in removed))
