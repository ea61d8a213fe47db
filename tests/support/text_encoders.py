"""Builds the host's real text encoders small, in-process: every family of them.

Classes, tokenizers, templates and what is cut off are the host's own. Only widths and depths are small, and weights are
random. Vocabularies that the host expects in a checkpoint's file are made here from a few sentences.
"""

from __future__ import annotations

import ast
import base64
import copy
import functools
import importlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

CLIP = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
T5 = {"num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8}
LLM = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
BERT = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 24}

QWEN_USER = "<|im_start|>user\n"
DESCRIBE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial"
    f" relationships of the objects and background:<|im_end|>\n{QWEN_USER}"
)


@dataclass(frozen=True)
class EncoderFamily:
    """One family of text encoders, as the host loads it.

    Attributes:
        tokenizer, encoder: the host's classes, `module:name` below its package; a name with brackets is called first.
        options: the host's `model_options` that make it small.
        widths: width of each encoder that the model has.
        heads: what stands before the user's words, by encoder: a number of tokens, or what a chat template says last.
        longer: whether the prefix makes the conditioning of a short prompt longer.
        vocabulary: makes the host's `tokenizer_data`.
        prompt: a short one.
    """

    tokenizer: str
    encoder: str
    options: Mapping[str, Any]
    widths: Mapping[str, int]
    heads: Mapping[str, int | str]
    longer: bool
    vocabulary: Callable[[], dict[str, Any]] = dict
    prompt: str = "a photo of Ada Lovelace"


@functools.cache
def sentencepiece_model(**special: int) -> torch.Tensor:
    """A small SentencePiece vocabulary, as checkpoints carry it."""
    import sentencepiece

    written = io.BytesIO()
    sentences = ["a photo of Ada Lovelace", "red green blue", "a man and a woman", "the fox in the house", "b"] * 20
    ids = {f"{name}_id": special.get(name, -1) for name in ("pad", "bos", "eos", "unk")}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)


def gemma_vocabulary() -> dict[str, Any]:
    return {"spiece_model": sentencepiece_model(pad=0, eos=1, bos=2, unk=3)}


def t5_vocabulary() -> torch.Tensor:
    return sentencepiece_model(pad=0, eos=1, unk=2)


def mistral_vocabulary() -> dict[str, Any]:
    """A vocabulary of single bytes and the special tokens of the host's template."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<{n}>" for n in range(5, 11)), "<pad>"]
    special += [f"<{n}>" for n in range(12, 17)] + ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<19>"]
    model = {
        "config": {"default_vocab_size": 256 + len(special), "default_num_special_tokens": len(special)},
        "vocab": [{"rank": n, "token_bytes": base64.b64encode(bytes([n])).decode()} for n in range(256)],
        "special_tokens": [{"rank": n, "token_str": token} for n, token in enumerate(special)],
    }
    return {"tekken_model": torch.frombuffer(bytearray(json.dumps(model).encode()), dtype=torch.uint8)}


def _clips(**widths: int) -> dict[str, Any]:
    return {f"clip_{key}_model_config": {**CLIP, "hidden_size": width} for key, width in widths.items()}


def _llm(layers: int, width: int = 16) -> dict[str, Any]:
    return {**LLM, "num_hidden_layers": layers, "hidden_size": width}


def _t5(width: int = 16) -> dict[str, Any]:
    return {**T5, "d_model": width}


def _sd3(**present: bool) -> EncoderFamily:
    # The host puts CLIP and T5 states one after another in a space 4096 wide.
    widths = {"l": 32, "g": 48, "t5xxl": 4096}
    kept = {key: width for key, width in widths.items() if present[{"l": "clip_l", "g": "clip_g"}.get(key, "t5")]}
    arguments = ", ".join(f"{name}={value}" for name, value in present.items())
    return EncoderFamily(
        "text_encoders.sd3_clip:SD3Tokenizer",
        f"text_encoders.sd3_clip:sd3_clip({arguments})",
        {**_clips(l=32, g=48), "t5xxl_model_config": _t5(4096)},
        kept,
        {key: 1 if key in "lg" else 0 for key in kept},
        longer=False,
    )


def _hidream(**present: bool) -> EncoderFamily:
    names = {"l": "clip_l", "g": "clip_g", "t5xxl": "t5", "llama": "llama"}
    widths = {"l": 32, "g": 48, "t5xxl": 16, "llama": 16}
    kept = {key: width for key, width in widths.items() if present[names[key]]}
    arguments = ", ".join(f"{name}={value}" for name, value in present.items())
    return EncoderFamily(
        "text_encoders.hidream:HiDreamTokenizer",
        f"text_encoders.hidream:hidream_clip({arguments})",
        {**_clips(l=32, g=48), "t5xxl_model_config": _t5(), "llama_model_config": _llm(4)},
        kept,
        {key: 0 if key == "t5xxl" else 1 for key in kept},
        longer=False,
    )


def _t5xxl(module: str, tokenizer: str, encoder: str, longer: bool) -> EncoderFamily:
    return EncoderFamily(
        f"text_encoders.{module}:{tokenizer}",
        f"text_encoders.{module}:{encoder}",
        {"t5xxl_model_config": _t5()},
        {"t5xxl": 16},
        {"t5xxl": 0},
        longer,
    )


def _chat(key: str, module: str, tokenizer: str, encoder: str, layers: int, head: str, **more: Any) -> EncoderFamily:
    return EncoderFamily(
        f"text_encoders.{module}:{tokenizer}",
        f"text_encoders.{module}:{encoder}",
        {f"{key}_model_config": _llm(layers), **more.pop("options", {})},
        {key: 16, **more.pop("widths", {})},
        {key: head, **more.pop("heads", {})},
        **{"longer": True, **more},
    )


FAMILIES: Mapping[str, EncoderFamily] = {
    "sd1": EncoderFamily("sd1_clip:SD1Tokenizer", "sd1_clip:SD1ClipModel", _clips(l=32), {"l": 32}, {"l": 1}, False),
    "sd2": EncoderFamily(
        "text_encoders.sd2_clip:SD2Tokenizer",
        "text_encoders.sd2_clip:SD2ClipModel",
        _clips(h=48),
        {"h": 48},
        {"h": 1},
        False,
    ),
    "sdxl": EncoderFamily(
        "sdxl_clip:SDXLTokenizer",
        "sdxl_clip:SDXLClipModel",
        _clips(l=32, g=48),
        {"l": 32, "g": 48},
        {"l": 1, "g": 1},
        False,
    ),
    "sdxl refiner": EncoderFamily(
        "sdxl_clip:SDXLTokenizer", "sdxl_clip:SDXLRefinerClipModel", _clips(g=48), {"g": 48}, {"g": 1}, False
    ),
    "stable cascade": EncoderFamily(
        "sdxl_clip:StableCascadeTokenizer", "sdxl_clip:StableCascadeClipModel", _clips(g=48), {"g": 48}, {"g": 1}, False
    ),
    "sd3": _sd3(clip_l=True, clip_g=True, t5=True),
    "sd3 without t5": _sd3(clip_l=True, clip_g=True, t5=False),
    "sd3 without l": _sd3(clip_l=False, clip_g=True, t5=True),
    "sd3 without g": _sd3(clip_l=True, clip_g=False, t5=True),
    "sd3 with t5 alone": _sd3(clip_l=False, clip_g=False, t5=True),
    "flux": EncoderFamily(
        "text_encoders.flux:FluxTokenizer",
        "text_encoders.flux:flux_clip()",
        {**_clips(l=32), "t5xxl_model_config": _t5()},
        {"l": 32, "t5xxl": 16},
        {"l": 1, "t5xxl": 0},
        False,
    ),
    "chroma and pixart": _t5xxl("pixart_t5", "PixArtTokenizer", "pixart_te()", longer=True),
    "auraflow": EncoderFamily(
        "text_encoders.aura_t5:AuraT5Tokenizer",
        "text_encoders.aura_t5:AuraT5Model",
        {"pile_t5xl_model_config": _t5()},
        {"pile_t5xl": 16},
        {"pile_t5xl": 0},
        False,
    ),
    "cosmos": _t5xxl("cosmos", "CosmosT5Tokenizer", "te()", longer=False),
    "mochi": _t5xxl("genmo", "MochiT5Tokenizer", "mochi_te()", longer=False),
    "ltx": _t5xxl("lt", "LTXVT5Tokenizer", "ltxv_te()", longer=False),
    "wan": EncoderFamily(
        "text_encoders.wan:WanT5Tokenizer",
        "text_encoders.wan:te()",
        {"umt5xxl_model_config": _t5()},
        {"umt5xxl": 16},
        {"umt5xxl": 0},
        False,
        lambda: {"spiece_model": t5_vocabulary()},
    ),
    "hunyuandit": EncoderFamily(
        "text_encoders.hydit:HyditTokenizer",
        "text_encoders.hydit:HyditModel",
        {"hydit_clip_model_config": BERT, "mt5xl_model_config": _t5()},
        {"hydit_clip": 24, "mt5xl": 16},
        {"hydit_clip": 1, "mt5xl": 0},
        False,
        lambda: {"mt5xl.spiece_model": t5_vocabulary()},
    ),
    "lumina 2": _chat("gemma2_2b", "lumina2", "LuminaTokenizer", "te()", 3, 1, vocabulary=gemma_vocabulary),
    "lumina 2 with gemma 3": _chat(
        "gemma3_4b", "lumina2", "NTokenizer", "te(model_type='gemma3_4b')", 3, 1, vocabulary=gemma_vocabulary
    ),
    "hidream": _hidream(clip_l=True, clip_g=True, t5=True, llama=True),
    "hidream with t5 and llama": _hidream(clip_l=False, clip_g=False, t5=True, llama=True),
    "hunyuanvideo": EncoderFamily(
        "text_encoders.hunyuan_video:HunyuanVideoTokenizer",
        "text_encoders.hunyuan_video:hunyuan_video_clip()",
        {**_clips(l=32), "llama_model_config": _llm(4)},
        {"l": 32, "llama": 16},
        {"l": 1, "llama": "<|start_header_id|>user<|end_header_id|>\n\n"},
        True,
    ),
    "qwen-image": _chat("qwen25_7b", "qwen_image", "QwenImageTokenizer", "te()", 3, DESCRIBE),
    "hunyuanimage": _chat(
        "qwen25_7b",
        "hunyuan_image",
        "HunyuanImageTokenizer",
        "te()",
        4,
        DESCRIBE,
        options={"_model_config": _t5(24)},
        widths={"byt5": 24},
        heads={"byt5": 0},
        prompt='a photo of Ada Lovelace with the words "good day"',
    ),
    "hunyuanimage without byt5": _chat(
        "qwen25_7b", "hunyuan_image", "HunyuanImageTokenizer", "te(byt5=False)", 4, DESCRIBE
    ),
    "omnigen2": _chat("qwen25_3b", "omnigen2", "Omnigen2Tokenizer", "te()", 3, QWEN_USER),
    "z-image": _chat("qwen3_4b", "z_image", "ZImageTokenizer", "te()", 3, QWEN_USER),
    "flux 2": _chat(
        "mistral3_24b", "flux", "Flux2Tokenizer", "flux2_te()", 31, "[INST]", vocabulary=mistral_vocabulary
    ),
    "flux 2 klein": _chat("qwen3_4b", "flux", "KleinTokenizer", "klein_te()", 28, QWEN_USER, longer=False),
    "flux 2 klein 9b": _chat(
        "qwen3_8b", "flux", "KleinTokenizer8B", "klein_te(model_type='qwen3_8b')", 28, QWEN_USER, longer=False
    ),
    "kandinsky 5 image": _chat(
        "qwen25_7b",
        "kandinsky5",
        "Kandinsky5TokenizerImage",
        "te()",
        3,
        QWEN_USER,
        options=_clips(l=32),
        widths={"l": 32},
        heads={"l": 1},
    ),
    "ovis": _chat("qwen3_2b", "ovis", "OvisTokenizer", "te()", 3, " objects and background:", longer=False),
    "newbie": EncoderFamily(
        "text_encoders.newbie:NewBieTokenizer",
        "text_encoders.newbie:te()",
        # The host looks for the sizes of both encoders under this one name.
        {
            "_model_config": {k: v for k, v in _llm(3).items() if k != "num_key_value_heads"}
            | {"num_attention_heads": 4}
        },
        {"gemma": 16, "jina": 16},
        {"gemma": 1, "jina": 1},
        True,
        lambda: {
            "gemma_spiece_model": gemma_vocabulary()["spiece_model"],
            "jina_spiece_model": sentencepiece_model(bos=0, pad=1, eos=2, unk=3),
        },
    ),
    "longcat": _chat("qwen25_7b", "longcat_image", "LongCatImageTokenizer", "te()", 3, QWEN_USER, longer=False),
    "anima": _chat("qwen3_06b", "anima", "AnimaTokenizer", "te()", 3, 0),
    "ideogram 4": _chat("qwen3vl_8b", "ideogram4", "Ideogram4Tokenizer", "te()", 36, QWEN_USER),
    "ideogram 4 with vision": _chat(
        "qwen3vl_8b", "ideogram4", "Ideogram4Qwen3VLTokenizer", "te_qwen3vl()", 36, QWEN_USER
    ),
    "boogu": _chat("qwen3vl_8b", "boogu", "BooguTokenizer", "te()", 3, QWEN_USER),
    "krea 2": _chat("qwen3vl_4b", "krea2", "Krea2Tokenizer", "te()", 36, DESCRIBE),
    "mage-flow": _chat("qwen3vl_4b", "mage_flow", "MageFlowTokenizer", "te()", 3, DESCRIBE),
    "joyimage": _chat("qwen3vl_8b", "joyimage", "JoyImageTokenizer", "te()", 3, QWEN_USER),
    "pixeldit": _chat(
        "gemma2_2b",
        "pixeldit",
        "PixelDiTGemma2Tokenizer",
        "pixeldit_te()",
        3,
        "User Prompt:",
        longer=False,
        vocabulary=gemma_vocabulary,
    ),
    "ernie image": _chat("ministral3_3b", "ernie", "ErnieTokenizer", "te()", 3, 1, vocabulary=mistral_vocabulary),
}

CLIP_TYPE = ("sd1", "sd2", "sdxl", "sdxl refiner", "stable cascade")
"""Families of nothing but CLIP encoders."""


def make_clip(name: str, embeddings: Path | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """The host's own CLIP of a family, small. Skips the test where this version of the host has no such family.

    Args:
        name: one of `FAMILIES`.
        embeddings: folder of the user's own embeddings.
        dtype: of its weights.
    """
    return make_clip_of(FAMILIES[name], name, embeddings, dtype)


def make_clip_of(
    family: EncoderFamily, name: str, embeddings: Path | None = None, dtype: torch.dtype = torch.float32
) -> Any:
    """The same for a family that is not in the table."""
    made, encoder = _find(name, family.tokenizer), _find(name, family.encoder)
    _require_working_tokenizers(name)
    import comfy.sd

    def tokenizer(**settings: Any) -> Any:
        return made(**settings) if embeddings else _copied(_tokenizer(name, family.tokenizer, family.vocabulary))

    clip = comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=encoder, tokenizer=tokenizer),
        embedding_directory=None if embeddings is None else [str(embeddings)],
        tokenizer_data=family.vocabulary(),
        model_options={**family.options, "dtype": dtype},
    )
    for key, width in family.widths.items():
        inner = getattr(clip.tokenizer, f"clip_{key}", getattr(clip.tokenizer, key, None))
        if inner is not None:
            inner.embedding_size = width
    _initialize(clip.cond_stage_model)
    return clip


@functools.cache
def _tokenizer(name: str, where: str, vocabulary: Callable[[], dict[str, Any]]) -> Any:
    """A tokenizer of the host's, read once: a language model's takes a second."""
    return _find(name, where)(embedding_directory=None, tokenizer_data=vocabulary())


def read_once(tokenizer: type[Any]) -> Callable[..., Any]:
    """What makes the host's own CLIP tokenizer in its place, of files that are read once, without own embeddings."""
    return lambda **settings: _copied(_read(tokenizer))


@functools.cache
def _read(tokenizer: type[Any]) -> Any:
    return tokenizer(embedding_directory=None, tokenizer_data={})


def _copied(tokenizer: Any) -> Any:
    """One whose attributes, and those of the tokenizers within it, may be set."""
    copied = copy.copy(tokenizer)
    for name, value in vars(copied).items():
        if hasattr(value, "tokenize_with_weights"):
            setattr(copied, name, copy.copy(value))
    return copied


def _require_working_tokenizers(name: str) -> None:
    """ComfyUI up to 0.3.75 uses tokenizers that transformers 5 has changed: it cannot load these families itself."""
    import transformers
    from comfy.text_encoders import hunyuan_video

    own = hunyuan_video.LlamaTokenizerFast.__module__.startswith("comfy.")
    if name in ("flux 2", "hunyuanvideo") and not own and int(transformers.__version__.split(".")[0]) >= 5:
        pytest.skip(f"This version of ComfyUI cannot tokenize for {name!r} with transformers 5.")


def _find(name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    function, called, arguments = attribute.rstrip(")").partition("(")
    try:
        found = getattr(importlib.import_module(f"comfy.{module}"), function)
    except (ModuleNotFoundError, AttributeError):
        pytest.skip(f"This version of ComfyUI has no family {name!r}.")
    named = ast.parse(f"found({arguments})", mode="eval").body.keywords
    return found(**{each.arg: ast.literal_eval(each.value) for each in named}) if called else found


def _initialize(model: torch.nn.Module) -> None:
    """Random weights; those that look at pictures stay as they are: large, and unused in text alone."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if ".visual." in name:
            continue
        if parameter.ndim == 2 and parameter.numel() > 2**20:
            # Rows of a large vocabulary share their memory, each shifted by one against the last.
            flat = torch.randn(sum(parameter.shape), generator=generator)
            parameter.data = flat.to(parameter.dtype).as_strided(parameter.shape, (1, 1))
            continue
        values = torch.randn(parameter.shape, generator=generator)
        gain = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = (1 + 0.1 * values if gain else 0.2 * values).to(parameter.dtype)
