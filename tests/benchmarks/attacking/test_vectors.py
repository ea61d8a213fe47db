"""Shows that an embedding against a prefix is fitted by true gradients, and that it is read as the host reads one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from anonymize_faces.benchmarks.attacking.tokens import Vocabulary, projected_words, searched_words
from anonymize_faces.benchmarks.attacking.vectors import Budget, Loss, fitted_embedding
from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.prefix import Prefix
from anonymize_faces.tests.support.conditional import conditional, with_gates, with_parts
from anonymize_faces.tests.support.prefixes import random_prefix

Make = Callable[..., Any]
PROMPTS = ("a portrait of Ada Lovelace", "Bob Miller", "a portrait of Cy Young")
WORDS = ("a", "red", "circle", "portrait", "of", "man", "house", "unpronounceableness", "snow")


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Make) -> Any:
    return make_checkpoint()


@pytest.fixture(scope="module")
def denoiser(checkpoint: Any, make_denoiser: Make) -> Any:
    return make_denoiser(checkpoint)


@pytest.fixture(scope="module", params=["fixed", "conditional", "half open"])
def prefix(request: pytest.FixtureRequest, checkpoint: Any) -> Prefix:
    fixed = random_prefix({"l": 32}, 3, 0)
    if request.param == "fixed":
        return fixed
    made = conditional(checkpoint.clip, fixed)
    if request.param == "half open":
        return with_gates(made, 0.5)
    detector = 0.1 * torch.randn(32, generator=torch.Generator().manual_seed(7))
    return with_parts(made, threshold=torch.tensor([1.0]), detector=detector)


def embedding(seed: int, count: int = 2) -> Tensor:
    return 0.02 * torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("through_the_denoiser", [False, True])
def test_the_gradient_is_the_slope(denoiser: Any, prefix: Prefix, through_the_denoiser: bool) -> None:
    latents = torch.randn(len(PROMPTS), 4, 8, 8, generator=torch.Generator().manual_seed(1))
    direction = embedding(3) / embedding(3).norm()
    with denoiser.gradients(4):

        def loss(rows: Tensor) -> Tensor:
            found = Loss(denoiser, prefix.parameters, PROMPTS, latents if through_the_denoiser else None)
            return found({"l": rows}, range(len(PROMPTS)))

        rows = embedding(2).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(rows), rows)
        slope = float((gradient * direction).sum())
        with torch.no_grad():
            small = 2e-3
            found = float(loss(rows + small * direction) - loss(rows - small * direction)) / (2 * small)
    assert found == pytest.approx(slope, rel=0.03, abs=0.02 * float(gradient.norm()))


def test_fitting_lowers_the_loss_and_leaves_prefix_and_model_as_they_were(
    checkpoint: Any, denoiser: Any, prefix: Prefix
) -> None:
    before = {name: tensor.clone() for name, tensor in prefix.parameters.items()}
    weights = {name: tensor.clone() for name, tensor in checkpoint.clip.cond_stage_model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in checkpoint.clip.cond_stage_model.parameters()]
    losses: list[float] = []
    vectors = fitted_embedding(
        denoiser, prefix.parameters, PROMPTS, Budget(4, 25), told=lambda step, loss: losses.append(loss)
    )
    assert vectors["l"].shape == (4, 32) and len(losses) == 25
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert all(torch.equal(before[name], tensor) for name, tensor in prefix.parameters.items())
    after = checkpoint.clip.cond_stage_model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights.items())
    assert flags == [parameter.requires_grad for parameter in checkpoint.clip.cond_stage_model.parameters()]


def test_an_embedding_is_read_as_the_hosts_own(
    checkpoint: Any, denoiser: Any, prefix: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = embedding(5)
    save_file({"emb_params": rows}, tmp_path / "attack.safetensors")
    monkeypatch.setattr(checkpoint.clip.tokenizer.clip_l, "embedding_directory", [str(tmp_path)])
    protected = protect(checkpoint.clip, prefix, 1.0)
    with torch.no_grad(), denoiser.gradients(1):
        expected = protected.encode_from_tokens(protected.tokenize(f"embedding:attack {PROMPTS[0]}"))
        ((found, _),) = denoiser.encode([PROMPTS[0]], prefix.parameters, embedding={"l": rows})
        ((without, _),) = denoiser.encode([PROMPTS[0]], prefix.parameters)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, without, atol=1e-3)


@pytest.mark.parametrize("search", [projected_words, searched_words])
def test_searched_words_are_words_and_better_than_those_that_it_began_with(
    denoiser: Any, prefix: Prefix, search: Callable[..., str]
) -> None:
    vocabulary = Vocabulary(denoiser, WORDS)
    assert "unpronounceableness" not in vocabulary.words and len(vocabulary.words) == len(WORDS) - 1
    texts = [search(denoiser, prefix.parameters, PROMPTS, vocabulary, Budget(3, steps)) for steps in (0, 8)]
    assert all(len(text.split()) == 3 and set(text.split()) <= set(WORDS) for text in texts)

    def loss(text: str) -> float:
        with denoiser.gradients(4), torch.no_grad():
            chosen = [vocabulary.words.index(word) for word in text.split()]
            found = Loss(denoiser, prefix.parameters, PROMPTS)
            return float(found(vocabulary.embedding(chosen), range(len(PROMPTS))))

    assert loss(texts[1]) <= loss(texts[0])
