"""Without this module a person could not open the extension in a browser: `make serve`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

import torch

from .layout import EXTENSION, host_folder


def main() -> NoReturn:
    """Becomes the ComfyUI process; arguments it does not know are handed on."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", default=os.environ.get("PORT", "8188"), help="8188, or PORT in the environment")
    options, more = parser.parse_known_args()
    host = host_folder()
    command = [sys.executable, str(host / "main.py"), "--port", options.port, *more]
    if not torch.cuda.is_available() and "--cpu" not in more and sys.platform != "darwin":
        command.append("--cpu")
    print(f"ComfyUI will be at http://127.0.0.1:{options.port} in a moment; Ctrl-C stops it.")
    print(f"Example workflow: there, Workflow > Browse Templates > {EXTENSION}.", flush=True)
    os.chdir(host)
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
