"""Gives the tests of the scripts their hosts and prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.web_ui.encoders import prefix_for
from anonymize_faces.tests.support.web_ui.host import Host, host


@pytest.fixture
def open_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes a host, with the prefix `people.safetensors` of its family and `others.safetensors` of other vectors."""
    with ExitStack() as stack:

        def make(kind: str = "forge", family: str = "sd1") -> Host:
            made = stack.enter_context(host(tmp_path, kind, family))
            save_prefix(prefix_for(family), made.folder / "people.safetensors", overwrite=True)
            save_prefix(prefix_for(family, seed=1), made.folder / "others.safetensors", overwrite=True)
            return made

        yield make
