"""Fits the gates of a learned prefix anew, so that they take any name for one, also that of nobody known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...demo.ablation import shipped_prompts
from ...demo.world.names import stranger_name
from ...demo.world.people import all_looks, identities
from ...engines.denoiser import Denoiser, Vectors
from ...engines.starting.gates import fitted_gate
from ...engines.vectors import standardized
from ...prefix.meta_network import network_of, part_name, vectors_of
from ...trainer.data.identities import Identity
from ...trainer.data.pairs import first_prompts
from ...trainer.data.prompts import general_prompts
from ...trainer.validation import Subjects

INVENTED = 96
"""Names that nobody has, beside those of the people that prefixes are learned on."""

SEED = 17


def with_any_name(denoiser: Denoiser, parameters: Vectors) -> dict[str, Tensor]:
    """The parameters of a conditional prefix with other gates; nothing else of it changes.

    The names are in no list of people whom a benchmark draws. What the text encoders say of prompts is all it takes.
    """
    people = [*identities(unseen=(False,)), *_invented()]
    prompts = first_prompts(Subjects(tuple(people), tuple(general_prompts(shipped_prompts(), people))), SEED)
    fixed = vectors_of(parameters)
    with denoiser.gradients(1):
        said = denoiser.states_read(prompts.all, fixed)
    made = dict(parameters)
    for key in fixed:
        network = network_of(parameters, key)
        if network is None:
            continue
        states = [standardized(network, prompt[key].states) for prompt in said]
        named = len(prompts.named)
        gate = fitted_gate(states[:named], states[named : named + len(prompts.others)])
        made |= {part_name(key, part): tensor for part, tensor in gate.items()}
    return made


def _invented() -> Sequence[Identity]:
    rng = np.random.default_rng(SEED)
    looks = all_looks()
    names = dict.fromkeys(stranger_name(rng) for _ in range(INVENTED))
    return [Identity(name, looks[place % len(looks)].describe()) for place, name in enumerate(names)]
