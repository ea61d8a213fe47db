"""What all tests of the trainer share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def few_gate_prompts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Gates are fitted to few prompts: reading all of them takes half as long as all else that these tests do.

    Where other processes learn too, which would not know of it, there are as many as ever.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "parallel":
            patch.setattr("anonymize_faces.trainer.data.pairs.GATE_PROMPTS", 24)
        yield
