"""Tells people what experts were learned, as text and as a picture of what they compute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..faces.palette import BLUE, FAINT, INK, PALE_BLUE, PAPER
from .value import Experts

CELL, TOP, LEFT = 44, 40, 120


def described(experts: Experts) -> str:
    """What there is to say, in lines."""
    record = experts.record
    lines = [f"{len(experts)} expert{'s' if len(experts) > 1 else ''} of a {record.family} model."]
    for number, count in enumerate(record.counts):
        before, after = record.errors[number]
        lines.append(
            f"Expert {number + 1}: {experts.share(number):.2f} of the compute, learned from {count} pictures;"
            f" {_left_out(experts, number)}. It is {before:.3f} off, {after:.3f} after learning (squared, as shares of"
            " the prediction and of what the prompt changes in it, the mean of both)."
        )
        if number < len(experts.examples):
            lines.append("    " + " | ".join(prompt[:60] for prompt in experts.examples[number]))
    if record.whole_until:
        lines.append(f"The last {record.whole_until:.0%} of a drawing's steps, the least noisy, are the whole model's.")
    least = min(record.counts) / max(1, sum(record.counts))
    if len(experts) > 1 and least < 0.1:
        lines.append(f"One of them is for {least:.0%} of the prompts only: ask for fewer experts.")
    lines.append("Measure Experts tells what time they save here, and how far their pictures are from the model's.")
    return "\n".join(lines)


def _left_out(experts: Experts, number: int) -> str:
    """What an expert does without, in words."""
    left_out = experts.left_out(number)
    widths = [float(kept.float().mean()) for kept in left_out.kept.values()]
    if not widths:
        return f"without {', '.join(left_out.blocks) or 'nothing'}"
    least = min(left_out.kept, key=lambda name: float(left_out.kept[name].float().mean()))
    return f"layers keep {min(widths):.0%} ({least}) to {max(widths):.0%} of their width"


def drawn(experts: Experts) -> Tensor:
    """How much of each block or layer each expert computes, a row each, `[1, height, width, 3]` float32 in 0 to 1."""
    import numpy as np
    from PIL import Image, ImageDraw

    parts: Sequence[str] = tuple(experts.units) or experts.record.parts
    page = Image.new("RGB", (LEFT + CELL * len(parts) + 100, TOP + CELL * len(experts) + 130), PAPER)
    pen = ImageDraw.Draw(page)
    what = "Share of each layer" if experts.units else "Blocks"
    pen.text((12, 12), f"{what} that each expert computes (blue) and leaves out", fill=INK)
    for row in range(len(experts)):
        y = TOP + CELL * row
        pen.text((12, y + CELL // 3), f"expert {row + 1}: {experts.share(row):.2f}", fill=INK)
        shares = [float(mask[row].float().mean()) for mask in experts.units.values()] or experts.kept[row].tolist()
        for column, share in enumerate(shares):
            x, side = LEFT + CELL * column, CELL - 4
            pen.rectangle([x, y, x + side, y + side], fill=FAINT, outline=PALE_BLUE)
            if share:
                pen.rectangle([x, y + round(side * (1 - share)), x + side, y + side], fill=BLUE, outline=PALE_BLUE)
    for column, name in enumerate(parts):
        name = name.replace("transformer_blocks.", "")
        words = Image.new("RGB", (124, 14), PAPER)
        ImageDraw.Draw(words).text((0, 0), name.replace("_blocks", "").replace("_block", ""), fill=INK)
        page.paste(words.rotate(-90, expand=True), (LEFT + CELL * column + CELL // 3, TOP + CELL * len(experts) + 2))
    return torch.from_numpy(np.asarray(page, dtype=np.float32) / 255)[None]
