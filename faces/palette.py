"""Names the colours that pictures of figures are drawn in: charts, comparisons, tables, pages.

It stands alone because every room that draws figures uses it, and this is the lowest of them.
"""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

PAPER: Colour = (255, 255, 255)
INK: Colour = (40, 44, 52)
SOFT: Colour = (112, 116, 124)
"""Second lines and notes."""

FAINT: Colour = (224, 227, 232)
"""Lines that only guide the eye."""

RED: Colour = (214, 84, 60)
"""What names still say: faces that are recognized, people who are found."""

BLUE: Colour = (46, 117, 182)
"""What it is held against: other faces, other prompts."""

PALE_RED: Colour = (246, 210, 202)
PALE_BLUE: Colour = (202, 221, 240)
GREY: Colour = (150, 152, 158)
"""What is gone."""


def css(colour: Colour) -> str:
    """A colour as a style sheet writes it: `#282c34`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
