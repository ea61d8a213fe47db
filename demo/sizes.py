"""Holds the sizes of the demo model that are needed with and without the host."""

from __future__ import annotations

VOCABULARY = 49408
WIDTH = 192
"""Of the text states."""

TEXT_LAYERS, TEXT_HEADS, TEXT_INNER = 6, 6, 320
"""Of the text model: its layers, their heads, and the width inside of each."""

LATENT_CHANNELS = 12
DOWNSCALE = 8
