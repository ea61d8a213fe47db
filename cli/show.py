"""Tells what is in a prefix file, and how it was learned: the command `show`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..prefix import Prefix, load_prefix
from ..prefix.errors import shown
from ..prefix.layers import told
from ..runs.paths import path_of
from .console import Console

NAME = "show"
SUMMARY = "tells what is in a prefix file"
DESCRIPTION = "Tells what is in a prefix file: its text encoders, and the record of how it was learned."
EPILOGUE = """\
Reads our own files and textual inversions (.safetensors, .pt, .bin); nothing in them is executed.

  python -m trainer show people.safetensors
  python -m trainer show people.safetensors --json | jq .scores"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("file", type=path_of, help="a prefix file, or a textual inversion")


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Reads the file.

    Raises:
        PrefixFileError: as `load_prefix`.
    """
    prefix = load_prefix(options.file)
    return {**facts(prefix), "file": shown(options.file), "report": describe(prefix, options.file)}


def facts(prefix: Prefix) -> dict[str, Any]:
    """What a script may want to know of a prefix, JSON values."""
    record = json.loads(prefix.record.to_json())
    return {**record, "vectors": prefix.length, "widths": prefix.widths}


def describe(prefix: Prefix, path: Path) -> str:
    """The same for a person."""
    record = prefix.record
    encoders = ", ".join(f"{key} ({width} wide)" for key, width in prefix.widths.items())
    rows = {
        "file": shown(path),
        "name": record.name,
        "vectors": str(prefix.length),
        "text encoders": encoders,
        "family": record.family or "not known",
        "learned at": ", ".join(f"{told(layers)} ({key})" for key, layers in record.layers.items())
        or "the usual layer of each text encoder",
        "learned on": record.fingerprint or "not known",
        "people": str(record.identities) if record.identities else "not known",
        "steps": str(record.steps) if record.steps else "not known",
        "date": record.date,
        **{name.replace("_", " "): f"{score:g}" for name, score in record.scores.items()},
        "settings": ", ".join(f"{name} {value}" for name, value in record.settings.items() if value != ""),
        "notes": record.notes,
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items() if value)
