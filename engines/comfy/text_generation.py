"""Puts questions to the host's language models, where a CLIP is one: newer hosts let these write text.

Whether a CLIP sees a picture is witnessed, not inferred: the picture must be among the tokens that it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...prefix.errors import DescriptionError, first_line

NOT_HERE = (
    "This text encoder writes no text: connect a vision language model, such as Qwen2.5-VL or Qwen3-VL loaded as a text"
    " encoder, in a ComfyUI that has the node Generate Text."
)
SEES_NOTHING = (
    "This text encoder reads no pictures: connect a vision language model, such as Qwen3-VL or Gemma 3 with its vision"
    " part, loaded as a text encoder."
)


def require_text_generation(clip: Any) -> None:
    """Raises `DescriptionError` if this host, or this CLIP, cannot write text."""
    inner = getattr(clip, "cond_stage_model", None)
    if not all(callable(getattr(clip, name, None)) for name in ("tokenize", "generate", "decode")):
        raise DescriptionError(NOT_HERE)
    if not callable(getattr(inner, "generate", None)):
        raise DescriptionError(NOT_HERE)


def asking(clip: Any, check: Callable[[], None] = lambda: None) -> Callable[[str, np.ndarray | None, int], str]:
    """Puts questions to a CLIP, which answers by greedy decoding.

    Args:
        clip: the host's; it is left as it is.
        check: called before each question; may raise to stop.

    Returns:
        Takes a question, a picture uint8 [height, width, 3] or None, and how many tokens the answer may have at most.

    Raises:
        DescriptionError: as `require_text_generation`; when asked, also if it does not see the picture, or fails.
    """
    require_text_generation(clip)

    def ask(question: str, picture: np.ndarray | None, most_tokens: int) -> str:
        check()
        try:
            with torch.inference_mode():
                tokens = _tokens(clip, question, picture)
                written = clip.generate(tokens, do_sample=False, max_length=most_tokens, seed=0)
                return str(clip.decode(written))
        except DescriptionError:
            raise
        except (
            RuntimeError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            IndexError,
            NotImplementedError,
        ) as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise
            raise DescriptionError(
                f"This text encoder could not answer ({first_line(error)}): try another vision language model."
            ) from error

    return ask


def _tokens(clip: Any, question: str, picture: np.ndarray | None) -> Any:
    if picture is None:
        return clip.tokenize(question, min_length=1, thinking=False)
    image = torch.from_numpy(picture.astype(np.float32) / 255)[None]
    # The host's own node says `image`; tokenizers that edit pictures say `images`.
    for given in ({"image": image}, {"images": [image]}):
        tokens = clip.tokenize(question, min_length=1, thinking=False, **given)
        if any(_is_picture(token) for token in _each(tokens)):
            return tokens
    raise DescriptionError(SEES_NOTHING)


def _each(tokens: Any) -> Iterator[Any]:
    """The tokens without their weights."""
    for chunks in tokens.values() if isinstance(tokens, Mapping) else ():
        for chunk in chunks if isinstance(chunks, Sequence) else ():
            yield from (entry[0] for entry in chunk if isinstance(entry, tuple | list) and entry)


def _is_picture(token: Any) -> bool:
    return isinstance(token, Mapping) and token.get("type") == "image"
