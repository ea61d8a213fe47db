"""Shows with pipelines of every family that vectors are made for each prompt, and that nothing is read without."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.engines.diffusers import PromptEncoder, protect_pipeline
from anonymize_faces.engines.diffusers.prompt_arguments import encoded_plain
from anonymize_faces.prefix import Prefix, PrefixMismatchError
from anonymize_faces.prefix.injection.tokens import common_start
from anonymize_faces.prefix.meta_network import made_vectors, network_of
from anonymize_faces.prefix.name_words import neutral_embedding, standardized_words
from anonymize_faces.tests.support.conditional import (
    NAMED,
    NOBODY,
    UNNAMED,
    far_from_all_names,
    finding_names,
    with_gates,
    with_random_networks,
)
from anonymize_faces.tests.support.pipelines import LONG, SHORT, WIDTHS, arguments, prefix_for, tiny_pipeline

PROMPTS = (SHORT, "a red circle", "mountains at dawn")


def conditional(encoder: PromptEncoder, fixed: Prefix) -> Prefix:
    """The prefix with random networks that fit a pipeline's text encoders."""
    said = encoder.states_read([encoder.tokens(prompt, fixed.vectors) for prompt in PROMPTS], fixed.vectors)
    return with_random_networks(
        fixed, {key: torch.cat([prompt[key].states for prompt in said]) for key in fixed.vectors}
    )


def finding(encoder: PromptEncoder, fixed: Prefix) -> Prefix:
    """`conditional`, with finders of the words of a name."""
    three = encoder.states_read(
        [encoder.tokens(text, fixed.vectors) for text in (NAMED, UNNAMED, NOBODY)], fixed.vectors
    )
    words = {key: tuple(said[key].words for said in three) for key in fixed.vectors}
    return finding_names(conditional(encoder, fixed), words)


@pytest.mark.parametrize("family", WIDTHS)
def test_each_prompt_is_read_with_the_vectors_that_are_made_for_it(family: str) -> None:
    pipeline, fixed = tiny_pipeline(family), prefix_for(family)
    encoder = PromptEncoder(pipeline)
    prefix = conditional(encoder, fixed)
    for prompt in PROMPTS[:2]:
        (said,) = encoder.states_read([encoder.tokens(prompt, fixed.vectors)], fixed.vectors)
        made = {
            key: made_vectors(
                rows,
                network_of(prefix.networks, key),
                said[key].states[None],
                torch.ones(1, len(said[key].states)).bool(),
            ).vectors[0]
            for key, rows in fixed.vectors.items()
        }
        expected = protect_pipeline(pipeline, Prefix(made, fixed.record)).encode_prompt(prompt, **arguments(pipeline))
        found = protect_pipeline(pipeline, prefix).encode_prompt(prompt, **arguments(pipeline))
        torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-3)
        plain = protect_pipeline(pipeline, fixed).encode_prompt(prompt, **arguments(pipeline))
        assert not torch.allclose(found[0], plain[0], atol=1e-5)


@pytest.mark.parametrize("family", WIDTHS)
def test_words_of_a_name_are_read_as_the_neutral_one(family: str) -> None:
    pipeline, fixed = tiny_pipeline(family), prefix_for(family)
    encoder = PromptEncoder(pipeline)
    prefix = finding(encoder, fixed)
    text = f"{NAMED} by the sea, {NAMED}"
    (said,) = encoder.states_read([encoder.tokens(text, fixed.vectors)], fixed.vectors)
    made, replaced = {}, {}
    for key, rows in fixed.vectors.items():
        network, part = network_of(prefix.networks, key), encoder.parts[key]
        read = torch.ones(1, len(said[key].states)).bool()
        made[key] = made_vectors(rows, network, said[key].states[None], read).vectors[0]
        whole, other = (part.chunks(some)[0] for some in (NAMED, UNNAMED))
        numbers = [entry[0] for entry in whole[common_start(whole, other) :]]
        likeness = standardized_words(network, part.rows(numbers)) @ network["finder"][-rows.shape[1] :]
        of_name = {n for n, like in zip(numbers, likeness, strict=True) if like + network["finder_threshold"][0] > 0}
        tokens = part.protected(text, {key: made[key]})
        replaced[key] = [
            [
                (neutral_embedding(network), *entry[1:])
                if not torch.is_tensor(entry[0]) and entry[0] in of_name
                else entry
                for entry in chunk
            ]
            for chunk in tokens
        ]
        assert sum(torch.is_tensor(entry[0]) for chunk in replaced[key] for entry in chunk) == len(rows) + 2
    (expected,) = encoder.encode([replaced])
    (found,) = encoder.encode([encoder.tokens(text, fixed.vectors)], parameters=prefix.parameters)
    torch.testing.assert_close(found.states, expected.states, atol=1e-4, rtol=1e-3)
    (unread,) = encoder.encode([encoder.tokens(text, made)])
    assert not torch.allclose(found.states, unread.states, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_closed_gate_leaves_long_prompts_in_the_chunks_that_they_have_without(family: str) -> None:
    """Also beside others of a batch, which may be shorter or carry the prefix."""
    pipeline = tiny_pipeline(family)
    prefix = with_gates(conditional(PromptEncoder(pipeline), prefix_for(family)), 0.0)
    room = PromptEncoder(pipeline).parts[next(iter(prefix.vectors))].room
    for count in (room - prefix.length, room - 1, room, 2 * room):
        prompts = [" ".join(["a"] * count), SHORT]
        expected = encoded_plain(pipeline, {"prompt": prompts, "num_images_per_prompt": 1}, "cpu")
        found = protect_pipeline(pipeline, prefix).encode_prompt(prompts, **arguments(pipeline))
        assert found[0].shape == expected[0].shape
        torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-3)


def test_a_name_across_the_border_of_two_chunks_is_not_read_whole_without_the_prefix(monkeypatch) -> None:
    pipeline = tiny_pipeline("sd1")
    encoder = PromptEncoder(pipeline)
    prefix = with_gates(conditional(encoder, prefix_for("sd1")), 0.0)
    text = " ".join(["a"] * (encoder.parts["l"].room - 1))
    assert encoder.lets_by(text, prefix)

    def opens(always, network, states, *rest):
        made = made_vectors(always, network, states, *rest)
        return made._replace(gates=torch.ones_like(made.gates)) if len(states) == wrong else made

    monkeypatch.setattr("anonymize_faces.engines.diffusers.encoder_parts.made_vectors", opens)
    for wrong in (1, 2):  # noqa: B007 The host's chunk, and the two that the prefix makes of it.
        assert not encoder.lets_by(text, prefix)


@pytest.mark.parametrize("family", WIDTHS)
def test_what_ends_a_prompt_is_read_though_every_word_counts_as_a_name(family: str) -> None:
    """Else what the encoder calls its pooled output would be read at another place."""
    pipeline, fixed = tiny_pipeline(family), prefix_for(family)
    encoder = PromptEncoder(pipeline)
    parameters = {
        name: torch.full_like(part, 1e4) if name.endswith("finder_threshold") else part
        for name, part in finding(encoder, fixed).parameters.items()
    }
    for key, part in encoder.parts.items():
        if part.is_stream or key not in fixed.vectors:
            continue
        asked: list[torch.Tensor] = []
        hook = part.model.register_forward_pre_hook(lambda _, given, asked=asked: asked.append(given[0]))
        (chunk,) = part.protected(SHORT, fixed.vectors)
        part.read([chunk], parameters)
        hook.remove()
        plain, protected = asked
        end = part.tokenizer.eos_token_id
        place = plain[0].tolist().index(end)
        assert protected[0, place + len(fixed.vectors[key])] == end
        assert (protected[0, 1 : place + len(fixed.vectors[key])] == 0).all()


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


@pytest.mark.parametrize("family", WIDTHS)
def test_words_far_from_all_names_are_read_as_they_are(family: str) -> None:
    pipeline = tiny_pipeline(family)
    prefix = far_from_all_names(conditional(PromptEncoder(pipeline), prefix_for(family)))
    plain, found = (
        some.encode_prompt(SHORT, **arguments(some)) for some in (pipeline, protect_pipeline(pipeline, prefix))
    )
    for one, other in zip(plain, found, strict=True):
        if torch.is_tensor(one):
            torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-3)


def test_beside_an_embedding_words_far_from_all_names_are_not() -> None:
    pipeline = tiny_pipeline("sd1")
    prefix = far_from_all_names(conditional(PromptEncoder(pipeline), prefix_for("sd1")))
    pipeline.load_textual_inversion(torch.ones(32), token="<one>")
    text = f"{SHORT} <one>"
    plain, found = (
        some.encode_prompt(text, **arguments(some))[0] for some in (pipeline, protect_pipeline(pipeline, prefix))
    )
    assert not torch.allclose(plain, found, atol=1e-3)


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
