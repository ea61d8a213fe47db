"""Prompts carry their prefix in Automatic1111 and Forge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from anonymize_faces.prefix import blend, inject_text
from anonymize_faces.tests.support.web_ui.encoders import prefix_for
from anonymize_faces.tests.support.web_ui.host import Host

KINDS = ("forge", "automatic")
ON = (True, "people.safetensors", 1.0)
SHORT = "a portrait of Ada"
LONG = "the quick brown fox jumps over the lazy dog and runs " * 12
PROMPTS = (SHORT, "", LONG, "a (portrait of Ada:1.3) in a garden", "a cat, a dog, " * 20)


@contextmanager
def entering(made: Host) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collects the embeddings, with positions, that the text models get: `[77, d]` each, by encoder."""
    seen: dict[str, list[torch.Tensor]] = {key: [] for key in made.shared.sd_model.readers}
    hooks = []
    for key, reader in made.shared.sd_model.readers.items():
        table = reader.text_encoder.shared if key == "t5xxl" else reader.read_by.text_model.embeddings
        hooks.append(table.register_forward_hook(lambda *a, key=key: seen[key].extend(a[2].detach())))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def draw(made: Host, prompt: str, panel: tuple | None = ON, **fields: Any) -> Any:
    """The conditioning that the prompt is drawn with, encoded anew."""
    kept = made.processing.StableDiffusionProcessing
    kept.kept_c[:] = kept.kept_uc[:] = [None, None]
    ((*_, (_, conditioning)),) = made.draw(prompt, panel, **fields).images[0][0][0]
    return conditioning


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd2"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_enters_the_text_encoder_is_what_comfyui_would_let_enter(open_host, comfy, kind, family):
    made = open_host(kind, family)
    vectors = prefix_for(family).vectors
    for prompt in (SHORT, "", LONG):
        with entering(made) as seen:
            draw(made, prompt, negative_prompt="blurry")
        tokens = comfy_tokens(comfy, family, prompt, vectors)
        for key, chunks in tokens.items():
            expected = [embedded(made, key, chunk) for chunk in chunks]
            ours = seen[key][1:]  # the negative prompt comes first
            assert len(ours) == len(expected)
            for one, other in zip(ours, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def comfy(host_modules):
    import comfy.sd1_clip
    import comfy.sdxl_clip
    import comfy.text_encoders.sd2_clip

    return comfy


def comfy_tokens(comfy: Any, family: str, prompt: str, vectors: Any) -> dict[str, Any]:
    """ComfyUI's own tokens with the prefix."""
    made = {
        "sd1": comfy.sd1_clip.SD1Tokenizer,
        "sdxl": comfy.sdxl_clip.SDXLTokenizer,
        "sd2": comfy.text_encoders.sd2_clip.SD2Tokenizer,
    }[family]()

    def tokenize(text: str) -> Any:
        return made.tokenize_with_weights(text, return_word_ids=True)

    return inject_text(tokenize, prompt, vectors, vectors.keys())


def embedded(made: Host, key: str, chunk: Any) -> torch.Tensor:
    """A chunk of ComfyUI's as this host's text model would look it up."""
    parts = made.shared.sd_model.readers[key].read_by.text_model.embeddings
    words = parts.token_embedding.wrapped.weight
    rows = torch.stack([entry[0] if isinstance(entry[0], torch.Tensor) else words[entry[0]] for entry in chunk])
    return rows + parts.position_embedding.weight


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_chunk_of_both_prompts_carries_the_prefix_and_no_word_is_lost(open_host, kind, prompt):
    made = open_host(kind)
    vectors = prefix_for("sd1").vectors["l"]
    reader = made.shared.sd_model.readers["l"]
    with entering(made) as seen:
        draw(made, prompt, negative_prompt=LONG)
    positions = reader.read_by.text_model.embeddings.position_embedding.weight
    assert len(seen["l"]) > 3
    for chunk in seen["l"]:
        torch.testing.assert_close((chunk - positions)[1:11], vectors, atol=1e-5, rtol=0)
    given = [token for chunk in reader.tokenize_line(prompt)[0] for token in chunk.tokens[1:] if token != reader.id_end]
    table = reader.read_by.text_model.embeddings.token_embedding.wrapped.weight
    words = torch.cat([(chunk - positions)[11:-1] for chunk in seen["l"][3:]])  # after the negative prompt
    said = [int(torch.cdist(word[None], table).argmin()) for word in words]
    assert [token for token in said if token != reader.id_end] == given


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_that_are_words_say_what_the_words_say_break_included(open_host, kind):
    from anonymize_faces.prefix import Prefix, PrefixRecord, save_prefix

    for family, keys in (("sd1", "l"), ("sdxl", "gl")):
        made = open_host(kind, family)
        readers = made.shared.sd_model.readers
        vectors = {}
        for key in keys:
            ids = readers[key].tokenizer("oil painting of", add_special_tokens=False)["input_ids"]
            vectors[key] = readers[key].read_by.text_model.embeddings.token_embedding.wrapped.weight[ids].clone()
        save_prefix(
            Prefix(vectors, PrefixRecord(family=family, fingerprint="")), made.folder / "words.safetensors", True
        )
        on = (True, "words.safetensors", 1.0)
        for prompt, written in (
            (SHORT, f"oil painting of {SHORT}"),
            ("a cat BREAK a (dog:1.2)", "oil painting of a cat BREAK oil painting of a (dog:1.2)"),
        ):
            ours, theirs = draw(made, prompt, on), draw(made, written, None)
            pairs = [(ours[key], theirs[key]) for key in ours] if isinstance(ours, dict) else [(ours, theirs)]
            for one, other in pairs:
                assert torch.equal(one, other)
            assert not torch.equal(pairs[0][0], _first(draw(made, prompt, None)))


def _first(conditioning: Any) -> torch.Tensor:
    return conditioning["crossattn"] if isinstance(conditioning, dict) else conditioning


@pytest.mark.parametrize("kind", KINDS)
def test_emphasis_stays_with_its_words_and_the_prefix_has_none(open_host, kind):
    made = open_host(kind)
    reader = made.shared.sd_model.readers["l"]
    draw(made, "a (portrait:1.3) of", negative_prompt="x")
    assert reader.weighted[-1] == [[1.0] * 11 + [1.0, 1.3, 1.0] + [1.0] * 63]


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_of_the_users_own_stays_whole_behind_the_prefix(open_host, kind):
    made = open_host(kind)
    reader = made.shared.sd_model.readers["l"]
    reader.holder.by_word["mystyle"] = own = torch.full((12, reading_width()), 0.25)
    with entering(made) as seen:
        draw(made, "a portrait mystyle of Ada", negative_prompt="x")
        draw(made, f"{'cat ' * 60} mystyle", negative_prompt="x")
    positions = reader.read_by.text_model.embeddings.position_embedding.weight
    short, first, second = (seen["l"][n] - positions for n in (1, 3, 4))
    torch.testing.assert_close(short[13:25], own, atol=1e-6, rtol=0)
    assert not (first - 0.25).abs().max(dim=1).values.lt(1e-5).any()
    torch.testing.assert_close(second[11:23], own, atol=1e-6, rtol=0)


def reading_width() -> int:
    from anonymize_faces.tests.support.web_ui.encoders import WIDTHS

    return WIDTHS["l"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_too_long_to_stand_beside_the_prefix_is_an_error(open_host, kind):
    made = open_host(kind)
    made.shared.sd_model.readers["l"].holder.by_word["huge"] = torch.zeros(70, reading_width())
    draw(made, "huge", None)
    with pytest.raises(made.error("PrefixMismatchError"), match="shorten the embeddings"):
        draw(made, "huge")
    assert made.drawn[-1] is not None
    assert len(made.drawn) == 1


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("kind", KINDS)
def test_strength_goes_from_plain_exactly_to_protected_exactly(open_host, kind, family):
    made = open_host(kind, family)

    def at(strength: float) -> Any:
        return draw(made, SHORT, (True, "people.safetensors", strength))

    plain, zero, half, full = draw(made, SHORT, None), at(0), at(0.5), at(1.0)
    for key in plain if isinstance(plain, dict) else [slice(None)]:
        assert torch.equal(plain[key], zero[key])
        torch.testing.assert_close(half[key], (plain[key] + full[key]) / 2)
        assert not torch.equal(half[key], full[key])
    protected_long, half_long = draw(made, LONG), draw(made, LONG, (True, "people.safetensors", 0.5))
    assert _first(protected_long).shape == _first(half_long).shape


def test_t5_reads_the_prefix_first_and_padding_gives_way(open_host):
    made = open_host("forge", "flux")
    vectors = prefix_for("flux").vectors
    with entering(made) as seen:
        short = draw(made, SHORT, negative_prompt="x")
        longer = draw(made, f"{'the cat ' * 124} BREAK a dog", negative_prompt="x")
    for chunk in seen["t5xxl"]:
        torch.testing.assert_close(chunk[:10], vectors["t5xxl"], atol=1e-6, rtol=0)
    assert short["crossattn"].shape[0] == 256
    assert longer["crossattn"].shape[0] == 259, "249 tokens and 10 vectors no longer fit into 256"


@pytest.mark.parametrize("padded", [256, 1])
def test_at_half_strength_t5_moves_too(open_host, padded):
    made = open_host("forge", "flux")
    made.shared.sd_model.readers["t5xxl"].min_length = padded  # Chroma's prompts are not padded
    plain, half, full = (draw(made, SHORT, (True, "people.safetensors", strength)) for strength in (0, 0.5, 1))
    plain, half, full = (conditioning["crossattn"] for conditioning in (plain, half, full))
    assert len(full) - len(plain) == (0 if padded == 256 else 10)
    (expected, *_) = blend((plain[None], None), (full[None], None), 0.5)
    torch.testing.assert_close(half, expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_an_extension_has_cut_itself_are_protected_or_refused(open_host, kind):
    made = open_host(kind)
    reader, guard = made.shared.sd_model.readers["l"], made.script.GUARD
    requested = made.part("requested_protection").requested_protection(made.request(panel=ON))
    full = [49406, *[320] * 75, 49407]
    with guard.scope(requested), entering(made) as seen, torch.no_grad():
        reader.process_tokens([reader.empty_chunk().tokens], [[1.0] * 77])
        with pytest.raises(made.error("PrefixMismatchError"), match="leaves no room"):
            reader.process_tokens([full], [[1.0] * 77])
    positions = reader.read_by.text_model.embeddings.position_embedding.weight
    torch.testing.assert_close((seen["l"][0] - positions)[1:11], prefix_for("sd1").vectors["l"], atol=1e-5, rtol=0)
    assert len(seen["l"]) == 1


def test_a_prefix_that_leaves_no_room_is_told_before_anything_is_encoded(open_host):
    from anonymize_faces.prefix import save_prefix

    made = open_host()
    save_prefix(prefix_for("sd1", m=71), made.folder / "long.safetensors")
    with pytest.raises(made.error("PrefixMismatchError"), match="leaves no room for a prompt"):
        draw(made, SHORT, (True, "long.safetensors", 1.0))
