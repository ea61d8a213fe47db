"""Says where a face is among latents, so that a prefix changes that place alone.

The *head* is a small network that learned it for one prefix, on one model (docs/METHODS.md 2.11). It reads what a
sampler has anyway: what the denoiser takes the picture for, told the plain prompt (x_n) and told the protected one
(x_p), how far these lie apart, and the level of noise. With the mask M that is made of its answer,

    eps = eps_n + M (eps_p - eps_n),   M from 0 to 1

It lies in a prefix's file under names that begin with `face_region/`. With it lie thresholds that were found on
pictures that it did not learn from: above which answers a share of faces lies as a whole, by level of noise. What is
not certain is masked; where nothing was found out, everything is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import PrefixValueError

START = "face_region/"
"""What the names of a head's tensors begin with in a prefix's file."""

WIDTH = 32
"""Channels of its layers."""

DILATIONS = (1, 2, 4, 8, 2, 1)
"""Of its layers: together they see 37 cells around each one."""

MOST_PARAMETERS = 300_000
"""More than a head has for any model: one of 1,024 channels has 156,000."""

MOST_CHANNELS = 1024
MOST_LEVELS = 256
_WAVES = 3
_TINY = 1e-6

NEAR = 0.01
"""How far above the highest level of noise that was tried one still counts as tried: samplers begin at the very end."""

FULL = 1.0
"""Certainty at which everything is masked: exactly the whole prefix."""

CERTAINTY, MARGIN, SOFTNESS = 0.95, 0.02, 0.04
"""What is usual: certainty, and margin and softness as shares of the picture's shorter side."""


class FaceRegionHead(nn.Module):
    """The network: latents of any number of channels to a logit for each cell; positive where a face is likely.

    Attributes:
        channels: of the latents.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.read = nn.Conv2d(3 * channels, WIDTH, 1)
        self.told = nn.Linear(2 + 2 * _WAVES, WIDTH)
        self.whole = nn.Linear(2 * WIDTH, WIDTH)
        self.layers = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=d, dilation=d) for d in DILATIONS)
        self.answer = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, plain: Tensor, protected: Tensor, levels: Tensor) -> Tensor:
        """Logits `[n, h, w]`.

        Args:
            plain, protected: what the denoiser takes the pictures for, `[n, channels, h, w]`.
            levels: of noise, `[n]`, see `noise_level`.
        """
        apart = (protected - plain).abs()
        size = apart.mean((1, 2, 3)) + _TINY
        waves = math.pi * levels[:, None] * torch.arange(1, _WAVES + 1, device=levels.device)
        told = torch.cat([levels[:, None], size.log()[:, None] / 5, waves.sin(), waves.cos()], 1)
        seen = self.read(torch.cat([plain, protected, apart / size.view(-1, 1, 1, 1)], 1).clamp(-20, 20))
        seen = seen + self.told(told)[:, :, None, None]
        for place, layer in enumerate(self.layers):
            if place == len(DILATIONS) // 2:
                summary = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
                seen = seen + self.whole(F.silu(summary))[:, :, None, None]
            seen = seen + layer(F.silu(seen))
        return self.answer(F.silu(seen))[:, 0]


class FaceRegion:
    """A learned head with its thresholds.

    Args:
        tensors: as they lie in a prefix's file, `face_region/...`.

    Raises:
        PrefixValueError: one is missing, too much, of another shape or kind, or not finite.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        require_face_region(tensors)
        own = {name.removeprefix(START): tensor for name, tensor in tensors.items()}
        self.levels, self.shares, self.thresholds = (own.pop(name) for name in _FOUND_OUT)
        with torch.inference_mode(False), torch.no_grad():
            self._head = FaceRegionHead(_channels(tensors)).requires_grad_(False).eval()
            self._head.load_state_dict(own)

    @property
    def channels(self) -> int:
        """Of the latents that it reads."""
        return self._head.channels

    def logits(self, plain: Tensor, protected: Tensor, levels: Tensor) -> Tensor:
        """See `FaceRegionHead`; `[n, ..., h, w]` of latents `[n, channels, ..., h, w]`. Frames are looked at apart."""
        self._head.to(plain.device)
        frames = plain.shape[2:-2].numel()
        flat = [_frames_apart(latents).float() for latents in (plain, protected)]
        answers = self._head(*flat, levels.to(flat[0]).repeat_interleave(frames))
        return answers.view(plain.shape[0], *plain.shape[2:])

    def threshold(self, levels: Tensor, certainty: float) -> Tensor:
        """The logit from which on a cell is masked, `[n]`; minus infinity where everything is.

        Args:
            levels: of noise, `[n]`. Above the highest that was tried, everything is masked.
            certainty: share of faces that are masked as a whole, as far as the pictures tell that were tried.
        """
        table = self.thresholds.to(levels)
        if certainty >= FULL:
            return torch.full_like(levels, float("-inf"))
        by_level = _between(self.shares.to(levels), table.T, torch.full_like(levels[:1], certainty))[0]
        found = _between(self.levels.to(levels), by_level[:, None], levels)[:, 0]
        return torch.where(levels > self.levels[-1].to(levels) + NEAR, float("-inf"), found)

    def mask(self, logits: Tensor, levels: Tensor, certainty: float, margin: float, softness: float) -> Tensor:
        """The mask M `[n, ..., h, w]`, 0 to 1.

        Args:
            logits: `[n, ..., h, w]`.
            levels: of noise, `[n]`.
            certainty: see `threshold`.
            margin: by how much what is masked grows on all sides, as a share of the picture's shorter side.
            softness: over how much it then fades out, likewise; nothing of what is masked is weakened.
        """
        threshold = self.threshold(levels, certainty).view(-1, *[1] * (logits.ndim - 1))
        hard = (~(logits < threshold)).to(logits)  # What is no number is masked: nobody knows what is there.
        return softened(grown(hard, margin), softness)


_FOUND_OUT = ("levels", "shares", "thresholds")


def tensors_of(head: FaceRegionHead, levels: Tensor, shares: Tensor, thresholds: Tensor) -> dict[str, Tensor]:
    """A head and what was found out of it, as a prefix holds them.

    Args:
        levels: of noise that were tried, ascending, `[k]`.
        shares: of faces that are masked as a whole, ascending, `[q]`.
        thresholds: for each level and share, `[k, q]`.
    """
    found_out = dict(zip(_FOUND_OUT, (levels, shares, thresholds), strict=True))
    return {START + name: tensor.detach().float().cpu() for name, tensor in {**head.state_dict(), **found_out}.items()}


def noise_level(signal: Tensor, noise: Tensor) -> Tensor:
    """The level of noise, 0 to 1, of x_t = signal x + noise n: the same in every host and parameterization."""
    return noise / (signal + noise)


def grown(mask: Tensor, margin: float) -> Tensor:
    """The mask `[n, ..., h, w]` grown by a share of the shorter side on all sides; part of a cell masks it in part."""
    cells = margin * min(mask.shape[-2:])
    whole = int(cells + 1e-6)
    made = _pooled(mask, whole, F.max_pool2d) if whole else mask
    part = cells - whole
    return torch.maximum(made, part * _pooled(mask, whole + 1, F.max_pool2d)) if part > 1e-6 else made


def softened(mask: Tensor, softness: float) -> Tensor:
    """The mask with edges that fade out over a share of the shorter side; what is masked stays masked as it was."""
    cells = round(softness * min(mask.shape[-2:]) / 2)
    if cells <= 0:
        return mask
    faded = _pooled(_pooled(mask, cells, F.max_pool2d), cells, F.avg_pool2d)
    return torch.maximum(mask, faded)


def blended(plain: Tensor, protected: Tensor, mask: Tensor) -> Tensor:
    """plain + mask (protected - plain), to the last bit `protected` where the mask is 1 and `plain` where it is 0.

    Args:
        plain, protected: `[n, channels, ..., h, w]`.
        mask: `[n, ..., h, w]`.
    """
    mask = mask[:, None].to(plain)
    return torch.where(mask >= 1, protected, torch.where(mask <= 0, plain, plain + mask * (protected - plain)))


def require_face_region(tensors: Mapping[str, Tensor]) -> None:
    """Raises `PrefixValueError` unless these are a whole head with sound thresholds."""
    channels = _channels(tensors)
    with torch.device("meta"):
        wanted = {START + name: tuple(tensor.shape) for name, tensor in FaceRegionHead(channels).state_dict().items()}
    levels, shares = (tensors.get(START + name) for name in _FOUND_OUT[:2])
    counts = [0 if found is None or found.ndim != 1 else len(found) for found in (levels, shares)]
    if not all(2 <= count <= MOST_LEVELS for count in counts):
        raise PrefixValueError("The thresholds of its face region are not whole.")
    wanted |= dict(zip((START + name for name in _FOUND_OUT), ((counts[0],), (counts[1],), tuple(counts)), strict=True))
    if unknown := sorted(tensors.keys() ^ wanted.keys()):
        raise PrefixValueError(f"Its face region lacks '{unknown[0]}', or holds it and should not.")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.layout != torch.strided or tuple(tensor.shape) != wanted[name]:
            raise PrefixValueError(f"'{name}' must be float32 numbers of shape {list(wanted[name])}.")
        if not bool(torch.isfinite(tensor).all()):
            raise PrefixValueError(f"'{name}' contains values that are not finite.")
    for name in _FOUND_OUT[:2]:
        found = tensors[START + name]
        if not bool((found[1:] > found[:-1]).all()) or not 0 <= float(found[0]) <= float(found[-1]) <= 1:
            raise PrefixValueError(f"'{START + name}' must ascend from 0 to 1.")
    thresholds = tensors[START + _FOUND_OUT[2]]
    if not bool((thresholds[:, 1:] <= thresholds[:, :-1]).all()):
        raise PrefixValueError(f"'{START + _FOUND_OUT[2]}' must not rise with the share of faces.")


def _channels(tensors: Mapping[str, Tensor]) -> int:
    read = tensors.get(START + "read.weight")
    if read is None or read.ndim != 4 or read.shape[1] % 3 or not 3 <= read.shape[1] <= 3 * MOST_CHANNELS:
        raise PrefixValueError("Its face region does not say of how many channels the latents are.")
    return read.shape[1] // 3


def _frames_apart(latents: Tensor) -> Tensor:
    """Latents `[n, c, ..., h, w]` as `[n * frames, c, h, w]`."""
    return latents.movedim(1, -3).reshape(-1, latents.shape[1], *latents.shape[-2:])


def _pooled(mask: Tensor, cells: int, pool: object) -> Tensor:
    flat = mask.reshape(-1, 1, *mask.shape[-2:])
    padded = F.pad(flat, (cells,) * 4, mode="replicate" if cells < min(mask.shape[-2:]) else "constant")
    return pool(padded, 2 * cells + 1, 1).view(mask.shape)  # type: ignore[operator]


def _between(places: Tensor, rows: Tensor, asked: Tensor) -> Tensor:
    """Rows `[k, m]` that belong to ascending places `[k]`, at others `[n]`: straight between two, the end ones beyond.

    `[n, m]`.
    """
    right = torch.searchsorted(places, asked.contiguous()).clamp(1, len(places) - 1)
    share = ((asked - places[right - 1]) / (places[right] - places[right - 1])).clamp(0, 1)
    return torch.lerp(rows[right - 1], rows[right], share[:, None])
