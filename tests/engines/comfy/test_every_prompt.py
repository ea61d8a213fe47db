"""No prompt, node or other extension gets past the prefix unprotected."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anonymize_faces.engines.comfy.protected_clip import is_protected, protect, unprotect
from anonymize_faces.prefix import PrefixMismatchError
from anonymize_faces.tests.support.encoding import encode, encoded_chunks, same
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip

WIDTHS = {name: FAMILIES[name].widths for name in ("sd1", "sd2", "sdxl")}
TEXT = "a portrait of (Ada Lovelace:1.4), smiling"
WORDS = ["a", "photo", "portrait", "Ada", "(smiling:1.4)", "[hat]", "unquestionably", "🙂", "猫", "مرحبا", "\x1b", ","]

prompts = st.tuples(st.integers(1, 600), st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)).map(
    lambda drawn: " ".join((drawn[1] * drawn[0])[: drawn[0]])
)


@pytest.fixture(scope="module", params=WIDTHS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def clip(host_modules, family):
    return make_clip(family)


@pytest.fixture(scope="module")
def prefix(make_prefix, family):
    return make_prefix(**WIDTHS[family])


def starts_with(chunk, vectors) -> bool:
    return all(torch.is_tensor(chunk[1 + n]) and torch.equal(chunk[1 + n], row) for n, row in enumerate(vectors))


def user_tokens(chunks) -> Counter:
    return Counter((token, weight) for chunk in chunks for token, weight, word in chunk if word != 0)


@settings(max_examples=40)
@given(text=prompts, m=st.sampled_from([1, 2, 10, 35, 69, 70]))
@example(text="word " * 600, m=10)
@example(text="", m=10)
def test_every_chunk_is_protected_and_no_token_of_the_users_is_lost(clip, family, make_prefix, text, m):
    prefix = make_prefix(m, **WIDTHS[family])
    plain = clip.tokenize(text, return_word_ids=True)
    protected = protect(clip, prefix, 1.0).tokenize(text, return_word_ids=True)
    assert protected.keys() == plain.keys()
    for key, chunks in protected.items():
        assert all(starts_with([entry[0] for entry in chunk], prefix.vectors[key]) for chunk in chunks)
        assert user_tokens(chunks) == user_tokens(plain[key])
        assert len(chunks) >= len(plain[key])


@pytest.mark.parametrize("words", [1, 65, 66, 75, 76, 130, 131, 600])
def test_what_the_encoders_receive_is_protected_in_every_chunk(clip, family, prefix, words):
    with encoded_chunks(clip, *WIDTHS[family]) as calls:
        encode(protect(clip, prefix, 1.0), "word " * words)
    for key, ((*chunks,),) in calls.items():
        assert len(chunks) == -(-words // 65)
        assert all(starts_with(chunk, prefix.vectors[key]) for chunk in chunks)


def test_an_encoder_is_called_once_and_for_no_chunk_but_those_that_the_prefix_pushed_over(clip, family, prefix):
    for words, plain_chunks, protected_chunks in ((1, 1, 1), (65, 1, 1), (66, 1, 2), (75, 1, 2), (131, 2, 3)):
        counts = []
        for target in (clip, protect(clip, prefix, 1.0)):
            with encoded_chunks(clip, *WIDTHS[family]) as calls:
                encode(target, "word " * words)
            counts.append({key: [len(chunks) for chunks in made] for key, made in calls.items()})
        assert counts == [{key: [n] for key in WIDTHS[family]} for n in (plain_chunks, protected_chunks)]


def test_between_the_strengths_an_encoder_is_called_twice(clip, family, prefix):
    with encoded_chunks(clip, *WIDTHS[family]) as calls:
        encode(protect(clip, prefix, 0.5), "a photo")
    assert {key: len(made) for key, made in calls.items()} == dict.fromkeys(WIDTHS[family], 2)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_tokens_of_an_unprotected_clip_are_refused_with_the_remedy(clip, prefix, strength):
    protected, tokens = protect(clip, prefix, strength), clip.tokenize(TEXT)
    for encode_tokens in (protected.encode_from_tokens, protected.encode_from_tokens_scheduled):
        with pytest.raises(PrefixMismatchError, match=r"do not carry the prefix.*connect the CLIP of Anonymize Faces"):
            encode_tokens(tokens)
    assert protect(clip, prefix, 0.0).encode_from_tokens(tokens) is not None


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_tokens_of_which_one_chunk_is_unprotected_are_refused(clip, family, prefix, strength):
    protected = protect(clip, prefix, strength)
    for key in WIDTHS[family]:
        tokens = protected.tokenize("word " * 70)
        tokens[key][-1] = clip.tokenize(TEXT)[key][0]
        with pytest.raises(PrefixMismatchError, match="do not carry the prefix"):
            protected.encode_from_tokens(tokens)


def test_tokens_of_a_tokenizer_within_the_tokenizer_are_the_hosts_own_and_refused(clip, family, prefix):
    protected = protect(clip, prefix, 1.0)
    tokens = {}
    for key in WIDTHS[family]:
        inner = getattr(protected.tokenizer, f"clip_{key}")
        assert inner is getattr(clip.tokenizer, f"clip_{key}")
        tokens[key] = inner.tokenize_with_weights(TEXT)
    with pytest.raises(PrefixMismatchError, match="do not carry the prefix"):
        protected.encode_from_tokens(tokens)


def test_tokens_of_another_prefix_are_refused(clip, family, prefix, make_prefix):
    other = protect(clip, make_prefix(seed=1, **WIDTHS[family]), 1.0)
    with pytest.raises(PrefixMismatchError, match="do not carry the prefix"):
        protect(clip, prefix, 1.0).encode_from_tokens(other.tokenize(TEXT))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_clone_made_in_any_way_that_the_host_offers_stays_protected(clip, prefix, strength):
    protected = protect(clip, prefix, strength)
    ways = [{}] + [{name: True} for name in inspect.signature(clip.clone).parameters]
    for options in ways:
        clone = protected.clone(**options)
        assert is_protected(clone)
        assert same(encode(clone, TEXT), encode(protected, TEXT))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_copies_stay_protected(clip, prefix, strength):
    protected = protect(clip, prefix, strength)
    expected = encode(protected, TEXT)
    for duplicate in (copy.copy, copy.deepcopy):
        copied = protected.clone()
        copied.tokenizer, copied.cond_stage_model = duplicate((protected.tokenizer, protected.cond_stage_model))
        assert is_protected(copied) and same(encode(copied, TEXT), expected)


def test_a_deep_copy_encodes_with_its_own_weights(clip, prefix):
    encoder = protect(clip, prefix, 0.5).cond_stage_model
    tokens = protect(clip, prefix, 0.5).tokenize(TEXT)
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        before = encoder.encode_token_weights(tokens)[0]
        for parameter in copied.parameters():
            parameter.mul_(0.5)
        assert torch.equal(encoder.encode_token_weights(tokens)[0], before)
        assert not torch.equal(copied.encode_token_weights(tokens)[0], before)


def test_a_protected_part_is_never_pickled_as_an_unprotected_one(clip, prefix):
    protected = protect(clip, prefix, 0.5)
    for part in (protected.tokenizer, protected.cond_stage_model):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            pickle.dumps(part)


def renaming(tokenize):
    """What extensions do to a tokenizer: a function in the place of its method."""
    return lambda text, *args, **kwargs: tokenize(text.replace("Ada", "Bob"), *args, **kwargs)


def test_a_tokenizer_whose_method_another_extension_replaced_before_is_protected(clip, prefix):
    changed = clip.clone()
    changed.tokenizer = copy.copy(clip.tokenizer)
    changed.tokenizer.tokenize_with_weights = renaming(clip.tokenizer.tokenize_with_weights)
    protected = protect(changed, prefix, 1.0)
    assert same(encode(protected, TEXT), encode(protect(clip, prefix, 1.0), TEXT.replace("Ada", "Bob")))


def test_a_method_that_another_extension_replaces_after_is_used_and_reaches_no_other_clip(clip, prefix):
    plain, protected = encode(clip, TEXT), protect(clip, prefix, 1.0)
    expected = encode(protected, TEXT.replace("Ada", "Bob"))
    changed = protected.clone()
    changed.tokenizer.tokenize_with_weights = renaming(changed.tokenizer.tokenize_with_weights)
    assert same(encode(changed, TEXT), expected)
    assert same(encode(clip, TEXT), plain)


def test_a_setting_of_the_tokenizers_own_takes_effect(clip, family, prefix):
    protected = protect(clip, prefix, 1.0)
    key = next(iter(WIDTHS[family]))
    longer = copy.copy(getattr(clip.tokenizer, f"clip_{key}"))
    longer.max_length = 154
    setattr(protected.tokenizer, f"clip_{key}", longer)
    assert [len(chunk) for chunk in protected.tokenize("word " * 100)[key]] == [154]
    assert [len(chunk) for chunk in clip.tokenize("word " * 100)[key]] == [77, 77]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_encoder_that_another_extension_patches_works_before_and_after(clip, family, prefix, strength):
    key = f"clip_{next(iter(WIDTHS[family]))}.encode_token_weights"

    def doubled(encode_tokens, tokens):
        cond, *rest = encode_tokens(tokens)
        return (cond * 2, *rest)

    def patched(target):
        clone = target.clone()
        clone.patcher.add_object_patch(key, functools.partial(doubled, clone.patcher.get_model_object(key)))
        return clone

    plain = encode(clip, TEXT)
    unpatched = encode(protect(clip, prefix, strength), TEXT)
    before, after = protect(patched(clip), prefix, strength), patched(protect(clip, prefix, strength))
    assert same(encode(before, TEXT), encode(after, TEXT))
    assert not same(encode(before, TEXT), unpatched)
    width = next(iter(WIDTHS[family].values()))
    torch.testing.assert_close(encode(before, TEXT)[0][..., :width], unpatched[0][..., :width] * 2)
    assert same(encode(clip, TEXT), plain)


def test_a_protected_tokenizer_that_another_extension_wrapped_is_not_protected_twice(clip, prefix):
    class Wrapper:
        def __init__(self, inner):
            self.inner = inner

        def tokenize_with_weights(self, *args, **kwargs):
            return self.inner.tokenize_with_weights(*args, **kwargs)

    wrapped = protect(clip, prefix, 1.0)
    wrapped.tokenizer = Wrapper(wrapped.tokenizer)
    with pytest.raises(PrefixMismatchError, match="connect Anonymize Faces straight to the checkpoint's CLIP"):
        protect(wrapped, prefix, 1.0)


def test_whether_a_clip_is_protected_can_be_told(clip, prefix):
    assert not is_protected(clip) and not is_protected(None)
    assert is_protected(protect(clip, prefix, 1.0)) and is_protected(protect(clip, prefix, 0.01))
    assert not is_protected(protect(clip, prefix, 0.0)) and not is_protected(unprotect(protect(clip, prefix, 1.0)))


def test_words_removed_from_the_tokens_leave_the_prefix(clip, prefix):
    """As PhotoMakerEncode does: it takes out one word by its id and fills up at the end."""
    protected = protect(clip, prefix, 1.0)
    tokens = {}
    for key, chunks in protected.tokenize("portrait (photomaker:1.1) smiling", return_word_ids=True).items():
        kept = [[entry for entry in chunk if entry[2] != 2] for chunk in chunks]
        tokens[key] = [chunk + [chunk[-1]] * (77 - len(chunk)) for chunk in kept]
    with torch.no_grad():
        cond = protected.encode_from_tokens(tokens)
    torch.testing.assert_close(cond, encode(protected, "portrait smiling")[0])


PROMPTS = [("a photo", "a photo"), ("word " * 200, "a hat"), ("", "word " * 140), ("word " * 60, "word " * 70)]
SIZES = dict.fromkeys(("width", "height", "target_width", "target_height"), 64) | {"crop_w": 0, "crop_h": 0}


@pytest.fixture(scope="module")
def run_node(host_modules, make_prefix):
    """Runs one of the host's nodes on a protected CLIP: its conditioning, and whether all that is encoded is protected.

    That is asked of the encoders' own inputs: of every chunk of CLIPs, and of every stream of T5 with words in it.
    """
    import comfy_extras.nodes_clip_sdxl
    import comfy_extras.nodes_flux
    import comfy_extras.nodes_sd3

    modules = (comfy_extras.nodes_clip_sdxl, comfy_extras.nodes_flux, comfy_extras.nodes_sd3)
    clips = functools.cache(make_clip)

    def run(node: str, family: str, strength: float, **inputs):
        cls = next(getattr(module, node) for module in modules if hasattr(module, node))
        clip, widths = clips(family), FAMILIES[family].widths
        prefix = make_prefix(**widths)
        with torch.no_grad(), encoded_chunks(clip, *widths) as calls:
            ((cond, extras),) = cls.execute(protect(clip, prefix, strength), **inputs).args[0]
        first = {key: made[0] if made else [] for key, made in calls.items()}
        for key, chunks in first.items():
            rows, skipped = prefix.vectors[key], int(key != "t5xxl")
            for chunk in chunks:
                if key == "t5xxl" and not any(torch.is_tensor(token) or token > 1 for token in chunk):
                    continue
                placed = chunk[skipped : skipped + len(rows)]
                assert all(torch.is_tensor(x) and torch.equal(x, row) for x, row in zip(placed, rows, strict=True))
        assert torch.isfinite(cond).all()
        return cond, extras, first

    return run


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(("one", "other"), PROMPTS)
def test_the_hosts_node_for_sdxl_protects_both_prompts_in_every_chunk(run_node, one, other, strength):
    cond, extras, chunks = run_node("CLIPTextEncodeSDXL", "sdxl", strength, text_g=one, text_l=other, **SIZES)
    assert len(chunks["l"]) == len(chunks["g"]) and cond.shape[1] == 77 * len(chunks["l"])
    assert extras["width"] == 64


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(("one", "other"), PROMPTS)
def test_the_hosts_node_for_flux_protects_both_prompts(run_node, one, other, strength):
    _, extras, chunks = run_node("CLIPTextEncodeFlux", "flux", strength, clip_l=one, t5xxl=other, guidance=3.5)
    assert extras["guidance"] == 3.5 and chunks["l"] and len(chunks["t5xxl"]) == 1


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("padding", ["none", "empty_prompt"])
@pytest.mark.parametrize(("one", "other"), PROMPTS)
def test_the_hosts_node_for_sd3_protects_three_prompts(run_node, one, other, padding, strength):
    texts = {"clip_l": one, "clip_g": other, "t5xxl": one}
    _, _, chunks = run_node("CLIPTextEncodeSD3", "sd3", strength, **texts, empty_padding=padding)
    assert len(chunks["l"]) == len(chunks["g"])
    # Without words and padding the node passes no tokens, and the host encodes its own blank ones.
    assert torch.is_tensor(chunks["t5xxl"][0][0]) == (bool(one) or padding == "empty_prompt")


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("words", ["a photo", ""])
def test_the_hosts_node_for_sd3_may_leave_all_its_clips_without_words(run_node, words, strength):
    """The host then does not ask them at all, and they have nothing to let by."""
    texts = {"clip_l": "", "clip_g": "", "t5xxl": words}
    _, _, chunks = run_node("CLIPTextEncodeSD3", "sd3", strength, **texts, empty_padding="none")
    assert not chunks["l"] and not chunks["g"]
    assert torch.is_tensor(chunks["t5xxl"][0][0]) == bool(words)
