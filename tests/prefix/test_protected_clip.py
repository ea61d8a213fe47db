"""Without this module nobody would know what the host's real text encoders make of a protected CLIP."""

from __future__ import annotations

import dataclasses

import pytest
import safetensors.torch
import torch

from anonymize_faces.nodes.protected_clip import protect, unprotect
from anonymize_faces.prefix import AnonymizationError, Frame, PrefixMismatchError, inject, save_textual_inversion
from anonymize_faces.tests.families import CLIP, CLIP_TYPE, FAMILIES, make_clip, make_clip_of
from anonymize_faces.tests.prefix.encoding import encode, same

WIDTHS = {name: FAMILIES[name].widths for name in CLIP_TYPE}
SHORT = "a portrait of (Ada Lovelace:1.2), smiling"
LONG = "a garden with red flowers and old trees and a small stone house, " * 9 + "Ada Lovelace"


def file_name(family: str) -> str:
    return family.replace(" ", "-")


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory, make_prefix):
    """A folder in which core finds every family's prefix as `embedding:sd1` and so on."""
    folder = tmp_path_factory.mktemp("embeddings")
    for family, widths in WIDTHS.items():
        vectors = {f"clip_{key}": tensor for key, tensor in make_prefix(**widths).vectors.items()}
        safetensors.torch.save_file(vectors, folder / f"{file_name(family)}.safetensors")
        own = {f"clip_{key}": torch.full((3, width), 0.5) for key, width in widths.items()}
        safetensors.torch.save_file(own, folder / f"own_{file_name(family)}.safetensors")
    return folder


@pytest.fixture(scope="module", params=CLIP_TYPE)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def clip(host_modules, family, embeddings):
    return make_clip(family, embeddings)


@pytest.fixture(scope="module")
def prefix(make_prefix, family):
    return make_prefix(**WIDTHS[family])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        SHORT,
        "(Ada:1.4) [Lovelace] embedding:gone 🙂 東京",
        "((a (deep:0.3) nest)) (nothing:0) (minus:-1)",
        "embedding:own_{} and (embedding:own_{}:1.4) in a hat",
        "👩‍👩‍👧 صورة של אדם ‮backwards",
        "\x00\x07\x1b\x7f\ufeff\n\t\\(not a weight\\)",
        "<|startoftext|> a <|endoftext|> b",
        "word " * 65,
    ],
)
def test_a_prompt_of_one_chunk_is_encoded_as_core_encodes_the_prefix_as_an_embedding(clip, prefix, family, text):
    text = text.replace("{}", file_name(family))
    core = encode(clip, f"embedding:{file_name(family)} {text}")
    assert same(encode(protect(clip, prefix, 1.0), text), core)
    assert not same(encode(clip, text), core)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_prompt_is_encoded_as_core_encodes_our_own_export_as_an_embedding(
    host_modules, make_prefix, tmp_path, family
):
    widths = {key: {"l": 768, "g": 1280}[key] for key in FAMILIES[family].widths}
    options = {f"clip_{key}_model_config": {**CLIP, "hidden_size": width} for key, width in widths.items()}
    clip = make_clip_of(dataclasses.replace(FAMILIES[family], options=options, widths=widths), family, tmp_path)
    prefix = make_prefix(**widths)
    save_textual_inversion(prefix, tmp_path / "ours.safetensors")
    for text in ("", SHORT):
        core = encode(clip, f"embedding:ours {text}")
        assert same(encode(protect(clip, prefix, 1.0), text), core)
        assert not same(encode(clip, text), core)


def test_a_prompt_that_fits_less_than_before_moves_on_to_a_further_chunk(clip, prefix):
    text = "word " * 75
    assert encode(clip, text)[0].shape[1] == 77
    assert encode(protect(clip, prefix, 1.0), text)[0].shape[1] == 2 * 77


def test_every_chunk_of_a_long_prompt_is_protected(clip, prefix):
    tokens = protect(clip, prefix, 1.0).tokenize(LONG)
    for key in prefix.vectors:
        chunks = tokens[key]
        assert len(chunks) > 1
        for chunk in chunks:
            assert all(torch.equal(chunk[1 + n][0], row) for n, row in enumerate(prefix.vectors[key]))


def test_the_original_stays_as_it_was_bit_for_bit(clip, prefix):
    before, tokenizer, encoder = encode(clip, LONG), clip.tokenizer, clip.cond_stage_model
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    protected = protect(clip, prefix, 0.5)
    between = encode(clip, LONG)
    encode(protected, LONG)
    assert same(before, between) and same(before, encode(clip, LONG))
    assert clip.tokenizer is tokenizer and clip.cond_stage_model is encoder
    assert all(torch.equal(tensor, state[name]) for name, tensor in encoder.state_dict().items())


def test_strength_zero_is_the_plain_conditioning_exactly(clip, prefix):
    for text in ("", SHORT, LONG):
        assert same(encode(protect(clip, prefix, 0.0), text), encode(clip, text))


def test_between_the_conditioning_moves_straight_from_plain_to_protected(clip, prefix):
    plain, protected = encode(clip, SHORT)[0], encode(protect(clip, prefix, 1.0), SHORT)[0]
    for strength in (0.25, 0.5, 0.75):
        blended = encode(protect(clip, prefix, strength), SHORT)[0]
        torch.testing.assert_close(blended, torch.lerp(plain, protected, strength), rtol=1e-4, atol=1e-5)


def test_between_a_long_prompt_moves_farther_from_plain_with_strength(clip, prefix):
    whole = encode(protect(clip, prefix, 1.0), LONG)[0]
    distances = [float((encode(protect(clip, prefix, s), LONG)[0] - whole).norm()) for s in (0.01, 0.25, 0.5, 0.75, 1)]
    assert distances == sorted(distances, reverse=True)
    assert len(set(distances)) == 5


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(clip, prefix, strength):
    with pytest.raises(AnonymizationError, match="choose"):
        protect(clip, prefix, strength)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_clones_keep_the_protection(clip, prefix, strength):
    protected = protect(clip, prefix, strength)
    assert same(encode(protected.clone(), LONG), encode(protected, LONG))


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_lora_on_the_text_encoder_works_before_and_after(comfy, clip, prefix, strength):
    def with_patch(target):
        patched = target.clone()
        key = next(name for name in patched.patcher.model.state_dict() if name.endswith("q_proj.weight"))
        weight = patched.patcher.model.state_dict()[key]
        assert patched.add_patches({key: (torch.ones_like(weight),)}, 0.5)
        return patched

    before, after = protect(with_patch(clip), prefix, strength), with_patch(protect(clip, prefix, strength))
    plain = encode(protect(clip, prefix, strength), SHORT)
    assert same(encode(before, SHORT), encode(after, SHORT))
    assert not same(encode(after, SHORT), plain)
    assert same(encode(protect(clip, prefix, strength), SHORT), plain)


def test_lora_keys_are_found_through_a_protected_clip(comfy, clip, prefix):
    import comfy.lora

    protected = protect(clip, prefix, 0.5)
    expected = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    assert comfy.lora.model_lora_keys_clip(protected.cond_stage_model, {}) == expected


def test_a_second_prefix_replaces_the_first(clip, prefix, make_prefix, family):
    second = make_prefix(m=4, seed=1, **WIDTHS[family])
    for first_strength in (0.5, 1.0):
        twice = protect(protect(clip, prefix, first_strength), second, 1.0)
        assert same(encode(twice, LONG), encode(protect(clip, second, 1.0), LONG))
    assert same(encode(protect(protect(clip, prefix, 1.0), second, 0.0), LONG), encode(clip, LONG))


def test_the_protection_can_be_taken_off(clip, prefix):
    for strength in (0.5, 1.0):
        assert same(encode(unprotect(protect(clip, prefix, strength)), LONG), encode(clip, LONG))


def test_callers_get_the_word_ids_and_options_they_ask_for(clip, prefix):
    protected = protect(clip, prefix, 1.0)
    for kwargs in ({"return_word_ids": True}, {}, {"disable_weights": True, "return_word_ids": True}):
        expected = inject(
            clip.tokenize(SHORT, **{**kwargs, "return_word_ids": True}),
            prefix.vectors,
            Frame(clip.tokenize("")),
            prefix.vectors,
        )
        for key, chunks in protected.tokenize(SHORT, **kwargs).items():
            size = 3 if "return_word_ids" in kwargs else 2
            shown = [[(id(e[0]) if torch.is_tensor(e[0]) else e[0], *e[1:]) for e in chunk][11:] for chunk in chunks]
            wanted = [[entry[:size] for entry in chunk][11:] for chunk in expected[key]]
            assert shown == wanted


def test_whoever_looks_at_the_tokenizer_or_the_encoder_finds_what_the_original_has(clip, prefix, family):
    protected = protect(clip, prefix, 0.5)
    for view, original in (
        (protected.tokenizer, clip.tokenizer),
        (protected.cond_stage_model, clip.cond_stage_model),
    ):
        assert isinstance(view, type(original)) and type(view).__name__ == type(original).__name__
        for key in WIDTHS[family]:
            assert getattr(view, f"clip_{key}") is getattr(original, f"clip_{key}")
    tokens = clip.tokenize("a photo")
    entry = next(iter(tokens.values()))[0][:3]
    assert protected.tokenizer.untokenize(entry) == clip.tokenizer.untokenize(entry)
    assert protected.get_sd().keys() == clip.get_sd().keys()
    protected.set_tokenizer_option("anything", 1)
    assert protected.tokenize("a photo").keys() == tokens.keys()


def test_scheduled_encoding_goes_through_the_protection_too(comfy, clip, prefix):
    import comfy.hooks

    def scheduled(target):
        hooked = target.clone()
        hooks = comfy.hooks.HookGroup()
        hooks.add(comfy.hooks.WeightHook())
        hooked.patcher.forced_hooks = hooks
        hooked.use_clip_schedule = True
        return encode(hooked, SHORT)

    for strength in (0.5, 1.0):
        assert same(scheduled(protect(clip, prefix, strength)), encode(protect(clip, prefix, strength), SHORT))


def test_tokens_that_somebody_rebuilt_chunk_by_chunk_stay_protected(clip, prefix):
    protected = protect(clip, prefix, 0.5)
    tokens = {key: chunks + protected.tokenize("")[key] for key, chunks in protected.tokenize(SHORT).items()}
    with torch.no_grad():
        cond = protected.encode_from_tokens(tokens)
    short, blank = encode(protected, SHORT)[0], encode(protected, "")[0]
    torch.testing.assert_close(cond, torch.cat([short, blank], dim=1))


def test_gradients_reach_every_vector_through_the_hosts_encoder(clip, prefix):
    vectors = {key: torch.nn.Parameter(tensor.clone()) for key, tensor in prefix.vectors.items()}
    tokens = inject(clip.tokenize(LONG), vectors, Frame(clip.tokenize("")), vectors)
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        cond, _ = clip.cond_stage_model.encode_token_weights(tokens)
        cond.square().mean().backward()
    for parameter in vectors.values():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum(dim=1).gt(0).all()


def test_a_prefix_of_another_width_is_refused_with_the_remedy(clip, make_prefix, family):
    other = make_prefix(**{key: width + 1 for key, width in WIDTHS[family].items()})
    for strength in (0.0, 1.0):
        with pytest.raises(PrefixMismatchError, match=r"wide for text encoder.*choose a prefix learned on"):
            protect(clip, other, strength)


def test_a_prefix_that_lacks_an_encoder_is_refused_with_the_remedy(clip, make_prefix):
    with pytest.raises(PrefixMismatchError, match=r"has no vectors for text encoder.*choose a prefix learned on"):
        protect(clip, make_prefix(t5xxl=32), 1.0)


def test_a_prefix_that_leaves_no_room_is_refused_with_the_remedy(clip, make_prefix, family):
    with pytest.raises(PrefixMismatchError, match="learn one of at most 70 vectors"):
        protect(clip, make_prefix(m=71, **WIDTHS[family]), 1.0)


def test_a_checkpoint_without_text_encoder_is_refused_with_the_remedy(make_prefix):
    with pytest.raises(PrefixMismatchError, match="load one with a CLIP loader"):
        protect(None, make_prefix(l=32), 1.0)
