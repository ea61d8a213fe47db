"""Starts ComfyUI with the extension for the browser: `make serve`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from .command import run_command
from .layout import EXTENSION, host_folder


class ServeError(Exception):
    """The browser's ComfyUI cannot be started; a sentence with a remedy.

    Attributes:
        sentence: it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def main() -> NoReturn:
    """Becomes the ComfyUI process; arguments it does not know are handed on.

    Raises:
        ServeError: there is no ComfyUI, or the port is taken.
    """
    parser = argparse.ArgumentParser(description="Becomes the ComfyUI process; arguments it does not know go to it.")
    parser.add_argument(
        "--port", type=_port, default=os.environ.get("PORT", "8188"), help="8188, or PORT in the environment"
    )
    options, more = parser.parse_known_args()
    host = host_folder()
    if not (host / "main.py").is_file():
        raise ServeError(f"There is no ComfyUI in {host}: run 'make setup' first.")
    import torch

    from .comfy_server import is_free

    if not is_free(options.port):
        raise ServeError(
            f"Something else listens on port {options.port}: end it, or choose another with PORT={options.port + 1}."
        )
    command = [sys.executable, str(host / "main.py"), "--port", str(options.port), *more]
    if not torch.cuda.is_available() and "--cpu" not in more and sys.platform != "darwin":
        command.append("--cpu")
    print(f"ComfyUI will be at http://127.0.0.1:{options.port} in a moment; Ctrl-C stops it.")
    print(f"Example workflow: there, Workflow > Browse Templates > {EXTENSION}.", flush=True)
    os.chdir(host)
    os.execv(sys.executable, command)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: give a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(run_command(main))
