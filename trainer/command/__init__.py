"""Without this package the trainer would be a library: its command line, `python -m trainer`."""

from .main import main

__all__ = ["main"]
