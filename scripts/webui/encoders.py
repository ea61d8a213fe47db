"""Tells which text encoders a checkpoint has in these hosts, and how they lay out words.

The hosts call what reads prompts an engine (Forge) or an embedder (Automatic1111). Whatever is not in the tables here
is refused: it would read prompts around the prefix.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ...prefix import ClipChunks, Frame, PrefixMismatchError, encoder_layout, inject, key_of
from ...prefix.injection.stream import Surroundings
from ...prefix.layers import LAST, Layer

ENGINES = ("ClassicTextProcessingEngine", "T5TextProcessingEngine")
"""Forge's classes; the first says itself which encoder it is, by ComfyUI's attribute for it."""

EMBEDDERS = {
    "FrozenOpenCLIPEmbedder2WithCustomWords": "g",
    "FrozenOpenCLIPEmbedderWithCustomWords": "h",
    "FrozenCLIPEmbedderForSDXLWithCustomWords": "l",
    "FrozenCLIPEmbedderWithCustomWords": "l",
}
"""Automatic1111's classes, with the encoders' keys; a class is found by the first of its own and its parents' names."""

OPEN_CLIP_LAYERS = {"last": LAST, "penultimate": -2}
"""Layers by the names that OpenCLIP's classes have for them, which they read whatever Clip skip says."""

T5 = "t5xxl"


@dataclass(frozen=True)
class WebUiEncoder:
    """A text encoder of the loaded checkpoint.

    Attributes:
        key: in a prefix.
        engine: the host's object.
        table: looks up the embeddings of words.
        fixes: the host's object whose `fixes` say where embeddings of the user's own stand; None if it takes none.
        network: a text model of transformers, of whose layers the host takes one; None if the host asks for none.
        fixed_layers: the layer that is read where the host asks for none, as `prefix.layers` counts; empty if nobody
            can say.
    """

    key: str
    engine: Any
    table: Module
    fixes: Any = None
    network: Any = None
    fixed_layers: tuple[Layer, ...] = ()

    @property
    def width(self) -> int:
        """Of its embeddings."""
        return getattr(self.table, "embedding_dim", None) or self.table.wrapped.embedding_dim

    @torch.no_grad()
    def rows(self, words: Sequence[int]) -> Tensor:
        """What the table has for numbers of words, `[n, d]`; what is put into prompts there is left out."""
        table = getattr(self.table, "wrapped", self.table)
        return table(torch.tensor(words, dtype=torch.long, device=table.weight.device))

    @property
    def is_clip(self) -> bool:
        """Whether it reads prompts in chunks of one length."""
        return isinstance(encoder_layout(self.key), ClipChunks)

    def frame(self, length: int | None = None) -> Frame:
        """What stands around the words in a chunk padded to that length, which is the host's own for None."""
        if self.is_clip:
            # Where padding is another token than the end, the host puts it in later.
            end = (self.engine.id_end, 1.0)
            return Frame(blank={self.key: [[(self.engine.id_start, 1.0), end, end]]})
        padded = self.engine.min_length if length is None else length
        return Frame(streams={self.key: Surroundings((), 1, self.engine.id_pad, 0, padded)})

    def cut(self, tokenize_line: Callable[[Any, str], tuple[list[Any], int]], line: str, room: int) -> Any:
        """The host's own chunks of a prompt, cut so that `room` vectors find room in each.

        Args:
            tokenize_line: the host's, which is called with the engine and the prompt.
        """
        if self.is_clip:
            # A copy, since other threads count the words of prompts with the same engine.
            smaller = copy.copy(self.engine)
            smaller.chunk_length = self.engine.chunk_length - room
            return tokenize_line(smaller, line)
        chunks, count = tokenize_line(self.engine, line)
        for chunk in chunks:
            padding = len(chunk.tokens) - 1 - max(n for n, t in enumerate(chunk.tokens) if t != self.engine.id_pad)
            missing = max(0, room - padding)
            chunk.tokens = [*chunk.tokens, *[self.engine.id_pad] * missing]
            chunk.multipliers = [*chunk.multipliers, *[1.0] * missing]
        return chunks, count

    def whole(self, tokens: Sequence[int], weights: Sequence[float]) -> tuple[list[int], list[float]]:
        """A row that was cut for a prefix, padded to the length that the encoder reads."""
        missing = max(0, self.engine.chunk_length + 2 - len(tokens)) if self.is_clip else 0
        return [*tokens, *[self.engine.id_end] * missing], [*weights, *[1.0] * missing]

    def require_room(self, vectors: Mapping[str, Tensor]) -> None:
        """Raises `PrefixMismatchError` if the prefix would leave no room for any prompt."""
        if self.is_clip:
            start, end = self.engine.id_start, self.engine.id_end
            blank = [(token, 1.0) for token in [start, *[end] * (self.engine.chunk_length + 1)]]
            inject({self.key: [blank]}, vectors, self.frame(), [self.key])


def encoder_of(engine: Any) -> WebUiEncoder:
    """What is known of an engine or embedder of the host.

    Raises:
        PrefixMismatchError: nothing is.
    """
    names = [cls.__name__ for cls in type(engine).__mro__]
    if ENGINES[0] in names:
        network = engine.text_encoder.transformer
        table = network.text_model.embeddings.token_embedding
        return WebUiEncoder(key_of(engine.embedding_key), engine, table, engine.embeddings, network)
    if ENGINES[1] in names:
        return WebUiEncoder(T5, engine, engine.text_encoder.shared, fixed_layers=(LAST,))
    key = next((EMBEDDERS[name] for name in names if name in EMBEDDERS), None)
    if key is None:
        raise PrefixMismatchError(
            f"Anonymize Faces does not know the text encoder {names[0]} yet and will not guess where a prefix goes: use"
            " a checkpoint of a supported family, or update the extension."
        )
    wrapped = engine.wrapped
    text_model = getattr(getattr(wrapped, "transformer", None), "text_model", None)
    if text_model is None:
        layer = OPEN_CLIP_LAYERS.get(getattr(wrapped, "layer", None))
        fixed = () if layer is None else (layer,)
        return WebUiEncoder(key, engine, wrapped.model.token_embedding, engine.hijack, fixed_layers=fixed)
    return WebUiEncoder(key, engine, text_model.embeddings.token_embedding, engine.hijack, wrapped.transformer)


def encoders_of(model: Any) -> dict[str, WebUiEncoder]:
    """The text encoders of the host's `sd_model`, by their keys.

    Raises:
        PrefixMismatchError: one of them is not known, or there is none.
    """
    engines = [value for name, value in vars(model).items() if name.startswith("text_processing_engine")]
    if not engines:
        parts = getattr(getattr(model, "conditioner", None), "embedders", None)
        if parts is None:
            parts = [part for part in [getattr(model, "cond_stage_model", None)] if part is not None]
            engines = parts
        else:
            engines = [part for part in parts if hasattr(part, "tokenize_line") or _reads_text(part)]
    if not engines:
        raise PrefixMismatchError(
            f"{type(model).__name__} has no text encoder that a prefix could enter: use a checkpoint of a supported"
            " family."
        )
    found = [encoder_of(engine) for engine in engines]
    return {encoder.key: encoder for encoder in found}


def _reads_text(part: Any) -> bool:
    return getattr(part, "input_key", None) == "txt"
