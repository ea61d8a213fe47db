"""What the host's real text encoders make of a protected CLIP."""

from __future__ import annotations

import copy
import dataclasses
import types

import pytest
import safetensors.torch
import torch

from anonymize_faces.engines.comfy.inner_encoders import shown
from anonymize_faces.engines.comfy.protected_clip import protect, unprotect
from anonymize_faces.prefix import AnonymizationError, Frame, PrefixMismatchError, inject, save_textual_inversion
from anonymize_faces.prefix.bypass import NO_EMBEDDINGS, allowed
from anonymize_faces.tests.support.encoding import encode, same
from anonymize_faces.tests.support.text_encoders import CLIP, CLIP_TYPE, FAMILIES, make_clip, make_clip_of

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
            assert vars(getattr(view, f"clip_{key}")) is vars(getattr(original, f"clip_{key}"))
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
        with pytest.raises(PrefixMismatchError, match=r"for another family of checkpoints.*choose a prefix learned on"):
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


def plain_tokens(clip, key):
    """What a tokenizer within the tokenizer makes of a prompt, which carries no prefix."""
    return getattr(clip.tokenizer, f"clip_{key}").tokenize_with_weights(SHORT)


def only(pairs):
    return [[entry[0] for entry in chunk] for chunk in pairs]


@pytest.mark.parametrize(
    "read",
    [
        lambda part, pairs: part.encode_token_weights(pairs),
        lambda part, pairs: part.encode(only(pairs)),
        lambda part, pairs: part(only(pairs)),
        lambda part, pairs: part.forward(tokens=only(pairs)),
        lambda part, pairs: part(torch.tensor(only(pairs))),
        lambda part, pairs: part.transformer(torch.tensor(only(pairs)), dtype=torch.float32),
        lambda part, pairs: part.transformer(
            None, embeds=part.process_tokens(only(pairs), "cpu")[0], num_tokens=[77], dtype=torch.float32
        ),
        lambda part, pairs: part.transformer.text_model(torch.tensor(only(pairs)), dtype=torch.float32),
        lambda part, pairs: part.transformer.text_model.encoder(part.process_tokens(only(pairs), "cpu")[0]),
    ],
)
def test_an_encoder_within_the_clip_reads_only_what_carries_the_prefix(clip, prefix, family, read):
    protected = protect(clip, prefix, 1.0)
    for key in WIDTHS[family]:
        part = getattr(protected.cond_stage_model, f"clip_{key}")
        with torch.no_grad(), pytest.raises(PrefixMismatchError, match=r"does not carry the prefix.*CLIP Text Encode"):
            read(part, plain_tokens(clip, key))


@pytest.mark.parametrize(
    "take",
    [
        lambda stage, name: dict(stage.named_children())[name],
        lambda stage, name: dict(stage.named_modules(prefix="all"))[f"all.{name}"],
        lambda stage, name: list(stage.modules())[[at for at, _ in stage.named_modules()].index(name)],
        lambda stage, name: stage.get_submodule(name),
        lambda stage, name: stage._modules[name],
        lambda stage, name: stage._modules.copy()[name],
        lambda stage, name: dict(stage._modules.items())[name],
        lambda stage, name: copy.copy(getattr(stage, name)),
        lambda stage, name: copy.deepcopy(getattr(stage, name)),
        lambda stage, name: copy.deepcopy(stage).get_submodule(name),
    ],
)
def test_whatever_way_an_encoder_is_taken_out_of_the_clip_it_reads_only_what_carries_the_prefix(
    clip, prefix, family, take
):
    protected = protect(clip, prefix, 1.0)
    tokens = protected.tokenize(SHORT)
    for key in WIDTHS[family]:
        part = take(protected.cond_stage_model, f"clip_{key}")
        whole = dict(part.named_modules())
        for inner in (part, copy.deepcopy(part), whole[""]):
            with pytest.raises(PrefixMismatchError, match="does not carry the prefix"):
                inner.encode_token_weights(plain_tokens(clip, key))
            with torch.no_grad():
                read = inner.encode_token_weights(tokens[key])[0]
                assert torch.equal(
                    read, getattr(clip.cond_stage_model, f"clip_{key}").encode_token_weights(tokens[key])[0]
                )
        copied = copy.deepcopy(part.transformer)
        text_model = part._modules["transformer"]._modules["text_model"]
        words = part.transformer.get_input_embeddings()(torch.tensor(only(plain_tokens(clip, key))))
        for layers in (text_model.encoder.layers, text_model.encoder.layers[:1], list(text_model.encoder.layers)):
            with torch.no_grad(), pytest.raises(PrefixMismatchError, match="does not carry the prefix"):
                layers[0](words)
        for network in (
            part._modules["transformer"],
            text_model,
            whole["transformer"],
            whole["transformer.text_model"],
            *part.children(),
            copied,
            copied.text_model,
        ):
            with torch.no_grad(), pytest.raises(PrefixMismatchError, match="does not carry the prefix"):
                network(torch.tensor(only(plain_tokens(clip, key))), dtype=torch.float32)


def test_lists_of_modules_and_parameters_are_the_hosts_and_so_is_what_is_put_into_them(clip, prefix, family):
    stage, own = protect(clip, prefix, 1.0).cond_stage_model, clip.cond_stage_model
    part, theirs = (getattr(one, f"clip_{next(iter(WIDTHS[family]))}").transformer for one in (stage, own))
    assert list(part._modules) == list(theirs._modules) and "text_model" in part._modules
    kept = part._modules["text_model"]
    part._modules["text_model"] = kept
    assert theirs._modules["text_model"] is vars(theirs)["_modules"]["text_model"] is shown(kept) is not kept
    part._modules["more"] = torch.nn.Identity()
    assert isinstance(theirs.more, torch.nn.Identity)
    del part._modules["more"]
    assert not hasattr(theirs, "more")
    assert (
        stage.state_dict().keys() == own.state_dict().keys() and part.state_dict().keys() == theirs.state_dict().keys()
    )
    assert [name for name, _ in stage.named_modules()] == [name for name, _ in own.named_modules()]
    ours, theirs = dict(stage.named_parameters(prefix="x")), dict(own.named_parameters(prefix="x"))
    assert ours.keys() == theirs.keys() and all(ours[name] is theirs[name] for name in ours)


def test_an_encoder_within_the_clip_reads_tokens_that_carry_the_prefix_as_ever(clip, prefix, family):
    protected = protect(clip, prefix, 1.0)
    tokens = protected.tokenize(SHORT)
    for key in WIDTHS[family]:
        part, own = (getattr(one.cond_stage_model, f"clip_{key}") for one in (protected, clip))
        assert isinstance(part, type(own)) and vars(part) is vars(own)
        assert part.transformer.get_input_embeddings() is own.transformer.get_input_embeddings()
        with torch.no_grad():
            for ours, theirs in (
                (part.encode_token_weights(tokens[key]), own.encode_token_weights(tokens[key])),
                (part(only(tokens[key])), own(only(tokens[key]))),
                (part.encode(only(tokens[key])), own.encode(only(tokens[key]))),
            ):
                assert all(torch.equal(a, b) for a, b in zip(ours[:2], theirs[:2], strict=True) if b is not None)
            embeds, _, counts, _ = (
                own.process_tokens(only(tokens[key]), "cpu") if hasattr(own, "process_tokens") else (None,) * 4
            )
            part.transformer(None, embeds=embeds, num_tokens=counts, dtype=torch.float32)


def test_who_patches_an_encoder_within_the_clip_and_puts_back_what_was_there_leaves_the_host_as_it_was(
    clip, prefix, family
):
    before = encode(clip, SHORT)
    protected = protect(clip, prefix, 1.0)
    for key in WIDTHS[family]:
        name = f"clip_{key}"
        own = getattr(clip.cond_stage_model, name)
        part = getattr(protected.cond_stage_model, name)
        kept = {attribute: getattr(part, attribute) for attribute in ("encode_token_weights", "forward", "transformer")}
        network = own.transformer
        part.encode_token_weights = lambda pairs: None
        assert "encode_token_weights" in vars(own)
        for attribute, value in kept.items():
            setattr(part, attribute, value)
        assert own.transformer is network and not {"encode_token_weights", "forward"} & vars(own).keys()
        setattr(protected.cond_stage_model, name, part)
        assert getattr(clip.cond_stage_model, name) is own
    assert same(encode(clip, SHORT), before)


@pytest.mark.parametrize("text", ["embedding:own_{}", "a hat (embedding:own_{}:1.3)", "x " * 80 + "embedding:own_{}"])
def test_embeddings_in_prompts_are_refused_where_the_operator_does_not_allow_them(clip, prefix, family, text):
    text = text.replace("{}", file_name(family))
    with pytest.raises(PrefixMismatchError, match="uses an embedding"):
        encode(protect(clip, prefix, 1.0, embeddings=NO_EMBEDDINGS), text)
    assert same(encode(protect(clip, prefix, 1.0), text), encode(protect(clip, prefix, 1.0, print), text))
    strict = protect(clip, prefix, 1.0, embeddings=NO_EMBEDDINGS)
    assert same(encode(strict, LONG), encode(protect(clip, prefix, 1.0), LONG))
    tokens = strict.tokenize(SHORT)
    for vector in (torch.zeros(8), {"type": "embedding", "data": torch.zeros(1, 8)}):
        made = {key: [[*chunk[:-1], (vector, 1.0)] for chunk in chunks] for key, chunks in tokens.items()}
        with pytest.raises(PrefixMismatchError, match="uses an embedding"):
            strict.encode_from_tokens(made)
    listed = allowed([torch.full((1, width), 0.5) for width in WIDTHS[family].values()])
    assert same(encode(protect(clip, prefix, 1.0, embeddings=listed), text), encode(protect(clip, prefix, 1.0), text))
    with pytest.raises(PrefixMismatchError, match="uses an embedding"):
        protect(clip, prefix, 1.0, embeddings=listed).encode_from_tokens(made)


def handle_on_weights(clip):
    return clip.patcher.model


def read_by_weights(clip, tokens):
    return clip.patcher.model.encode_token_weights(tokens)


def test_the_handle_on_the_weights_reads_only_what_carries_the_prefix_and_is_the_hosts_own_to_the_host(
    comfy, clip, prefix
):
    import comfy.model_management

    # Whose code asks is what matters: here a pack's.
    read = types.FunctionType(read_by_weights.__code__, {"__name__": "custom_nodes.pack"})
    protected = protect(clip, prefix, 1.0)
    for copied in (protected, protected.clone()):
        with torch.no_grad(), pytest.raises(PrefixMismatchError, match="do not carry the prefix"):
            read(copied, clip.tokenize(SHORT))
        with torch.no_grad():
            assert read(copied, protected.tokenize(SHORT))[0].shape[1] == 77
        assert copied.patcher.is_clone(clip.patcher) and type(copied.patcher).__name__ == type(clip.patcher).__name__
        # This extension compares, moves and patches it, as the host does.
        for asking, plain in (("anonymize_faces.engines.any", True), ("comfy.sd", True), ("anonymize_faces_2", False)):
            handle = types.FunctionType(handle_on_weights.__code__, {"__name__": asking})
            assert (handle(copied) is clip.cond_stage_model) is plain
    loaded = len(comfy.model_management.current_loaded_models)
    encode(clip, SHORT), encode(protected, SHORT), encode(protected.clone(), SHORT)
    assert len(comfy.model_management.current_loaded_models) <= max(1, loaded)
    with torch.no_grad():
        read(clip, clip.tokenize(SHORT))
        read(unprotect(protected), clip.tokenize(SHORT))
