"""Other extensions' tokenizers and encoders: lists of prompts are protected, and whatever is raised is our error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.engines.comfy.text_encoders import encoder_fingerprint, text_encoders, tokenized_keys
from anonymize_faces.prefix import PrefixMismatchError, frame_of, inject_text, looked_at
from anonymize_faces.prefix.injection.batched_chunks import is_batched, prompts_of
from anonymize_faces.tests.support.encoding import encode, encoded_chunks
from anonymize_faces.tests.support.list_parser import list_parser
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip

NAME = "a portrait of Ada Lovelace"
LONG = "a garden with red flowers and old trees and a small stone house, " * 9 + NAME


def families():
    return [name for name in FAMILIES if name in ("sd1", "sd2", "sdxl")]


@pytest.fixture(scope="module", params=families())
def family(request):
    return request.param


@pytest.fixture(scope="module")
def clip(host_modules, family, tmp_path_factory):
    return make_clip(family, tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def prefix(make_prefix, family):
    return make_prefix(**FAMILIES[family].widths)


def encode_list(clip, *texts: str):
    """As smZNodes encodes prompts: under the parser, from a list, without word ids."""
    with list_parser(clip), torch.no_grad():
        return clip.encode_from_tokens(clip.tokenize(list(texts)), return_pooled=True)


@pytest.mark.parametrize("text", ["", NAME, "word " * 65])
def test_a_prompt_in_a_list_is_encoded_as_the_protected_clip_encodes_it_alone(clip, prefix, text):
    protected = protect(clip, prefix, 1.0)
    cond, pooled = encode_list(protected, text)
    alone, alone_pooled = encode(protected, text)
    assert torch.allclose(cond, alone, atol=1e-5) and torch.allclose(pooled, alone_pooled, atol=1e-5)
    assert not torch.allclose(cond, encode_list(clip, text)[0], atol=1e-3)


def test_half_strength_lies_between(clip, prefix):
    cond = encode_list(protect(clip, prefix, 0.5), NAME)[0]
    plain, full = encode_list(clip, NAME)[0], encode_list(protect(clip, prefix, 1.0), NAME)[0]
    assert (cond - plain).norm() < (full - plain).norm() and (cond - full).norm() < (full - plain).norm()


@pytest.mark.parametrize("texts", [(NAME, "a dog"), (LONG, NAME), (NAME, LONG, ""), ("a garden BREAK " + NAME,)])
def test_every_chunk_of_every_prompt_carries_the_prefix(clip, prefix, texts):
    protected, keys = protect(clip, prefix, 1.0), list(prefix.vectors)
    with encoded_chunks(protected, *keys) as calls:
        cond, _ = encode_list(protected, *texts)
    assert len(cond) == len(texts)
    for key, rows in prefix.vectors.items():
        chunks = [chunk for call in calls[key] for chunk in call]
        assert len(chunks) == cond.shape[1] // 77 * len(texts)
        for chunk in chunks:
            tokens = [entry[0] if isinstance(entry, tuple) else entry for entry in chunk]
            assert len(tokens) == 77
            assert all(torch.equal(token, row) for token, row in zip(tokens[1:11], rows, strict=True))


def test_words_stay_in_the_chunk_that_a_break_put_them_in(clip, prefix):
    with list_parser(protect(clip, prefix, 1.0)) as hijacked:
        tokens = hijacked.tokenize(["a garden BREAK " + NAME])
        parts = [hijacked.tokenize([text]) for text in ("a garden ", " " + NAME)]
    for key, chunks in tokens.items():
        assert is_batched(chunks) and len(chunks) == 2
        found = [[e for e, _ in chunk if isinstance(e, int)] for chunk in prompts_of(chunks)[0]]
        assert found == [[e for e, _ in prompts_of(part[key])[0][0] if isinstance(e, int)] for part in parts]


def test_a_plain_prompt_under_the_parser_is_refused_by_the_protected_encoder(clip, prefix):
    with list_parser(clip):
        tokens = clip.tokenize([NAME])
        with pytest.raises(PrefixMismatchError, match="do not carry the prefix"):
            protect_under(clip, prefix).encode_from_tokens(tokens)


def protect_under(clip, prefix):
    """Protects while the parser is not there, as the node does."""
    parts = [part for part in vars(clip.tokenizer).values() if "tokenize_with_weights" in getattr(part, "__dict__", {})]
    kept = [(part, part.__dict__.pop("tokenize_with_weights")) for part in parts]
    protected = protect(clip, prefix, 1.0)
    for part, method in kept:
        part.tokenize_with_weights = method
    return protected


def test_an_embedding_that_the_parser_would_put_over_the_prefix_is_refused(clip, prefix):
    protected = protect(clip, prefix, 1.0)
    with list_parser(protected):
        inner = next(p for p in vars(clip.tokenizer).values() if "tokenize_with_weights" in getattr(p, "__dict__", {}))
        tokenize = inner.tokenize_with_weights

        def with_embedding(texts, *args, **kwargs):
            chunks = tokenize(texts, *args, **kwargs)
            if texts != [""]:
                chunks[0][0][0][1:3] = [0, 0]
            return chunks

        inner.tokenize_with_weights = with_embedding
        with pytest.raises(PrefixMismatchError, match="would put over the prefix"):
            protected.tokenize([NAME])


def test_a_stream_under_such_a_parser_is_refused_in_a_sentence():
    tokenize = lambda text: {"t5xxl": [([5, 6, 1], [1.0, 1.0, 1.0])]}  # noqa: E731
    with pytest.raises(PrefixMismatchError, match="t5xxl"):
        inject_text(tokenize, [NAME], {"t5xxl": torch.ones(2, 4)}, {"t5xxl"})


class InterruptProcessingException(Exception):  # noqa: N818 - the host's name
    """What the host raises where a workflow is cancelled."""


class NewerInterruptError(InterruptProcessingException):
    """A kind of it."""


def raising(error: BaseException):
    def tokenize(text, **kwargs):
        if text == NAME:
            return {"l": [[(49406, 1.0, 0), (320, 1.0, 1), (49407, 1.0, 0)] + [(49407, 1.0, 0)] * 74]}
        raise error

    return tokenize


@pytest.mark.parametrize(
    "error", [ValueError("max() arg is an empty sequence"), KeyError("l"), IndexError(), AttributeError("x"), OSError()]
)
def test_what_a_tokenizer_raises_while_it_is_looked_at_is_our_error(error):
    for look in (lambda: frame_of(raising(error), NAME), lambda: inject_text(raising(error), NAME, {}, ())):
        with pytest.raises(PrefixMismatchError, match=r"cannot be looked into .* connect Anonymize Faces") as raised:
            look()
        assert raised.value.__cause__ is error and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        InterruptProcessingException(),
        NewerInterruptError(),
        KeyboardInterrupt(),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
    ],
)
def test_cancelling_and_want_of_memory_come_through(error):
    with pytest.raises(type(error)) as raised:
        inject_text(raising(error), NAME, {}, ())
    assert raised.value is error


@pytest.mark.parametrize(
    "tokens",
    [
        None,
        [],
        {"l": None},
        {"l": [7]},
        {"l": [[7, 8]]},
        {"l": [[(49406, 1.0)], 3]},
        {"l": [([[1, 2]], [[1.0]])]},
        {"l": [([[49406]], [[1.0]])]},
        {"l": {"a": 1}},
        {"t5xxl": [[]]},
        {"t5xxl": 3},
    ],
)
def test_an_answer_in_another_layout_is_our_error(tokens):
    with pytest.raises(PrefixMismatchError):
        inject_text(lambda text: tokens, NAME, {"l": torch.ones(2, 4), "t5xxl": torch.ones(2, 4)}, {"l", "t5xxl"})


class Encoderless(torch.nn.Module):
    """An encoder of another extension, which has none of what the host's have."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_l = torch.nn.Module()
        self.clip_l.transformer = torch.nn.Identity()


def test_what_an_encoder_raises_while_it_is_looked_at_is_our_error(clip, prefix):
    for stage in (object(), Encoderless()):
        foreign = clip.clone()
        foreign.cond_stage_model = stage
        with pytest.raises(PrefixMismatchError, match="text encoder"):
            protect(foreign, prefix, 1.0)
    with pytest.raises(PrefixMismatchError, match="cannot be looked into"):
        text_encoders(object())


def test_what_is_read_off_a_foreign_clip_beside_the_prefix_is_no_bare_error():
    def tokenize(text):
        raise IndexError("list index out of range")

    with pytest.raises(PrefixMismatchError, match="list index out of range"):
        tokenized_keys(SimpleNamespace(tokenize=tokenize))
    assert encoder_fingerprint(SimpleNamespace(patcher=SimpleNamespace(model=torch.nn.Linear(1, 1)))) == ""


def test_our_own_errors_come_through_as_they_are():
    with pytest.raises(PrefixMismatchError, match=r"^ours$"), looked_at("tokenizer"):
        raise PrefixMismatchError("ours")
