"""Lists the text encoders that a prefix can enter, and how each lays out a prompt.

Rows are named by the host's keys in its tokens. Widths are no matter of the table: the same key can stand for encoders
of several widths (`t5xxl` is 4096 wide in Flux and 1024 in Cosmos), so they are asked of the encoder. Nor are attention
masks: the host attends to every embedding, wherever it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import PrefixMismatchError


@dataclass(frozen=True)
class ClipChunks:
    """A CLIP-type encoder, each chunk encoded alone: start token, prefix, up to 75 of the user's, end token, padding.

    Attributes:
        attribute: where the host keeps the encoder.
        start, end, pad: its usual tokens.
    """

    attribute: str
    start: int = 49406
    end: int = 49407
    pad: int = 49407
    required: bool = True


@dataclass(frozen=True)
class Stream:
    """An encoder of T5, BERT or LLM type, which reads a prompt of any length at once.

    The prefix goes where the user's text begins: first, after a start token, or after the head of a chat template.
    That place is read off the tokenizer (see `stream`), so it needs no data and holds for templates yet unknown.

    Attributes:
        attribute: where the host keeps the encoder.
        required: whether a prefix must have vectors for it.
        longest: how many tokens it can read at most.
        is_cut: whether the host, where it pads prompts to one length, cuts what is said of longer ones to that, counted
            from the end: the prefix would go first.
    """

    attribute: str
    required: bool = True
    longest: int | None = None
    is_cut: bool = False


_STREAMS = (
    "t5xxl",  # SD3, Flux, Chroma, PixArt, HiDream, Cosmos; Mochi, LTX-Video
    "pile_t5xl",  # AuraFlow
    "umt5xxl",  # Wan
    "mt5xl",  # HunyuanDiT
    "gemma3_4b",  # Lumina 2 with Gemma 3
    "gemma",  # NewBie
    "jina",  # NewBie
    "llama",  # HiDream; HunyuanVideo
    "mistral3_24b",  # Flux 2
    "ministral3_3b",  # Ernie Image
    "qwen25_3b",  # OmniGen2
    "qwen25_7b",  # Qwen-Image, HunyuanImage, Kandinsky 5, LongCat
    "qwen3_06b",  # Anima
    "qwen3_2b",  # Ovis
    "qwen3_4b",  # Z-Image, Flux 2 Klein
    "qwen3_8b",  # Flux 2 Klein 9B
    "qwen3vl_4b",  # Krea 2, Mage-Flow
    "qwen3vl_8b",  # Ideogram 4, Boogu, JoyImage
)

ENCODER_LAYOUTS: Mapping[str, ClipChunks | Stream] = {
    "l": ClipChunks("clip_l"),
    "g": ClipChunks("clip_g", pad=0),
    "h": ClipChunks("clip_h", pad=0),
    **{key: Stream(key) for key in _STREAMS},
    "hydit_clip": Stream("hydit_clip", longest=512),  # HunyuanDiT
    "gemma2_2b": Stream("gemma2_2b", is_cut=True),  # Lumina 2, which does not pad; PixelDiT
    # HunyuanImage shows it nothing but words in quotation marks, whose letters the picture is to show.
    "byt5": Stream("byt5_small", required=False),
}
"""Every text encoder that a prefix can enter, by its key in the host's tokens."""

CLOSED = ("gpt_oss", "hidream_o1")
"""Encoders, or what stands for them, to which the host passes whole-number tokens alone (Lens, HiDream-O1)."""

CUT_AT_THE_LAST_TURN = {"llama": "<|start_header_id|>"}
"""What begins a turn for encoders whose conditioning the host cuts off at the last one, so that a turn within the
prompt would cut off the prefix (HunyuanVideo)."""


def encoder_layout(key: str) -> ClipChunks | Stream:
    """The row of an encoder's key.

    Raises:
        PrefixMismatchError: the encoder is unknown, or takes no vectors.
    """
    if key in CLOSED:
        raise PrefixMismatchError(
            f"ComfyUI's text encoder '{key}' takes words only, so that no prefix can enter it:"
            " use a checkpoint of a supported family."
        )
    if key not in ENCODER_LAYOUTS:
        raise PrefixMismatchError(
            f"Anonymize Faces does not know text encoder '{key}' yet and will not guess where a prefix goes:"
            " use a checkpoint of a supported family, or update the extension."
        )
    return ENCODER_LAYOUTS[key]


def key_of(attribute: str) -> str:
    """The key of the encoder that the host keeps under this attribute; the attribute itself if the table has none."""
    return next((key for key, row in ENCODER_LAYOUTS.items() if row.attribute == attribute), attribute)
