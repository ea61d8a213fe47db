"""Puts a real ComfyUI on the path of scripts that run outside its server: the demo model's build and its checks."""

from __future__ import annotations

import sys

from ..tools.layout import host_folder


def enter_host(cpu: bool = True) -> None:
    """Makes `comfy` importable, with the settings of a CPU run unless told. Call before the first import of `comfy`."""
    folder = host_folder()
    if not (folder / "comfy").is_dir():
        raise SystemExit(f"There is no ComfyUI in {folder}: run 'make setup' first.")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    from comfy.cli_args import args

    args.cpu = cpu
