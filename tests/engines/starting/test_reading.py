"""Shows that a conditional prefix begins at the description of whoever is named, in whatever words of the prompt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.starting import reading
from anonymize_faces.engines.starting.gates import fitted_gate
from anonymize_faces.engines.starting.reading import begin_at_descriptions, telling, told_of_others
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


def made(always: Tensor, network: dict[str, Tensor], states: Tensor) -> Tensor:
    """What a network makes of a prompt, of its standardized states."""
    said = states * network["deviation"] + network["mean"]
    return made_vectors(always, network, said[None], torch.ones(1, len(said), dtype=torch.bool)).vectors[0].detach()


@pytest.mark.parametrize("ways", [1, WAYS])
def test_vectors_begin_at_the_description_in_other_words_and_of_other_people_too(ways: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shown = 3 * torch.randn(3, WIDTH, generator=generator)  # How a name shows what somebody looks like.
    whom_looks = [person % 3 for person in range(PEOPLE + 6)]
    names = shown[whom_looks] + 0.5 * torch.randn(PEOPLE + 6, WIDTH, generator=generator)
    names[:, 0] = 30.0
    said, whom = prompts(names[:PEOPLE], ways, 1)
    others, _ = prompts(torch.zeros(20, WIDTH), 2, 2)
    always = 0.02 * torch.randn(VECTORS, WIDTH, generator=generator)
    network = new_network(always, torch.cat([*said, *others]), generator)
    seen = [standardized(network, states) for states in said]
    network |= fitted_gate(seen, [standardized(network, states) for states in others])
    looks = [0.02 * torch.randn(length, WIDTH, generator=generator) for length in (2, 7, 4)]
    described = [looks[person % 3] for person in whom]
    described[3] = described[3][:0]
    assert begin_at_descriptions(network, always, seen, described, whom, generator)
    assert all(bool(torch.isfinite(part).all()) for part in network.values())
    again, whom_again = prompts(names, 3, 3)
    goals = torch.stack([torch.stack([rows[index % len(rows)] for index in range(VECTORS)]) for rows in looks])
    nearest = [
        int((goals - made(always, network, standardized(network, states))).square().sum((1, 2)).argmin()) == person % 3
        for states, person in zip(again, whom_again, strict=True)
    ]
    assert sum(nearest) / len(nearest) > (0.95 if ways > 1 else 0.8)


@pytest.mark.parametrize(("people", "ways", "alike"), [(1, 1, False), (5, 3, False), (30, 1, True), (30, 3, False)])
def test_all_stays_as_it_is_where_states_tell_nothing_of_people_left_out(people: int, ways: int, alike: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    said, whom = prompts(3 * torch.randn(people, WIDTH, generator=generator), ways, 1)
    always = torch.randn(VECTORS, WIDTH, generator=generator)
    network = new_network(always, torch.cat(said), generator) | {"detector": torch.randn(WIDTH, generator=generator)}
    seen = [standardized(network, states) for states in said]
    looks = torch.randn(people, 2, WIDTH, generator=generator)
    before = {name: part.clone() for name, part in network.items()}
    described = [looks[0 if alike else person] for person in whom]
    assert not begin_at_descriptions(network, always, seen, described, whom, generator)
    assert all(torch.equal(network[name], part) for name, part in before.items())


def test_what_is_told_of_people_left_out_is_told_by_others() -> None:
    generator = torch.Generator().manual_seed(0)
    people = torch.arange(24).repeat_interleave(3)
    looks = torch.randint(0, 2, (24, 3), generator=generator).float()
    axes, goals = torch.randn(3, WIDTH, generator=generator), looks @ torch.randn(3, 30, generator=generator)
    names = torch.randn(24, WIDTH, generator=generator)
    noise = 0.1 * torch.randn(72, WIDTH, generator=generator)
    assert told_of_others((looks @ axes)[people] + noise, goals[people], people, 0.1) > 0.8
    assert told_of_others(names[people] + noise, goals[people], people, 0.1) < 0.2
    few = people < 7
    assert told_of_others(((looks @ axes)[people] + noise)[few], goals[people][few], people[few], 0.1) == -1.0
    enough = people < 8
    assert told_of_others(((looks @ axes)[people] + noise)[enough], goals[people][enough], people[enough], 0.1) > 0.0


def test_the_more_is_only_noise_the_less_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []

    def noted(states: torch.Tensor, goals: torch.Tensor, most: int, penalty: float) -> torch.Tensor:
        taken.append(penalty)
        return telling(states, goals, most, penalty)

    monkeypatch.setattr(reading, "telling", noted)
    for noise in (0.01, 3.0):
        generator = torch.Generator().manual_seed(0)
        looks = torch.randint(0, 2, (60, 3), generator=generator).float()
        states = looks @ (4 * torch.randn(3, WIDTH, generator=generator))
        states += noise * torch.randn(states.shape, generator=generator)
        words = looks @ torch.randn(3, 2 * WIDTH, generator=generator)
        always = torch.randn(2, WIDTH, generator=generator)
        network = new_network(always, states, generator) | {"detector": torch.ones(WIDTH)}
        seen = [standardized(network, states[person : person + 1]) for person in range(60)]
        described = [words[person].reshape(2, WIDTH) for person in range(60)]
        assert begin_at_descriptions(network, always, seen, described, range(60), generator)
    assert taken[0] < taken[1], taken


def test_what_is_read_tells_looks_of_names_that_were_not_there_and_not_what_differs_most() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(3, WIDTH, generator=generator)
    looks = torch.randint(0, 2, (160, 3), generator=generator).float()
    states = looks @ axes + 0.3 * torch.randn(160, WIDTH, generator=generator)
    states[:, 0] += 50.0 * torch.randn(160, generator=generator)
    states += 10.0 * torch.randn(WIDTH, generator=generator)
    goals = looks @ torch.randn(3, 30, generator=generator)
    found = telling(states[:120], goals[:120], 8, 0.1)
    assert found.shape == (WIDTH, 3)
    told = states @ found
    assert float(told[:120].var(0, correction=0).sum()) == pytest.approx(8.0, rel=0.01)
    assert float(told[:120].mean(0).abs().max()) < 0.2
    known = torch.cat([told, torch.ones(160, 1)], 1)
    made = known @ torch.linalg.lstsq(known[:120], looks[:120]).solution
    assert float(((made[120:] > 0.5) == (looks[120:] > 0.5)).float().mean()) > 0.97
