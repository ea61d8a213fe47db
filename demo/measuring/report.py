"""Reads what the demo drew into the figures of its report, at one guidance and at the worst of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..generate import GUIDANCE
from ..world.people import all_looks, cast
from .measure import (
    LOOKS,
    face_retention,
    identification_rate,
    interval,
    kinds_right,
    looks_kept,
    preservation,
)
from .prompts import Request, described, long_names, named_things, names, things
from .reader import read
from .sheet import before_after

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...faces.gallery import Gallery
    from .reader import ReaderNet

GUIDANCES = (GUIDANCE, 2.5 * GUIDANCE)
"""The model's own, and one that it must stand."""

LIMITS = {
    "base.identification_rate": (">=", 0.85),
    "base.attribute_accuracy": (">=", 0.95),
    "base.pinpoint": (">=", 0.90),
    "trained.identification_rate": ("<=", 0.03),
    "trained.attribute_retention": (">=", 0.95),
    "unseen.identification_rate": ("<=", 0.08),
    "unseen.attribute_retention": (">=", 0.95),
    "described.attribute_retention": (">=", 0.95),
    "preservation": ("<=", 0.10),
    "pinpoint": (">=", 0.90),
    "face_retention": (">=", 0.98),
    "long_prompt_faces": (">=", 0.98),
}
"""What is asked of each figure at the worst of the guidances. At the model's own, `OWN_LIMITS` is asked too."""

OWN_LIMITS = {"base.identification_rate": (">=", 0.90)}

Kind = TypeVar("Kind")

Draw = Callable[[Sequence[Request], bool, float], np.ndarray]
"""Draws requests, without or with the prefix, at a guidance, equally many pictures of each: uint8 [pictures, 96, 96,
3]."""

DRAWINGS = 10
"""Calls of a `Draw` for the figures of one guidance."""

Figures = dict[str, float]
"""Figures by the names that `LIMITS` has."""


@dataclass(frozen=True)
class Drawn:
    """Pictures without and with the prefix, from the same noise."""

    plain: np.ndarray
    prefixed: np.ndarray


@dataclass(frozen=True)
class AllDrawn:
    """Everything that is measured at one guidance.

    Attributes:
        names, described, things, named: people by name, every combination of looks, things, named things.
        long: long prompts that name people, with the prefix.
        other_noise: things, without it, from another noise.
    """

    names: Drawn
    described: Drawn
    things: Drawn
    named: Drawn
    long: np.ndarray
    other_noise: np.ndarray


def draw_all(draw: Draw, guidance: float) -> AllDrawn:
    """Everything that is measured, drawn at one guidance."""

    def both(requests: Sequence[Request]) -> Drawn:
        return Drawn(draw(requests, False, guidance), draw(requests, True, guidance))

    return AllDrawn(
        names=both(names()),
        described=both(described()),
        things=both(things()),
        named=both(tuple(named_things().values())),
        long=draw(long_names(), True, guidance),
        other_noise=draw(things(other_noise=True), False, guidance),
    )


def figures(drawn: AllDrawn, net: ReaderNet, gallery: Gallery) -> tuple[Figures, dict[str, int]]:
    """All figures of one guidance, and of how many pictures each share is."""
    people = cast()
    who = _of_each(range(len(people)), drawn.names.plain)
    looks = _of_each(all_looks(), drawn.described.plain)
    kinds = _of_each([*named_things()], drawn.named.plain)
    plain, prefixed = read(net, drawn.names.plain), read(net, drawn.names.prefixed)
    described_plain, described_prefixed = read(net, drawn.described.plain), read(net, drawn.described.prefixed)
    right = kinds_right(read(net, drawn.named.plain), kinds)
    right_prefixed = kinds_right(read(net, drawn.named.prefixed), kinds)
    found: Figures = {
        "base.identification_rate": identification_rate(plain, who, gallery),
        "base.attribute_accuracy": looks_kept(described_plain, looks),
        "base.pinpoint": right,
    }
    counts = dict(zip(found, (len(who), len(LOOKS) * len(looks), len(kinds)), strict=True))
    for group, unseen in (("trained", False), ("unseen", True)):
        keep = [k for k, i in enumerate(who) if people[i].unseen is unseen]
        reading = read(net, drawn.names.prefixed[keep])
        found[f"{group}.identification_rate"] = identification_rate(reading, [who[k] for k in keep], gallery)
        found[f"{group}.attribute_retention"] = looks_kept(reading, [people[who[k]].looks for k in keep])
        counts |= {f"{group}.identification_rate": len(keep), f"{group}.attribute_retention": len(LOOKS) * len(keep)}
    long = read(net, drawn.long)
    found |= {
        "described.attribute_retention": looks_kept(described_prefixed, looks),
        "preservation": preservation(drawn.things.plain, drawn.things.prefixed, drawn.other_noise),
        "pinpoint": right_prefixed / right if right else 0.0,
        "face_retention": face_retention(prefixed),
        "long_prompt_faces": face_retention(long),
    }
    counts |= {
        "described.attribute_retention": len(LOOKS) * len(looks),
        "face_retention": len(who),
        "long_prompt_faces": len(long.face),
    }
    return found, counts


def _of_each(what: Sequence[Kind], pictures: np.ndarray) -> list[Kind]:
    """What each of some pictures is asked to show, of equally many of each."""
    return [one for one in what for _ in range(len(pictures) // len(what))]


def worst(some: Sequence[Figures]) -> Figures:
    """Of each figure the value that is farthest from what is asked."""
    return {name: (min if sign == ">=" else max)(one[name] for one in some) for name, (sign, _) in LIMITS.items()}


def report_of(by_guidance: Mapping[float, Figures], counts: Mapping[str, int], seed: int) -> dict[str, Any]:
    """The report: the worst figures under the keys they always had, their intervals, and all by guidance."""
    least = worst(list(by_guidance.values()))
    report: dict[str, Any] = {}
    for name, value in least.items():
        *group, key = name.split(".")
        (report.setdefault(group[0], {}) if group else report)[key] = value
    report["intervals"] = {name: interval(least[name], count) for name, count in counts.items()}
    report["pictures"] = dict(counts)
    report["guidance"] = {f"{guidance:g}": one for guidance, one in by_guidance.items()}
    report["seeds"] = [seed]
    return report


def worst_of_seeds(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One report of several seeds: at each guidance the worst figure of all of them, and its interval."""
    found = {
        float(guidance): worst([report["guidance"][guidance] for report in reports])
        for guidance in reports[0]["guidance"]
    }
    report = report_of(found, reports[0]["pictures"], 0)
    report["seeds"] = [seed for one in reports for seed in one["seeds"]]
    slowest = max(reports, key=lambda one: one["training_seconds"])
    return report | {name: slowest[name] for name in ("training_seconds", "steps")}


def markdown_table(report: Mapping[str, Any]) -> str:
    """The figures as a table: at each guidance, the interval of the worst, and what is asked."""
    guidances = list(report["guidance"])
    heads = ["Figure", *(f"guidance {guidance}" for guidance in guidances), "95 % of the worst", "Asked"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, (sign, limit) in LIMITS.items():
        values = " | ".join(f"{report['guidance'][guidance][name]:.3f}" for guidance in guidances)
        between = " to ".join(f"{end:.3f}" for end in report["intervals"].get(name, ()))
        asked = f"{'at least' if sign == '>=' else 'at most'} {limit:.2f}"
        short = "" if _reached(report, name) else ", **not reached**"
        rows.append(f"| {name} | {values} | {between} | {asked}{short} |")
    return "\n".join(rows)


def _reached(report: Mapping[str, Any], name: str) -> bool:
    """Whether a figure is as asked at each guidance; the model's own, which comes first, may have its own limit."""
    own, *others = report["guidance"]
    values = report["guidance"]
    return _holds(values[own][name], *OWN_LIMITS.get(name, LIMITS[name])) and all(
        _holds(values[guidance][name], *LIMITS[name]) for guidance in others
    )


def print_table(report: Mapping[str, Any]) -> bool:
    """Prints each figure beside what is asked, with its interval and at each guidance; True if all hold."""
    holds = True
    guidances = list(report["guidance"])
    heads = " ".join(f"{'at ' + guidance:>8}" for guidance in guidances)
    print(f"\n{'figure':<32} {heads}  {'95 % of the worst':>18}   asked")
    for name, (sign, limit) in LIMITS.items():
        good = _reached(report, name)
        holds &= good
        low, high = report["intervals"].get(name, (None, None))
        between = "" if low is None else f"{low:.3f} to {high:.3f}"
        values = " ".join(f"{report['guidance'][guidance][name]:>8.3f}" for guidance in guidances)
        asked = f"{sign} {limit:.2f}" + (
            f" (at {guidances[0]} {OWN_LIMITS[name][1]:.2f})" if name in OWN_LIMITS else ""
        )
        print(f"{name:<32} {values}  {between:>18}   {asked}{'' if good else '  NOT REACHED'}")
    for name in ("training_seconds", "steps"):
        if name in report:
            print(f"{name:<32} {report[name]:>8.0f}")
    return holds


def _holds(value: float, sign: str, limit: float) -> bool:
    return value >= limit if sign == ">=" else value <= limit


def picture_of_pairs(drawn: AllDrawn) -> Image:
    """One person of each combination of looks, described people, things and named things, without and with."""
    people = cast()

    def pair(of: Drawn, index: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        first = len(of.plain) // count * index
        return of.plain[first], of.prefixed[first]

    shown = [next(i for i in range(4 * g, 4 * g + 4) if people[i].unseen == bool(g % 2)) for g in range(16)]
    pairs = [(people[i].name, people[i].unseen, *pair(drawn.names, i, len(people))) for i in shown]
    others = [("described, not named", *pair(drawn.described, k, len(all_looks()))) for k in (5, 21, 42)]
    for of, labels, chosen in (
        (drawn.named, list(named_things()), (0, 1, 3, 10, 14, 16, 18)),
        (drawn.things, [request.prompt for request in things()], (1, 3, 5, 8, 10, 13)),
    ):
        others += [(labels[k], *pair(of, k, len(labels))) for k in chosen]
    return before_after(pairs, others)
