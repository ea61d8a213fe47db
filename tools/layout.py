"""Names the folders of the environment and the host.

It imports nothing of ours, so that set-up can read it before there is an environment.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
EXTENSION = "anonymize-faces"
"""Name of the extension's folder in `custom_nodes`, and in the Comfy Registry."""


def host_folder() -> Path:
    """The ComfyUI to work with: `COMFYUI_DIR` if set, else the one that set-up unpacks."""
    chosen = os.environ.get("COMFYUI_DIR")
    return Path(chosen).expanduser().resolve() if chosen else BUILD / "ComfyUI"
