"""Holds the command line of the trainer: `python -m trainer`."""

from .main import main

__all__ = ["main"]
