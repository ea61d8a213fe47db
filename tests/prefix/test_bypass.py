"""Tries to get words past the prefix in each family of the host's text encoders."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.engines.comfy.protected_clip import protect, read_beside
from anonymize_faces.prefix import PrefixMismatchError
from anonymize_faces.prefix.bypass import NO_EMBEDDINGS, WatchedTokens, require_all_prefixed
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip

BESIDE = {"anima": "t5xxl"}
"""Families that read the words of a prompt beside their text encoders, and what."""


@pytest.fixture(scope="module", params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def clip(name, host_modules):
    return make_clip(name)


def read(clip, text):
    with torch.no_grad():
        return clip.encode_from_tokens(clip.tokenize(text), return_dict=True)


def test_a_family_whose_words_are_read_elsewhere_is_told_and_refused_where_a_server_enforces(name, clip, make_prefix):
    told = read_beside(clip)
    enforced = protect(
        clip, make_prefix(m=3, **FAMILIES[name].widths), 1.0, lambda encoded: None, embeddings=NO_EMBEDDINGS
    )
    if name in BESIDE:
        assert f"('{BESIDE[name]}')" in told and "another family" in told
        with pytest.raises(PrefixMismatchError, match="by another way than its text encoders"):
            read(enforced, FAMILIES[name].prompt)
    else:
        assert told is None
        read(enforced, FAMILIES[name].prompt)


@pytest.mark.parametrize("how", [{"witness": lambda encoded: None}, {"embeddings": NO_EMBEDDINGS}, {"strict": True}])
def test_words_in_quotation_marks_are_refused_where_the_prefix_has_no_vectors_for_what_reads_them(
    host_modules, make_prefix, how
):
    clip = make_clip("hunyuanimage")
    enforced = protect(clip, make_prefix(m=3, qwen25_7b=16), 1.0, **how)
    read(enforced, "a photo of Ada Lovelace")
    with pytest.raises(PrefixMismatchError, match=r"\('byt5'\).*quotation marks"):
        read(enforced, FAMILIES["hunyuanimage"].prompt)


def test_whoever_copies_tokens_has_read_them_all():
    stage = type("Stage", (), {"clip_l": 1, "t5xxl": None})()
    tokens = {"l": [[(1, 1.0)]], "t5xxl": [[(1, 1.0)]], "qwen3_4b": [[(1, 1.0)]]}
    for take in (dict, lambda watched: {**watched}, lambda watched: list(watched.values()), WatchedTokens.copy):
        watched = WatchedTokens(tokens)
        take(watched)
        with pytest.raises(PrefixMismatchError, match="qwen3_4b"):
            require_all_prefixed(watched, stage, {"l"})
    watched = WatchedTokens(tokens)
    assert watched["l"] and watched.get("t5xxl") and "qwen3_4b" in watched and len(watched) == 3
    require_all_prefixed(watched, stage, {"l"})
    unseen = WatchedTokens(tokens)
    assert unseen | {}
    with pytest.raises(PrefixMismatchError, match="qwen3_4b"):
        require_all_prefixed(unseen, stage, {"l"})
