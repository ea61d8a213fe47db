"""Prompts go where like prompts go, and no expert is left with hardly any."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.experts.router import embedding_of, fitted_router
from anonymize_faces.experts.sinkhorn import balanced
from anonymize_faces.prefix.errors import ExpertsError


def clusters(counts: tuple[int, ...], width: int = 12) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    middles = 4 * torch.randn(len(counts), width, generator=random)
    places = [index for index, count in enumerate(counts) for _ in range(count)]
    return middles[places] + 0.5 * torch.randn(len(places), width, generator=random)


def test_every_expert_gets_as_many_and_every_prompt_is_shared_out_whole() -> None:
    shares = balanced(0.3 * torch.randn(40, 4, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(shares.sum(1), torch.ones(40), atol=1e-4)
    assert torch.allclose(shares.sum(0), torch.full((4,), 10.0), atol=0.2)


def test_without_balance_one_expert_would_get_all() -> None:
    nearest_to_one = torch.tensor([[1.0, 0.9, 0.8]]).repeat(30, 1) + 0.01 * torch.arange(90).reshape(30, 3) / 90
    assert set(nearest_to_one.argmax(1).tolist()) == {0}
    assert balanced(nearest_to_one, epsilon=0.5).sum(0).min() > 9


def test_like_prompts_go_to_one_expert() -> None:
    embeddings = clusters((10, 10, 10, 10))
    router = fitted_router(embeddings, 4, seed=0)
    sent = router.route(embeddings).reshape(4, 10)
    assert all(len(set(kind)) == 1 for kind in sent.tolist()) and len(set(sent.flatten().tolist())) == 4
    again = fitted_router(embeddings, 4, seed=0)
    assert torch.equal(again.centroids, router.centroids)


def test_a_scale_of_the_text_encoder_changes_nothing() -> None:
    embeddings = clusters((8, 8))
    scaled = fitted_router(100 * embeddings, 2, seed=0)
    assert torch.equal(scaled.route(100 * embeddings), fitted_router(embeddings, 2, seed=0).route(embeddings))


@pytest.mark.parametrize("count", [1, 2])
def test_few_prompts_are_routed_as_well(count: int) -> None:
    embeddings = clusters((1, 1))[:count]
    router = fitted_router(embeddings, count, seed=0)
    assert sorted(router.route(embeddings).tolist()) == list(range(count))


def test_another_text_encoder_is_refused() -> None:
    with pytest.raises(ExpertsError, match="5 wide and the experts were learned with 12"):
        fitted_router(clusters((4, 4)), 2, 0).route(torch.zeros(1, 5))


def test_a_prompt_is_what_its_positions_say_on_average() -> None:
    assert embedding_of(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])).tolist() == [2.0, 4.0]
