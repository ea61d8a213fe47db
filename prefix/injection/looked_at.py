"""Turns whatever is raised while a host's tokenizer or text encoder is looked into into an error with a remedy.

Other extensions put tokenizers and encoders of their own behind a CLIP, which may take no blank prompt, answer in
another layout, or lack what is asked for. A cancelled workflow and a want of memory are the host's to deal with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import AnonymizationError, PrefixMismatchError, first_line

_CANCELLED = "InterruptProcessingException"
"""What ComfyUI raises where a workflow is cancelled."""


@contextmanager
def looked_at(part: str) -> Iterator[None]:
    """Inside, what is raised becomes an error of ours, with the original as its cause.

    Args:
        part: what is looked into, such as "tokenizer".

    Raises:
        PrefixMismatchError: something was raised that is no error of ours.
    """
    try:
        yield
    except (AnonymizationError, MemoryError):
        raise
    except Exception as error:
        if _is_the_hosts(error):
            raise
        raise PrefixMismatchError(
            f"This CLIP's {part} cannot be looked into ({first_line(error)}), so the prefix cannot be placed: connect"
            " Anonymize Faces straight to the checkpoint's CLIP, and encode the prompt with CLIP Text Encode."
        ) from error


def _is_the_hosts(error: Exception) -> bool:
    cancelled = any(cls.__name__ == _CANCELLED for cls in type(error).__mro__)
    return cancelled or type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
