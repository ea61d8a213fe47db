"""Tells how pictures of a family of models are usually drawn: their size, the sampler's steps, the guidance."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .options import Drawing

AUTOMATIC = 0
"""A width, a height, a number of steps or a guidance of this is chosen by the model's family."""

USUAL = "the model's usual"
"""What a command line calls that."""

FEW = 10
"""Sampler steps that a picture takes at least, but for models that are made for fewer."""


@dataclass(frozen=True)
class UsualDrawing:
    """How people draw with models of a family.

    Attributes:
        side: width and height in pixels.
        steps: of the sampler.
        cfg: classifier-free guidance; 1 where guidance is distilled into the model, which then takes it as a number.
        reason: why it is another one than the family's, a sentence for people; empty if it is not.
    """

    side: int
    steps: int
    cfg: float
    reason: str = ""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size that was asked for, or the usual one; one side that is `AUTOMATIC` alone is as long as the other."""
        return width or height or self.side, height or width or self.side

    def drawing(self, asked: Drawing, share: float = 1.0) -> Drawing:
        """The steps and the guidance that were asked for, or the usual ones.

        Args:
            share: of the usual steps, where none were asked for; models made for few steps take all of theirs.
        """
        usual = self.steps if self.steps <= FEW else max(FEW, round(share * self.steps))
        return replace(asked, steps=asked.steps or usual, cfg=asked.cfg or self.cfg)


def drawn_with(size: tuple[int, int], drawing: Drawing, usual: UsualDrawing) -> str:
    """How pictures were drawn, and why so if it is not as the family is drawn with: sentences for people."""
    told = f"at {size[0]} × {size[1]} pixels, in {drawing.steps} steps, with guidance {drawing.cfg:g}"
    as_usual = (drawing.steps, drawing.cfg) == (usual.steps, usual.cfg)
    return " ".join([f"Pictures were drawn {told}.", *([usual.reason] if as_usual and usual.reason else [])])


UNKNOWN = UsualDrawing(1024, 20, 4.0)
"""For families that are not told of here: newer than SDXL, most likely with guidance of their own."""

SD1 = UsualDrawing(512, 20, 7.0)
SD2 = UsualDrawing(768, 20, 7.0)
SDXL = UsualDrawing(1024, 20, 7.0)
SD3 = UsualDrawing(1024, 28, 4.5)
FLUX = UsualDrawing(1024, 20, 1.0)
FEW_STEPS = UsualDrawing(1024, 4, 1.0)
Z_IMAGE = UsualDrawing(1024, 9, 1.0)

DISTILLED, SCHNELL = "distilled", "FluxSchnell"
"""Names of models that were made for few steps without guidance: of any family, and Flux's own."""

LCM = frozenset({"LCM", "ModelSamplingDiscreteDistilled"})
"""What ComfyUI calls the sampling of latent consistency models (arXiv 2310.04378), which its *ModelSamplingDiscrete*
sets."""

BY_NAME = {
    "sd1": SD1,
    "sd2": SD2,
    "sdxl": SDXL,
    "sd3": SD3,
    "flux": FLUX,
    "SD15": SD1,
    "SD20": SD2,
    "SDXL": SDXL,
    "SD3": SD3,
    DISTILLED: FEW_STEPS,
    SCHNELL: FEW_STEPS,
    "Flux2": FLUX,
    "Flux": FLUX,
    "ZImage": Z_IMAGE,
    "Lumina2": UsualDrawing(1024, 30, 4.0),
    "Chroma": UsualDrawing(1024, 26, 4.0),
    "PixArtAlpha": UsualDrawing(1024, 20, 4.5),
    "AuraFlow": UsualDrawing(1024, 25, 3.5),
    "HunyuanDiT": UsualDrawing(1024, 25, 6.0),
    "HiDream": UsualDrawing(1024, 28, 5.0),
    "QwenImage": UsualDrawing(1024, 20, 4.0),
    "Omnigen2": UsualDrawing(1024, 20, 5.0),
}
"""By the names that prefixes' records and ComfyUI's configurations give to families, as their authors advise, or as
ComfyUI's own examples have it. Z-Image as its distilled version, which is the one that is used most."""


def usual_drawing_of(model: Any) -> UsualDrawing:
    """How a ComfyUI MODEL is usually drawn with; its configuration may bring `usual_drawing` of its own."""
    if model is None:
        return UNKNOWN
    base = model.model
    own = getattr(base.model_config, "usual_drawing", None)
    usual = usual_drawing(kind.__name__ for kind in type(base.model_config).__mro__) if own is None else own
    # SD2's models for 512 pixels predict noise; those for 768 predict v.
    side = 512 if usual == SD2 and base.model_type.name == "EPS" else usual.side
    sampling = type(model.get_model_object("model_sampling")).__mro__
    few = any(kind.__name__ in LCM for kind in sampling)
    return replace(usual, side=side, **({"steps": FEW_STEPS.steps, "cfg": FEW_STEPS.cfg} if few else {}))


def _names(*parts: str) -> re.Pattern[str]:
    """Any of some parts of names, in small letters or large ones."""
    return re.compile("|".join(parts), re.IGNORECASE)


_ALONE = "(?<![a-z]){}(?![a-z])"
"""A word that is not part of a longer one."""

_FEW = r"(?<!\d)\d{1,2}steps?"

FEW_STEPS_FILE = _names(
    "turbo",
    "lightning",
    "schnell",
    "hyper[-_ ]?(sd|flux)",
    "dmd2",
    _ALONE.format("(lcm|dmd)"),
    "(?-i:LCM)",
)
"""Parts of the names of checkpoints that were distilled for few steps without guidance: no weight of theirs says so."""

FEW_STEPS_LORA = _names(
    "hyper[-_ ]?(sd|flux)",
    "dmd2",
    "turbo[-_ ]?alpha",
    _ALONE.format("(lcm|tcd|pcm)"),
    f"(turbo|lightning|lightx2v).*{_FEW}",
    f"{_FEW}.*(turbo|lightning)",
)
"""The same of LoRAs that make any checkpoint one: of those, others have lightning and turbines in their names."""

WITH_GUIDANCE = _names(
    "(?<![a-z])(de|un|non)[-_ ]?turbo",
    "(de|un|non)[-_ ]?distill",
    "[-_ ]cfg(?![a-z])",
)
"""Of files from which that was taken out again, or that keep guidance: they are drawn as their makers say, which nobody
knows here."""

STEPS_TOLD = _names(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")
SDXL_TURBO = _names("^sd[-_ ]?xl[-_ ]?turbo")
"""Stability's own, of SDXL's family, which draws 512 pixels."""


def named_for_few_steps(usual: UsualDrawing, files: Iterable[str], loras: Iterable[str] = ()) -> UsualDrawing:
    """How a model is usually drawn with, be it that its files' names say it was made for few steps without guidance.

    Args:
        usual: as its family is drawn with.
        files: names of files that it was loaded from.
        loras: of LoRAs that were put on it.
    """
    if usual.steps <= FEW:
        return usual
    told = [name for name in files if FEW_STEPS_FILE.search(name)]
    told += [name for name in loras if FEW_STEPS_LORA.search(re.sub(r"[-_ ](?=steps?)", "", name, flags=re.IGNORECASE))]
    told = [name for name in told if not WITH_GUIDANCE.search(name)]
    if not told:
        return usual
    count = STEPS_TOLD.search(told[0])
    steps = int(count[1]) if count and 1 <= int(count[1]) <= FEW else FEW_STEPS.steps
    side = SD1.side if SDXL_TURBO.search(told[0]) else usual.side
    return UsualDrawing(side, steps, FEW_STEPS.cfg, f"The name of '{told[0]}' says that it is made for few steps.")


def usual_drawing(names: Iterable[str]) -> UsualDrawing:
    """How a model is usually drawn with, by the first of its names, from its own to those it was derived from."""
    return next((BY_NAME[name] for name in names if name in BY_NAME), UNKNOWN)
