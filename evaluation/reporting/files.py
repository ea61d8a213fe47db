"""Writes the files of an evaluation, each whole or not at all: JSON, CSV, and a page that needs nothing else."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...faces.palette import FAINT, INK, SOFT, css
from ...prefix import MeasurementError, as_markup, put_whole
from ..results import FIGURES, Evaluation, to_csv, to_json
from .report import MEANINGS, foundations, table, verdicts

TITLE = "Evaluation of anonymization prefixes"

STYLE = f"""
body {{ font: 15px/1.5 system-ui, sans-serif; color: {css(INK)}; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid {css(FAINT)}; text-align: left; vertical-align: top; }}
td.figure, th.figure {{ text-align: right; font-variant-numeric: tabular-nums; }}
small {{ color: {css(SOFT)}; }}
img {{ width: 96px; height: auto; display: block; }}
img.small {{ image-rendering: pixelated; }}
"""

POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src'
    " 'unsafe-inline'\">"
)
"""Whatever a text might smuggle in, a browser runs and loads nothing on this page."""

SMALL = 96
"""Thumbnails of no more pixels than this are shown with their pixels."""


@dataclass(frozen=True)
class Files:
    """Where an evaluation lies."""

    json: Path
    csv: Path
    html: Path


def write_files(evaluation: Evaluation, folder: Path) -> Files:
    """Writes `evaluation.json`, `.csv` and `.html`; makes the folder if need be, replaces what was there.

    Raises:
        MeasurementError: the folder cannot be written to.
    """
    files = Files(*(folder / f"evaluation.{kind}" for kind in ("json", "csv", "html")))
    texts = ((files.json, to_json), (files.csv, to_csv), (files.html, to_html))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, write in texts:
            put_whole(write(evaluation).encode(), path, overwrite=True)
    except OSError as error:
        raise MeasurementError(
            f"The results could not be saved in '{folder}' ({error.strerror or error}): make it a folder that has room"
            " and can be written to, and start again; what was drawn is kept."
        ) from error
    return files


def to_html(evaluation: Evaluation) -> str:
    """The table of all columns, examples without and with each prefix, each person's figures, and how it was measured.

    No scripts, no links to other files; pictures are inside.
    """
    parts = [
        f"<p>{'<br>'.join(map(as_markup, verdicts(evaluation)))}</p>",
        _figures(evaluation),
        _examples(evaluation),
        _people(evaluation),
        "<h2>How it was measured</h2>",
        *(f"<p>{as_markup(line)}</p>" for line in foundations(evaluation)),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{POLICY}<title>{TITLE}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{TITLE}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _figures(evaluation: Evaluation) -> str:
    head, *rows = table(evaluation)
    titles = {title: (name, better) for name, (title, better) in FIGURES.items()}
    cells = []
    for title, *values in rows:
        name, better = titles[title]
        told = f"{as_markup(title)} <small>({better} is better)<br>{as_markup(MEANINGS[name])}</small>"
        cells.append(f"<tr><td>{told}</td>{''.join(_figure(value) for value in values)}</tr>")
    return f"<table><tr><th></th>{_heads(head[1:])}</tr>\n" + "\n".join(cells) + "</table>"


def _figure(text: str) -> str:
    return f'<td class="figure">{as_markup(text)}</td>'


def _heads(names: list[str]) -> str:
    return "".join(f'<th class="figure">{as_markup(name)}</th>' for name in names)


def _examples(evaluation: Evaluation) -> str:
    if not evaluation.examples:
        return ""
    names = "".join(f"<th>{as_markup(column.name)}</th>" for column in evaluation.columns)
    rows = [
        f"<tr><td>{as_markup(example.prompt)}</td>"
        + "".join(f"<td>{_image(picture, example.prompt)}</td>" for picture in example.pictures)
        + "</tr>"
        for example in evaluation.examples
    ]
    return f"<h2>The same prompts and noises</h2>\n<table><tr><th></th>{names}</tr>\n" + "\n".join(rows) + "</table>"


def _image(picture: np.ndarray, prompt: str) -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    small = ' class="small"' if max(picture.shape[:2]) <= SMALL else ""
    png = base64.b64encode(data.getvalue()).decode()
    return f'<img{small} alt="{as_markup(prompt)}" src="data:image/png;base64,{png}">'


def _people(evaluation: Evaluation) -> str:
    names = [column.name for column in evaluation.columns]
    rows = []
    for people in zip(*(column.people for column in evaluation.columns), strict=True):
        found = [_count(person.identified, person.pictures) for person in people]
        alike = ["–" if person.similarity_mean is None else f"{person.similarity_mean:.2f}" for person in people]
        rows.append(f"<tr><td>{as_markup(people[0].name)}</td>{''.join(map(_figure, [*found, *alike]))}</tr>")
    groups = "".join(f'<th colspan="{len(names)}">{title}</th>' for title in ("found first", "mean similarity"))
    return (
        f"<h2>Each person</h2>\n<table><tr><th></th>{groups}</tr><tr><th></th>{_heads(names + names)}</tr>\n"
        + "\n".join(rows)
        + "</table>"
    )


def _count(some: int | None, of: int) -> str:
    return "–" if some is None else f"{some} of {of}"
