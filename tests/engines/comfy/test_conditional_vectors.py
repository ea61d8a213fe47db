"""Shows with the host's real text encoders that vectors are made for each prompt, and that nothing is read without."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from anonymize_faces.engines.comfy.conditional_vectors import PromptsRead, states_read, vectors_made
from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.engines.comfy.text_encoders import embedding_table, rows_of, text_encoders, vectors_for
from anonymize_faces.prefix import Prefix, PrefixMismatchError, frame_of, inject_text, words
from anonymize_faces.prefix.injection.tokens import common_start
from anonymize_faces.prefix.meta_network import made_vectors, network_of
from anonymize_faces.prefix.name_words import neutral_embedding, standardized_words
from anonymize_faces.tests.support.conditional import (
    NAMED,
    UNNAMED,
    conditional,
    far_from_all_names,
    with_gates,
    with_parts,
)
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip

TEXT = "a portrait of Ada Lovelace"
OTHER = "a lighthouse by the sea"


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, host_modules):
    """The name of each family and its text encoder, made once: protecting it leaves it as it was."""
    return request.param, make_clip(request.param)


def conditioning(clip, text=TEXT):
    """All that the host's encoder returns."""
    with torch.no_grad():
        ((cond, extras),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return [cond, *(value for value in extras.values() if torch.is_tensor(value))]


def alike(one, other, tolerance=1e-5):
    return all(
        a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=tolerance, rtol=tolerance)
        for a, b in zip(one, other, strict=True)
    )


def vectors_of_prompt(clip, prefix, text):
    """The vectors that are made for a prompt of one chunk, by a way of its own."""
    encoders = text_encoders(clip.cond_stage_model)
    always = vectors_for(encoders, prefix.vectors)
    said = {}
    with torch.no_grad(), vectors_made(encoders, always, lambda key, read: said.__setitem__(key, read.states)):
        tokens = inject_text(lambda words: clip.tokenize(words, return_word_ids=True), text, always, encoders)
        clip.cond_stage_model.encode_token_weights(tokens)
    return {
        key: made_vectors(
            prefix.vectors[key],
            network_of(prefix.networks, key),
            said[key][None],
            torch.ones(1, len(said[key]), dtype=torch.bool),
        ).vectors[0]
        for key in prefix.vectors
    }


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_a_reading_for_the_networks_ends_where_all_is_read(host_modules, make_prefix, name):
    clip = make_clip(name)
    encoders = text_encoders(clip.cond_stage_model)
    always = vectors_for(encoders, make_prefix(m=3, **FAMILIES[name].widths).vectors)
    # Some 90 words are two chunks of a CLIP, all of which are read in one call.
    tokens = inject_text(lambda words: clip.tokenize(words, return_word_ids=True), "word " * 90, always, encoders)
    calls, whole = [], {key: [] for key in encoders}
    for key, encoder in encoders.items():
        encoder.transformer.register_forward_hook(lambda *_, key=key: calls.append(key))
    with torch.no_grad(), vectors_made(encoders, always, lambda key, read: whole[key].append(read)):
        clip.cond_stage_model.encode_token_weights(tokens)
    in_whole = len(calls)
    with torch.no_grad():
        (said,) = states_read(encoders, always, [tokens], clip.cond_stage_model.encode_token_weights)
    assert len(tokens["l"]) > 1 and said.keys() == encoders.keys()
    for key in encoders:
        for found, expected in zip(said[key], zip(*whole[key], strict=True), strict=True):
            assert torch.equal(found, torch.cat(expected))
    assert len(calls) - in_whole == in_whole - 1, "the last encoder reads once"


def test_each_prompt_is_read_with_the_vectors_that_are_made_for_it(family, make_prefix):
    name, clip = family
    fixed = make_prefix(m=3, **FAMILIES[name].widths)
    prefix = conditional(clip, fixed)
    protected = protect(clip, prefix, 1.0)
    for text in (TEXT, OTHER):
        made = vectors_of_prompt(clip, prefix, text)
        assert any((made[key] - fixed.vectors[key]).abs().max() > 1e-3 for key in made)
        expected = conditioning(protect(clip, Prefix(made, fixed.record), 1.0), text)
        assert alike(conditioning(protected, text), expected, 1e-3)
        assert not alike(conditioning(protect(clip, fixed, 1.0), text), expected, 1e-6)


@pytest.mark.parametrize("text", [NAMED, f"({NAMED}:1.4) by the sea a portrait of Ada Lovelace"])
def test_words_of_a_name_are_read_as_the_neutral_one(family, make_prefix, text):
    """However often it is said, and with whatever weight; all else is read as it is."""
    name, clip = family
    fixed = make_prefix(m=3, **FAMILIES[name].widths)
    prefix = conditional(clip, fixed, finds=True)

    def tokenize(some):
        return clip.tokenize(some, return_word_ids=True)

    encoders = text_encoders(clip.cond_stage_model)
    made = vectors_of_prompt(clip, prefix, text)
    protected = protect(clip, Prefix(made, fixed.record), 1.0)
    tokens = protected.tokenize(text, return_word_ids=True)
    for key in made:
        said, others = (words(key, tokenize(some), frame_of(tokenize, some)) for some in (NAMED, UNNAMED))
        network, table = network_of(prefix.networks, key), embedding_table(encoders[key])
        of_name = {entry[0] for entry in said[common_start(said, others) :]}
        numbers = [entry[0] for entry in words(key, tokenize(text), frame_of(tokenize, text))]
        rows = standardized_words(network, rows_of(table, numbers))
        likeness = rows @ network["finder"][-rows.shape[1] :] + network["finder_threshold"][0]
        found = {number for number, like in zip(numbers, likeness, strict=True) if like > 0}
        assert found & of_name  # Others look like it by chance where the tokenizer of an encoder has a few letters.
        neutral = neutral_embedding(network_of(vectors_for(encoders, prefix.parameters), key))
        for chunk in tokens[key]:
            start = next(place for place, entry in enumerate(chunk) if torch.is_tensor(entry[0]))
            for place, entry in enumerate(chunk[start:], start):  # Templates may say before it what a name says.
                if not torch.is_tensor(entry[0]) and entry[0] in found:
                    chunk[place] = (neutral, *entry[1:])
        assert sum(entry[0] is neutral for chunk in tokens[key] for entry in chunk) >= 1 + (text != NAMED)
    with torch.no_grad():
        ((expected, extras),) = protected.encode_from_tokens_scheduled(tokens)
    found = conditioning(protect(clip, prefix, 1.0), text)
    expected = [expected, *(value for value in extras.values() if torch.is_tensor(value))]
    # Some of the host's encoders say what is no number of weighted words, with a prefix or without.
    assert alike(map(torch.nan_to_num, found), map(torch.nan_to_num, expected), 1e-3)
    unread = conditioning(protect(clip, conditional(clip, fixed), 1.0), text)
    assert not alike(map(torch.nan_to_num, found), map(torch.nan_to_num, unread), 1e-6)


def test_a_closed_gate_leaves_what_the_prompt_says_as_it_is(family, make_prefix):
    name, clip = family
    prefix = conditional(clip, make_prefix(m=3, **FAMILIES[name].widths))
    for text in (TEXT, OTHER):
        plain, closed = conditioning(clip, text), conditioning(protect(clip, with_gates(prefix, 0.0), 1.0), text)
        for one, other in zip(plain, closed, strict=True):
            assert one.shape == other.shape and torch.allclose(one.float(), other.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["sd1", "sdxl", "sd3"])
@pytest.mark.parametrize("count", [58, 73, 76, 300])
def test_a_closed_gate_leaves_a_prompt_of_any_length_in_the_chunks_that_the_host_makes(layout, count, make_prefix):
    """A prefix takes room, so that its words are cut elsewhere; nothing of that is left where it does nothing."""
    clip = make_clip(layout)
    closed = with_gates(conditional(clip, make_prefix(m=3, **FAMILIES[layout].widths)), 0.0)
    text = " ".join(["a", "(portrait:1.3)", "unquestionably", "smiling,", "at", "dawn"] * count)[: 9 * count]
    assert alike(conditioning(protect(clip, closed, 1.0), text), conditioning(clip, text), 1e-6)


@pytest.mark.parametrize("ids", [True, False])
def test_a_closed_gate_reads_words_whose_weights_a_node_has_changed_in_the_hosts_chunks(sd1, prefix, ids):
    protected = protect(sd1, with_gates(prefix, 0.0), 1.0)
    text = " ".join(["a portrait of unquestionably smiling people"] * 20)

    def louder(clip):
        tokens = clip.tokenize(text, return_word_ids=ids)
        for chunk in tokens["l"]:
            for place, entry in enumerate(chunk):
                if not torch.is_tensor(entry[0]) and entry[0] not in (49406, 49407):
                    chunk[place] = (entry[0], 1.1, *entry[2:])
        with torch.no_grad():
            ((states, _),) = clip.encode_from_tokens_scheduled(tokens)
        return states

    assert alike([louder(protected)], [louder(sd1)])


def test_a_closed_gate_leaves_words_apart_that_a_node_has_put_into_chunks_of_their_own(sd1, prefix):
    def apart(clip):
        tokens = clip.tokenize("ada")
        tokens["l"] += clip.tokenize("lovelace")["l"]
        with torch.no_grad():
            ((states, _),) = clip.encode_from_tokens_scheduled(tokens)
        return states

    assert alike([apart(protect(sd1, with_gates(prefix, 0.0), 1.0))], [apart(sd1)])


def test_a_name_across_the_border_of_two_chunks_is_not_read_whole_without_the_prefix(sd1, prefix, monkeypatch):
    """The gate says of neither half that it is a name, and of the whole that it is."""
    protected = protect(sd1, with_gates(prefix, 0.0), 1.0)
    text = " ".join(["a"] * 71) + " ada lovelace"
    assert alike(conditioning(protected, text), conditioning(sd1, text))
    open_to_all = conditioning(protect(sd1, with_gates(prefix, 1.0), 1.0), text)
    asked = []

    def opens(said, always, network, states, *rest):
        made = made_vectors(always, network, states, *rest)
        asked.append(len(states))
        return made._replace(gates=torch.ones_like(made.gates) if len(asked) > 1 else made.gates)

    monkeypatch.setattr("anonymize_faces.engines.comfy.conditional_vectors.made_vectors", partial(opens, None))
    found = conditioning(protected, text)
    assert asked == [2, 1, 2]
    assert alike(found, open_to_all)


def test_a_closed_gate_reads_what_a_node_has_laid_out_otherwise_as_it_came(sd1, prefix):
    protected = protect(sd1, with_gates(prefix, 0.0), 1.0)
    tokens = protected.tokenize("a portrait of a lighthouse")
    tokens["l"] = [[(one[0], 1.1 * one[1]) for one in chunk] for chunk in tokens["l"]]
    with torch.no_grad():
        ((states, _),) = protected.encode_from_tokens_scheduled(tokens)
    assert torch.isfinite(states).all()


def test_words_far_from_all_names_are_read_as_they_are(family, make_prefix):
    name, clip = family
    prefix = far_from_all_names(conditional(clip, make_prefix(m=3, **FAMILIES[name].widths)))
    told = []
    protected = protect(clip, prefix, 1.0, told=lambda *acts: told.append(acts))
    assert alike(conditioning(protected), conditioning(clip)) and told == [(0.0, 0.0)]


def test_beside_an_embedding_words_far_from_all_names_are_not(sd1, prefix):
    told = []
    protected = protect(sd1, far_from_all_names(prefix), 1.0, told=lambda *acts: told.append(acts))
    tokens = protected.tokenize(TEXT)
    last = max(place for place, entry in enumerate(tokens["l"][0]) if torch.is_tensor(entry[0])) + 5
    tokens["l"][0][last] = (torch.randn(32), 1.0)
    with torch.no_grad():
        protected.encode_from_tokens_scheduled(tokens)
        protected.encode_from_tokens_scheduled(protected.tokenize(TEXT))
    assert told == [(1.0, 1.0), (0.0, 0.0)]


def test_half_open_words_go_half_the_way_from_what_they_say_without_vectors(family, make_prefix):
    """Whatever stands at a position with vectors stands somewhere without them, be it padding or repeated."""
    name, clip = family
    prefix = conditional(clip, make_prefix(m=3, **FAMILIES[name].widths))
    plain, half, whole = (
        conditioning(clip),
        *(conditioning(protect(clip, with_gates(prefix, gate), 1.0)) for gate in (0.5, 1.0)),
    )
    for one, other, far in zip(plain, half, whole, strict=True):
        if one.ndim >= 3:
            beside = (2 * other - far).double()
            assert float(torch.cdist(beside, one.double()).amin(-1).max()) < 1e-3
            assert not torch.allclose(other, far, atol=1e-3)
        elif one.is_floating_point():
            assert torch.allclose(other, torch.lerp(one, far, 0.5), atol=1e-4)


def test_words_stand_beside_themselves(sd1, prefix):
    """So that weights of words are those of the same words, and padding takes the place of vectors."""
    plain, whole = conditioning(sd1)[0], conditioning(protect(sd1, prefix, 1.0))[0]
    half = conditioning(protect(sd1, with_gates(prefix, 0.5), 1.0))[0]
    beside = torch.cat([plain[:, :1], plain[:, -3:], plain[:, 1:-3]], 1)
    assert torch.allclose(half, torch.lerp(beside, whole, 0.5), atol=1e-5)


@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0])
def test_it_is_told_how_far_each_prompt_is_let_through(sd1, prefix, gate):
    told = []
    conditioning(protect(sd1, with_gates(prefix, gate), 1.0, told=lambda *acts: told.append(acts)))
    assert told == [pytest.approx((gate, gate))]


def test_nothing_is_told_of_a_prefix_that_is_always_the_same(sd1, make_prefix):
    told = []
    always_the_same = make_prefix(m=3, **FAMILIES["sd1"].widths)
    conditioning(protect(sd1, always_the_same, 1.0, told=lambda *acts: told.append(acts)))
    assert told == []


def test_a_gate_that_cannot_be_read_draws_nothing_as_without_a_prefix(sd1, prefix, monkeypatch):
    made = "anonymize_faces.engines.comfy.conditional_vectors.made_vectors"
    monkeypatch.setattr(made, lambda *given: made_vectors(*given)._replace(gates=torch.tensor([float("nan")])))
    told = []
    said = conditioning(protect(sd1, prefix, 1.0, told=lambda *acts: told.append(acts)))
    assert told == [(1.0, 1.0)] and not torch.isfinite(said[0]).all()


def test_of_two_encoders_the_one_that_lets_less_through_is_told_first():
    read = PromptsRead()
    assert read.acts == (1.0, 1.0) and not read.let_through
    read.opened |= {"l": 0.75, "g": 0.0}
    assert read.acts == (0.0, 0.75) and read.let_through


def test_each_chunk_has_a_gate_of_its_own(sd1, prefix):
    """The detector is set to open for the first of two chunks and to close for the second."""
    long = ", ".join(f"thing {n} of the (sea:1.3)" for n in range(13))
    said = []
    encoders = text_encoders(sd1.cond_stage_model)
    always = vectors_for(encoders, prefix.vectors)
    tokens = inject_text(lambda words: sd1.tokenize(words, return_word_ids=True), long, always, encoders)
    assert len(tokens["l"]) == 2
    for chunk in tokens["l"]:
        with torch.no_grad(), vectors_made(encoders, always, lambda _, read: said.append(read.states)):
            sd1.cond_stage_model.clip_l.encode(([chunk[n][0] for n in range(len(chunk))],))
    network = network_of(prefix.networks, "l")
    clearest = [((states - network["mean"]) / network["deviation"]) for states in said]
    direction = clearest[0][-1] - clearest[1].mean(0)
    marks = [float((states @ direction).max()) for states in clearest]
    if marks[0] < marks[1]:
        direction, marks = -direction, [float((states @ -direction).max()) for states in clearest]
    assert marks[0] != marks[1]
    scale = 1e4 / abs(marks[0] - marks[1])
    threshold = torch.tensor([-scale * (marks[0] + marks[1]) / 2])
    parted = conditioning(protect(sd1, with_parts(prefix, detector=scale * direction, threshold=threshold), 1.0), long)
    opened, half = (conditioning(protect(sd1, with_gates(prefix, gate), 1.0), long)[0] for gate in (1.0, 0.5))
    first, second = (opened, 2 * half - opened) if marks[0] > marks[1] else (2 * half - opened, opened)
    assert torch.allclose(parted[0][:, :77], first[:, :77], atol=1e-4)
    assert torch.allclose(parted[0][:, 77:154], second[:, 77:154], atol=1e-4)
    assert not torch.allclose(opened, half, atol=1e-3)


@pytest.fixture(scope="module")
def sd1(host_modules):
    return make_clip("sd1")


@pytest.fixture
def prefix(sd1, make_prefix):
    return conditional(sd1, make_prefix(m=3, l=32))


def test_every_chunk_and_every_weight_gets_vectors(sd1, prefix):
    protected = protect(sd1, prefix, 1.0)
    long = ", ".join(f"thing {n} of the (sea:1.3)" for n in range(40))
    encoders = text_encoders(sd1.cond_stage_model)
    ((states, _),) = protected.encode_from_tokens_scheduled(protected.tokenize(long))
    assert states.shape[1] >= 154 and set(encoders) == {"l"}
    first = protected.encode_from_tokens_scheduled(protected.tokenize(long.split(", thing 30")[0]))[0][0]
    assert torch.allclose(states[:, :77], first[:, :77], atol=1e-5)


def test_half_strength_is_half_way_to_it(sd1, prefix):
    plain, whole = conditioning(sd1)[0], conditioning(protect(sd1, prefix, 1.0))[0]
    half = conditioning(protect(sd1, prefix, 0.5))[0]
    assert torch.allclose(half[:, -1], torch.lerp(plain[:, -1], whole[:, -1], 0.5), atol=1e-5)


def test_afterwards_the_encoder_is_as_it_was(sd1, prefix):
    before = conditioning(sd1)
    network = sd1.cond_stage_model.clip_l.transformer
    hooks = dict(network._forward_pre_hooks)
    conditioning(protect(sd1, prefix, 1.0))
    assert dict(network._forward_pre_hooks) == hooks and alike(conditioning(sd1), before, 0)


def test_what_reads_the_encoder_within_is_protected_too_or_refused(sd1, prefix):
    protected = protect(sd1, prefix, 1.0)
    tokens = protected.tokenize(TEXT)
    with torch.no_grad():
        expected = protected.cond_stage_model.encode_token_weights(tokens)[0]
        within = protected.cond_stage_model.clip_l.encode_token_weights(tokens["l"])[0]
        assert torch.equal(within, expected)
        with pytest.raises(PrefixMismatchError, match="not be protected"):
            protected.cond_stage_model.clip_l.encode_token_weights(sd1.tokenize(TEXT)["l"])
        with pytest.raises(PrefixMismatchError, match="not be protected"):
            protected.cond_stage_model.clip_l.transformer(None, embeds=torch.zeros(1, 77, 32))


def test_a_network_that_says_nothing_of_the_prompt_is_refused(sd1, prefix, monkeypatch):
    protected = protect(sd1, prefix, 1.0)
    network = sd1.cond_stage_model.clip_l.transformer
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *args, **kwargs: (None, *forward(*args, **kwargs)[1:]))
    with pytest.raises(PrefixMismatchError, match="does not say"):
        conditioning(protected)


def test_vectors_that_another_extension_changed_on_the_way_are_refused(sd1, prefix, monkeypatch):
    protected = protect(sd1, prefix, 1.0)
    encoder = sd1.cond_stage_model.clip_l
    process = encoder.process_tokens

    def noisy(*args, **kwargs):
        embeds, *others = process(*args, **kwargs)
        return (embeds + 1e-3, *others)

    monkeypatch.setattr(encoder, "process_tokens", noisy)
    with pytest.raises(PrefixMismatchError, match="does not say"):
        conditioning(protected)


def test_the_same_file_gives_the_same_pictures(sd1, prefix, tmp_path):
    from anonymize_faces.prefix import load_prefix, save_prefix

    back = load_prefix(save_prefix(prefix, tmp_path / "one.safetensors"))
    assert back.is_conditional and alike(
        conditioning(protect(sd1, back, 1.0)), conditioning(protect(sd1, prefix, 1.0)), 0
    )
    assert dataclasses.replace(back.record, date="") == dataclasses.replace(prefix.record, date="")
