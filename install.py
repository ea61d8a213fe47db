"""Without this script ComfyUI-Manager could not tell whether its Python has what the extension needs.

The Manager runs it with the host's Python after a clone. It changes nothing: all that the extension uses comes with
ComfyUI itself.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

HOST_PARTS = ("torch", "numpy", "safetensors")


def main() -> int:
    """Says in a line what it found; 0 if the host has every part, else 1."""
    missing = [part for part in HOST_PARTS if find_spec(part) is None]
    if missing:
        print(f"Anonymize Faces: {', '.join(missing)} not found: run this with the Python that starts ComfyUI.")
        return 1
    print("Anonymize Faces: everything it needs is there; nothing was installed or changed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
