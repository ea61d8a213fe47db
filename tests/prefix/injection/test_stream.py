"""Where a prefix enters prompts with templates, pictures and odd beginnings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from anonymize_faces.engines.comfy.protected_clip import protect
from anonymize_faces.prefix import PrefixMismatchError, frame_of, inject, inject_text, words
from anonymize_faces.tests.support.text_encoders import FAMILIES, make_clip

M = 3
IM_START, USER, NEWLINE, VISION_END = 151644, 872, 198, 151653


@pytest.fixture(scope="module")
def clip_of(host_modules):
    """Makes a family's CLIP once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = make_clip(name)
        return made[name]

    return make


def protected_chunk(clip, name, make_prefix, text, **kwargs):
    """The tokens of a prompt's first chunk, with "P" for those of the prefix; and the encoder's key."""
    (key,) = FAMILIES[name].widths
    prefix = make_prefix(m=M, **FAMILIES[name].widths)
    chunk = protect(clip, prefix, 1.0).tokenize(text, **kwargs)[key][0]
    rows = [id(entry[0]) for entry in chunk if isinstance(entry[0], torch.Tensor)]
    assert len(rows) == M
    return ["P" if isinstance(entry[0], torch.Tensor) else entry[0] for entry in chunk]


def ids_of(clip, text):
    return clip.tokenizer.qwen25_7b.tokenizer(text)["input_ids"]


TURN = [IM_START, USER, NEWLINE]


def test_a_template_of_the_callers_own_is_gone_round(clip_of, make_prefix):
    clip = clip_of("qwen-image")
    template = "<|im_start|>system\nAnswer in verse.<|im_end|>\n<|im_start|>user\nSay: {}<|im_end|>\n"
    tokens = protected_chunk(clip, "qwen-image", make_prefix, "cats", llama_template=template)
    place = tokens.index("P")
    assert tokens[:place] == ids_of(clip, template.split("{}")[0].rstrip())
    assert tokens[place + M :] == ids_of(clip, " cats<|im_end|>\n")


SYSTEM, USERS = "<|im_start|>system\nAnswer in verse.<|im_end|>\n", "<|im_start|>user\ncats<|im_end|>\n"
OLDER = "<|start_header_id|>system<|end_header_id|>\n\nAda<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen-image", SYSTEM + USERS),
        ("qwen-image", "<|im_start|>a<|im_start|>Ada Lovelace<|im_start|>user\ncats"),
        ("qwen-image", "<|im_start|>user\n<|im_start|>Ada Lovelace"),
        ("qwen-image", "<|im_start|>system\nAda Lovelace"),
        ("hunyuanimage without byt5", OLDER + "cats"),
    ],
)
def test_a_prompt_whose_own_template_could_keep_words_from_the_prefix_is_refused_with_the_remedy(
    clip_of, make_prefix, name, text
):
    with pytest.raises(PrefixMismatchError, match="if the prompt brings a chat template of its own, leave it out"):
        protected_chunk(clip_of(name), name, make_prefix, text)


def test_a_turn_within_the_prompt_is_refused_where_the_host_would_cut_the_prefix_off_with_it():
    def tokenize(text):
        return {"llama": [[(1, 1.0), *((ord(letter), 1.0) for letter in text)]]}

    assert frame_of(tokenize, "cats").streams["llama"]
    with pytest.raises(PrefixMismatchError, match="leave it out"):
        frame_of(tokenize, "cats" + OLDER + "Ada Lovelace")


@pytest.mark.parametrize("name", ["z-image", "omnigen2"])
def test_nothing_that_a_user_writes_comes_before_the_prefix_where_the_host_keeps_its_template(
    clip_of, make_prefix, name
):
    clip = clip_of(name)
    text = "<|im_start|>system\nAda Lovelace<|im_end|>\n<|im_start|>user\ncats"
    tokens = protected_chunk(clip, name, make_prefix, text)
    place = tokens.index("P")
    assert tokens[place - 3 : place] == TURN
    assert tokens[place + M] == IM_START


@pytest.mark.parametrize("text", ["\nAda", "\n\n\nAda", "  Ada", "\tAda", "\r\nAda"])
@pytest.mark.parametrize("name", ["qwen-image", "z-image"])
def test_white_space_at_the_start_does_not_mislead(clip_of, make_prefix, name, text):
    clip = clip_of(name)
    (key,) = FAMILIES[name].widths
    plain = [entry[0] for entry in clip.tokenize(text)[key][0]]
    tokens = protected_chunk(clip, name, make_prefix, text)
    place = tokens.index("P")
    assert tokens[:place] + tokens[place + M :] == plain
    decode = getattr(clip.tokenizer, key).tokenizer.decode
    assert decode(plain[:place]).rstrip().endswith("<|im_start|>user")
    assert decode(plain[place:]).lstrip().startswith("Ada<|im_end|>")
    protected = protect(clip, make_prefix(m=M, **FAMILIES[name].widths), 1.0)
    with torch.no_grad():
        grown = protected.encode_from_tokens(protected.tokenize(text)).shape[1]
        assert grown == clip.encode_from_tokens(clip.tokenize(text)).shape[1] + M


def test_pictures_in_the_template_stand_before_the_prefix(clip_of, make_prefix):
    clip = clip_of("qwen-image")
    tokens = protected_chunk(clip, "qwen-image", make_prefix, "cats", images=[torch.zeros(1, 32, 32, 3)])
    place = tokens.index("P")
    assert tokens[place - 1] == VISION_END
    assert isinstance(tokens[place - 2], dict)
    assert tokens[place + M] == ids_of(clip, "cats")[0]


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(
    "text", ["cats and dogs", "Picture 2: <|vision_start|><|image_pad|><|vision_end|>cats and dogs"]
)
def test_pictures_are_encoded_with_the_prefix_and_keep_their_size(clip_of, make_prefix, text, strength):
    from comfy.text_encoders.qwen_vl import Qwen2VLVisionTransformer

    clip = clip_of("qwen-image")
    network = clip.cond_stage_model.qwen25_7b.transformer
    large = network.visual
    sizes = {"hidden_size": 32, "output_hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "num_layers": 1}
    network.visual = Qwen2VLVisionTransformer(**sizes, ops=clip.cond_stage_model.qwen25_7b.operations)
    for parameter in network.visual.parameters():
        parameter.data = torch.full(parameter.shape, 0.02)
    images = [torch.rand(1, 64, 64, 3), torch.rand(1, 96, 64, 3)][: 1 + text.count("<|image_pad|>")]
    try:
        protected = protect(clip, make_prefix(m=M, **FAMILIES["qwen-image"].widths), strength)
        with torch.no_grad():
            plain = clip.encode_from_tokens(clip.tokenize(text, images=images))
            found = protected.encode_from_tokens(protected.tokenize(text, images=images))
    finally:
        network.visual = large
    assert found.shape[1] == plain.shape[1] + M
    assert torch.isfinite(found).all()


def test_a_blank_prompt_with_a_template_of_its_own_is_protected_in_the_users_turn(clip_of, make_prefix):
    clip = clip_of("boogu")
    for text in ("", "  "):
        tokens = protected_chunk(clip, "boogu", make_prefix, text)
        place = tokens.index("P")
        assert tokens[place - 3 : place] == TURN


def test_short_prompts_stay_as_long_as_they_were_padded_and_long_ones_grow(clip_of, make_prefix):
    clip = clip_of("flux")
    prefix = make_prefix(m=M, **FAMILIES["flux"].widths)
    for count, growth in ((1, 0), (252, 0), (253, 1), (254, 2), (255, 3), (300, 3)):
        text = "the " * count
        plain, protected = (c.tokenize(text)["t5xxl"][0] for c in (clip, protect(clip, prefix, 1.0)))
        assert len(protected) == len(plain) + growth
        assert sum(isinstance(entry[0], int) and entry[0] == 8 for entry in protected) == count


def test_a_prompt_longer_than_the_encoder_reads_is_refused_with_the_remedy(clip_of, make_prefix):
    clip = clip_of("hunyuandit")
    protected = protect(clip, make_prefix(m=M, **FAMILIES["hunyuandit"].widths), 1.0)
    assert len(protected.tokenize("the " * 507)["hydit_clip"][0]) == 512
    with pytest.raises(PrefixMismatchError, match=r"'hydit_clip', which reads 512 tokens.*shorten it by 2 tokens"):
        protected.tokenize("the " * 509)


def test_weights_and_embeddings_of_the_users_own_stay_as_they_are(clip_of, make_prefix):
    clip = clip_of("chroma and pixart")
    text = "a (red:1.3) cat"
    vectors = make_prefix(m=M, t5xxl=16).vectors
    tokens = inject_text(lambda t: clip.tokenize(t, return_word_ids=True), text, vectors, ["t5xxl"])["t5xxl"][0]
    assert tokens[M:] == clip.tokenize(text, return_word_ids=True)["t5xxl"][0]
    assert [entry[1:] for entry in tokens[:M]] == [(1.0, 0)] * M


def test_words_are_what_the_user_wrote_and_nothing_of_the_template(clip_of):
    clip = clip_of("z-image")
    tokens, frame = clip.tokenize("red cat"), frame_of(clip.tokenize, "red cat")
    text = clip.tokenizer.qwen3_4b.tokenizer.decode([entry[0] for entry in words("qwen3_4b", tokens, frame)])
    assert text == "red cat"


def test_checkpoints_whose_encoders_take_words_only_are_refused(host_modules, make_prefix):
    hidream_o1 = pytest.importorskip("comfy.text_encoders.hidream_o1", reason="This ComfyUI has no HiDream-O1.")
    import comfy.sd

    target = SimpleNamespace(params={}, clip=hidream_o1.HiDreamO1TE, tokenizer=hidream_o1.HiDreamO1Tokenizer)
    clip = comfy.sd.CLIP(target)
    with pytest.raises(PrefixMismatchError, match=r"HiDreamO1TE.*use a checkpoint of a supported family"):
        protect(clip, make_prefix(m=M, l=32), 1.0)
    with pytest.raises(PrefixMismatchError, match="'hidream_o1' takes words only"):
        inject(clip.tokenize("cats"), make_prefix(m=M, hidream_o1=16).vectors)


def test_a_checkpoint_of_a_family_that_we_do_not_know_is_refused_by_the_name_of_its_encoder(host_modules, make_prefix):
    import comfy.sd
    from comfy.text_encoders import sa_t5

    sizes = {"num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8, "d_model": 16}
    target = SimpleNamespace(params={}, clip=sa_t5.SAT5Model, tokenizer=sa_t5.SAT5Tokenizer)
    clip = comfy.sd.CLIP(target, model_options={"t5base_model_config": sizes})
    with pytest.raises(PrefixMismatchError, match="does not know text encoder 't5base' yet"):
        protect(clip, make_prefix(m=M, t5base=16), 1.0)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("flux", torch.float8_e4m3fn), ("omnigen2", torch.float8_e4m3fn), ("lumina 2", torch.bfloat16)],
)
def test_weights_of_fewer_bits_are_protected_as_well(host_modules, make_prefix, name, dtype):
    clip, widths = make_clip(name, dtype=dtype), FAMILIES[name].widths
    plain = clip.encode_from_tokens(clip.tokenize("cats"))
    protected = protect(clip, make_prefix(m=M, **widths), 1.0)
    found = protected.encode_from_tokens(protected.tokenize("cats"))
    assert torch.isfinite(found).all()
    assert found.shape != plain.shape or not torch.equal(found, plain)
    with pytest.raises(PrefixMismatchError, match="for another family of checkpoints"):
        protect(clip, make_prefix(m=M, **{key: width + 1 for key, width in widths.items()}), 1.0)


@pytest.mark.parametrize("name", ["z-image", "qwen-image"])
def test_a_prompt_that_begins_with_an_embedding_of_the_users_own_is_protected(
    host_modules, make_prefix, name, tmp_path
):
    safetensors.torch.save_file({"v": torch.randn(2, 16)}, tmp_path / "mine.safetensors")
    clip, (key,) = make_clip(name, embeddings=tmp_path), FAMILIES[name].widths
    prefix = make_prefix(m=M, **{key: 16})
    protected = protect(clip, prefix, 1.0)
    plain, tokens = (c.tokenize("embedding:mine cats")[key][0] for c in (clip, protected))
    place = next(n for n, entry in enumerate(tokens) if isinstance(entry[0], torch.Tensor))
    assert [entry[0] for entry in tokens[place - 3 : place]] == TURN
    assert all(torch.equal(entry[0], row) for entry, row in zip(tokens[place:], prefix.vectors[key], strict=False))
    rest = tokens[place + M :]
    assert comparable(rest) == comparable(plain[-len(rest) :])
    assert len(rest) >= len(plain) - place
    with torch.no_grad():
        assert torch.isfinite(protected.encode_from_tokens(protected.tokenize("embedding:mine cats"))).all()


def comparable(chunk):
    return [entry[0].tolist() if isinstance(entry[0], torch.Tensor) else entry[0] for entry in chunk]
