"""SmolLM2 in the host's own Llama class: what a prefix meets in a language model that nobody trained for the demo."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anonymize_faces.prefix import Prefix, PrefixRecord
from anonymize_faces.tools.layout import LANGUAGE_MODEL

PROMPT = "a portrait of Alma Orlick"
pytestmark = pytest.mark.skipif(not LANGUAGE_MODEL.is_file(), reason="set-up fetches the language model")


@pytest.fixture(scope="module")
def clip(host_modules: None) -> Any:
    from anonymize_faces.demo.modern.text_model import clip_of

    return clip_of(LANGUAGE_MODEL)


def states(clip: Any, text: str) -> torch.Tensor:
    return clip.encode_from_tokens(clip.tokenize(text), return_dict=True)["cond"]


def test_a_prompt_stands_in_the_template_and_is_read_as_the_model_was_trained(clip) -> None:
    from anonymize_faces.demo.modern.text_model import KEY, TEMPLATE

    tokens = [token for token, _ in clip.tokenize(PROMPT)[KEY][0]]
    told = clip.tokenizer.qwen3_4b.tokenizer.decode(tokens)
    assert told == TEMPLATE.format(PROMPT) and len(tokens) == 15
    read = states(clip, PROMPT)[0]
    # The first position is the one that all others lean on, as in every language model of this kind.
    assert read[0].std() > 20 * read[1:].std(-1).max()
    # What is alike in meaning is alike in its last states, which a model with wrongly read weights does not see.
    near, far = states(clip, "a picture of Alma Orlick")[0], states(clip, "seven hundred kilometres")[0]
    similar = torch.nn.functional.cosine_similarity
    assert similar(read[-1], near[-1], 0) > similar(read[-1], far[-1], 0)


def test_a_prefix_stands_behind_the_head_of_the_template(clip) -> None:
    from anonymize_faces.demo.modern.text_model import KEY, WIDTH
    from anonymize_faces.engines.comfy.protected_clip import protect
    from anonymize_faces.engines.comfy.text_encoders import encoder_fingerprint

    record = PrefixRecord(family="ModernModel", fingerprint=encoder_fingerprint(clip))
    vectors = 0.14 * torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(0))
    protected = protect(clip, Prefix({KEY: vectors}, record), 1.0)
    tokens = protected.tokenize(PROMPT)[KEY][0]
    assert [isinstance(token, torch.Tensor) for token, *_ in tokens[:14]] == [False] * 3 + [True] * 10 + [False]
    plain, changed = states(clip, PROMPT), states(protected, PROMPT)
    assert changed.shape[1] == plain.shape[1] + 10
    assert torch.allclose(plain[:, :3], changed[:, :3], rtol=1e-3, atol=1e-2)
    assert not torch.allclose(plain[:, -1], changed[:, -1], rtol=0.1)
