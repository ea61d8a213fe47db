"""Converts prefix files to textual inversions, and back: the command `convert`."""

from __future__ import annotations

import argparse
from typing import Any

from ..prefix import PrefixFileExistsError, load_prefix, save_prefix, save_textual_inversion
from ..prefix.errors import shown
from ..runs.paths import path_of
from .console import Console
from .show import facts

NAME = "convert"
SUMMARY = "writes a prefix in another format"
DESCRIPTION = "Reads a prefix file of any kind, and writes it as one of ours or as a textual inversion."
EPILOGUE = """\
formats:
  prefix             our own: vectors, the record of how they were learned, a digest of both
  textual-inversion  for Automatic1111, Forge and diffusers' load_textual_inversion; SD1 and SDXL, if learned with
                     --no-conditional

  python -m trainer convert people.safetensors embeddings/people.safetensors --format textual-inversion
  python -m trainer convert apl.pt people.safetensors"""

FORMATS = {"prefix": save_prefix, "textual-inversion": save_textual_inversion}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("file", type=path_of, help="a prefix file, or a textual inversion (.safetensors, .pt, .bin)")
    parser.add_argument("output", type=path_of, help="the file to write; its name ends in .safetensors")
    parser.add_argument("--format", choices=list(FORMATS), default="prefix", help="see below (default: prefix)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Reads and writes.

    Raises:
        PrefixFileError: the file cannot be read or written, there is one of that name, or it is the same.
        PrefixMismatchError: the prefix cannot be a textual inversion.
    """
    prefix = load_prefix(options.file)
    if options.output.exists() and options.output.samefile(options.file):
        raise PrefixFileExistsError(f"'{shown(options.output)}' is the file to convert itself: name another output.")
    path = FORMATS[options.format](prefix, options.output, options.overwrite)
    return {**facts(prefix), "file": shown(path), "format": options.format, "report": f"Wrote {shown(path)}."}
