"""Questions to the host's language models: refused where nothing can be asked or seen, asked for real where it can."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anonymize_faces.captions.attributes import VOCABULARY
from anonymize_faces.captions.multiple_choice import MultipleChoiceReader
from anonymize_faces.captions.readers import read_checked
from anonymize_faces.engines.comfy.text_generation import asking
from anonymize_faces.prefix.errors import DescriptionError
from anonymize_faces.tests.support.vision_language import seeing_clip, writes_text

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def test_a_text_encoder_of_a_checkpoint_is_refused(make_checkpoint):
    clip = make_checkpoint("EPS").clip
    with pytest.raises(DescriptionError, match=r"writes no text|reads no pictures"):
        asking(clip)("What is this?", PICTURE, 4)


def test_what_is_no_clip_is_refused():
    with pytest.raises(DescriptionError, match="writes no text"):
        asking(object())


def test_a_tokenizer_that_leaves_the_picture_out_is_refused():
    class Deaf:
        cond_stage_model = torch.nn.Module()

        def tokenize(self, text, **_):
            return {"llm": [[(1, 1.0)]]}

        def generate(self, tokens, **_):
            pytest.fail("it was asked without the picture")

        decode = generate

    Deaf.cond_stage_model.generate = lambda: None
    with pytest.raises(DescriptionError, match="reads no pictures"):
        asking(Deaf())("What is this?", PICTURE, 4)


def test_a_vision_language_model_of_the_host_is_asked_and_an_unknown_answer_says_nothing(host_modules):
    if not writes_text():
        pytest.skip("this host writes no text")
    clip = seeing_clip()
    before = {name: weight.clone() for name, weight in clip.cond_stage_model.state_dict().items()}
    asked = []
    reader = MultipleChoiceReader(asking(clip, lambda: asked.append(1)), VOCABULARY[:2], "tiny")
    read = read_checked(reader, [PICTURE])
    assert len(asked) == 2 and not any(rows.any() for rows in read.values())
    after = clip.cond_stage_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    text = asking(clip)("Say something.", None, 3)
    assert isinstance(text, str) and text == asking(clip)("Say something.", None, 3)
