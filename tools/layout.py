"""Names the folders of the environment and the host.

It imports nothing of ours, so that set-up can read it before there is an environment.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
LANGUAGE_MODEL = BUILD / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
"""What the demo model "modern" reads; fetched by set-up."""

EXTENSION = "anonymize-faces"
"""Name of the extension's folder in `custom_nodes`, and in the Comfy Registry."""


def host_folder() -> Path:
    """The ComfyUI to work with: `COMFYUI_DIR` if set, else the one that set-up unpacks."""
    chosen = os.environ.get("COMFYUI_DIR")
    return Path(chosen).expanduser().resolve() if chosen else BUILD / "ComfyUI"
