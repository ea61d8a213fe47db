"""Shows that a gate tells prompts with a name from others, among many words, and nothing of how long they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.starting.gates import BEYOND, fitted_gate, fitted_nearness
from anonymize_faces.prefix.meta_network import likeness_to_people

WIDTH = 24


def prompts(generator: torch.Generator, count: int, words: int, name: Tensor | None) -> list[Tensor]:
    """States of prompts of noise, in which one position also says that there is a name."""
    said = []
    for _ in range(count):
        states = torch.randn(words, WIDTH, generator=generator)
        if name is not None:
            states[int(torch.randint(words, (), generator=generator))] += name
        said.append(states)
    return said


def gates(parts: dict[str, Tensor], said: list[Tensor]) -> Tensor:
    return torch.stack([torch.sigmoid(parts["threshold"] + (states @ parts["detector"]).max()) for states in said])


def test_prompts_it_was_not_fitted_to_are_told_apart_however_many_words_they_have() -> None:
    generator = torch.Generator().manual_seed(0)
    name = 10 * torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=0)
    parts = fitted_gate(prompts(generator, 40, 6, name), prompts(generator, 60, 6, None))
    assert {part: tuple(tensor.shape) for part, tensor in parts.items()} == {"detector": (WIDTH,), "threshold": (1,)}
    for words in (2, 6, 20):
        named, others = prompts(generator, 50, words, name), prompts(generator, 50, words, None)
        assert float(gates(parts, named).mean()) > 0.9 and float(gates(parts, others).mean()) < 0.35, words


def test_the_same_prompts_give_the_same_gate_and_one_of_each_is_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    named, others = torch.randn(3, WIDTH, generator=generator), torch.randn(5, WIDTH, generator=generator)
    with torch.no_grad():
        one, other = fitted_gate([named], [others]), fitted_gate([named], [others])
    assert all(torch.equal(one[part], other[part]) and bool(torch.isfinite(one[part]).all()) for part in one)
    assert gates(one, [named]) > 0.9 > 0.1 > gates(one, [others])


def test_what_lies_far_from_all_names_is_nobody_unless_other_vectors_stand_beside_it() -> None:
    generator = torch.Generator().manual_seed(0)
    detector = torch.zeros(WIDTH)
    detector[0] = 1.0
    people = torch.randn(20, WIDTH, generator=generator)
    people[:, 0] = 10.0

    def said(person: int) -> Tensor:
        name = people[person] + 0.1 * torch.randn(WIDTH, generator=generator)
        return torch.stack([torch.randn(WIDTH, generator=generator), name])

    whom = [person for person in range(16) for _ in range(3)]
    gate = {"detector": detector, "threshold": torch.tensor([-5.0])}
    parts = gate | fitted_nearness(detector, [said(person) for person in whom], whom)
    assert {part: tuple(parts[part].shape) for part in ("middle", "axes", "reach")} == {
        "middle": (WIDTH,),
        "axes": (WIDTH, WIDTH),
        "reach": (1,),
    }

    def likeness(states: Tensor, words_alone: bool) -> float:
        return float(likeness_to_people(parts, states[None], [words_alone]).max())

    for person in range(20):  # The last four were not there.
        assert likeness(said(person), True) > 2.0, person
    place = torch.stack([torch.zeros(WIDTH), 4.0 * torch.randn(WIDTH, generator=generator)])
    place[1, 0] = 10.0
    assert likeness(place, True) < -2.0 and likeness(place, False) == pytest.approx(5.0)
    away = (people[:16] - parts["middle"]).norm(dim=1).mean()
    assert BEYOND > 1 and float(parts["reach"]) > float(away) / WIDTH**0.5


def test_it_is_not_told_how_near_names_lie_where_few_are_known_or_all_lie_at_one_place() -> None:
    said = [torch.randn(4, WIDTH) for _ in range(7)]
    assert fitted_nearness(torch.ones(WIDTH), said, range(7)) == {}
    assert fitted_nearness(torch.ones(WIDTH), [*said, *said], ()) == {}
    assert fitted_nearness(torch.ones(WIDTH), said[:1] * 9, range(9)) == {}
