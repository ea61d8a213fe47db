"""Plays the attacker on the photographs of two folders: the command `attack`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..finetuning.settings import FinetuningSettings
from ..photos.settings import UNSEEN_PROMPTS, AttackSettings
from ..prefix.errors import PhotoError, shown
from ..runs.paths import path_of, require_writable_folder
from ..runs.run_folder import kept_until_written, remove_if_empty, run_key
from ..runs.settings import add_option, all_described
from .console import Console
from .evaluate import add_recognizer, recognizer_of
from .model import load_denoiser
from .options import add_drawing, add_model

if TYPE_CHECKING:
    from ..photos.attack import Attacked, PhotoSubject
    from ..photos.own_files import OwnFiles

NAME = "attack"
SUMMARY = "trains on photos as an attacker would, and says whether the person is still drawn"
DESCRIPTION = """\
Plays the attacker: trains a copy of the model on the original and on the protected photos, draws the person with both,
and says how often the person is recognized. The model is not changed."""
EPILOGUE = """\
  python -m trainer attack protected/ --original photos/ --model stable-diffusion-v1-5 --output attacked/

Both folders hold the same photos under the same names. Draw with other prompts than the photos were protected with, try
every kind of attacker, and every purification: what fails against one of them is no protection. Broken off, the same
command goes on where it was."""

KEPT = "What was learned is kept, if it is less than 2 GB: the same command goes on."
"""What a person is told who breaks it off."""

RUNS = ".anonymize-faces-runs"
"""Folder of unfinished runs, in the output."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("protected", type=path_of, metavar="FOLDER", help="the protected photos")
    parser.add_argument("--original", type=path_of, required=True, metavar="FOLDER", help="the photos as they were")
    parser.add_argument("--strangers", type=path_of, metavar="FOLDER", help="photos of others, to rank among")
    parser.add_argument("--output", type=path_of, default=Path("attack"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures that are there already")
    add_option(parser, AttackSettings, "purification", default=AttackSettings.purification)
    parser.add_argument("--prompt", action="append", help=f"what is drawn ({UNSEEN_PROMPTS[0]}, …); may be given again")
    add_option(parser, AttackSettings, "images_per_prompt", "--images", AttackSettings.images_per_prompt)
    group = parser.add_argument_group("attacker")
    for about in all_described(FinetuningSettings):
        flag = "--attacker" if about.name == "kind" else ""
        add_option(group, FinetuningSettings, about.name, flag, default=about.default)
    add_model(parser)
    add_drawing(parser)
    add_recognizer(parser)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Attacks twice, compares, writes what was drawn.

    Raises:
        AnonymizationError: anything in the way, as `photos_in`, `attack` and `load_pipeline` say.
    """
    from ..finetuning.progress import FinetuningCallbacks
    from ..photos.attack import TITLES, attack_both, gallery_of, person_of
    from ..photos.folders import photos_in, write_pictures
    from ..photos.levels import picture_digest
    from ..photos.own_files import OwnFiles
    from ..photos.report import describe_attacks

    how = _how(options)
    places = [options.output / title for title in TITLES]
    require_writable_folder(options.output, "--output")
    _require_apart(places, [options.original, options.protected, options.strangers])
    originals, protected = photos_in(options.original), photos_in(options.protected)
    if [photo.name for photo in originals] != [photo.name for photo in protected]:
        raise PhotoError(
            f"'{shown(options.original)}' and '{shown(options.protected)}' do not hold photos of the same names: put"
            " the same photos into both."
        )
    asked = {name: str(value) for name, value in vars(options).items() if name != "overwrite" and not callable(value)}
    photos = [picture_digest(photo.pixels) for photo in (*originals, *protected)]
    own_files = OwnFiles(options.output / RUNS, run_key(asked=asked, photos=photos))
    if not options.overwrite:
        _require_empty(places, own_files)
    denoiser = load_denoiser(options, console)

    def place(network: Any) -> None:
        network.to(options.device or denoiser.device)

    with kept_until_written(), console.progress_report() as progress_report:
        recognizer = recognizer_of(
            options, place, lambda received, of: progress_report("downloading weights", received, of)
        )
        others = None
        if options.strangers is not None:
            others = gallery_of(recognizer, [photo.pixels for photo in photos_in(options.strangers)])
        person = person_of(recognizer, [photo.pixels for photo in originals], others)
        found = attack_both(
            denoiser,
            recognizer,
            [photo.pixels for photo in originals],
            [photo.pixels for photo in protected],
            person,
            how,
            report=lambda title, done, of: progress_report(f"attacking the {title}", done, of),
            learning=FinetuningCallbacks(plan=lambda plan: console.say(plan.words)),
            runs=options.output / RUNS,
        )
        for folder, attacked in zip(places, found, strict=True):
            write_pictures(attacked.pictures, folder, own_files.note)
    own_files.forget()
    remove_if_empty(options.output / RUNS)
    told = describe_attacks(*found, how, person, recognizer.threshold)
    figures = {title: _figures(attacked, person) for title, attacked in zip(TITLES, found, strict=True)}
    return {**figures, "report": f"{told}\n\nWrote what was drawn to {shown(options.output)}."}


def _how(options: argparse.Namespace) -> AttackSettings:
    names = [about.name for about in all_described(FinetuningSettings) if about.name != "kind"]
    finetuning = FinetuningSettings(kind=options.attacker, **{name: getattr(options, name) for name in names})
    prompts = tuple(options.prompt or UNSEEN_PROMPTS)
    return AttackSettings(finetuning, options.purification, prompts=prompts, images_per_prompt=options.images)


def _require_apart(places: Sequence[Path], inputs: Sequence[Path | None]) -> None:
    """Raises `PhotoError` if what is drawn would lie among photos that are read, or these among what is drawn."""
    for place in places:
        for folder in inputs:
            if folder is None:
                continue
            there, read = place.resolve(), folder.resolve()
            if there.is_relative_to(read) or read.is_relative_to(there):
                raise PhotoError(
                    f"What is drawn would be written to '{shown(place)}', among the photos of '{shown(folder)}': name"
                    " another --output."
                )


def _require_empty(places: Sequence[Path], own_files: OwnFiles) -> None:
    """Raises `PhotoError` if there are files in one of the places, other than this run's, broken off while it wrote."""
    for place in places:
        if any(path.is_file() and path not in own_files for path in place.rglob("*")):
            raise PhotoError(
                f"There are files in '{shown(place)}' already: name another --output, or give --overwrite."
            )


def _figures(attacked: Attacked, subject: PhotoSubject) -> dict[str, float | None]:
    return {
        "recognized": attacked.recognized,
        "first": attacked.first if subject.gallery.strangers else None,
        "similarity": attacked.similarity,
        "faces": attacked.faces,
    }
