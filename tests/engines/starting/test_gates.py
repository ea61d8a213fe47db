"""Shows that a gate tells prompts with a name from others, among many words, and nothing of how long they are."""

from __future__ import annotations

import torch
from torch import Tensor

from anonymize_faces.engines.starting.gates import fitted_gate

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
