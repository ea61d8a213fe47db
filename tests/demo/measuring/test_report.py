"""The report: the worst of the guidances counts, shares come with their intervals, and what falls short is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonymize_faces.demo import figures
from anonymize_faces.demo.figures import PAGE, done, marks, with_table
from anonymize_faces.demo.kept import digest_of_inputs
from anonymize_faces.demo.loader import KINDS
from anonymize_faces.demo.measuring.measure import interval, kinds_right, make_gallery
from anonymize_faces.demo.measuring.prompts import (
    Request,
    described,
    long_names,
    named_things,
    names,
    things,
)
from anonymize_faces.demo.measuring.reader import Reading, load_reader
from anonymize_faces.demo.measuring.report import (
    DRAWINGS,
    GUIDANCES,
    LIMITS,
    OWN_LIMITS,
    draw_all,
    markdown_table,
    picture_of_pairs,
    print_table,
    report_of,
    worst,
    worst_of_seeds,
)
from anonymize_faces.demo.measuring.report import figures as figures_of
from anonymize_faces.demo.world.people import all_looks, cast
from anonymize_faces.demo.world.renderer import LANDMARKS, MASCOTS, picture_of, portrait, random_picture
from anonymize_faces.demo.world.renderer import draw_all as render

GOOD = {name: limit for name, (_, limit) in LIMITS.items()} | {name: limit for name, (_, limit) in OWN_LIMITS.items()}


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert interval(0.0, 192) == pytest.approx((0.0, 0.0196), abs=2e-4)
    assert interval(0.5, 64) == pytest.approx((0.381, 0.619), abs=1e-3)
    assert interval(1.0, 10) == pytest.approx((0.722, 1.0), abs=1e-3)
    assert interval(0.3, 0) == (0.0, 1.0)


def test_named_things_are_right_where_the_kind_that_is_read_is_the_one_asked_for() -> None:
    looks = (all_looks()[0],) * 3
    reading = Reading(np.zeros(3, bool), np.zeros((3, 2)), looks, ("Mount Karuk", "person", "Pengu"))
    assert kinds_right(reading, ["Mount Karuk", "Pengu", "Pengu"]) == pytest.approx(2 / 3)


def test_the_worst_guidance_counts_whichever_way_a_figure_is_asked() -> None:
    other = GOOD | {"preservation": 0.5, "face_retention": 0.2, "pinpoint": 1.0}
    found = worst([GOOD, other])
    assert found["preservation"] == 0.5 and found["face_retention"] == 0.2 and found["pinpoint"] == GOOD["pinpoint"]


def test_the_report_keeps_its_keys_and_gains_guidance_seeds_and_intervals(capsys) -> None:
    counts = dict.fromkeys(LIMITS, 64)
    report = report_of(dict.fromkeys(GUIDANCES, GOOD), counts, 3)
    assert set(report) >= {"base", "trained", "unseen", "preservation", "face_retention"}
    assert set(report) >= {"guidance", "seeds", "intervals", "pinpoint", "long_prompt_faces"}
    assert report["trained"] == {"identification_rate": 0.03, "attribute_retention": 0.95}
    assert report["seeds"] == [3] and list(report["guidance"]) == ["2", "5"]
    assert print_table(report) and "NOT REACHED" not in capsys.readouterr().out


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_a_figure_that_falls_short_at_either_guidance_is_said(guidance: float, capsys) -> None:
    short = GOOD | {"unseen.identification_rate": 0.09}
    report = report_of({one: short if one == guidance else GOOD for one in GUIDANCES}, {}, 0)
    assert not print_table(report)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "NOT REACHED" in line]
    assert line.startswith("unseen.identification_rate")


def test_the_worst_of_seeds_is_the_worst_at_each_guidance() -> None:
    counts = dict.fromkeys(LIMITS, 64) | {"unseen.identification_rate": 64}
    reports = [
        report_of({2.0: GOOD | {"unseen.identification_rate": low}, 5.0: GOOD | {"preservation": moved}}, counts, seed)
        | {"training_seconds": 100 + seed, "steps": 150}
        for seed, (low, moved) in enumerate(((0.01, 0.3), (0.2, 0.1), (0.05, 0.2)))
    ]
    report = worst_of_seeds(reports)
    assert report["seeds"] == [0, 1, 2] and report["training_seconds"] == 102
    assert report["guidance"]["2"]["unseen.identification_rate"] == report["unseen"]["identification_rate"] == 0.2
    assert report["guidance"]["5"]["preservation"] == report["preservation"] == 0.3
    assert (
        "| unseen.identification_rate | 0.200 | 0.080 | 0.120 to 0.314 | at most 0.08, **not reached** |"
        in markdown_table(report)
    )


def test_a_models_table_stands_between_its_marks_and_nothing_else_is_touched() -> None:
    tables = {model: f"{marks(model)[0]}\nold {model}\n{marks(model)[1]}" for model in KINDS}
    page = "before\n{classic}\nbetween\n{modern}\nafter\n".format(**tables)
    for model in KINDS:
        assert with_table(page, "new", model) == page.replace(f"old {model}", "new")
        with pytest.raises(SystemExit, match="no place"):
            with_table("before", "new", model)


def test_the_page_of_figures_has_a_place_for_each_models_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(with_table(page, "new", model) for model in KINDS)


def test_the_figures_of_all_seeds_of_each_model_are_written_and_a_shortfall_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, int]] = []

    def run(folder: Path, seed: int, model: str) -> dict[str, Any]:
        ran.append((model, seed))
        short = GOOD | {"preservation": 0.05 + 0.01 * seed + 0.5 * (model == "modern")}
        report = report_of(dict.fromkeys(GUIDANCES, short), dict.fromkeys(LIMITS, 64), seed)
        return report | {"training_seconds": 9.0, "steps": 150}

    page = tmp_path / "page.md"
    page.write_text("\n".join(f"{one}:\n{marks(one)[0]}\n{marks(one)[1]}\n" for one in KINDS), encoding="utf-8")
    monkeypatch.setattr(figures, "run", run)
    monkeypatch.setattr("sys.argv", ["figures", "--output", str(tmp_path), "--page", str(page)])
    with pytest.raises(SystemExit, match="falls short"):
        figures.main()
    assert ran == [(model, seed) for model in KINDS for seed in (0, 1, 2)]
    classic, modern = page.read_text(encoding="utf-8").split("modern:")
    assert "seeds 0, 1, 2; 150 steps" in classic and "| preservation | 0.070 |" in classic
    assert "| preservation | 0.570 |" in modern
    assert json.loads((tmp_path / "modern.json").read_text(encoding="utf-8"))["model"] == "modern"


def test_a_seed_that_is_done_is_not_done_again_unless_something_changed(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert done(file, 1, "classic") is None
    file.write_text(json.dumps({"inputs": digest_of_inputs(seed=1, model="classic", short=True)}))
    assert done(file, 1, "classic") is None
    file.write_text(json.dumps({"inputs": digest_of_inputs(seed=1, model="classic", short=False)}))
    assert done(file, 1, "classic") is not None
    assert done(file, 2, "classic") is None and done(file, 1, "modern") is None
    file.write_text("[1")
    assert done(file, 1, "classic") is None


def test_at_its_own_guidance_the_model_must_draw_more_of_its_people() -> None:
    less = GOOD | {"base.identification_rate": 0.86}
    assert print_table(report_of({2.0: GOOD, 5.0: less}, {}, 0))
    assert not print_table(report_of({2.0: less, 5.0: GOOD}, {}, 0))


def test_everybody_every_combination_of_looks_and_every_named_thing_is_drawn() -> None:
    assert len(names()) == len(cast()) and len(described()) == len(all_looks()) == 48
    assert list(named_things()) == [*LANDMARKS, *MASCOTS]
    some = [*names(), *described(), *things(), *things(other_noise=True), *named_things().values(), *long_names()]
    assert len({request.seed for request in some}) == len(some)
    unseen = [person.name for person in cast() if person.unseen]
    assert [name in request.prompt for name, request in zip(unseen, long_names(), strict=True)] == [True] * 16
    assert len({request.prompt.index("a portrait of") for request in long_names()}) == 3


def test_as_many_drawings_are_told_as_are_made() -> None:
    asked: list[int] = []

    def draw(requests: Sequence[Request], prefixed: bool, guidance: float) -> np.ndarray:
        asked.append(len(requests))
        return np.zeros((3 * len(requests), 1, 1, 3), np.uint8)

    draw_all(draw, 2.0)
    assert len(asked) == DRAWINGS


def test_figures_are_of_as_many_pictures_of_each_prompt_as_are_drawn() -> None:
    """Of some prompts the short form draws fewer than of others; who is who must not move by it."""
    reader, gallery = load_reader(), make_gallery(load_reader())
    rng = np.random.default_rng(3)
    people = render([picture_of(rng, person, index) for index, person in enumerate(cast())])
    looks = render([portrait(rng, look, cast()[0].geometry) for look in all_looks()])
    kinds = render([random_picture(rng, kind) for kind in named_things()])
    others, elsewhere = (render([random_picture(rng, "house") for _ in things()]) for _ in range(2))

    def draw(requests: Sequence[Request], prefixed: bool, guidance: float) -> np.ndarray:
        shown = {64: people, 48: looks, 24: kinds}.get(len(requests), others)
        shown = elsewhere if requests == things(other_noise=True) else shown
        return np.repeat(shown, requests[0].in_short, axis=0)

    drawn = draw_all(draw, 2.0)
    found, counts = figures_of(drawn, reader, gallery)
    assert found["base.identification_rate"] > 0.95 and found["base.attribute_accuracy"] > 0.95
    assert found["base.pinpoint"] > 0.95 and found["pinpoint"] == 1.0 and found["preservation"] == 0.0
    assert counts["base.identification_rate"] == 128 and counts["base.pinpoint"] == 48
    assert picture_of_pairs(drawn).width > 100
