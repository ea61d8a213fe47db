"""Lists the presets: how much is drawn, learned and validated, chosen by one word."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

QUICK, BALANCED, THOROUGH = "quick", "balanced", "thorough"

NONE_OF_ITS_OWN = -1
"""The value that leaves a setting to the preset where 0 is a choice as well; elsewhere 0 does."""


def _preset(**values: float) -> Mapping[str, float]:
    return MappingProxyType(values)


PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        QUICK: _preset(
            steps=100,
            people_drawn=16,
            portraits_per_identity=1,
            general_drawn=64,
            noisings_per_picture=8,
            drawing_share=0.5,
            text_steps=200,
            held_out=0.0625,
            patience=2,
            harden=0.0,
        ),
        BALANCED: _preset(
            steps=300,
            people_drawn=32,
            portraits_per_identity=3,
            general_drawn=160,
            noisings_per_picture=8,
            drawing_share=0.5,
            text_steps=200,
            held_out=0.125,
            patience=2,
            harden=0.0,
        ),
        THOROUGH: _preset(
            steps=1000,
            people_drawn=400,
            portraits_per_identity=4,
            general_drawn=1000,
            noisings_per_picture=8,
            drawing_share=1.0,
            text_steps=400,
            held_out=0.25,
            patience=4,
            harden=0.5,
        ),
    }
)
"""The values of `TrainingSettings` that each preset stands for. What is learned from need not be finished to the last
detail: see `drawing_share`."""

CONDITIONAL: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        QUICK: _preset(steps=100, people_drawn=64, general_drawn=24, patience=0),
        BALANCED: _preset(steps=400, people_drawn=64, patience=0),
        THOROUGH: _preset(steps=1000, patience=0),
    }
)
"""What differs for a conditional prefix: a network learns longer than vectors do, from as many people as there are, and
to the end, since much of what it learns comes as the rate falls; and the text encoder alone cannot teach it. A gate
spares other prompts, so that a few of them teach enough where all is quick."""

FIXED_VECTORS = _preset(general_weight=4.0, overshoot=0.15)
MADE_VECTORS = _preset(general_weight=1.0, overshoot=0.3, text_steps=0, harden=0.5)
"""What every preset says of either kind of prefix. A conditional one has a gate that spares other prompts, so that its
vectors can do more to names. Without hardening, words for things that the model knows well bring back faces that they
stand beside ("by a lake at night, a portrait of …")."""

UNREAD_STEPS: Mapping[str, int] = MappingProxyType({QUICK: 60, BALANCED: 100, THOROUGH: 250})
"""Steps of each preset where words of names are left unread and vectors begin at descriptions: near where they are to
end, and more did not help people left out (docs/figures.md)."""


def values_of(preset: str, conditional: bool) -> Mapping[str, float]:
    """The values that a preset stands for, of settings that are automatic; none of a preset that is not known."""
    if not conditional:
        return {**FIXED_VECTORS, **PRESETS.get(preset, {})}
    return {**PRESETS.get(preset, {}), **CONDITIONAL.get(preset, {}), **MADE_VECTORS}
