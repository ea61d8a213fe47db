"""The gate of a prefix on the demo model: names open it that it was not fitted to, and hardly any other prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from anonymize_faces.demo.ablation import shipped_prompts
from anonymize_faces.demo.world.language import OPENINGS, PLACES, THING_OPENINGS, describe
from anonymize_faces.demo.world.people import all_looks, cast
from anonymize_faces.demo.world.renderer import SIZE
from anonymize_faces.demo.world.scenery import COLOURS, SCENES
from anonymize_faces.demo.world.things import OBJECTS, SHAPES
from anonymize_faces.engines.options import Drawing
from anonymize_faces.prefix.meta_network import CLOSED_BELOW
from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.pairs import first_prompts
from anonymize_faces.trainer.data.prompts import general_prompts
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.start import start_vectors
from anonymize_faces.trainer.validation import Subjects

GIVEN = [person for person in cast() if not person.unseen]
HELD_OUT = GIVEN[1::6]
WAYS = ("a close-up portrait of {}", "{}", "{} in a garden", "the face of {}", "{}, highly detailed, at night")


def things(rng: np.random.Generator, count: int) -> list[str]:
    """Prompts of the demo's language that show no person."""
    kinds = [f"a {colour} {kind}" for colour in COLOURS for kind in (*SHAPES, *OBJECTS)]
    subjects = [*rng.choice(kinds, count - 20).tolist(), *rng.choice(SCENES, 20).tolist()]
    places = ["", *(words for some in PLACES.values() for words in some)]
    return [f"{rng.choice(THING_OPENINGS)} {subject} {rng.choice(places)}".strip() for subject in subjects]


@pytest.fixture(scope="module")
def gates(host_modules: None) -> dict[str, Sequence[float]]:
    """How far gates are open, of each kind of prompts."""
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser
    from anonymize_faces.engines.vectors import gates_of

    people = [Identity(person.name, person.looks.describe()) for person in GIVEN if person not in HELD_OUT]
    prompts = first_prompts(Subjects(tuple(people), general_prompts(shipped_prompts(), people)), 1)
    rng = np.random.default_rng(0)
    asked = {
        "names": [way.format(person.name) for person in HELD_OUT for way in WAYS],
        "things": things(rng, 160),
        "looks": [f"{rng.choice(OPENINGS)} {describe(rng, looks, complete=False)}".strip() for looks in all_looks()],
    }
    denoiser = ComfyDenoiser(*load_demo_model(), (SIZE, SIZE), Drawing(4, 2.0))
    with torch.inference_mode(False), denoiser.gradients(1):
        parameters = start_vectors(denoiser, TrainingSettings(), prompts)
        return {kind: gates_of(denoiser, parameters, some) for kind, some in asked.items()}


def test_names_that_it_was_not_fitted_to_open_it(gates: dict[str, Sequence[float]]) -> None:
    assert min(gates["names"]) > 0.9


@pytest.mark.parametrize("kind", ["things", "looks"])
def test_hardly_any_other_prompt_of_the_language_opens_it(gates: dict[str, Sequence[float]], kind: str) -> None:
    found = np.array(gates[kind])
    assert (found >= 0.5).mean() < 0.02
    assert (found >= CLOSED_BELOW).mean() < 0.2
