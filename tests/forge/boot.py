"""Runs a file inside of a real Forge: what its `webui.py` does before it shows anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def boot(forge: Path, data: Path) -> None:
    """Imports Forge's modules, on the CPU, with its data in a folder of our own. Call first, with Forge's Python."""
    os.chdir(forge)
    for folder in (forge / "repositories" / "huggingface_guess", forge / "packages_3rdparty", forge):
        sys.path.insert(0, str(folder))
    sys.argv = ["webui.py", "--always-cpu", "--skip-torch-cuda-test", "--no-half", "--data-dir", str(data)]
    from modules_forge.initialization import initialize_forge

    initialize_forge()
    from modules import initialize

    initialize.imports()
