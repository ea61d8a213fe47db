"""Checks embeddings before people may use them behind a prefix: the command `check-embeddings`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..prefix import load_prefix
from ..prefix.errors import shown
from ..runs.paths import path_of
from .console import Console
from .model import load_denoiser
from .options import add_drawing, add_model

if TYPE_CHECKING:
    from ..evaluation.embedding_check import EmbeddingCheck

NAME = "check-embeddings"
SUMMARY = "tells whether embeddings undo a prefix, or say a person"
DESCRIPTION = """\
Tells of each embedding (textual inversion) whether names behind it are read as without the prefix, and whether it says
one of the people of a list by itself. For whoever lists embeddings for a server that enforces. Text encoders alone are
asked: an embedding that passes here may still get around a prefix by what the denoiser makes of it, or say somebody
who is not on the list."""
EPILOGUE = """\
  python -m trainer check-embeddings studio.safetensors models/embeddings/*.safetensors --names people.txt --model sd15

Each embedding gets two figures, of the person for whom they are worst:
  held   how much of what the prefix does to a name is left behind it: 1 all, 0 nothing
  apart  how far a portrait with it is from that person's: 1 as far as anybody's, 0 it is that person
Below 0.5 it is told as suspect; scripts read it with --json | jq .suspect"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("prefix", type=path_of, help="the prefix file of the server")
    parser.add_argument("embeddings", type=path_of, nargs="+", help="textual inversions (.safetensors, .pt, .bin)")
    parser.add_argument(
        "--names", type=path_of, metavar="FILE", required=True, help="people who must not be drawn, one a line"
    )
    add_model(parser)
    add_drawing(parser)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Loads prefix, embeddings and model, and asks.

    Raises:
        AnonymizationError: as `load_prefix`, `load_denoiser` and `check_embedding` say, of the file that it is about.
    """
    prefix = load_prefix(options.prefix)
    embeddings = {shown(path): load_prefix(path) for path in options.embeddings}
    from ..evaluation.embedding_check import check_embedding
    from ..trainer.data.identities import parse_identities
    from ..trainer.data.list_text import text_of_file

    names = [person.name for person in parse_identities(text_of_file(options.names))]
    denoiser = load_denoiser(options, console)
    found = {}
    with console.progress_report() as report:
        for number, (file, embedding) in enumerate(embeddings.items()):
            report(f"reading with {file}", number, len(embeddings))
            found[file] = check_embedding(denoiser, prefix, embedding.vectors, names)
        report("reading", len(embeddings), len(embeddings))
    return {
        "embeddings": {file: dataclasses.asdict(check) for file, check in found.items()},
        "suspect": [file for file, check in found.items() if check.is_suspect],
        "report": described(found),
    }


def described(found: Mapping[str, EmbeddingCheck]) -> str:
    """A line for each embedding, and what to do."""
    lines = [
        f"{'SUSPECT' if check.is_suspect else 'passes':<8} {file}: held {check.held:.2f}"
        f" (worst for {shown(check.undone_for)}), apart {check.apart:.2f} (nearest to {shown(check.says)})"
        for file, check in found.items()
    ]
    if any(check.is_suspect for check in found.values()):
        lines.append("Take the suspect ones out of the server's models/embeddings, or refuse embeddings altogether.")
    return "\n".join(lines)
