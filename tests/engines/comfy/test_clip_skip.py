"""Shows with the host's real text encoders that a protected CLIP is read at no layer but those of its prefix."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from anonymize_faces.engines.comfy.encoder_layers import current_layers, usual_layers, usual_readings
from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.engines.comfy.text_encoders import text_encoders
from anonymize_faces.prefix import Prefix, PrefixMismatchError
from anonymize_faces.tests.support.encoding import encode, same
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip

TEXT = "a portrait of Ada Lovelace"
REFUSED = r"learned at .*, and here .* is read at .*, where it does not protect: .*CLIP Set Last Layer.*, or train"
LAYERS = [*range(-1, -5, -1), -24]

KINDS = (
    "sd1",
    "sd2",
    "sdxl",
    "stable cascade",
    "sd3",
    "flux",
    "wan",
    "hunyuandit",
    "hunyuanvideo",
    "hidream",
    "lumina 2",
    "qwen-image",
    "z-image",
    "flux 2",
    "ideogram 4",
    "boogu",
)
"""Families of every kind of network, and of every way in which the host reads one."""

POOLED_ALONE = ("flux", "hidream", "hunyuanvideo")
"""Families whose denoisers see nothing of their CLIPs' layers but the pooled output, which has none."""


def conditioning(clip, text=TEXT):
    """All that the host's encoder returns."""
    with torch.no_grad():
        ((cond, extras),) = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return [cond, *(value for value in extras.values() if torch.is_tensor(value))]


def read_at(clip, layer):
    skipped = clip.clone()
    skipped.clip_layer(layer)
    return skipped


def taught(prefix, **layers):
    """The prefix, as learned at these layers."""
    return Prefix(prefix.vectors, dataclasses.replace(prefix.record, layers=layers))


@pytest.fixture(scope="module")
def sd1(host_modules):
    return make_clip("sd1")


@pytest.fixture(scope="module")
def prefix(make_prefix):
    return make_prefix(l=32)


@pytest.mark.parametrize("name", KINDS)
def test_what_reads_other_states_than_were_learned_is_refused_and_what_reads_the_same_is_not(
    host_modules, make_prefix, name
):
    clip = make_clip(name)
    protected = protect(clip, make_prefix(m=3, **FAMILIES[name].widths), 1.0)
    usual, expected = conditioning(clip), conditioning(protected)
    for layer in LAYERS:
        try:
            unchanged = same(conditioning(read_at(clip, layer)), usual)
        except (AttributeError, IndexError, TypeError):  # The host has no such layer, and says so in its own way.
            continue
        if unchanged and name not in POOLED_ALONE:
            assert same(conditioning(read_at(protected, layer)), expected)
        elif not unchanged:
            with pytest.raises(PrefixMismatchError, match=REFUSED):
                conditioning(read_at(protected, layer))
    assert same(conditioning(protected), expected)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_prefix_learned_at_two_layers_holds_at_both_whichever_way_they_are_set(sd1, prefix, strength):
    both = taught(prefix, l=[-1, -2])
    for layer in (-1, -2):
        before, after = protect(read_at(sd1, layer), both, strength), read_at(protect(sd1, both, strength), layer)
        assert same(encode(before, TEXT), encode(after, TEXT))
        assert not same(encode(before, TEXT), encode(read_at(sd1, layer), TEXT))
    assert not same(encode(read_at(protect(sd1, both, strength), -2), TEXT), encode(protect(sd1, both, strength), TEXT))
    for skipped in (protect(read_at(sd1, -3), both, strength), read_at(protect(sd1, both, strength), -3)):
        with pytest.raises(PrefixMismatchError, match=r"learned at clip skip 1 and 2, and here the prompt .* skip 3"):
            encode(skipped, TEXT)
    deeper = taught(prefix, l=[-2])
    with pytest.raises(PrefixMismatchError, match="set CLIP Set Last Layer to -2, or"):
        encode(protect(sd1, deeper, strength), TEXT)
    encode(protect(read_at(sd1, -2), deeper, strength), TEXT)


def test_strength_zero_is_plain_at_every_layer(sd1, prefix):
    for layer in LAYERS[:3]:
        assert same(encode(read_at(protect(sd1, prefix, 0.0), layer), TEXT), encode(read_at(sd1, layer), TEXT))


def test_a_layer_that_was_set_and_taken_back_does_no_harm(sd1, prefix):
    expected = encode(protect(sd1, prefix, 1.0), TEXT)
    assert same(encode(read_at(protect(read_at(sd1, -2), prefix, 1.0), -1), TEXT), expected)
    assert same(encode(read_at(protect(read_at(sd1, -2), prefix, 1.0), None), TEXT), expected)


def test_layers_counted_from_the_front_and_beyond_the_first_are_known_for_what_they_are(sd1, prefix):
    expected = encode(protect(sd1, prefix, 1.0), TEXT)
    for layer in (2, -24, 24):  # The host's encoder has three, and takes what it has not for the last.
        assert same(encode(read_at(protect(sd1, prefix, 1.0), layer), TEXT), expected)
    for layer in (1, 0):
        with pytest.raises(PrefixMismatchError, match="is read at clip skip"):
            encode(read_at(protect(sd1, prefix, 1.0), layer), TEXT)


def _options(stage):
    """What every caller of `encode_token_weights` finds: the options that are set, without the CLIP around them."""
    stage.reset_clip_options()
    stage.set_clip_options({"layer": -2})


def _attributes(stage):
    stage.reset_clip_options()
    stage.clip_l.layer, stage.clip_l.layer_idx = "hidden", -2


def _norm(stage):
    stage.reset_clip_options()
    stage.clip_l.set_clip_options({"layer": -1})
    stage.clip_l.layer_norm_hidden_state = False


def _pooled(stage):
    stage.reset_clip_options()
    stage.set_clip_options({"projected_pooled": True})


@pytest.mark.parametrize("setting", [_options, _attributes, _norm, _pooled])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_whoever_encodes_past_the_clip_is_judged_alike(host_modules, prefix, setting, strength):
    clip = make_clip("sd1")
    protected = protect(clip, prefix, strength)
    tokens = protected.tokenize(TEXT)
    assert protected.cond_stage_model.encode_token_weights(tokens)
    setting(protected.cond_stage_model)
    with torch.no_grad(), pytest.raises(PrefixMismatchError, match=REFUSED):
        protected.cond_stage_model.encode_token_weights(tokens)


def test_scheduled_encoding_is_judged_too(comfy, sd1, prefix):
    import comfy.hooks

    protected = read_at(protect(sd1, prefix, 1.0), -2)
    hooks = comfy.hooks.HookGroup()
    hooks.add(comfy.hooks.WeightHook())
    protected.patcher.forced_hooks, protected.use_clip_schedule = hooks, True
    with pytest.raises(PrefixMismatchError, match=REFUSED):
        encode(protected, TEXT)


def test_an_encoder_that_asks_its_network_by_itself_is_judged_by_what_it_asks(host_modules, prefix):
    clip = make_clip("sd1")
    protected = protect(clip, prefix, 1.0)
    network = clip.cond_stage_model.clip_l.transformer

    def encode_skipping(tokens):
        embeds, _, num_tokens, _ = clip.cond_stage_model.clip_l.process_tokens(tokens, "cpu")
        return network(None, None, embeds=embeds, num_tokens=num_tokens, intermediate_output=-2)[1:]

    clip.cond_stage_model.clip_l.encode = encode_skipping
    with torch.no_grad(), pytest.raises(PrefixMismatchError, match=REFUSED):
        encode(protected, TEXT)


def test_an_encoder_that_does_not_say_how_it_is_read_is_refused(host_modules, prefix):
    clip = make_clip("sd1")
    del clip.cond_stage_model.clip_l.options_default
    with pytest.raises(PrefixMismatchError, match=r"'l' .* does not say at which layer it is read"):
        protect(clip, prefix, 1.0)


def test_an_encoder_that_reads_unseen_is_refused(host_modules, prefix):
    clip = make_clip("sd1")
    protected = protect(clip, prefix, 1.0)
    encoder = clip.cond_stage_model.clip_l

    def encode_unseen(tokens):
        embeds, _, num_tokens, _ = encoder.process_tokens(tokens, "cpu")
        return encoder.transformer.forward(None, None, embeds=embeds, num_tokens=num_tokens)[::2]

    encoder.encode = encode_unseen
    with torch.no_grad(), pytest.raises(PrefixMismatchError, match="'l' read the prompt unseen"):
        encode(protected, TEXT)


def test_the_hosts_encoders_keep_no_hooks_whatever_happens(sd1, prefix):
    network = sd1.cond_stage_model.clip_l.transformer
    encode(protect(sd1, prefix, 0.5), TEXT)
    with pytest.raises(PrefixMismatchError):
        encode(read_at(protect(sd1, prefix, 0.5), -2), TEXT)
    assert not network._forward_pre_hooks and not network._forward_pre_hooks_with_kwargs


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("sd1", {"l": -1}),
        ("sd2", {"h": -2}),
        ("sdxl", {"l": -2, "g": -2}),
        ("stable cascade", {"g": -1}),
        ("sd3", {"l": -2, "g": -2, "t5xxl": -1}),
        ("flux", {"l": -1, "t5xxl": -1}),
        ("flux 2", {"mistral3_24b": ("10", "20", "30")}),
    ],
)
def test_the_usual_layers_are_those_that_the_host_builds_the_encoders_with(host_modules, name, layers):
    clip = make_clip(name)
    usual = usual_readings(text_encoders(clip.cond_stage_model))
    assert usual_layers(usual) == layers
    clip.cond_stage_model.reset_clip_options()
    assert current_layers(text_encoders(clip.cond_stage_model), usual) == layers
