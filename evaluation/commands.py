"""Adds the options of an evaluation to a command line, and reads them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engines.automatic import USUAL
from ..engines.denoiser import Denoiser
from ..engines.options import Drawing
from ..faces.recognizer import Place, Recognizer, Report
from ..prefix import SUFFIX, MeasurementError, Prefix, load_prefix, save_prefix
from ..prefix.errors import shown
from ..runs.paths import path_of, require_writable_file, require_writable_folder
from ..runs.settings import add_option
from ..trainer.data.identities import Identity, parse_identities
from ..trainer.data.list_text import text_of_file
from ..trainer.data.prompts import lines_of
from .job import evaluate
from .photos import gallery_of_folder, photos_below
from .quality import load_quality
from .reporting.files import Files, write_files
from .reporting.report import describe
from .results import Evaluation, scored
from .settings import CLIP_MODEL, NO_QUALITY, EvaluationSettings, QualitySettings

DEFAULTS = EvaluationSettings()


@dataclass(frozen=True)
class Asked:
    """What a command line asks to evaluate; see `job.evaluate`.

    Attributes:
        files: the prefixes' files, by the names of `prefixes`.
    """

    identities: tuple[Identity, ...]
    prefixes: dict[str, Prefix]
    files: dict[str, Path]
    settings: EvaluationSettings


def add_arguments(parser: argparse.ArgumentParser, output: Path, steps: int = 0, guidance: float = 0.0) -> None:
    """The arguments that every engine's evaluation has; `steps` and `guidance` are for the engine to heed.

    Args:
        output: the default folder for results.
        steps, guidance: defaults of the sampler; 0 is the model's usual one.
    """
    add = parser.add_argument
    add("prefixes", nargs="*", type=path_of, metavar="PREFIX", help="prefix files; none measures the plain model alone")
    add("--names", type=path_of, help="text file with one 'Name: description' a line")
    add("--prompt", action="append", help=f"what to draw of each person ({DEFAULTS.prompts[0]}); may be given again")
    add("--general-prompts", type=path_of, help="text file with prompts that name nobody, one a line (a built-in list)")
    for name, flag in (
        ("images_per_name", "--images"),
        ("images_per_prompt", "--general-images"),
        ("strangers", ""),
        ("seed", ""),
        ("batch_size", ""),
    ):
        add_option(parser, EvaluationSettings, name, flag, getattr(DEFAULTS, name))
    add_option(parser, Drawing, "steps", default=steps, shown=str(steps or USUAL))
    add_option(parser, Drawing, "cfg", "--guidance", guidance, str(guidance or USUAL))
    add("--references", type=path_of, help="folder with photos: 'Name.jpg', 'Name 2.jpg', 'Name/1.jpg', …")
    add_option(parser, QualitySettings, "quality", default=NO_QUALITY)
    add("--real", type=path_of, help="folder with real pictures for FID and KID (else: the plain model's)")
    add_option(parser, QualitySettings, "clip_model", default=CLIP_MODEL)
    add("--output", type=path_of, default=output, help="folder for results (%(default)s)")
    add("--write-scores", action="store_true", help="write the figures into the prefix files' records")


def asked(
    arguments: argparse.Namespace,
    identities: Sequence[Identity] = (),
    general_prompts: Sequence[str] = DEFAULTS.general_prompts,
) -> Asked:
    """What `add_arguments` was given.

    Args:
        identities: whom to measure if no list is named.
        general_prompts: likewise.

    Raises:
        AnonymizationError: a file cannot be read or holds nothing of use, or nothing can be written where it is to be.
    """
    if arguments.names is not None:
        identities = parse_identities(text_of_file(arguments.names))
    if arguments.general_prompts is not None:
        general_prompts = lines_of(text_of_file(arguments.general_prompts))
    prefixes, files = {}, {}
    for path in arguments.prefixes:
        name = shown(path.stem if path.stem not in prefixes else path)
        prefixes[name], files[name] = load_prefix(path), path
        if arguments.write_scores:
            if path.suffix != SUFFIX or not prefixes[name].record.fingerprint:
                raise MeasurementError(
                    f"'{shown(path.name)}' is no file of ours and can carry no scores: leave out --write-scores, or"
                    " save it with Save Anonymization Prefix first."
                )
            require_writable_file(path, "A prefix file that scores are to be written into,")
    require_writable_folder(arguments.output, "--output")
    settings = EvaluationSettings(
        prompts=tuple(arguments.prompt or DEFAULTS.prompts),
        general_prompts=tuple(general_prompts) if arguments.general_images else (),
        images_per_name=arguments.images,
        images_per_prompt=arguments.general_images or 1,
        strangers=arguments.strangers,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    return Asked(tuple(identities), prefixes, files, settings)


def evaluate_asked(
    denoiser: Denoiser,
    recognizer: Recognizer,
    arguments: argparse.Namespace,
    what: Asked,
    drawing: Mapping[str, Any],
    weights: Path,
    place: Place,
    report: Report,
    download: Report,
) -> Evaluation:
    """Evaluates what a command line asks for, with photos and quality if it names them; broken off, it goes on.

    Args:
        drawing: see `job.evaluate`.
        weights: the folder for Inception's weights.
        place: brings a network to its device.
        report: called with what is done and all there is to do.
        download: called with received and all bytes while weights are downloaded.

    Raises:
        AnonymizationError: as `job.evaluate`; photos cannot be read, or what measures quality is missing.
    """
    gallery = quality = None
    if arguments.references is not None:
        gallery = gallery_of_folder(recognizer, what.identities, arguments.references)
    if arguments.quality != NO_QUALITY:
        real = [] if arguments.real is None else [photo for _, photo in photos_below(arguments.real)]
        quality = load_quality(arguments.quality, [weights], place, download, real, arguments.clip_model)
    return evaluate(
        denoiser,
        recognizer,
        what.identities,
        what.prefixes,
        what.settings,
        drawing=drawing,
        gallery=gallery,
        quality=quality,
        runs=arguments.output / "runs",
        report=report,
    )


def finish(
    evaluation: Evaluation, arguments: argparse.Namespace, what: Asked, say: Callable[[str], object] = print
) -> Files:
    """Says what was found, writes the results, and the scores into the prefix files if that was asked for.

    Raises:
        AnonymizationError: something cannot be written.
    """
    files = write_files(evaluation, arguments.output)
    say(f"\n{describe(evaluation)}\n\n{shown(files.html)}\n{shown(files.json)}\n{shown(files.csv)}")
    if arguments.write_scores:
        for name, path in what.files.items():
            save_prefix(scored(what.prefixes[name], evaluation), path, overwrite=True)
            say(f"Scores written into {shown(path)}")
    return files


def show_progress(what: str, write: Callable[[str], object] = sys.stderr.write) -> Report:
    """Says how far that is, at each full percent."""
    said = [-1]

    def report(done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent > said[0]:
            said[0] = percent
            write(f"\r{what}: {percent} %" + ("\n" if done >= total else ""))

    return report
