"""Without this module each test of the scripts would make hosts and prefixes in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from anonymize_faces.prefix import Prefix, PrefixRecord, save_prefix
from anonymize_faces.tests.scripts import reading
from anonymize_faces.tests.scripts.host import Host, host

FAMILIES = {"sd1": "l", "sd2": "h", "sdxl": "gl", "flux": "l t5xxl"}


@pytest.fixture
def open_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes a host, with the prefix `people.safetensors` of its family and `others.safetensors` of other vectors."""
    with ExitStack() as stack:

        def make(kind: str = "forge", family: str = "sd1") -> Host:
            made = stack.enter_context(host(tmp_path, kind, family))
            save_prefix(prefix(family), made.folder / "people.safetensors", overwrite=True)
            save_prefix(prefix(family, seed=1), made.folder / "others.safetensors", overwrite=True)
            return made

        yield make


def prefix(family: str, m: int = 10, seed: int = 0) -> Prefix:
    """A prefix of random vectors."""
    generator = torch.Generator().manual_seed(seed)
    keys = FAMILIES[family].split() if " " in FAMILIES[family] else list(FAMILIES[family])
    vectors = {key: torch.randn(m, reading.WIDTHS[key], generator=generator) for key in keys}
    return Prefix(vectors, PrefixRecord(family=family, fingerprint=""))
