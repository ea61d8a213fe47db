"""Shows that words of names are found that nobody was fitted to, by what stands in their place elsewhere."""

from __future__ import annotations

import torch

from anonymize_faces.engines.denoiser import PromptStates
from anonymize_faces.engines.starting.finder import differs, fitted_finder
from anonymize_faces.prefix.meta_network import NAMES
from anonymize_faces.prefix.name_words import names_found, neutral_embedding

WIDE, WIDTH = 24, 16
NETWORK = {"mean": torch.zeros(WIDE), "deviation": torch.ones(WIDE), "spread": torch.tensor([0.3])}


def prompt(generator: torch.Generator, table: torch.Tensor, name: torch.Tensor | None) -> PromptStates:
    """Words of a table, with a name or other two words among them, and what is said at them."""
    words = table[torch.randint(len(table), (7,), generator=generator)]
    words[3:5] = table[:2] if name is None else name
    return PromptStates(torch.randn(len(words), WIDE, generator=generator), words)


def names(generator: torch.Generator, count: int) -> torch.Tensor:
    """Two words each, which have something in common."""
    words = torch.randn(count, 2, WIDTH, generator=generator)
    words[..., 0] += 4
    return words


def test_words_of_names_are_found_that_it_was_not_fitted_to() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(60, WIDTH, generator=generator)
    known, unknown = names(generator, 40), names(generator, 40)
    pairs = []
    for name in known:
        with_name = prompt(generator, table, name)
        words = with_name.words.clone()
        words[3:5] = table[:2]
        pairs.append((with_name, PromptStates(with_name.states, words)))
    others = [prompt(generator, table, None) for _ in range(60)]
    parts = fitted_finder(NETWORK, pairs, others, table[5:7])
    assert set(parts) == set(NAMES) and [name for name in NAMES if parts[name].requires_grad] == ["neutral"]
    torch.testing.assert_close(neutral_embedding({**NETWORK, **parts}).detach(), table[6])
    read = torch.ones(1, 7, dtype=torch.bool)
    hits, misses = 0.0, 0.0
    for name in unknown:
        seen = prompt(generator, table, name)
        found = names_found({**NETWORK, **parts}, seen.states[None], seen.words[None], read)[0]
        hits += float(found[3:5].float().mean()) / len(unknown)
        misses += float(found[[0, 1, 2, 5, 6]].float().mean()) / len(unknown)
    assert hits > 0.9 and misses < 0.1


def test_words_of_a_name_are_those_that_differ_wherever_they_stand() -> None:
    a, portrait, of, ada, by, person = torch.eye(6)
    said = torch.stack([ada, a, portrait, of, ada, ada, by, a])
    twin = torch.stack([person, a, portrait, of, a, person, by, a])
    assert differs(said, twin).tolist() == [True, False, False, False, True, True, False, False]


def test_what_is_moved_on_to_the_next_chunk_is_no_name() -> None:
    end, style, first, last, nobody = torch.eye(5)
    said = torch.stack([first, last, style, end, style, end])
    twin = torch.stack([nobody, style, style, end])
    assert differs(said, twin).tolist() == [True, True, *[False] * 4]


def test_a_word_of_a_name_that_stands_elsewhere_too_is_one() -> None:
    portrait, of, first, west, nobody, by, the, end = torch.eye(8)
    said = torch.stack([portrait, of, first, west, by, the, west, end])
    twin = torch.stack([portrait, of, nobody, by, the, west, end])
    assert differs(said, twin).tolist() == [False, False, True, True, *[False] * 4]


def test_nothing_is_fitted_where_no_name_differs() -> None:
    generator = torch.Generator().manual_seed(0)
    same = prompt(generator, torch.randn(9, WIDTH, generator=generator), None)
    assert fitted_finder(NETWORK, [(same, same)], [same], torch.zeros(0, WIDTH)) == {}
