"""Builds SmolLM2-135M in the host's own Llama class, from the file in its wheel, behind the host's CLIP.

The states after `LAYERS` of its thirty layers are what the denoiser reads. A chat template stands around the prompt, as
in the families that read language models; without its head the first position, on which all later ones lean, would be
the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.ops
import comfy.sd
import comfy.text_encoders.llama as llama
import numpy as np
import torch
from comfy import sd1_clip, supported_models_base
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .gguf import read_gguf

LAYERS = 14
WIDTH = 576
KEY = "qwen3_4b"
"""Where Z-Image, whose template and denoiser these are, keeps its language model."""

TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PAD = 0
"""Says nothing, and stands in no template: behind the first such token the host masks the rest of a prompt."""

_SPECIAL = 3
"""The kind of token, in a GGUF file, that is never made of text."""

_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_down": "mlp.down_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "attn_k": "self_attn.k_proj",
    "attn_q": "self_attn.q_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}


@dataclass
class Config(llama.Llama2Config):
    """SmolLM2-135M, its first `LAYERS` layers."""

    vocab_size: int = 49152
    hidden_size: int = WIDTH
    intermediate_size: int = 1536
    num_hidden_layers: int = LAYERS
    num_attention_heads: int = 9
    num_key_value_heads: int = 3
    rope_theta: float = 100000.0
    final_norm: bool = False
    head_dim = 64


class SmolLM2(llama.BaseLlama, torch.nn.Module):
    """The host's Llama of this size."""

    def __init__(self, config_dict: dict[str, Any], dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__()
        config = Config(**config_dict)
        self.num_layers = config.num_hidden_layers
        self.model = llama.Llama2_(config, device=device, dtype=dtype, ops=operations)
        self.dtype = dtype


class SmolTextModel(sd1_clip.SDClipModel):
    """The host's wrapper around it: the last state, as it is."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype | None = None, model_options: Any = None) -> None:
        super().__init__(
            device=device,
            layer="last",
            textmodel_json_config={},
            dtype=dtype,
            special_tokens={"pad": PAD},
            layer_norm_hidden_state=False,
            model_class=SmolLM2,
            enable_attention_masks=True,
            return_attention_masks=True,
            model_options=model_options or {},
        )


class SmolClipModel(sd1_clip.SD1ClipModel):
    """One text encoder, under `KEY`."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype | None = None, model_options: Any = None) -> None:
        options = model_options or {}
        super().__init__(device=device, dtype=dtype, name=KEY, clip_model=SmolTextModel, model_options=options)


class _TokenizerOf:
    """What the host calls a tokenizer class: makes the tokenizer of a GGUF file's metadata."""

    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata

    def from_pretrained(self, path: str, **options: Any) -> PreTrainedTokenizerFast:
        words, kinds = (self._metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type"))
        merges = [tuple(pair.split(" ")) for pair in self._metadata["tokenizer.ggml.merges"]]
        made = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        made.decoder = decoders.ByteLevel()
        made.add_special_tokens([word for word, kind in zip(words, kinds, strict=True) if kind == _SPECIAL])
        return PreTrainedTokenizerFast(tokenizer_object=made)


def clip_of(path: Path, embedding_directory: list[str] | None = None) -> comfy.sd.CLIP:
    """The host's CLIP with the language model in `path`, a GGUF file.

    Raises:
        AnonymizationError: the file cannot be read.
    """
    metadata, tensors = read_gguf(path)

    class WordTokenizer(sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(
                "",
                pad_with_end=False,
                embedding_directory=embedding_directory,
                embedding_size=WIDTH,
                embedding_key=KEY,
                tokenizer_class=_TokenizerOf(metadata),
                has_start_token=False,
                has_end_token=False,
                pad_to_max_length=False,
                max_length=99999999,
                min_length=1,
                pad_token=PAD,
                tokenizer_data=tokenizer_data or {},
            )

    class ChatTokenizer(sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(
                embedding_directory=embedding_directory,
                tokenizer_data=tokenizer_data or {},
                name=KEY,
                tokenizer=WordTokenizer,
            )
            self.llama_template = TEMPLATE

        def tokenize_with_weights(
            self, text: str, return_word_ids: bool = False, llama_template: str | None = None, **options: Any
        ) -> Any:
            told = (llama_template or self.llama_template).format(text)
            return super().tokenize_with_weights(told, return_word_ids=return_word_ids, disable_weights=True, **options)

    target = supported_models_base.ClipTarget(ChatTokenizer, SmolClipModel)
    clip = comfy.sd.CLIP(target, embedding_directory=embedding_directory, model_options={"dtype": torch.float32})
    inner = getattr(clip.cond_stage_model, KEY).transformer
    inner.load_state_dict(_host_weights(tensors))
    return clip


def _host_weights(tensors: Any) -> dict[str, torch.Tensor]:
    """The weights under the host's names. GGUF keeps the two halves of each turned pair of query and key together."""
    out = {"model.embed_tokens.weight": tensors["token_embd.weight"]}
    for layer in range(LAYERS):
        for name, theirs in _NAMES.items():
            weight = tensors[f"blk.{layer}.{name}.weight"]
            if name in ("attn_q", "attn_k"):
                heads = len(weight) // Config.head_dim
                weight = weight.reshape(heads, Config.head_dim // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)
            out[f"model.layers.{layer}.{theirs}.weight"] = weight
    return {name: torch.from_numpy(np.ascontiguousarray(weight)) for name, weight in out.items()}
