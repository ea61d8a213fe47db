"""Has conditional prefixes begin from few prompts, where tests learn them in their own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def fitted_to_few_prompts() -> Iterator[None]:
    """Inside, few prompts are read before learning: all of them take half as long as all else that tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anonymize_faces.trainer.data.pairs.MOST_NAMED", 24)
        yield
