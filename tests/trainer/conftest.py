"""What all tests of the trainer share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def few_gate_prompts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates are fitted to few prompts: reading all of them takes half as long as all else that these tests do.

    Where other processes learn too, which would not know of it, there are as many as ever.
    """
    if "apart" not in request.keywords:
        monkeypatch.setattr("anonymize_faces.trainer.data.pairs.GATE_PROMPTS", 24)
