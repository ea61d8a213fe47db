"""Vectors stand in the place of words for whoever put them in, and for nobody else."""

from __future__ import annotations

import threading

import pytest
import torch

from anonymize_faces.prefix import PrefixMismatchError
from anonymize_faces.prefix.injection.placing import put_in


@pytest.fixture
def table() -> torch.nn.Embedding:
    return torch.nn.Embedding(5, 4)


WORDS = torch.tensor([[1, 2, 3]])


def test_vectors_stand_in_their_places_and_afterwards_words_do_again(table: torch.nn.Embedding) -> None:
    before, vector = table(WORDS), torch.full((4,), 7.0, requires_grad=True)
    with put_in(table, [(0, 1, vector)]):
        inside = table(WORDS)
    assert torch.equal(inside[0, 1], vector) and torch.equal(inside[0, ::2], before[0, ::2])
    inside.sum().backward()
    assert vector.grad is not None and torch.equal(table(WORDS), before)
    with put_in(table, []):
        assert torch.equal(table(WORDS), before)
    assert not table._forward_hooks


def test_what_another_thread_looks_up_meanwhile_is_its_own(table: torch.nn.Embedding) -> None:
    """A plain pipeline shares its table with protected ones, and each may draw on a thread of its own."""
    plain, seen = table(WORDS), {}
    mine, its = torch.zeros(4), torch.ones(4)

    def other() -> None:
        seen["plain"] = table(WORDS)
        with put_in(table, [(0, 0, its)]):
            seen["its own"] = table(WORDS)
            opened.set()
            done.wait(10)

    opened, done = threading.Event(), threading.Event()
    with put_in(table, [(0, 1, mine)]):
        thread = threading.Thread(target=other)
        thread.start()
        assert opened.wait(10)
        seen["mine"] = table(WORDS)
        done.set()
        thread.join()
    assert torch.equal(seen["plain"], plain)
    assert torch.equal(seen["its own"][0, 0], its) and torch.equal(seen["its own"][0, 1:], plain[0, 1:])
    assert torch.equal(seen["mine"][0, 1], mine) and torch.equal(seen["mine"][0, 0], plain[0, 0])


def test_a_vector_of_another_width_is_refused_and_nothing_stays(table: torch.nn.Embedding) -> None:
    with pytest.raises(PrefixMismatchError, match="another family"), put_in(table, [(0, 0, torch.zeros(3))]):
        table(WORDS)
    assert table(WORDS).shape == (1, 3, 4) and not table._forward_hooks
