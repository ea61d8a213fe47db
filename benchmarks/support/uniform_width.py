"""Narrows all blocks of a UNet of the host's alike, while a context is open: what leaving blocks out is compared with.

Of attention some heads stay, of feed-forward networks some hidden units, and of residual blocks some groups of the
channels between their convolutions: the same share everywhere, those of the largest weights. (Transformers alone make
too little of the demo model's multiplications.) Either what goes is multiplied by 0, which can be learned with, or
layers are cut, which saves time; both give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...engines.parts import FORWARD, Prunable
from ...prefix.errors import ExpertsError

STEPS = 64
"""Shares of the width that are tried, evenly spread."""

KEY = "anonymize_faces_uniform_width"
"""Of our wrapper among a model's."""


@dataclass(frozen=True)
class HiddenUnits:
    """Units within a block that nothing outside of it sees.

    Attributes:
        into: layers that give them.
        out: the layer that takes them.
        count: how many there are; each has as many channels.
        parts: how often they stand in what `into` gives: twice where half of it gates the other.
        attention: whose heads they are, if they are heads.
    """

    into: tuple[Any, ...]
    out: Any
    count: int
    parts: int = 1
    attention: Any = None

    def norms(self) -> Tensor:
        """Squared norm of each unit's weights, `[count]`."""
        weights = [layer.weight.detach().float() for layer in self.into if layer.weight.ndim > 1]
        given = [weight.square().flatten(1).sum(1).view(self.parts, self.count, -1).sum((0, 2)) for weight in weights]
        taken = self.out.weight.detach().float().transpose(0, 1).square().flatten(1).sum(1).view(self.count, -1).sum(1)
        return torch.stack([*given, taken]).sum(0)

    def channels(self, kept: Tensor, of: int, parts: int = 1) -> Tensor:
        """Numbers of the channels, of so many, that belong to units."""
        return torch.arange(of).view(parts, self.count, -1)[:, kept].flatten()


class UniformWidth:
    """A UNet whose hidden units are kept by the same share everywhere, until no more than some of the compute is left.

    Args:
        prunable: of the host's UNet. Nothing of it is changed but while `masked` or `cut` is open.
        keep: share of the multiplications that may be left.

    Attributes:
        share: that is left.
        width: share of the units that is kept.

    Raises:
        ExpertsError: the narrowest form still makes more.
    """

    def __init__(self, prunable: Prunable, keep: float) -> None:
        self._units = hidden_units(prunable.network)
        root = type(prunable.network).__name__
        with prunable.denoiser.gradients(1):
            whole = prunable.counted()[root]
            for step in range(STEPS, 0, -1):
                self.width = step / STEPS
                self._kept = [_largest(units, self.width) for units in self._units]
                self._cut: dict[nn.Module, tuple[Any, Tensor, Tensor | None]] = {}
                with self.cut():
                    self.share = prunable.counted()[root] / whole
                if self.share <= keep + 1e-9:
                    return
        raise ExpertsError(
            f"Narrowed as far as it goes this model still makes {self.share:.0%} of its multiplications: keep more."
        )

    @contextmanager
    def masked(self) -> Iterator[None]:
        """Inside, units that go are 0; differentiable."""
        with ExitStack() as hooks:
            for units, kept in zip(self._units, self._kept, strict=True):
                channels = units.out.weight.shape[1]
                mask = torch.zeros(channels)
                mask[units.channels(kept, channels)] = 1
                hooks.callback(units.out.register_forward_pre_hook(partial(_multiplied, mask)).remove)
            yield

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Inside, layers compute the units alone that are kept; without gradients."""
        with ExitStack() as undo:
            for units, kept in zip(self._units, self._kept, strict=True):
                for layer in units.into:
                    rows = units.channels(kept, layer.weight.shape[0], units.parts)
                    _answering(undo, layer, partial(self._computed, layer, rows, None, len(kept)))
                columns = units.channels(kept, units.out.weight.shape[1])
                _answering(undo, units.out, partial(self._computed, units.out, None, columns, len(kept)))
                if units.attention is not None:
                    undo.callback(setattr, units.attention, "heads", units.attention.heads)
                    units.attention.heads = len(kept)
            yield

    def model(self, model: Any, delta: Mapping[str, Tensor], whole_until: float = 0.0) -> Any:
        """A clone of the host's MODEL that computes so later than a time, with a LoRA; the MODEL itself stays."""
        import comfy.patcher_extension

        from ...engines.comfy.expert_parts import expert_model, for_noise, timestep_at

        run = for_noise(timestep_at(model, whole_until), lambda network: self.cut(), lambda network: nullcontext())
        narrowed = expert_model(model, (), delta, whole_until)
        narrowed.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, KEY, run)
        return narrowed

    def _computed(self, layer: Any, rows: Tensor | None, columns: Tensor | None, groups: int, given: Tensor) -> Tensor:
        """What a layer gives of some inputs, for some outputs; cut weights are kept until the host sets others."""
        of, weight, bias = self._cut.get(layer, (None, None, None))
        if of is not layer.weight:
            weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
            if rows is not None:
                weight, bias = weight[rows], None if bias is None else bias[rows]
            if columns is not None:
                weight = weight[:, columns]
            weight = weight.contiguous()
            self._cut[layer] = layer.weight, weight, bias
        if isinstance(layer, nn.GroupNorm):
            return F.group_norm(given, groups, weight, bias, layer.eps)
        if isinstance(layer, nn.Conv2d):
            convolved: Tensor = layer._conv_forward(given, weight, bias)
            return convolved
        return F.linear(given, weight, bias)


def hidden_units(network: nn.Module) -> list[HiddenUnits]:
    """The hidden units of all blocks of a UNet of the host's."""
    from comfy.ldm.modules.attention import CrossAttention, FeedForward
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

    found = []
    for module in network.modules():
        if isinstance(module, CrossAttention):
            into = module.to_q, module.to_k, module.to_v
            found.append(HiddenUnits(into, module.to_out[0], module.heads, attention=module))
        elif isinstance(module, FeedForward):
            found.append(HiddenUnits((module.net[0].proj,), module.net[2], module.net[2].in_features, parts=2))
        elif isinstance(module, ResBlock):
            norm, out = module.out_layers[0], module.out_layers[-1]
            found.append(HiddenUnits((module.in_layers[-1], module.emb_layers[-1], norm), out, norm.num_groups))
    return found


def _largest(units: HiddenUnits, share: float) -> Tensor:
    """Numbers of the units of the largest weights, in order; one at least."""
    kept = max(1, round(share * units.count))
    return units.norms().topk(kept).indices.sort().values


def _multiplied(mask: Tensor, layer: nn.Module, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A hook that multiplies the channels of what a layer is given."""
    shape = [-1] + [1] * (layer.weight.ndim - 2)
    return given[0] * mask.to(given[0]).view(shape), *given[1:]


def _answering(undo: ExitStack, layer: nn.Module, answer: Callable[[Tensor], Tensor]) -> None:
    """Puts an answer in the place of a layer's `forward`, until the stack is undone."""
    layer.forward = answer
    undo.callback(delattr, layer, FORWARD)
