"""Finds the layers of the text encoders at which a prefix cannot be learned, so that they are left out.

People read some checkpoints at several layers ("clip skip"), and a prefix is learned at each. But there are text
encoders in which too little happens before a layer for any prefix to part a name from its person there (in one of three
layers, at the last but one, no ten vectors did it). Such a layer would take its share of the steps away from the
others, and the prefix's record would promise what does not hold. So after a quarter of the warm start each is judged,
and whoever reads a prompt at one that was left out is refused. The prefix that comes of it is judged once more, with or
without a warm start, before its record names the layers: more strictly, because what is learned by then is all there
is, and the record promises it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...engines.denoiser import Denoiser, Layer, Vectors
from ...prefix.layers import told
from ...prefix.meta_network import with_open_gates
from ..data.pictures import Pair
from ..data.plain_text import PlainText
from ..parallel.team import ALONE, Team, share
from .text_distance import text_distance

MOST_LEFT = 0.5
"""Of what names say, in the text encoder's space, the share that a prefix may leave at a layer by then."""

TIMES_THE_BEST = 2.0
"""A layer that leaves less than so many times what the best one leaves stays: there learning is slow at all of them."""

TIMES_THE_BEST_AT_THE_END = 1.1
"""The same of a finished prefix.

One that leaves much everywhere is told of as such; the layer that the artist's own CLIP is read at is its measure then,
so that the prefix can be used where it was learned, and is nowhere worse than there.
"""

MOST_ASKED = 24
"""Pairs that a layer is judged by."""


def judged(
    denoiser: Denoiser,
    vectors: Vectors,
    pairs: Sequence[Pair],
    layers: Sequence[Layer],
    plain: PlainText,
    team: Team = ALONE,
    finished: bool = False,
) -> tuple[Sequence[Layer], str]:
    """Those of the layers at which the vectors do something, and a sentence on the others, empty if there are none.

    All of them where there is but one, or where the text encoders cannot be asked; inside `Denoiser.gradients`. Whether
    the vectors are `finished` is as of `learnable`.
    """
    asked = spread_over(pairs)
    if len(layers) == 1 or not asked or denoiser.text_states([""], plain.of([""]))[0] is None:
        return layers, ""
    left = signal_left(denoiser, vectors, asked, layers, plain, team)
    kept = learnable(left, finished)
    return kept, left_out_note(left, kept)


def learnable(left: Mapping[Layer, float], finished: bool = False) -> tuple[Layer, ...]:
    """The layers to go on with, in order, by the share of what names say that a prefix leaves at each.

    Args:
        left: the shares, that of the layer which pictures are drawn at first.
        finished: whether nothing more is learned, so that the layers are those that the record promises.
    """
    measure = min(left.values())
    if finished and measure > MOST_LEFT:
        measure = next(iter(left.values()))
    most = max(MOST_LEFT, measure * (TIMES_THE_BEST_AT_THE_END if finished else TIMES_THE_BEST))
    return tuple(layer for layer, share in left.items() if not share > most)


@torch.no_grad()
def signal_left(
    denoiser: Denoiser,
    vectors: Vectors,
    pairs: Sequence[Pair],
    layers: Sequence[Layer],
    plain: PlainText,
    team: Team = ALONE,
) -> dict[Layer, float]:
    """The share of what names say beside their neutral twins that a prefix leaves at each layer.

        Σ text_distance(name with prefix, neutral twin) / Σ text_distance(name, neutral twin)

    Args:
        pairs: that name somebody and take one chunk; others are passed over.
        layers: see `Denoiser.layers`.
        team: among whom the pairs are dealt out.
    """
    length = len(next(iter(vectors.values())))
    sums = torch.zeros(len(layers), 2, dtype=torch.float64)
    named, neutral = [pair.student for pair in pairs], [pair.teacher for pair in pairs]
    for row, layer in enumerate(layers):
        for index in share(team, range(len(pairs))):
            ((teacher,), (name,)) = (
                denoiser.text_states([prompts[index]], plain.of([prompts[index]], [layer]))
                for prompts in (neutral, named)
            )
            if teacher is None or name is None:
                continue
            encoded = denoiser.encode([named[index]], with_open_gates(vectors), [layer])
            (student,) = denoiser.text_states([named[index]], encoded, length)
            if student is not None:
                sums[row, 0] += float(text_distance(student, teacher))
                sums[row, 1] += float(text_distance(name, teacher))
    (sums,) = team.summed([sums])
    return {layer: left / whole if whole else 1.0 for layer, (left, whole) in zip(layers, sums.tolist(), strict=True)}


def spread_over(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that layers are judged by: some that name somebody, from everywhere in the list."""
    named = [pair for pair in pairs if pair.names_somebody]
    step = max(1, len(named) // MOST_ASKED)
    return named[::step][:MOST_ASKED]


def left_out_note(left: Mapping[Layer, float], kept: Sequence[Layer]) -> str:
    """What is told of the layers that were left out, a sentence; empty if none was."""
    without = [layer for layer in left if layer not in kept]
    if not without:
        return ""
    names = [told((layer,)) if isinstance(layer, int) else "the usual clip skip" for layer in without]
    shares = [f"{left[layer]:.0%}" for layer in without]
    return (
        f"No prefix can be learned at {' and '.join(names)} of this text encoder ({' and '.join(shares)} of what names"
        " say is left there): it was left out, and this prefix is refused where a prompt is read so."
    )
