"""What all tests of the trainer share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from anonymize_faces.tests.support.first_prompts import fitted_to_few_prompts


@pytest.fixture(scope="module", autouse=True)
def few_first_prompts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Prefixes begin from few prompts; as many as ever where other processes learn too, which would not know of it."""
    with nullcontext() if request.path.parent.name == "parallel" else fitted_to_few_prompts():
        yield
