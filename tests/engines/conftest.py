"""What all tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anonymize_faces.tests.support.first_prompts import fitted_to_few_prompts


@pytest.fixture(scope="module", autouse=True)
def few_first_prompts() -> Iterator[None]:
    """Conditional prefixes begin from few prompts."""
    with fitted_to_few_prompts():
        yield
