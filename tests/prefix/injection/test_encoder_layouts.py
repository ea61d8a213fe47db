"""A prefix enters every family of text encoders at its right place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.engines.comfy.text_encoders import embedding_table, text_encoders, vectors_for
from anonymize_faces.engines.differentiable import differentiable
from anonymize_faces.prefix import PrefixMismatchError, eject, frame_of, inject_text, words
from anonymize_faces.prefix.injection.encoder_layouts import ENCODER_LAYOUTS as ENCODERS
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip
from anonymize_faces.tools.layout import ROOT

M = 3


@pytest.fixture(scope="module", params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def family(name):
    return FAMILIES[name]


@pytest.fixture(scope="module")
def clip(name, host_modules):
    return make_clip(name)


@pytest.fixture(scope="module")
def prefix(family, make_prefix):
    return make_prefix(m=M, **family.widths)


def encode(clip, tokens) -> dict[str, Any]:
    with torch.no_grad():
        return clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)


def received(clip, tokens) -> dict[str, tuple[torch.Tensor, Any]]:
    """The embeddings and the attention mask that each encoder's network really receives."""
    seen: dict[str, tuple[torch.Tensor, Any]] = {}
    hooks = []
    for key, encoder in text_encoders(clip.cond_stage_model).items():

        def record(_module, arguments, keywords, key=key):
            seen[key] = (keywords["embeds"].clone(), arguments[1])

        hooks.append(encoder.transformer.register_forward_pre_hook(record, with_kwargs=True))
    encode(clip, tokens)
    for hook in hooks:
        hook.remove()
    return seen


def tokenizer_of(clip, key):
    return getattr(clip.tokenizer, f"clip_{key}", getattr(clip.tokenizer, key, None))


def place_of(clip, family, key, chunk) -> int:
    """Where the user's words begin: after so many tokens, or after what the template says last before them."""
    head = family.heads[key]
    if isinstance(head, int):
        return head
    special = {tokenizer_of(clip, key).start_token}
    ids = [token for token in tokenizer_of(clip, key).tokenizer(head)["input_ids"] if token not in special]
    tokens = [entry[0] for entry in chunk]
    return max(n for n in range(len(tokens)) if tokens[n : n + len(ids)] == ids) + len(ids)


def test_the_vectors_stand_where_the_users_words_begin(clip, family, prefix):
    plain_tokens = clip.tokenize(family.prompt)
    plain, protected = received(clip, plain_tokens), received(clip, protect(clip, prefix, 1.0).tokenize(family.prompt))
    assert protected.keys() == family.widths.keys()
    vectors = vectors_for(text_encoders(clip.cond_stage_model), prefix.vectors)
    for key, (embeddings, mask) in protected.items():
        place = place_of(clip, family, key, plain_tokens[key][0])
        before = plain[key][0]
        own = len(words(key, plain_tokens, frame_of(clip.tokenize, family.prompt)))
        assert own >= 5
        assert torch.equal(embeddings[0, :place], before[0, :place])
        assert torch.equal(embeddings[0, place : place + M], vectors[key])
        assert torch.equal(embeddings[0, place + M : place + M + own], before[0, place : place + own])
        assert torch.equal(embeddings[0, -1], before[0, -1])
        assert mask is None or mask[0, place : place + M + own].all()


def test_the_conditioning_is_another_one_and_as_long_as_the_family_dictates(clip, family, prefix):
    plain = encode(clip, clip.tokenize(family.prompt))
    protected = encode(clip, protect(clip, prefix, 1.0).tokenize(family.prompt))
    assert torch.isfinite(protected["cond"]).all()
    assert protected["cond"].shape[1] == plain["cond"].shape[1] + (M if family.longer else 0)
    assert protected.keys() == plain.keys()
    longer = protected["cond"].shape[1] > plain["cond"].shape[1]
    assert longer or not torch.equal(protected["cond"], plain["cond"])
    if "attention_mask" in protected and "conditioning_mt5xl" not in protected:
        assert protected["attention_mask"].shape[-1] == protected["cond"].shape[1]


def split_of(clip, keys) -> tuple[str, str, dict[str, list[int]]]:
    """A prompt, its end, and what the prompt says before its end, in the tokens of each encoder."""
    for text in ("red red\ncat and dog", "red red cat and dog"):
        rest = "cat and dog"
        lead = {}
        for key in keys:
            whole, end = (words(key, clip.tokenize(t), frame_of(clip.tokenize, t)) for t in (text, rest))
            if [entry[0] for entry in whole[-len(end) :]] == [entry[0] for entry in end]:
                lead[key] = [entry[0] for entry in whole[: -len(end)]]
        if lead.keys() == keys:
            return text, rest, lead
    pytest.fail("No prompt is cut between two words.")


def test_vectors_that_are_words_say_what_the_words_would_say(clip, family):
    """Whatever an encoder cuts off, masks or zeroes is cut where it was, if this holds."""
    text, rest, lead = split_of(clip, family.widths.keys() - {"byt5"})
    encoders = text_encoders(clip.cond_stage_model)
    rows = {key: embedding_table(encoders[key]).weight[tokens].detach() for key, tokens in lead.items()}
    expected = encode(clip, clip.tokenize(text))
    found = encode(clip, inject_text(clip.tokenize, rest, vectors_for(encoders, rows), rows.keys()))
    for key in expected.keys() - {"t5xxl_ids", "t5xxl_weights"}:
        if torch.is_tensor(expected[key]):
            torch.testing.assert_close(found[key], expected[key], rtol=1e-3, atol=1e-4)
        else:
            assert found[key] == expected[key]


def test_gradients_reach_every_vector_of_every_encoder(clip, family, prefix):
    vectors = {key: torch.nn.Parameter(tensor.clone()) for key, tensor in prefix.vectors.items()}
    tokens = inject_text(clip.tokenize, family.prompt, vectors, family.widths)
    with differentiable(clip.cond_stage_model):
        conditioning, pooled, *extras = clip.cond_stage_model.encode_token_weights(tokens)
        outputs = [conditioning, pooled, *(value for extra in extras for value in extra.values())]
        states = [state for state in outputs if torch.is_tensor(state) and state.requires_grad]
        sum((state * torch.linspace(-1, 1, state.shape[-1])).square().mean() for state in states).backward()
    for key, parameter in vectors.items():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum(dim=1).gt(0).all(), key


@pytest.mark.parametrize("text", ["", "Ada", "word " * 600, "\n\nAda", " (Ada:1.3) [x]", "🙂 東京 مرحبا"])
def test_a_prefix_can_be_taken_out_again_and_nothing_but_it_was_put_in(clip, name, family, prefix, text):
    if "hydit_clip" in family.widths or name == "pixeldit":
        text = text[:200]
    plain = clip.tokenize(text)
    frame = frame_of(clip.tokenize, text)
    tokens = inject_text(clip.tokenize, text, prefix.vectors, family.widths)
    for key in family.widths.keys() & plain.keys():
        assert any(torch.is_tensor(entry[0]) for entry in tokens[key][0])
        before, after = words(key, plain, frame), words(key, eject(tokens, prefix.vectors, frame, family.widths), frame)
        assert [entry[:2] for entry in after] == [entry[:2] for entry in before]
        if len(plain[key]) == len(tokens[key]):
            ejected = eject(tokens, prefix.vectors, frame_of(clip.tokenize, "a"), family.widths)
            assert [[e[0] for e in chunk] for chunk in ejected[key]] == [[e[0] for e in chunk] for chunk in plain[key]]


@pytest.mark.parametrize("count", [1, 120, 200, 240, 260, 280, 300, 500])
def test_pixeldit_which_keeps_the_last_of_what_is_said_keeps_the_prefix_or_refuses(count, host_modules, make_prefix):
    clip, family = make_clip("pixeldit"), FAMILIES["pixeldit"]
    prefix = make_prefix(m=M, **family.widths)
    text = "word " * count
    plain = clip.tokenize(text)
    padding = sum(entry[0] == 0 for entry in plain["gemma2_2b"][0])
    if padding < M:
        with pytest.raises(PrefixMismatchError, match=f"too long.*shorten it by {M - padding} tokens"):
            inject_text(clip.tokenize, text, prefix.vectors, family.widths)
        return
    tokens = inject_text(clip.tokenize, text, prefix.vectors, family.widths)
    assert len(tokens["gemma2_2b"][0]) == len(plain["gemma2_2b"][0])
    assert encode(clip, tokens)["cond"].shape == encode(clip, plain)["cond"].shape


def test_words_for_encoders_that_the_checkpoint_lacks_stay_as_they_are(clip, family, prefix):
    plain, protected = clip.tokenize(family.prompt), protect(clip, prefix, 1.0).tokenize(family.prompt)
    assert protected.keys() == plain.keys()
    for key in plain.keys() - family.widths.keys():
        assert protected[key] == plain[key]


def test_a_prefix_that_lacks_an_encoder_is_refused_by_its_name(clip, family, prefix, make_prefix):
    for missing in family.widths:
        rest = {key: width for key, width in family.widths.items() if key != missing} | {"other": 8}
        if missing == "byt5":
            protect(clip, make_prefix(m=M, **rest), 1.0)
            continue
        with pytest.raises(PrefixMismatchError, match=f"no vectors for text encoder '{missing}'"):
            protect(clip, make_prefix(m=M, **rest), 1.0)
        with pytest.raises(PrefixMismatchError, match=f"another family of checkpoints .text encoder '{missing}'"):
            protect(clip, make_prefix(m=M, **family.widths | {missing: 8}), 1.0)


def test_between_plain_and_protected_every_word_moves_on_a_straight_line(clip, family, prefix):
    plain = encode(clip, clip.tokenize(family.prompt))
    protected = protect(clip, prefix, 1.0)
    whole = encode(protected, protected.tokenize(family.prompt))
    distances = []
    for strength in (0.01, 0.5, 0.99):
        half = protect(clip, prefix, strength)
        blended = encode(half, half.tokenize(family.prompt))
        assert blended.keys() == whole.keys()
        for key in whole.keys() & {"attention_mask", "attention_mask_mt5xl"}:
            assert torch.equal(blended[key], whole[key])
        assert blended["cond"].shape == whole["cond"].shape
        longer = whole["cond"].shape[1] - plain["cond"].shape[1]
        last = slice(plain["cond"].shape[1] - 4, None)
        torch.testing.assert_close(
            blended["cond"][:, last.start + longer :],
            torch.lerp(plain["cond"][:, last], whole["cond"][:, last.start + longer :], strength),
            rtol=1e-3,
            atol=1e-4,
        )
        if whole["pooled_output"] is not None:
            expected = torch.lerp(plain["pooled_output"], whole["pooled_output"], strength)
            torch.testing.assert_close(blended["pooled_output"], expected, rtol=1e-3, atol=1e-4)
        distances.append(float((blended["cond"] - whole["cond"]).norm()))
    assert distances[0] > distances[1] > distances[2] > 0


def test_the_documentation_lists_every_encoder_that_a_prefix_can_enter():
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    table = page.partition("## What is supported")[2]
    for key in ENCODERS:
        assert f"`{key}`" in table
        assert any(key in family.widths for family in FAMILIES.values()), f"{key} is not tested"


def test_a_blank_prompt_is_protected_too(clip, family, prefix):
    protected = encode(clip, protect(clip, prefix, 1.0).tokenize(""))
    plain = encode(clip, clip.tokenize(""))
    assert torch.isfinite(protected["cond"]).all()
    assert protected["cond"].shape != plain["cond"].shape or not torch.equal(protected["cond"], plain["cond"])
