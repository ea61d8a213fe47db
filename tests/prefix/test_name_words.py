"""Shows which words count as a name's, and that whatever stands beside them cannot have them pass."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.prefix.name_words import (
    finds_names,
    leaves_names_unread,
    names_found,
    neutral_embedding,
    with_names_unseen,
    without_names,
)

WIDE, WIDTH = 6, 4
READ = torch.tensor([[False, True, True, True, False]])


def network(threshold: float = -1.0, said: float = 0.0) -> dict[str, torch.Tensor]:
    """One that takes words by the first number of their embedding, and by the first of what is said at them."""
    finder = torch.zeros(WIDE + WIDTH)
    finder[0], finder[WIDE] = said, 1.0
    return {
        "mean": torch.zeros(WIDE),
        "deviation": torch.ones(WIDE),
        "spread": torch.tensor([0.5]),
        "finder": finder,
        "finder_threshold": torch.tensor([threshold, -10.0]),
        "word_mean": torch.full((WIDTH,), 0.25),
        "word_deviation": torch.ones(WIDTH),
        "neutral": torch.ones(WIDTH),
    }


def found(parts: dict[str, torch.Tensor], *likeness: float, said: float = 0.0) -> list[bool]:
    words = torch.zeros(1, 5, WIDTH)
    words[0, :, 0] = torch.tensor(likeness)
    states = torch.zeros(1, 5, WIDE)
    states[..., 0] = said
    return names_found(parts, states, words, READ)[0].tolist()


def test_words_above_the_threshold_count_where_prompts_are_read() -> None:
    assert found(network(), 9.0, 2.0, 0.0, 2.0, 9.0) == [False, True, False, True, False]


def test_the_likeliest_word_counts_in_any_case() -> None:
    assert found(network(-100.0), 9.0, 0.1, 0.3, 0.2, 9.0) == [False, False, True, False, False]


def test_what_ends_a_prompt_is_nobodys_name_also_where_it_is_the_likeliest() -> None:
    words = torch.zeros(1, 5, WIDTH)
    words[0, :, 0] = torch.tensor([9.0, 2.0, 0.0, 5.0, 9.0])
    states, end = torch.zeros(1, 5, WIDE), words[0, 3].clone()
    assert names_found(network(), states, words, READ, end)[0].tolist() == [False, True, False, False, False]
    assert names_found(network(-100.0), states, words, READ, end)[0].tolist() == [False, True, False, False, False]
    assert not names_found(network(), states[:, 3:], words[:, 3:], READ[:, 3:], end).any()


def test_padding_behind_the_end_of_a_prompt_is_nobodys_name_and_a_name_behind_a_written_one_is() -> None:
    end, name, pad = 5.0, 2.0, 9.0
    read = torch.tensor([[False, True, True, True, True]])

    def found(*kinds: float) -> list[bool]:
        words = torch.zeros(1, 5, WIDTH)
        words[0, :, 0] = torch.tensor(kinds)
        return names_found(network(), torch.zeros(1, 5, WIDE), words, read, words[0, kinds.index(end)].clone())[
            0
        ].tolist()

    assert found(0.0, 0.0, name, end, pad) == [False, False, True, False, False]
    assert found(0.0, end, name, 0.0, end) == [False, False, True, False, False]
    assert found(0.0, end, name, end, pad) == [False, False, True, False, False]


@pytest.mark.parametrize("said", [-1e6, 0.0, 1e6])
def test_what_is_said_at_a_word_can_make_it_a_name_and_never_unmake_it(said: float) -> None:
    names = found(network(said=1.0), 0.0, 2.0, 0.0, 0.0, 0.0, said=said)
    assert names[1] and names[2] is (said > 0)


def test_what_is_no_number_counts_as_a_name() -> None:
    assert found(network(), 0.0, 2.0, float("nan"), 0.0, 0.0) == [False, True, True, False, False]
    assert found(network(said=1.0), *[0.0] * 5, said=float("nan")) == READ[0].tolist()


def test_finders_that_see_nothing_find_nothing_and_networks_without_them_neither() -> None:
    parameters = {"l": torch.zeros(2, WIDTH)} | {f"l/{name}": part for name, part in network().items()}
    assert leaves_names_unread(parameters) and not leaves_names_unread({"l": torch.zeros(2, WIDTH)})
    assert not leaves_names_unread({**parameters, "g": torch.zeros(2, WIDTH), "g/mean": torch.zeros(WIDE)})
    unseen = {name.removeprefix("l/"): part for name, part in with_names_unseen(parameters).items() if "/" in name}
    assert not any(found(unseen, 0.0, 2.0, 0.0, 2.0, 0.0))
    bare = {name: part for name, part in network().items() if "finder" not in name}
    assert not finds_names(bare) and not any(found(bare, 0.0, 2.0, 0.0, 2.0, 0.0))


def test_what_stands_in_the_place_of_a_name_is_counted_from_the_mean_of_words() -> None:
    assert neutral_embedding(network()).tolist() == [0.75] * WIDTH


def test_words_behind_the_vectors_are_found_behind_them() -> None:
    marks = torch.tensor([True, False, True, False, True])
    chunk = [(number, 1.0 + number) for number in range(5)]
    changed = without_names(network(), chunk, marks, start=1, count=2)
    assert [weight for _, weight in changed] == [weight for _, weight in chunk]
    assert [torch.is_tensor(token) for token, _ in changed] == [True, False, False, False, True]
    assert without_names({}, chunk, torch.zeros(5, dtype=torch.bool), 1, 2) == chunk
