"""Every chunk is protected, and every word of the user's survives.

The yardstick is the host's own tokenizer: asked for chunks that are m shorter, it must cut the prompt where we do.
"""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymize_faces.prefix import Frame, PrefixMismatchError, carries, eject, inject, require_fit
from anonymize_faces.prefix.injection.chunks import KEPT_WHOLE

WIDTH = 4
OWN = {"one": torch.full((1, WIDTH), 2.0), "six": torch.full((6, WIDTH), 3.0), "twelve": torch.full((12, WIDTH), 4.0)}

pieces = st.one_of(
    st.sampled_from(["a photo of", "Ada Lovelace", "(smiling:1.3)", "((nose))", "[hat]", "<|endoftext|>", "\n", ","]),
    st.sampled_from(["(a (deep (nest:0.5)) here:0)", "!!!", "!", "!a!", "donaudampfschifffahrt", "\x07\x1b"]),
    st.sampled_from(["🙂👩‍👩‍👧", "東京の猫", "مرحبا"]),
    st.sampled_from([f"embedding:{name}" for name in OWN] + ["(embedding:six:1.2)", "embedding:gone"]),
    st.text(max_size=12),
    st.integers(1, 90).map(lambda n: "word " * n),
)
prompts = st.lists(pieces, max_size=12).map(" ".join)
lengths = st.integers(1, 60)


@pytest.fixture(scope="module")
def tokenizers(comfy, tmp_path_factory):
    """The host's tokenizer of encoder "l" (padded with the end token) or "g" (with 0), for chunks of any length."""
    folder = tmp_path_factory.mktemp("embeddings")
    for name, vectors in OWN.items():
        safetensors.torch.save_file({"v": vectors}, folder / f"{name}.safetensors")
    made = {
        key: comfy.sd1_clip.SDTokenizer(
            embedding_directory=[str(folder)],
            embedding_size=WIDTH,
            embedding_key=f"clip_{key}",
            pad_with_end=key == "l",
        )
        for key in ("l", "g")
    }

    def make(key: str, length: int = 77):
        tokenizer = copy.copy(made[key])
        tokenizer.max_length = length
        return tokenizer

    return make


def comparable(chunks):
    def plain(token):
        return tuple(token.tolist()) if isinstance(token, torch.Tensor) else token

    return [[(plain(token), *rest) for token, *rest in chunk] for chunk in chunks]


def vectors_of(m: int) -> torch.Tensor:
    return torch.arange(m * WIDTH, dtype=torch.float32).view(m, WIDTH)


def user_entries(chunks):
    """What is the user's, in order: it alone has word ids."""
    return [entry for chunk in comparable(chunks) for entry in chunk if entry[2] != 0]


@pytest.mark.parametrize("key", ["l", "g"])
@settings(max_examples=150)
@given(text=prompts, m=lengths, room=st.one_of(st.none(), st.integers(KEPT_WHOLE, 250)))
def test_a_prompt_is_cut_where_the_host_would_cut_it(tokenizers, key, text, m, room):
    length = 77 if room is None else 2 + m + room
    tokens = {key: tokenizers(key, length).tokenize_with_weights(text, return_word_ids=True)}
    blank = {key: tokenizers(key, length).tokenize_with_weights("", return_word_ids=True)}
    shorter = tokenizers(key, length - m).tokenize_with_weights(text, return_word_ids=True)
    prefix = [(row, 1.0, 0) for row in vectors_of(m)]
    expected = [[chunk[0], *prefix, *chunk[1:]] for chunk in shorter]
    for injected in (inject(tokens, {key: vectors_of(m)}, Frame(blank)), inject(tokens, {key: vectors_of(m)})):
        assert comparable(injected[key]) == comparable(expected)


@pytest.mark.parametrize("key", ["l", "g"])
@settings(max_examples=150)
@given(text=prompts, m=lengths, word_ids=st.booleans())
def test_every_chunk_is_whole_and_begins_with_the_prefix(tokenizers, key, text, m, word_ids):
    tokens = {key: tokenizers(key).tokenize_with_weights(text, return_word_ids=word_ids)}
    injected = inject(tokens, {key: vectors_of(m)})[key]
    for chunk in injected:
        assert len(chunk) == 77
        assert chunk[0] == tokens[key][0][0]
        assert comparable([chunk[1 : m + 1]]) == comparable([[(row, 1.0, 0)[: 2 + word_ids] for row in vectors_of(m)]])
        assert all(len(entry) == 2 + word_ids for entry in chunk)


@settings(max_examples=150)
@given(text=prompts, m=lengths)
def test_no_entry_of_the_users_is_lost_altered_or_moved_past_another(tokenizers, text, m):
    tokens = {"g": tokenizers("g").tokenize_with_weights(text, return_word_ids=True)}
    injected = inject(tokens, {"g": vectors_of(m)})
    assert user_entries(injected["g"]) == user_entries(tokens["g"])
    given_objects = Counter(id(entry) for chunk in tokens["g"] for entry in chunk if entry[2] != 0)
    kept_objects = Counter(id(entry) for chunk in injected["g"] for entry in chunk if entry[2] != 0)
    assert kept_objects == given_objects


@settings(max_examples=150)
@given(text=prompts, m=lengths)
def test_without_word_ids_nothing_is_lost_either(tokenizers, text, m):
    tokens = {"g": tokenizers("g").tokenize_with_weights(text)}
    injected = inject(tokens, {"g": vectors_of(m)})["g"]
    structure = {(49406, 1.0), (49407, 1.0), (0, 1.0)}
    kept = [entry for chunk in comparable(injected) for entry in chunk[m + 1 :] if entry not in structure]
    assert kept == [entry for chunk in comparable(tokens["g"]) for entry in chunk if entry not in structure]


@settings(max_examples=100)
@given(text=prompts, m=lengths)
def test_ejecting_takes_out_the_prefix_and_nothing_else(tokenizers, text, m):
    tokens = {"g": tokenizers("g").tokenize_with_weights(text, return_word_ids=True)}
    injected = inject(tokens, {"g": vectors_of(m)})
    ejected = eject(injected, {"g": vectors_of(m)})["g"]
    assert [len(chunk) for chunk in ejected] == [77] * len(injected["g"])
    for chunk, protected in zip(comparable(ejected), comparable(injected["g"]), strict=True):
        assert chunk == [protected[0], *protected[m + 1 :], *[(0, 1.0, 0)] * m]


@settings(max_examples=100)
@given(text=prompts, m=lengths, data=st.data())
def test_tokens_carry_the_prefix_if_every_chunk_has_all_of_it(tokenizers, text, m, data):
    tokens = {key: tokenizers(key).tokenize_with_weights(text) for key in ("l", "g")}
    vectors = {"l": vectors_of(m), "g": vectors_of(m) + 1}
    assert not carries(tokens, vectors)
    injected = inject(tokens, vectors)
    assert carries(injected, vectors)
    key = data.draw(st.sampled_from(["l", "g"]))
    chunk = data.draw(st.sampled_from(injected[key]))
    chunk[data.draw(st.integers(1, m))] = (49407, 1.0)
    assert not carries(injected, vectors)


def test_ejecting_leaves_a_chunk_without_the_prefix_as_it_is(tokenizers):
    tokens = {"l": tokenizers("l").tokenize_with_weights("a photo")}
    assert eject(tokens, {"l": vectors_of(3)}) == tokens


def test_the_tokens_that_came_in_are_left_alone(tokenizers):
    tokens = {"l": tokenizers("l").tokenize_with_weights("word " * 100)}
    before = [list(chunk) for chunk in tokens["l"]]
    inject(tokens, {"l": vectors_of(10)})
    assert tokens["l"] == before


def test_blank_chunks_that_a_caller_appended_are_kept_and_protected(tokenizers):
    blank = tokenizers("l").tokenize_with_weights("")
    injected = inject({"l": tokenizers("l").tokenize_with_weights("a photo") + blank}, {"l": vectors_of(2)})
    assert len(injected["l"]) == 2
    assert all(isinstance(chunk[1][0], torch.Tensor) for chunk in injected["l"])


def test_entries_are_of_the_kind_that_came_in():
    tokens = {"l": [[[49406, 1.0], [320, 1.0], *[[49407, 1.0] for _ in range(75)]]]}
    assert {type(entry) for entry in inject(tokens, {"l": vectors_of(2)})["l"][0]} == {list}


def test_chunks_of_another_length_stay_of_that_length(tokenizers):
    tokens = {"l": tokenizers("l", 248).tokenize_with_weights("word " * 200)}
    assert [len(chunk) for chunk in inject(tokens, {"l": vectors_of(10)})["l"]] == [248]


def test_the_tokens_put_in_are_rows_of_the_very_tensor_so_gradients_reach_it(tokenizers):
    vectors = torch.nn.Parameter(vectors_of(3))
    injected = inject({"l": tokenizers("l").tokenize_with_weights("word " * 100)}, {"l": vectors})
    sum(row.sum() * 2 for chunk in injected["l"] for row, _ in chunk[1:4]).backward()
    assert vectors.grad.tolist() == [[4.0] * WIDTH] * 3
    assert injected["l"][0][1][0].data_ptr() == vectors.data_ptr()


def test_a_prefix_that_leaves_no_room_is_refused_with_the_remedy(tokenizers):
    tokens = {"l": tokenizers("l").tokenize_with_weights("a photo")}
    inject(tokens, {"l": vectors_of(70)})
    with pytest.raises(PrefixMismatchError, match="at most 70 vectors"):
        inject(tokens, {"l": vectors_of(71)})


def test_the_largest_prefix_still_lets_every_word_through(tokenizers):
    tokens = {"l": tokenizers("l").tokenize_with_weights("(seven tokens stay together here yes:1.1) " * 9, True)}
    injected = inject(tokens, {"l": vectors_of(70)})
    assert user_entries(injected["l"]) == user_entries(tokens["l"])


def test_an_encoder_that_the_prefix_lacks_is_named(tokenizers):
    tokens = {key: tokenizers(key).tokenize_with_weights("a photo") for key in ("g", "l")}
    with pytest.raises(PrefixMismatchError, match="no vectors for text encoder 'g'"):
        inject(tokens, {"l": vectors_of(2)})


def test_an_encoder_that_we_do_not_know_is_named(tokenizers):
    with pytest.raises(PrefixMismatchError, match="does not know text encoder 'qwen99_1b'"):
        inject({"qwen99_1b": [[(1, 1.0)]]}, {"qwen99_1b": vectors_of(2)})


@pytest.mark.parametrize(
    "tokens",
    [
        [[(1, 1.0)]],
        {"l": [[(1, 1.0), (2, 1.0)]]},
        {"l": [[(49406, 1.0), (320, 1.0)]]},
        {"l": [[(49407, 1.0)] * 77]},
        {"l": [[]]},
        {"l": []},
        [],
    ],
)
def test_tokens_of_another_layout_are_refused(tokens):
    with pytest.raises(PrefixMismatchError):
        inject(tokens, {"l": vectors_of(2)})


def test_a_blank_prompt_that_is_not_blank_is_refused(tokenizers):
    tokens = {"l": tokenizers("l").tokenize_with_weights("a photo")}
    protected = inject(tokens, {"l": vectors_of(3)})
    with pytest.raises(PrefixMismatchError, match="connect Anonymize Faces straight to the checkpoint's CLIP"):
        inject(protected, {"l": vectors_of(3)}, Frame(protected))


def test_a_prefix_of_another_width_is_refused_with_the_remedy():
    require_fit({"l": vectors_of(2), "g": vectors_of(2)}, {"l": WIDTH})
    told = r"text encoder 'l' takes vectors of 768 numbers, the prefix's have 4.*choose"
    with pytest.raises(PrefixMismatchError, match=told):
        require_fit({"l": vectors_of(2)}, {"l": 768})
