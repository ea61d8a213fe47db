"""Tells people what experts were learned, as text and as a picture of their blocks."""

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
        removed = ", ".join(experts.removed(number)) or "nothing"
        lines.append(
            f"Expert {number + 1}: {experts.share(number):.2f} of the compute, learned from {count} pictures; without"
            f" {removed}. It is {before:.3f} off, {after:.3f} after learning (squared, as shares of the prediction and"
            " of what the prompt changes in it, the mean of both)."
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


def drawn(experts: Experts) -> Tensor:
    """The blocks that each expert keeps, a row each, `[1, height, width, 3]` float32 in 0 to 1."""
    import numpy as np
    from PIL import Image, ImageDraw

    parts: Sequence[str] = experts.record.parts
    page = Image.new("RGB", (LEFT + CELL * len(parts) + 100, TOP + CELL * len(experts) + 130), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((12, 12), "Blocks that each expert computes (blue) and leaves out", fill=INK)
    for row in range(len(experts)):
        y = TOP + CELL * row
        pen.text((12, y + CELL // 3), f"expert {row + 1}: {experts.share(row):.2f}", fill=INK)
        for column in range(len(parts)):
            x = LEFT + CELL * column
            colour = BLUE if experts.kept[row, column] else FAINT
            pen.rectangle([x, y, x + CELL - 4, y + CELL - 4], fill=colour, outline=PALE_BLUE)
    for column, name in enumerate(parts):
        words = Image.new("RGB", (124, 14), PAPER)
        ImageDraw.Draw(words).text((0, 0), name.replace("_blocks", "").replace("_block", ""), fill=INK)
        page.paste(words.rotate(-90, expand=True), (LEFT + CELL * column + CELL // 3, TOP + CELL * len(experts) + 2))
    return torch.from_numpy(np.asarray(page, dtype=np.float32) / 255)[None]
