"""Without this module the paper's evaluation would be a page of instructions: draws, reads and scores, in one job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..faces.gallery import NOBODY, STRANGER, Gallery, join
from ..faces.recognizer import Knows, Recognizer, Report
from ..prefix import MeasurementError, Prefix, require_family, require_fit, seal
from ..trainer.denoiser import Denoiser
from ..trainer.identities import Identity
from ..trainer.portions import Portions
from .album import Album, Decode, Studio, opened
from .examples import EXAMPLES, examples_of
from .moves import Moves
from .quality import FEW, Quality
from .results import PLAIN, Column, Evaluation
from .scores import Scores, score_column, score_people
from .settings import PROTOCOL_VERSION, EvaluationSettings
from .shots import Shot, general, portraits, strangers

if TYPE_CHECKING:
    from .readings import Readings

DEFAULTS = EvaluationSettings()

DRAWN_BY_THE_MODEL = "pictures that the plain model drew of them in other noise"


def evaluate(
    denoiser: Denoiser,
    decode: Decode,
    recognizer: Recognizer,
    identities: Sequence[Identity],
    prefixes: Mapping[str, Prefix],
    settings: EvaluationSettings = DEFAULTS,
    *,
    drawing: Mapping[str, Any],
    gallery: Gallery | None = None,
    quality: Quality | None = None,
    runs: Path | None = None,
    report: Report = lambda done, total: None,
) -> Evaluation:
    """Scores the plain model ("none") and prefixes on the same prompts and noises, side by side (METHODS.md 1.6, 1.8).

    Args:
        denoiser: draws the pictures, by its own sampler.
        decode: see `Decode`.
        recognizer: finds and compares faces; if it `Knows` people or `SeesLooks`, it is asked for that too.
        identities: people whom the prefixes were, better, not learned on.
        prefixes: by the name that each is to have in the table; none measures the plain model alone.
        drawing: sampler, steps and guidance of the denoiser, JSON values, to be told beside the figures.
        gallery: faces of the people, by their place in `identities`. For people who are not in it the recognizer is
            asked, and else pictures that the plain model draws of them in other noise stand in.
        quality: what measures CLIP score, FID and KID; None leaves them out.
        runs: the folder in which pictures and readings are kept as they come, so that whatever breaks the job off, the
            same call goes on where it was, and a further prefix costs its own pictures only; None keeps nothing.
        report: called with what is done and all there is to do after every few pictures; may raise to break off.

    Raises:
        MeasurementError: the recognizer or the quality meters cannot run, or there is nobody to measure.
        PrefixMismatchError: a prefix does not fit the denoiser's text encoders, or is of another family.
        TrainingError: there is not enough memory for a single picture.
    """
    _require_sound(denoiser, identities, prefixes)
    known = _known(recognizer, identities, gallery)
    columns: dict[str, Prefix | None] = {PLAIN: None, **prefixes}
    shots = {
        "portraits": portraits(identities, settings),
        "general": general(settings),
        "other noise": general(settings, "other noise"),
        "references": portraits(identities, settings, known.missing(len(identities)), "references"),
        "strangers": [] if known.strangers else strangers(identities, settings),
    }
    progress = _Progress(report, _work(shots, len(columns)))
    portions, albums_in_all = Portions(denoiser, settings.batch_size), 2 * len(columns) + 3
    studio = Studio(denoiser, decode, recognizer, portions, progress.tick, runs, albums_in_all)
    with ExitStack() as stack:

        def album(kind: str, prefix: Prefix | None = None) -> Album:
            return stack.enter_context(opened(studio, shots[kind], prefix))

        named = {name: album("portraits", prefix) for name, prefix in columns.items()}
        unnamed = {name: album("general", prefix) for name, prefix in columns.items()} if shots["general"] else {}
        extra = {kind: album(kind) for kind in ("other noise", "references", "strangers") if shots[kind]}
        albums = [*named.values(), *unnamed.values(), *extra.values()]
        for each in albums:
            each.draw()
        drawn = [
            extra[kind].read().gallery([shot.person for shot in shots[kind]], source)
            for kind, source in (("references", DRAWN_BY_THE_MODEL), ("strangers", "strangers it drew"))
            if kind in extra
        ]
        faces = join([known, *drawn])
        moves = Moves(unnamed, extra.get("other noise"), studio, quality)
        scored = []
        for name, prefix in columns.items():
            readings = named[name].read()
            scored.append(_column(name, prefix, identities, shots["portraits"], readings, faces, moves, recognizer))
        examples = [
            *examples_of(named, len(identities), EXAMPLES[0]),
            *examples_of(unnamed, len(settings.general_prompts), EXAMPLES[1]),
        ]
        trouble = dict.fromkeys(each.trouble for each in albums if each.trouble)
    return Evaluation(
        protocol=PROTOCOL_VERSION,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model={"family": denoiser.family, "fingerprint": denoiser.fingerprint, "digest": denoiser.digest},
        drawing=dict(drawing),
        settings=settings,
        names=tuple(identity.name for identity in identities),
        recognizer={
            "name": recognizer.name,
            "threshold": recognizer.threshold.value,
            "source": recognizer.threshold.source,
        },
        gallery={
            "source": faces.source,
            "known": len(identities) - len(faces.missing(len(identities))),
            "strangers": faces.strangers,
        },
        quality="" if quality is None or not unnamed else quality.name,
        columns=tuple(scored),
        notes=(*_notes(identities, faces, quality, shots), *trouble),
        examples=tuple(examples),
    )


class _Progress:
    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def tick(self, count: int) -> None:
        self._done += count
        self._report(self._done, self._total)


def _column(
    name: str,
    prefix: Prefix | None,
    identities: Sequence[Identity],
    shots: Sequence[Shot],
    readings: Readings,
    faces: Gallery,
    moves: Moves,
    recognizer: Recognizer,
) -> Column:
    people = score_people(
        [identity.name for identity in identities],
        [shot.person for shot in shots],
        readings,
        faces,
        recognizer.similarities,
        recognizer.threshold.value,
    )
    preservation, quality = moves.of(name)
    scores: Scores = score_column(people, readings, preservation=preservation, **vars(quality))
    return Column(name, None if prefix is None else seal(prefix.vectors, {}), scores, people)


def _require_sound(denoiser: Denoiser, identities: Sequence[Identity], prefixes: Mapping[str, Prefix]) -> None:
    """Refuses before anything is drawn what would fail, or mislead, after hours."""
    if not identities:
        raise MeasurementError("There is nobody to measure: name at least one person.")
    widths = {key: table.shape[1] for key, table in denoiser.token_embeddings("").items()}
    seen: dict[str, str] = {}
    for name, prefix in prefixes.items():
        if name == PLAIN:
            raise MeasurementError(f"A prefix cannot be called '{PLAIN}', the plain model's column: rename it.")
        require_family(prefix.record, widths)
        require_fit(prefix.vectors, widths)
        same = seen.setdefault(seal(prefix.vectors, {}), name)
        if same != name:
            raise MeasurementError(f"'{same}' and '{name}' are the same prefix: remove one of the two.")


def _known(recognizer: Recognizer, identities: Sequence[Identity], gallery: Gallery | None) -> Gallery:
    """The faces given, completed by those that the recognizer knows."""
    given = gallery or NOBODY
    if not given.missing(len(identities)) or not isinstance(recognizer, Knows):
        return given
    told = recognizer.gallery([identity.name for identity in identities])
    new = ~np.isin(told.people, [person for person in given.people.tolist() if person != STRANGER])
    return join([given, Gallery(told.embeddings[new], told.people[new], told.source)])


def _work(shots: Mapping[str, Sequence[Shot]], columns: int) -> int:
    """How many pictures are drawn, read and compared in all."""
    portraits, general = len(shots["portraits"]), len(shots["general"])
    once = len(shots["other noise"]) + 2 * len(shots["references"]) + 2 * len(shots["strangers"])
    return columns * 2 * (portraits + general) + once


def _notes(
    identities: Sequence[Identity], faces: Gallery, quality: Quality | None, shots: Mapping[str, Sequence[Shot]]
) -> Iterable[str]:
    missing = [identities[person].name for person in faces.missing(len(identities))]
    if missing:
        yield f"No face is known of {', '.join(missing)}: they count for retention only."
    if shots["references"]:
        yield (
            f"For {len({shot.person for shot in shots['references']})} of {len(identities)} people no photo was given:"
            f" {DRAWN_BY_THE_MODEL} stand for their faces, which says whether the model still draws the same person,"
            " not whether that person looks like the real one."
        )
    if quality is not None and 0 < len(shots["general"]) < FEW:
        yield f"FID and KID of {len(shots['general'])} pictures say little: ask for {FEW} or more."
