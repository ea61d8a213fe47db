"""Describes the faces in a folder of pictures: the command `describe`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..prefix.errors import DescriptionError, shown
from ..runs.paths import path_of
from ..runs.settings import add_option, all_described
from .console import Console

if TYPE_CHECKING:
    from ..captions.describing import DescribingSettings
    from ..captions.readers import LooksReader
    from ..faces.recognizer import Finder

NAME = "describe"
SUMMARY = "describes the faces in a folder of pictures"
DESCRIPTION = """\
Describes the face in each picture of a folder in words: hair, skin, glasses, beard, age. What the reader is not sure of
is left out. No names, moles, scars or ethnicity get into a description unless they are asked for."""
EPILOGUE = """\
  python -m trainer describe photos/ --clip clip-vit-large-patch14
  python -m trainer describe people/ --clip clip-vit-large-patch14 --form identities --output people.txt

The second makes the list of people for 'train --identities'. A file is called by its person; numbers, dates and "copy"
after the name do not matter. First and last name ("Ada Example 2.jpg") count in any folder. Else the nearest folder
counts ("Ada Example/2.jpg"), passing over years and words such as images, photos, train or front; where there is none,
the file's name again ("Ada 2.jpg"). What cameras call pictures (IMG_1234) is nobody's name. Of several photos of a
person the majority counts.

Nothing that is there already is overwritten without --overwrite. Broken off, the same command goes on where it was."""

KEPT = "What was read is kept: the same command goes on."
"""What a person is told who breaks it off."""

CLIP, DEMO = "clip", "demo reader"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from ..captions.describing import DescribingSettings
    from ..captions.folder import FORMS, IDENTITIES_FILE, METADATA_FILE, TEXTS

    parser.add_argument("folder", type=path_of, help="the pictures, in it and below")
    parser.add_argument(
        "--form",
        choices=FORMS,
        default=TEXTS,
        help=f"a .txt beside each picture, one {METADATA_FILE}, or lines for Identity List (%(default)s)",
    )
    parser.add_argument(
        "--output", type=path_of, metavar="FILE", help=f"of the form identities (default: {IDENTITIES_FILE} in FOLDER)"
    )
    parser.add_argument("--overwrite", action="store_true", help="describe anew what has a description")
    parser.add_argument("--reader", choices=(CLIP, DEMO), default=CLIP, help="who reads looks (%(default)s)")
    parser.add_argument(
        "--clip",
        type=path_of,
        metavar="FOLDER",
        help="for the reader clip: a model as the Hugging Face hub has it",
    )
    parser.add_argument(
        "--calibrate",
        type=path_of,
        metavar="TABLE",
        help="describe nothing: correct how sure the reader is, by a CSV table of known answers (columns: file, and"
        " attributes), and keep that beside the model",
    )
    parser.add_argument("--device", metavar="NAME", default="cpu", help="cuda, mps, cpu, … (%(default)s)")
    group = parser.add_argument_group("describing")
    for about in all_described(DescribingSettings):
        add_option(group, DescribingSettings, about.name)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Describes, or calibrates.

    Raises:
        DescriptionError: see `captions.folder.describe_folder`, or a reader's model is missing.
        MeasurementError: facenet-pytorch is missing.
    """
    from ..captions.describing import DescribingSettings
    from ..captions.folder import FolderJob, describe_folder, require_startable
    from ..trainer.data.identities import parse_identities
    from ..trainer.data.list_text import sameness

    names = [about.name for about in all_described(DescribingSettings)]
    settings = DescribingSettings(**{n: getattr(options, n) for n in names if getattr(options, n) is not None})
    if options.calibrate is not None:
        return _calibrate(options, settings, console)
    job = FolderJob(options.folder, options.form, options.output, options.overwrite, sameness, parse_identities)
    require_startable(job, settings)
    finder, reader = _finder_and_reader(options, settings)
    with console.progress_report() as progress_report:
        result = describe_folder(
            job, finder, reader, settings, lambda done, total: progress_report("describing", done, total)
        )
    described = [one for one in result.descriptions if one.described]
    findings = {result.names[one.picture]: one.finding for one in result.descriptions if one.finding}
    findings |= dict(result.folders)
    if not described and not result.untouched:
        name, finding = next(iter(findings.items()))
        raise DescriptionError(f"No picture could be described; {shown(name)}: {finding.rstrip('.')}.")
    return {
        "described": len(described),
        "untouched": result.untouched,
        "files": [shown(path) for path in result.files],
        "captions": {result.names[one.picture]: one.caption for one in described},
        "findings": findings,
        "people": {person.name: person.description for person in result.people},
        "report": _report(result, reader.name),
    }


def _report(result: Any, reader: str) -> str:
    from ..captions.report import report_of_people, report_of_pictures

    if result.people:
        lines = [report_of_people(result.people, reader, result.nameless, result.folders)]
    else:
        lines = [report_of_pictures(result.descriptions, result.names.__getitem__, reader)]
    if result.untouched:
        lines.append(f"{result.untouched} had a description already and stay as they are (--overwrite).")
    if result.trouble:
        lines.append(result.trouble)
    if result.files:
        lines.append(f"Written: {shown(result.files[0]) if len(result.files) == 1 else f'{len(result.files)} files'}.")
    return "\n".join(lines)


def _finder_and_reader(options: argparse.Namespace, settings: DescribingSettings) -> tuple[Finder, LooksReader]:
    """What finds faces, and what reads them."""
    if options.reader == DEMO:
        from ..demo.measuring.looks_reader import DemoLooksReader
        from ..demo.measuring.recognizer import DemoRecognizer

        return DemoRecognizer(), DemoLooksReader(settings.attributes)
    from ..captions.zero_shot_clip import load_clip_reader
    from ..faces.facenet import load_mtcnn

    def place(network: Any) -> None:
        network.to(options.device)

    if options.clip is None:
        raise DescriptionError(
            "No CLIP model was named: name a folder that holds one with --clip, such as openai/clip-vit-large-patch14"
            " of the Hugging Face hub, or choose --reader 'demo reader' for pictures of the demo model."
        )
    return load_mtcnn(place), load_clip_reader(options.clip, settings.attributes, place, settings.only_photographs)


def _calibrate(options: argparse.Namespace, settings: DescribingSettings, console: Console) -> dict[str, Any]:
    """Fits temperatures on pictures whose answers are known."""
    from ..captions.calibration import FEWEST, FILE, fit, read_known_answers, save_temperatures
    from ..captions.describing import describe, in_order
    from ..faces.picture_files import read_picture

    if options.reader != CLIP or options.clip is None:
        raise DescriptionError("Only the reader 'clip' is calibrated: name its folder with --clip.")
    kept: Path = options.clip / FILE
    if kept.exists() and not options.overwrite:
        raise DescriptionError(f"'{shown(kept)}' is there already: remove it, or give --overwrite.")
    finder, reader = _finder_and_reader(options, settings)
    plain = getattr(reader, "uncalibrated", reader)
    known = list(read_known_answers(options.calibrate, plain.attributes).items())
    for file, _ in known:
        if not (options.folder / file).is_file():
            raise DescriptionError(
                f"'{shown(options.calibrate)}' names '{shown(file)}', which is not in '{shown(options.folder)}':"
                " correct the name, or take the line out."
            )
    pictures = ((number, read_picture(options.folder / file)) for number, (file, _) in enumerate(known))
    with console.progress_report() as progress_report:
        told = in_order(
            describe(pictures, finder, plain, settings, lambda n, all: progress_report("reading", n, all), len(known))
        )
    seen = [one for one in told if one.described]
    read = {one.name: [face.probabilities[one.name] for face in seen] for one in plain.attributes}
    temperatures = fit(plain.attributes, read, [known[one.picture][1] for one in seen])
    if not temperatures:
        raise DescriptionError(
            f"Too little is known: fill in at least {FEWEST} pictures with a face for one of the attributes."
        )
    save_temperatures(temperatures, kept)
    lines = [f"{name}: temperature {value:.2f}" for name, value in temperatures.items()]
    return {"temperatures": temperatures, "files": [shown(kept)], "report": "\n".join([*lines, f"Written: {kept}"])}
