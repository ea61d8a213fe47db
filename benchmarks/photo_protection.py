"""Measures how well photos of strangers are protected on the demo model: who is found once an attacker learned on them.

Each stranger has four photos that the attacker learns from and four others that know them, beside 100 strangers of the
same looks. The attacker draws in words that no protection saw, and a picture counts as found if the person ranks first.
Intervals are of 95 %, by resampling people. `--quick` is a form of minutes; without it every method, budget and
purification is tried, which takes hours on two cores: what came of each row and person is kept, and a command that was
broken off, or another one that asks for more, goes on from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..demo.generate import FEW_STEPS
from ..demo.host import enter_host
from ..demo.measuring.recognizer import DemoRecognizer
from ..demo.world.people import STRANGERS_PER_PERSON
from ..engines.options import Drawing
from ..finetuning.loop import RECIPE as LEARNED
from ..finetuning.settings import KINDS, FinetuningSettings
from ..photos.attack import RECIPE as ATTACKED
from ..photos.attack import attack
from ..photos.levels import picture_digest
from ..photos.protect import RECIPE as PROTECTED
from ..photos.protect import ProtectedPhotos, protect
from ..photos.settings import (
    JPEG,
    METHODS,
    NO_PURIFICATION,
    NOTHING,
    PAPER,
    PURIFICATIONS,
    RANDOM,
    RESAVING,
    AttackSettings,
    ProtectionSettings,
)
from ..prefix import put_whole
from ..runs.run_folder import run_key
from ..tools.command import run_command
from ..tools.layout import BUILD
from .support.larger_vae import larger_vae
from .support.strangers import PHOTOS, stranger

PEOPLE, QUICK_PEOPLE = 8, 2
LARGER_MINUTES = 8
RELEASED_STEPS = 120
"""Steps of the released code's second script."""

NO_METHOD = "none"
KEPT = BUILD / "photo_protection"

DEFAULT, MIDDLE = ProtectionSettings().method, 16
BUDGETS = (4, 8, 16, 32)
RESAMPLED = 2000


@dataclass(frozen=True)
class MethodRow:
    """What is tried on every stranger."""

    method: str = NO_METHOD
    budget: int = MIDDLE
    withstand: str = NOTHING
    purification: str = NO_PURIFICATION
    attacker: str = KINDS[0]
    protected: int = PHOTOS

    @property
    def title(self) -> str:
        """The row's first columns."""
        size = "" if self.method == NO_METHOD else f"{self.budget}"
        kept = " withstand" if self.withstand != NOTHING else ""
        share = "" if self.protected == PHOTOS else f" ({self.protected} of {PHOTOS})"
        return f"{self.method + kept + share:<30}{size:>3}  {self.purification:<20}{self.attacker:<10}"


@dataclass(frozen=True)
class RowOutcome:
    """What came of a row for one person, as JSON keeps it.

    Attributes:
        first: share of the attacker's pictures in which the person ranks first.
        similarity: of these pictures to the person, mean.
        photos: the same of the photos themselves, as the attacker has them.
        psnr: of each protected photo, dB.
        seconds: that protecting took.
    """

    first: float
    similarity: float
    photos: float
    psnr: tuple[float, ...] = ()
    seconds: float = 0.0


class KeptOutcomes:
    """A folder with a file for each row and person, named by a digest of all that it follows from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> RowOutcome | None:
        """What was kept; None if nothing was, or cannot be read."""
        try:
            told = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            return RowOutcome(**{**told, "psnr": tuple(told["psnr"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, outcome: RowOutcome) -> None:
        """Takes an outcome down."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(dataclasses.asdict(outcome)).encode()
        put_whole(content, self._folder / f"{key}.json", overwrite=True)


@dataclass(frozen=True)
class Found:
    """What came of a row, by person."""

    outcomes: tuple[RowOutcome, ...]

    @property
    def rank1(self) -> np.ndarray:
        """Share of pictures in which each person ranks first."""
        return np.array([outcome.first for outcome in self.outcomes])

    def line(self, title: str) -> str:
        """The row for people."""
        low, high = interval(self.rank1)
        similarity = np.mean([outcome.similarity for outcome in self.outcomes])
        own = np.mean([outcome.photos for outcome in self.outcomes])
        psnr = [value for outcome in self.outcomes for value in outcome.psnr]
        quality = f"{np.mean(psnr):5.1f}" if psnr else "    –"
        seconds = np.mean([outcome.seconds for outcome in self.outcomes])
        return (
            f"{title} {self.rank1.mean():6.3f} [{low:.2f}, {high:.2f}]  {similarity:6.3f}  {own:6.3f}  {quality}"
            f" {seconds:7.1f}"
        )


def main() -> None:
    """Prints a table, and the figures that are asked for last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PEOPLE} people and the rows that count")
    parser.add_argument("--people", type=int, help=f"strangers ({PEOPLE}, quick {QUICK_PEOPLE})")
    parser.add_argument("--steps", type=int, default=0, help="of protecting and of the attacker (the usual numbers)")
    parser.add_argument("--methods", nargs="+", choices=(NO_METHOD, *METHODS), help="rows of these methods alone (all)")
    parser.add_argument("--budgets", nargs="+", type=int, choices=BUDGETS, help="rows of these budgets alone (all)")
    parser.add_argument("--keep", type=Path, default=KEPT, help="the folder where it keeps what came of each row")
    parser.add_argument(
        "--larger",
        type=float,
        nargs="?",
        const=LARGER_MINUTES,
        metavar="MINUTES",
        help=f"with a larger VAE, trained for so long first ({LARGER_MINUTES})",
    )
    options = parser.parse_args()
    people = options.people or (QUICK_PEOPLE if options.quick else PEOPLE)
    bench = Bench(people, options.keep, options.steps, options.larger)
    wanted = options.methods or (NO_METHOD, *METHODS), options.budgets or BUDGETS
    rows = [
        row
        for row in (QUICK if options.quick else FULL)
        if row.method in wanted[0] and (row.budget in wanted[1] or row.method == NO_METHOD)
    ]
    if not rows:
        parser.error("no row is of these methods and budgets")
    print(f"{len(bench.strangers)} strangers, {PHOTOS} photos each, {STRANGERS_PER_PERSON} others of the same looks\n")
    head = f"{'protection':<29}{'levels':>5} {'purification':<20}{'attacker':<10}"
    print(f"{head} rank-1 [95 %]         alike   photos   PSNR  seconds")
    found = {}
    for row in rows:
        found[row] = bench.try_on_all(row)
        print(found[row].line(row.title), flush=True)
    default = MethodRow(DEFAULT)
    for row in rows:
        if row.method not in (NO_METHOD, DEFAULT) and (row.purification, row.attacker) == (NO_PURIFICATION, KINDS[0]):
            best = found.get(MethodRow(DEFAULT, row.budget))
            if best is not None:
                differences = found[row].rank1 - best.rank1
                low, high = interval(differences)
                print(
                    f"{row.method} at {row.budget} less {DEFAULT}: {differences.mean():+.3f} [{low:+.2f}, {high:+.2f}]"
                )
    asked = {
        "clean": MethodRow(),
        "random": MethodRow(RANDOM),
        "protected": default,
        "jpeg": MethodRow(DEFAULT, withstand=RESAVING, purification=JPEG),
    }
    for name, row in asked.items():
        if row in found:
            print(f"RATE photo_rank1_{name} {found[row].rank1.mean():.3f}")
    print(f"RATIO photo_passes {bench.passes_to_released():.3f}")


QUICK = (MethodRow(), MethodRow(RANDOM), MethodRow(DEFAULT), MethodRow(DEFAULT, withstand=RESAVING, purification=JPEG))
FULL = tuple(
    dict.fromkeys(
        (
            *QUICK,
            *(MethodRow(method, budget) for budget in BUDGETS for method in METHODS),
            *(MethodRow(purification=how) for how in PURIFICATIONS[1:]),
            *(
                MethodRow(DEFAULT, withstand=kept, purification=how)
                for kept in (NOTHING, RESAVING)
                for how in PURIFICATIONS[1:]
            ),
            MethodRow(DEFAULT, withstand=RESAVING),
            MethodRow(DEFAULT, protected=1),
            MethodRow(DEFAULT, protected=2),
            *(MethodRow(method, attacker=kind) for kind in KINDS[1:] for method in (NO_METHOD, DEFAULT)),
        )
    )
)
"""All rows; the method that is the default is among the others."""


class Bench:
    """The demo model, and strangers whose photos are protected once for each way of doing it.

    Args:
        people: strangers.
        keep: the folder of `KeptOutcomes`.
        steps: of protecting and of the attacker; 0: the usual numbers. Else pictures are drawn in few, too.
        larger: minutes that a larger VAE is trained for, see `support.larger_vae`; None: the model's own.
    """

    def __init__(self, people: int, keep: Path, steps: int = 0, larger: float | None = None) -> None:
        enter_host()
        from ..demo.loader import load_demo_model
        from ..engines.comfy.denoiser import ComfyDenoiser

        model, clip, vae = load_demo_model()
        if larger is not None:
            vae = larger_vae(vae, keep, larger)
        usual = model.model.model_config.usual_drawing
        self._drawing = Drawing(FEW_STEPS if steps else usual.steps, usual.cfg)
        self._denoiser: Any = ComfyDenoiser(model, clip, vae, (usual.side, usual.side), self._drawing)
        self._recognizer = DemoRecognizer()
        self._kept = KeptOutcomes(keep)
        self._steps = steps
        self._protecting = ProtectionSettings(steps=steps or ProtectionSettings().steps)
        self.strangers = [stranger(self._recognizer, number) for number in range(people)]
        self._protected: dict[tuple[int, ProtectionSettings], ProtectedPhotos] = {}

    def try_on_all(self, row: MethodRow) -> Found:
        """What an attacker gets of each stranger."""
        return Found(tuple(self._try_on(row, number) for number in range(len(self.strangers))))

    def _try_on(self, row: MethodRow, number: int) -> RowOutcome:
        """What an attacker gets of one stranger."""
        settings = None
        if row.method != NO_METHOD:
            settings = replace(self._protecting, method=row.method, budget=row.budget, withstand=row.withstand)
        how = AttackSettings(FinetuningSettings(kind=row.attacker, steps=self._steps), row.purification)
        shown = self.strangers[number]
        key = run_key(
            recipes=(PROTECTED, ATTACKED, LEARNED),
            model=self._denoiser.digest,
            vae=self._denoiser.vae_digest,
            protection=settings,
            protected=row.protected,
            attack=replace(how, finetuning=how.finetuning.resolved(self._denoiser)),
            drawing=self._drawing,
            photos=[picture_digest(photo) for photo in shown.photos],
            known=[picture_digest(values) for values in (shown.person.gallery.embeddings, shown.person.gallery.people)],
        )
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        photos = list(shown.photos)
        protected = None if settings is None else self._protect(number, settings)
        if protected is not None:
            photos[: row.protected] = protected.photos[: row.protected]
        got = attack(self._denoiser, self._recognizer, photos, shown.person, how)
        outcome = RowOutcome(got.first, got.similarity, got.photos_similarity)
        if protected is not None:
            outcome = replace(outcome, psnr=protected.psnr, seconds=protected.seconds)
        self._kept.keep(key, outcome)
        return outcome

    def passes_to_released(self) -> float:
        """Passes of the denoiser that the default takes for a set, as a share of those of the released code."""
        photos = self.strangers[0].photos
        two = ProtectionSettings(method=PAPER, steps=2)
        released = protect(self._denoiser, photos, two).passes / two.steps * RELEASED_STEPS
        return self._protect(0, replace(self._protecting, budget=MIDDLE)).passes / released

    def _protect(self, number: int, settings: ProtectionSettings) -> ProtectedPhotos:
        key = (number, settings)
        if key not in self._protected:
            self._protected[key] = protect(self._denoiser, self.strangers[number].photos, settings)
        return self._protected[key]


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Of the mean over people, 95 %, by drawing people anew."""
    values = np.asarray(values)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLED, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(run_command(main))
