"""Shows that a conditional prefix begins at the description of whoever is named, in whatever words of the prompt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.starting.gates import fitted_gate
from anonymize_faces.engines.starting.reading import begin_at_descriptions, telling
from anonymize_faces.prefix.meta_network import made_vectors, new_network, standardized

WIDTH, VECTORS, PEOPLE, WAYS = 48, 4, 12, 6


def prompts(names: Tensor, ways: int, seed: int) -> tuple[list[Tensor], list[int]]:
    """States of prompts of noise, in which one position says who is named."""
    generator = torch.Generator().manual_seed(seed)
    said, whom = [], []
    for person, name in enumerate(names):
        for _ in range(ways):
            states = torch.randn(int(torch.randint(3, 9, (), generator=generator)), WIDTH, generator=generator)
            states[int(torch.randint(len(states), (), generator=generator))] += name
            said.append(states)
            whom.append(person)
    return said, whom


@pytest.mark.parametrize("ways", [1, WAYS])
def test_vectors_begin_at_the_description_in_other_words_too(ways: int) -> None:
    generator = torch.Generator().manual_seed(0)
    names = 4 * torch.randn(PEOPLE, WIDTH, generator=generator)
    names[:, 0] = 30.0
    said, whom = prompts(names, ways, 1)
    others, _ = prompts(torch.zeros(20, WIDTH), 2, 2)
    always = 0.02 * torch.randn(VECTORS, WIDTH, generator=generator)
    network = new_network(always, torch.cat([*said, *others]), generator)
    seen = [standardized(network, states) for states in said]
    network |= fitted_gate(seen, [standardized(network, states) for states in others])
    looks = [0.02 * torch.randn(length, WIDTH, generator=generator) for length in (2, 7, 4)]
    descriptions = [looks[person % len(looks)] for person in range(PEOPLE)]
    begin_at_descriptions(network, always, seen, whom, descriptions, generator)
    assert all(bool(torch.isfinite(part).all()) for part in network.values())
    again, whom_again = prompts(names, 3, 3)
    right = 0
    for states, person in zip(again, whom_again, strict=True):
        made = made_vectors(always, network, states[None], torch.ones(1, len(states), dtype=torch.bool))
        goals = torch.stack([torch.stack([rows[index % len(rows)] for index in range(VECTORS)]) for rows in looks])
        right += int((goals - made.vectors).square().sum((1, 2)).argmin()) == person % len(looks)
    assert right / len(again) > (0.95 if ways > 1 else 0.8)


@pytest.mark.parametrize(("people", "ways"), [(1, 1), (1, 3), (2, 1), (70, 1)])
def test_any_number_of_people_and_of_ways_to_write_them_will_do(people: int, ways: int) -> None:
    generator = torch.Generator().manual_seed(0)
    said, whom = prompts(torch.randn(people, WIDTH, generator=generator), ways, 1)
    always = torch.randn(VECTORS, WIDTH, generator=generator)
    network = new_network(always, torch.cat(said), generator) | {"detector": torch.randn(WIDTH, generator=generator)}
    begin_at_descriptions(network, always, said, whom, [torch.randn(2, WIDTH)] * people, generator)
    assert all(bool(torch.isfinite(part).all()) for part in network.values())


def test_what_is_read_tells_looks_of_names_that_were_not_there_and_not_what_differs_most() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(3, WIDTH, generator=generator)
    looks = torch.randint(0, 2, (160, 3), generator=generator).float()
    states = looks @ axes + 0.3 * torch.randn(160, WIDTH, generator=generator)
    states[:, 0] += 50.0 * torch.randn(160, generator=generator)
    states += 10.0 * torch.randn(WIDTH, generator=generator)
    goals = looks @ torch.randn(3, 30, generator=generator)
    found = telling(states[:120], goals[:120], 8)
    assert found.shape == (WIDTH, 3)
    told = states @ found
    assert float(told[:120].var(0, correction=0).sum()) == pytest.approx(8.0, rel=0.01)
    assert float(told[:120].mean(0).abs().max()) < 0.2
    known = torch.cat([told, torch.ones(160, 1)], 1)
    made = known @ torch.linalg.lstsq(known[:120], looks[:120]).solution
    assert float(((made[120:] > 0.5) == (looks[120:] > 0.5)).float().mean()) > 0.97
