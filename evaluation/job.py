"""Runs the paper's evaluation: draws, reads and scores, in one job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..engines.denoiser import Denoiser
from ..engines.micro_batches import MicroBatches
from ..faces.gallery import NOBODY, STRANGER, Gallery, join
from ..faces.recognizer import Knows, Recognizer, Report
from ..prefix import MeasurementError, Prefix, require_family, require_fit, seal
from ..trainer.data.identities import Identity
from .general_prompts import GeneralPromptScores
from .picture_requests import PictureRequest, general, portraits, strangers
from .picture_sets import EvaluationContext, PictureSet, open_picture_set
from .quality import FEW, Quality
from .reporting.examples import EXAMPLES, examples_of
from .results import PLAIN, Column, Evaluation
from .scores import score_column, score_people
from .settings import PROTOCOL_VERSION, EvaluationSettings

DEFAULTS = EvaluationSettings()

DRAWN_BY_THE_MODEL = "pictures that the plain model drew of them in other noise"


def evaluate(
    denoiser: Denoiser,
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
    """Scores the plain model ("none") and prefixes on the same prompts and noises, side by side.

    The protocol is docs/METHODS.md 1.6, the figures are 1.8.

    Args:
        denoiser: draws the pictures, by its own sampler and decoder.
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
        MeasurementError: the recognizer or the quality scores cannot run, or there is nobody to measure.
        PrefixMismatchError: a prefix does not fit the denoiser's text encoders, or is of another family.
        TrainingError: there is not enough memory for a single picture.
    """
    _require_sound(denoiser, identities, prefixes)
    known = _known(recognizer, identities, gallery)
    columns: dict[str, Prefix | None] = {PLAIN: None, **prefixes}
    requests = _requests(identities, settings, known)
    progress = _Progress(report, _work(requests, len(columns)))
    micro_batches, sets_in_all = MicroBatches(denoiser, settings.batch_size), 2 * len(columns) + 3
    context = EvaluationContext(denoiser, recognizer, micro_batches, progress.tick, runs, sets_in_all)
    with ExitStack() as stack:
        drawn = _drawn(stack, context, requests, columns)
        faces = join([known, *_drawn_faces(drawn, requests)])
        scored = _scored(columns, identities, requests["portraits"], drawn, faces, context, quality)
        examples = (
            *examples_of(drawn.named, len(identities), EXAMPLES[0]),
            *examples_of(drawn.unnamed, len(settings.general_prompts), EXAMPLES[1]),
        )
        trouble = dict.fromkeys(each.trouble for each in drawn.all if each.trouble)
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
        quality="" if quality is None or not drawn.unnamed else quality.name,
        columns=scored,
        notes=(*_notes(identities, faces, quality, requests), *trouble),
        examples=examples,
    )


Requests = Mapping[str, Sequence[PictureRequest]]
"""What is drawn: portraits and general prompts by every column, the rest by the plain model alone."""


@dataclass(frozen=True)
class _Drawn:
    """All pictures of an evaluation.

    Attributes:
        named, unnamed: of people, and of general prompts, by each column.
        extra: what the plain model drew beside: other noise, references, strangers.
    """

    named: Mapping[str, PictureSet]
    unnamed: Mapping[str, PictureSet]
    extra: Mapping[str, PictureSet]

    @property
    def all(self) -> Sequence[PictureSet]:
        """Every set, in the order in which they are drawn."""
        return [*self.named.values(), *self.unnamed.values(), *self.extra.values()]


def _requests(identities: Sequence[Identity], settings: EvaluationSettings, known: Gallery) -> Requests:
    return {
        "portraits": portraits(identities, settings),
        "general": general(settings),
        "other noise": general(settings, "other noise"),
        "references": portraits(identities, settings, known.missing(len(identities)), "references"),
        "strangers": [] if known.strangers else strangers(identities, settings),
    }


def _drawn(
    stack: ExitStack, context: EvaluationContext, requests: Requests, columns: Mapping[str, Prefix | None]
) -> _Drawn:
    """Opens every set of pictures for as long as the stack is, and draws what is missing of each."""

    def opened(kind: str, prefix: Prefix | None = None) -> PictureSet:
        return stack.enter_context(open_picture_set(context, requests[kind], prefix))

    drawn = _Drawn(
        named={name: opened("portraits", prefix) for name, prefix in columns.items()},
        unnamed={name: opened("general", prefix) for name, prefix in columns.items()} if requests["general"] else {},
        extra={kind: opened(kind) for kind in ("other noise", "references", "strangers") if requests[kind]},
    )
    for each in drawn.all:
        each.draw()
    return drawn


def _drawn_faces(drawn: _Drawn, requests: Requests) -> Iterable[Gallery]:
    """Faces that the plain model drew, of people of whom none is known and of strangers."""
    for kind, source in (("references", DRAWN_BY_THE_MODEL), ("strangers", "strangers it drew")):
        if kind in drawn.extra:
            yield drawn.extra[kind].read().gallery([request.person for request in requests[kind]], source)


class _Progress:
    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def tick(self, count: int) -> None:
        self._done += count
        self._report(self._done, self._total)


def _scored(
    columns: Mapping[str, Prefix | None],
    identities: Sequence[Identity],
    requests: Sequence[PictureRequest],
    drawn: _Drawn,
    faces: Gallery,
    context: EvaluationContext,
    quality: Quality | None,
) -> tuple[Column, ...]:
    """The figures of each column; `requests` are those of the portraits."""
    general_scores = GeneralPromptScores(drawn.unnamed, drawn.extra.get("other noise"), context, quality)
    recognizer, found = context.recognizer, []
    for name, prefix in columns.items():
        readings = drawn.named[name].read()
        people = score_people(
            [identity.name for identity in identities],
            [request.person for request in requests],
            readings,
            faces,
            recognizer.similarities,
            recognizer.threshold.value,
        )
        preservation, of_quality = general_scores.of(name)
        scores = score_column(people, readings, preservation=preservation, **vars(of_quality))
        found.append(Column(name, None if prefix is None else seal(prefix.parameters, {}), scores, people))
    return tuple(found)


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
        same = seen.setdefault(seal(prefix.parameters, {}), name)
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


def _work(requests: Requests, columns: int) -> int:
    """How many pictures are drawn, read and compared in all."""
    portraits, general = len(requests["portraits"]), len(requests["general"])
    once = len(requests["other noise"]) + 2 * len(requests["references"]) + 2 * len(requests["strangers"])
    return columns * 2 * (portraits + general) + once


def _notes(
    identities: Sequence[Identity],
    faces: Gallery,
    quality: Quality | None,
    requests: Requests,
) -> Iterable[str]:
    missing = [identities[person].name for person in faces.missing(len(identities))]
    if missing:
        yield f"No face is known of {', '.join(missing)}: they count for retention only."
    if requests["references"]:
        yield (
            f"For {len({request.person for request in requests['references']})} of {len(identities)} people"
            " no photo was given:"
            f" {DRAWN_BY_THE_MODEL} stand for their faces, which says whether the model still draws the same person,"
            " not whether that person looks like the real one."
        )
    if quality is not None and 0 < len(requests["general"]) < FEW:
        yield f"FID and KID of {len(requests['general'])} pictures say little: ask for {FEW} or more."
