"""Holds the sizes of the demo model that are needed with and without the host."""

from __future__ import annotations

VOCABULARY = 49408
WIDTH = 192
"""Of the text states."""

LATENT_CHANNELS = 12
DOWNSCALE = 8
