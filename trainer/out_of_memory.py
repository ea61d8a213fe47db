"""Without this module each engine would guess by itself whether an error says that memory has run out."""

from __future__ import annotations

import torch

_WORDS = ("can't allocate memory", "not enough memory")


def says_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or of Python says that memory has run out, on whatever device."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
