"""Protects the photographs of a folder: the command `protect`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..photos.settings import ProtectionSettings
from ..prefix.errors import PhotoError, shown
from ..runs.paths import path_of, require_writable_folder
from ..runs.run_folder import kept_until_written, remove_if_empty, run_key
from ..runs.settings import add_option, all_described
from .console import Console
from .model import finding_on, load_denoiser
from .options import add_drawing, add_model

if TYPE_CHECKING:
    import numpy as np

    from ..photos.folders import Photo
    from ..photos.own_files import OwnFiles

NAME = "protect"
SUMMARY = "changes photos a little, so that models trained on them learn something else"
DESCRIPTION = """\
Changes the photos of one person by a few levels of brightness, so that models of this family that are trained on them
learn something else. It raises the cost of one misuse, no more."""
EPILOGUE = """\
  python -m trainer protect photos/ --output protected/ --model stable-diffusion-v1-5 --budget 8

The photos lie in one folder, are of one person and of any size; protect them at the size at which you publish them.
They are written under their own names as PNG, turned as their EXIF data say, without EXIF data. Broken off, be it while
it writes, the same command goes on where it was.

what it does not do: nothing against IP-Adapter, InstantID, PuLID and models that edit pictures; little against other
model families; re-saving, resizing, screenshots and upscalers weaken it; whoever has unprotected photos of the same
person does not need these; a published photo cannot be strengthened later. Try it with 'python -m trainer attack'."""

KEPT = "Unless said otherwise above, what was done is kept: the same command goes on."
"""What a person is told who breaks it off."""

RUNS = ".anonymize-faces-runs"
"""Folder of unfinished runs, in the output."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("photos", type=path_of, metavar="FOLDER", help="the photos of one person")
    parser.add_argument("--output", type=path_of, required=True, metavar="FOLDER", help="where protected photos go")
    parser.add_argument(
        "--pull-towards", type=path_of, metavar="FILE", help="a picture of something else (drawn, if none)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    group = parser.add_argument_group("protecting")
    for about in all_described(ProtectionSettings):
        add_option(group, ProtectionSettings, about.name, default=about.default)
    add_model(parser)
    add_drawing(parser)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Reads, protects, writes, and reads again what was written.

    Raises:
        AnonymizationError: anything in the way, as `photos_in`, `protect` and `load_pipeline` say.
    """
    from ..photos.faces import told_of_faces
    from ..photos.folders import photos_in, unread_in, write_photos
    from ..photos.levels import picture_digest
    from ..photos.own_files import OwnFiles
    from ..photos.protect import ProtectionCallbacks, protect
    from ..photos.report import describe_protection

    settings = ProtectionSettings(
        **{about.name: getattr(options, about.name) for about in all_described(ProtectionSettings)}
    )
    require_writable_folder(options.output, "--output")
    if options.output.resolve().is_relative_to(options.photos.resolve()):
        raise PhotoError(
            "--output lies in the folder of the photos, and would be taken for photos: name another place."
        )
    photos = photos_in(options.photos)
    asked = {name: str(value) for name, value in vars(options).items() if name != "overwrite" and not callable(value)}
    same = run_key(asked=asked, photos=[picture_digest(photo.pixels) for photo in photos])
    own_files = OwnFiles(options.output / RUNS, same)
    if not options.overwrite:
        _require_free(options.output, [photo.name for photo in photos], own_files)
    denoiser = load_denoiser(options, console)
    of_faces = told_of_faces(finding_on(denoiser.device), [photo.pixels for photo in photos])
    with kept_until_written(), console.progress_report() as progress_report:
        protected = protect(
            denoiser,
            [photo.pixels for photo in photos],
            settings,
            target=None if options.pull_towards is None else _photo(options.pull_towards),
            callbacks=ProtectionCallbacks(
                lambda done, of: progress_report("protecting", done, of),
                tell=console.say,
                plan=lambda plan: console.say(plan.words),
            ),
            runs=options.output / RUNS,
        )
        written = write_photos(photos, protected.photos, options.output, own_files.note)
        files = [_told(photo, path, data) for photo, (path, data) in zip(photos, written, strict=True)]
    own_files.forget()
    remove_if_empty(options.output / RUNS)
    transparent = [photo.name for photo in photos if photo.alpha is not None]
    notes = (
        [f"Transparent in places, which stays as it is: {', '.join(map(shown, transparent))}."] if transparent else []
    )
    if unread := unread_in(options.photos):
        notes.append(
            f"Not read, and so not protected: {', '.join(map(shown, unread))}. Save them as JPEG or PNG, and protect"
            " them as well."
        )
    report = "\n".join(
        [describe_protection(protected, settings, of_faces), *notes, f"Wrote {len(files)} files to {options.output}."]
    )
    return {"files": files, "passes": protected.passes, "seconds": round(protected.seconds, 2), "report": report}


def _told(photo: Photo, path: Path, data: bytes) -> dict[str, Any]:
    """What is said of a file, which is read again for that."""
    from ..photos.folders import reread
    from ..photos.levels import largest_change, psnr

    written = reread(data)
    ratio = psnr(photo.pixels, written)
    return {
        "file": shown(path),
        "largest_change": largest_change(photo.pixels, written),
        "psnr": round(ratio, 2) if math.isfinite(ratio) else None,
    }


def _photo(path: Path) -> np.ndarray:
    from ..photos.folders import photo_of

    return photo_of(path).pixels


def _require_free(folder: Path, names: list[str], own_files: OwnFiles) -> None:
    files = {name: folder / f"{name}.png" for name in names}
    there = [name for name, file in files.items() if file.exists() and file not in own_files]
    if there:
        raise PhotoError(
            f"There is a file '{shown(there[0])}.png' in --output already: name another folder, or give --overwrite."
        )
