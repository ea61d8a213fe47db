"""Tells an evaluation in plain words: its table, and what it rests on."""

from __future__ import annotations

from ...faces.report import aligned
from ..results import FIGURES, PLAIN, Evaluation

MEANINGS = {
    "identification_rate": "share of pictures in which the person named is found first among all known faces",
    "recognition_rate": "share of pictures whose face is, by the recognizer's threshold, the person's named",
    "identity_similarity_mean": "likeness of each person's faces to the person, averaged",
    "identity_similarity_max": "likeness of each person's most similar face, averaged over the people",
    "face_retention": "share of pictures in which a face is found",
    "attribute_retention": "share of the described looks that are there",
    "preservation": "how far prompts that name nobody moved, as a share of what another noise does",
    "clip_score": "how well pictures of prompts that name nobody fit their prompts, 0 to 100",
    "fid": "distance of those pictures' features from the others', as normal distributions",
    "kid": "the same distance by a kernel, unbiased for few pictures",
}


def table(evaluation: Evaluation) -> list[list[str]]:
    """The figures that were measured, a row each, under a row of the columns' names."""
    columns = evaluation.columns
    rows = [["", *(column.name for column in columns)]]
    for name, (title, _) in FIGURES.items():
        values = [getattr(column.scores, name) for column in columns]
        if any(value is not None for value in values):
            rows.append([title, *("–" if value is None else f"{value:.3f}" for value in values)])
    return rows


def describe(evaluation: Evaluation) -> str:
    """The verdict, the table, and what the figures rest on, a line each."""
    return "\n".join([*verdicts(evaluation), "", *aligned(table(evaluation)), "", *foundations(evaluation)])


def verdicts(evaluation: Evaluation) -> list[str]:
    """A sentence for each prefix; one for the plain model if there is none."""
    plain, *others = evaluation.columns
    before = plain.scores.identification_rate
    if before is None:
        return ["Who is recognized could not be measured: no face of the people is known."]
    if not others:
        return [f"Without a prefix the people named are found in {_percent(before)} of their pictures."]
    return [
        f"With '{column.name}' the people named are found in {_percent(rate)} of their pictures, without in"
        f" {_percent(before)}."
        for column in others
        if (rate := column.scores.identification_rate) is not None
    ]


def foundations(evaluation: Evaluation) -> list[str]:
    """What was drawn, read and compared, and how: a sentence or two each."""
    settings, recognizer, gallery = evaluation.settings, evaluation.recognizer, evaluation.gallery
    people, each = len(evaluation.names), len(settings.prompts) * settings.images_per_name
    drawing = ", ".join(f"{name} {value}" for name, value in evaluation.drawing.items())
    lines = [
        f"{people} people, pictures of each: {each}, of {'; '.join(settings.prompts)}. Seed {settings.seed}.",
        f"Drawn by {evaluation.model['family']} ({evaluation.model['digest']}) with {drawing}.",
        f"Faces were recognized by {recognizer['name']}; threshold {recognizer['threshold']:.3f}"
        f" ({recognizer['source']}).",
    ]
    if gallery["known"]:
        lines.append(
            f"Known faces of {gallery['known']} of {people} people, and {gallery['strangers']} of others to confuse"
            f" them: {gallery['source']}."
        )
    if settings.general_prompts:
        count = len(settings.general_prompts) * settings.images_per_prompt
        lines.append(f"{count} pictures of {len(settings.general_prompts)} prompts that name nobody.")
    if evaluation.quality:
        lines.append(f"Quality by {evaluation.quality}.")
    lines += [f"Column '{PLAIN}' is the plain model. Protocol version {evaluation.protocol}, {evaluation.date}."]
    return [*lines, *evaluation.notes]


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"
