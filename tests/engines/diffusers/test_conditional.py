"""Shows with pipelines of every family that vectors are made for each prompt, and that nothing is read without."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.engines.diffusers import PromptEncoder, protect_pipeline
from anonymize_faces.prefix import Prefix, PrefixMismatchError
from anonymize_faces.prefix.meta_network import made_vectors, network_of
from anonymize_faces.tests.support.conditional import with_gates, with_random_networks
from anonymize_faces.tests.support.pipelines import LONG, SHORT, WIDTHS, arguments, prefix_for, tiny_pipeline

PROMPTS = (SHORT, "a red circle", "mountains at dawn")


def conditional(encoder: PromptEncoder, fixed: Prefix) -> Prefix:
    """The prefix with random networks that fit a pipeline's text encoders."""
    said = encoder.states_read([encoder.tokens(prompt, fixed.vectors) for prompt in PROMPTS], fixed.vectors)
    return with_random_networks(fixed, {key: torch.cat([states[key] for states in said]) for key in fixed.vectors})


@pytest.mark.parametrize("family", WIDTHS)
def test_each_prompt_is_read_with_the_vectors_that_are_made_for_it(family: str) -> None:
    pipeline, fixed = tiny_pipeline(family), prefix_for(family)
    encoder = PromptEncoder(pipeline)
    prefix = conditional(encoder, fixed)
    for prompt in PROMPTS[:2]:
        (said,) = encoder.states_read([encoder.tokens(prompt, fixed.vectors)], fixed.vectors)
        made = {
            key: made_vectors(
                rows, network_of(prefix.networks, key), said[key][None], torch.ones(1, len(said[key])).bool()
            ).vectors[0]
            for key, rows in fixed.vectors.items()
        }
        expected = protect_pipeline(pipeline, Prefix(made, fixed.record)).encode_prompt(prompt, **arguments(pipeline))
        found = protect_pipeline(pipeline, prefix).encode_prompt(prompt, **arguments(pipeline))
        torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-3)
        plain = protect_pipeline(pipeline, fixed).encode_prompt(prompt, **arguments(pipeline))
        assert not torch.allclose(found[0], plain[0], atol=1e-5)


@pytest.mark.parametrize("family", WIDTHS)
def test_a_closed_gate_leaves_what_the_prompt_says_as_it_is_and_a_half_open_one_goes_half_way(family: str) -> None:
    pipeline = tiny_pipeline(family)
    prefix = conditional(PromptEncoder(pipeline), prefix_for(family))
    unprotected = [out for out in pipeline.encode_prompt(SHORT, **arguments(pipeline)) if torch.is_tensor(out)]
    closed, half, whole = (
        [
            out
            for out in protect_pipeline(pipeline, with_gates(prefix, gate)).encode_prompt(SHORT, **arguments(pipeline))
            if torch.is_tensor(out)
        ]
        for gate in (0.0, 0.5, 1.0)
    )
    for plain, other, between, far in zip(unprotected, closed, half, whole, strict=True):
        torch.testing.assert_close(other, plain, atol=1e-4, rtol=1e-3)
        beside = (2 * between - far).double()
        if plain.ndim == 3:
            assert float(torch.cdist(beside, plain.double()).amin(-1).max()) < 1e-2
        else:
            torch.testing.assert_close(beside, plain.double(), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(whole[0], closed[0], atol=1e-4)


def test_every_chunk_of_a_long_prompt_gets_vectors_of_its_own() -> None:
    pipeline, fixed = tiny_pipeline("sd1"), prefix_for("sd1")
    prefix = conditional(PromptEncoder(pipeline), fixed)
    states = protect_pipeline(pipeline, prefix).encode_prompt(LONG, **arguments(pipeline))[0]
    assert states.shape[1] > 77 and torch.isfinite(states).all()


def test_tokens_without_the_prefix_are_refused() -> None:
    pipeline, fixed = tiny_pipeline("sd1"), prefix_for("sd1")
    encoder = PromptEncoder(pipeline)
    prefix = conditional(encoder, fixed)
    with pytest.raises(PrefixMismatchError, match="does not carry the prefix"):
        encoder.encode([encoder.tokens(SHORT)], parameters=prefix.parameters)
