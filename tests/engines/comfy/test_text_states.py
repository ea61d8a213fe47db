"""Where a prompt's words stand in what the host's text encoders make of it, in every family of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.engines.denoiser import TextStates
from anonymize_faces.engines.text_states import text_states
from anonymize_faces.prefix import encoder_layout, frame_of, inject_text
from anonymize_faces.tests.support.text_encoders import CLIP_TYPE, FAMILIES, make_clip

PREFIX = 3
NOT_TOLD_APART = (
    "hunyuandit",
    "hidream",
    "hidream with t5 and llama",
    "newbie",
    "longcat",
)
"""Two streams, so that what either says is not in one row of states; or the host cuts something off at the end too."""

READ_FORWARDS = tuple(
    name
    for name, family in FAMILIES.items()
    if name not in NOT_TOLD_APART and any(key.startswith(("qwen", "gemma", "llama", "m")) for key in family.widths)
)


def said(clip: Any, name: str, prompt: str, prefix: int = 0) -> tuple[TextStates, ...] | None:
    """What the encoders say of a prompt, with a prefix of so many vectors, always the same."""
    encoders = list(FAMILIES[name].widths)

    def tokenize(text: str) -> Any:
        return clip.tokenize(text, return_word_ids=True)

    tokens = tokenize(prompt)
    given = tokens
    if prefix:
        generator = torch.Generator().manual_seed(1)
        rows = {
            key: torch.randn(prefix, width, generator=generator) for key, width in sorted(FAMILIES[name].widths.items())
        }
        given = inject_text(tokenize, prompt, rows, [key for key in encoders if encoder_layout(key).required])
    with torch.no_grad():
        states, pooled, *_ = clip.cond_stage_model.encode_token_weights(given)
    return text_states(tokens, frame_of(tokenize, prompt), encoders, states[0], pooled, prefix)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in CLIP_TYPE])
def test_words_and_what_follows_stand_where_they_are_said_to(name: str, host_modules: None) -> None:
    clip = make_clip(name)
    plain, prefixed = (said(clip, name, "a photo of Ada", prefix) for prefix in (0, PREFIX))
    if name in NOT_TOLD_APART:
        assert plain is prefixed is None
        return
    assert plain is not None and prefixed is not None
    for before, after in zip(plain, prefixed, strict=True):
        assert before.words == after.words
        if before.words:
            assert 0 <= before.start < before.stop <= len(before.states)
            assert after.start == before.start + PREFIX and after.stop <= len(after.states)
    assert [part.is_stream for part in plain].count(True) == any(
        key not in ("l", "g", "h") for key in FAMILIES[name].widths
    )


@pytest.mark.parametrize("prefix", [0, PREFIX])
@pytest.mark.parametrize("name", READ_FORWARDS)
def test_another_last_word_changes_the_states_from_there_on_and_none_before(
    name: str, prefix: int, host_modules: None
) -> None:
    clip = make_clip(name)
    one, other = (said(clip, name, f"the red b {word}", prefix) for word in ("b", "g"))
    assert one is not None and other is not None
    (mine,), (its,) = ([part for part in parts if part.is_stream] for parts in (one, other))
    if len(mine.words) != len(its.words) or mine.words[:-1] != its.words[:-1]:
        pytest.skip("These words differ in more than a token here.")
    changed = (mine.states - its.states).abs().amax(dim=1) > 1e-6
    place = mine.stop - 1
    assert not changed[:place].any() and changed[place]
