"""Without this module figures would be lost with the process: the value that an evaluation ends in, and its files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""
