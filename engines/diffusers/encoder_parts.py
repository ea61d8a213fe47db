"""Places prefix vectors in one text encoder of a pipeline, with its tokenizer, and names weights as ComfyUI does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...prefix import ClipChunks, encoder_layout
from ...prefix.errors import PrefixMismatchError
from ...prefix.injection.inject import inject_text
from ...prefix.injection.placing import STAND_IN, put_in
from ...prefix.injection.tokens import (
    Chunk,
    Entry,
    embeddings_of,
    place_of_rows,
    same_as_before,
    with_rows,
    without_rows,
    words_alone,
)
from ...prefix.meta_network import (
    Made,
    Parameters,
    alignment,
    at_places,
    blended_by_row,
    made_vectors,
    network_of,
    positions_read,
)
from ...prefix.name_words import names_found, without_names
from ...runs.weights import device_of, weights_of
from ..denoiser import PromptStates
from ..options import READ_AT_ONCE
from .pipeline_families import STREAM

NONE: Parameters = MappingProxyType({})
"""The parameters of no prefix."""

T5_TABLE_AGAIN = "encoder.embed_tokens.weight"
"""A second name of T5's table of words."""


class TextOutput(NamedTuple):
    """What a text encoder makes of chunks of one length.

    Attributes:
        last: states after the last layer and its norm, `[n, length, d]`.
        hidden: states after each layer, the embeddings first; empty for a stream.
        pooled: what the encoder calls its pooled output, `[n, d]`; None for a stream.
    """

    last: Tensor
    hidden: tuple[Tensor, ...]
    pooled: Tensor | None


@dataclass(frozen=True)
class Part:
    """One text encoder of a pipeline.

    Attributes:
        key: the encoder's key in a prefix.
        tokenizer: of transformers.
        model: of transformers: a CLIP text model, or a T5 encoder.
        argument: the pipeline's argument for this encoder's prompt.
        length: to which a stream's prompts are padded.
    """

    key: str
    tokenizer: Any
    model: Any
    argument: str
    length: int

    @property
    def is_stream(self) -> bool:
        """Whether a prompt is read at once, whatever its length, and not in chunks."""
        return self.key == STREAM

    @property
    def table(self) -> torch.nn.Embedding:
        """The embeddings of the words."""
        return self.model.get_input_embeddings()

    def chunks(self, text: str) -> list[list[Entry]]:
        """The text's tokens, laid out as `inject` takes them: no word is cut off, however long the text is."""
        words = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        tokenizer = self.tokenizer
        if self.is_stream:
            padding = [tokenizer.pad_token_id] * (self.length - len(words) - 1)
            return [[*((word, 1.0, 1) for word in words), *_marks(tokenizer.eos_token_id, *padding)]]
        room = self.room
        payloads = [words[start : start + room] for start in range(0, len(words), room)] or [[]]
        return [
            [
                *_marks(tokenizer.bos_token_id),
                *((word, 1.0, 1) for word in payload),
                *_marks(tokenizer.eos_token_id, *[tokenizer.pad_token_id] * (room - len(payload))),
            ]
            for payload in payloads
        ]

    def count_words(self, chunk: Chunk) -> int:
        """Words of a prompt in one of `chunks`."""
        return sum(entry[2] != 0 for entry in chunk)

    @property
    def room(self) -> int:
        """Words that a chunk of a CLIP has room for."""
        return self.model.config.max_position_embeddings - 2

    @torch.no_grad()
    def rows(self, words: Sequence[int]) -> Tensor:
        """What the table of words has for their numbers, `[n, d]` float32 on the CPU."""
        return self.table(torch.tensor(words, dtype=torch.long, device=device_of(self.table))).float().cpu()

    def protected(
        self, text: str, vectors: Mapping[str, Tensor] | None, embedding: Mapping[str, Tensor] | None = None
    ) -> Sequence[Chunk]:
        """`chunks`, with the prefix in each of them if there is one, and an embedding behind it; see `inject_text`.

        Raises:
            PrefixMismatchError: it lacks vectors for this encoder, or leaves no room for a prompt.
        """
        if vectors is None and embedding is None:
            return self.chunks(text)
        return inject_text(lambda words: {self.key: self.chunks(words)}, text, vectors, [self.key], embedding)[self.key]

    def lengthened(self, chunks: Sequence[Chunk], like: Sequence[Chunk], vectors: Mapping[str, Tensor] | None) -> list:
        """The chunks, as many and as long as others: with blank ones, which carry the prefix, or with padding."""
        if self.is_stream:
            missing = len(like[0]) - len(chunks[0])
            return [[*chunks[0], *_marks(*[self.tokenizer.pad_token_id] * missing)]]
        return [*chunks, *list(self.protected("", vectors)) * (len(like) - len(chunks))]

    def read(self, chunks: Sequence[Chunk], parameters: Parameters = NONE) -> TextOutput:
        """What the encoder makes of chunks of one length; differentiable in the vectors among the tokens.

        Args:
            parameters: of a prefix whose vectors are among them; a conditional one's are made anew for each chunk.

        Raises:
            PrefixMismatchError: vectors are to be made for a chunk that does not carry the prefix.
        """
        network = network_of(parameters, self.key)
        if network is None:
            return self._read(chunks)
        always = parameters[self.key]
        starts = self._starts(chunks, always)
        plain, words, positions = self._read_without(chunks, starts, len(always))
        made = self._made(chunks, always, network, plain, positions)
        if not bool((made.gates != 0).any()):
            return plain
        found = names_found(network, plain.last, words, positions, self.rows([self.tokenizer.eos_token_id])[0])
        protected = self._read(
            [
                with_rows(without_names(network, chunk, names, start, len(always)), start, rows)
                for chunk, start, names, rows in zip(chunks, starts, found, made.vectors, strict=True)
            ]
        )
        places = alignment(len(chunks[0]), torch.tensor(starts), len(always), len(chunks[0]) - 1)
        return _let_through(plain, protected, places, made.gates)

    def lets_by(self, plain: Sequence[Chunk], carrying: Sequence[Chunk], parameters: Parameters) -> bool:
        """Whether a conditional prefix does nothing to a CLIP's chunks, of the same words without it and with it.

        The gate is asked of both: a name across the border of two chunks is whole in one of the others.

        Raises:
            PrefixMismatchError: one does not carry it that should.
        """
        network = network_of(parameters, self.key)
        if network is None or self.is_stream:
            return False
        always = parameters[self.key]
        for chunks, starts, count in (
            (plain, [1] * len(plain), 0),
            (carrying, self._starts(carrying, always), len(always)),
        ):
            said, _, positions = self._read_without(chunks, starts, count)
            if bool((self._made(chunks, always, network, said, positions).gates != 0).any()):
                return False
        return True

    def _made(
        self,
        chunks: Sequence[Chunk],
        always: Tensor,
        network: Mapping[str, Tensor],
        plain: TextOutput,
        positions: Tensor,
    ) -> Made:
        of_words = self._are_words(chunks, always)
        return made_vectors(always.to(plain.last.device), network, plain.last, positions, of_words)

    def states_read(self, chunks: Sequence[Chunk], parameters: Parameters) -> list[PromptStates]:
        """What a meta-network reads of each chunk; they must carry the prefix.

        Raises:
            PrefixMismatchError: one does not.
        """
        always = parameters[self.key]
        alike: dict[int, list[int]] = defaultdict(list)
        for place, chunk in enumerate(chunks):
            alike[len(chunk)].append(place)
        said: dict[int, PromptStates] = {}
        for places in alike.values():
            for begin in range(0, len(places), READ_AT_ONCE):
                some = places[begin : begin + READ_AT_ONCE]
                read = [chunks[place] for place in some]
                plain, words, positions = self._read_without(read, self._starts(read, always), len(always))
                for row, place in enumerate(some):
                    where = positions[row]
                    said[place] = PromptStates(plain.last[row][where].float(), words[row][where])
        return [said[place] for place in range(len(chunks))]

    def _are_words(self, chunks: Sequence[Chunk], always: Tensor) -> list[bool]:
        """Whether each chunk holds words and nothing else; a user's embedding is a word that was added."""
        added = {number for number, token in self.tokenizer.added_tokens_decoder.items() if not token.special}
        return [
            words_alone(chunk, always) and added.isdisjoint(token for token, *_ in chunk if isinstance(token, int))
            for chunk in chunks
        ]

    def _starts(self, chunks: Sequence[Chunk], always: Tensor) -> list[int]:
        """Where the vectors begin in each chunk."""
        starts = [start for chunk in chunks if (start := place_of_rows(chunk, always)) is not None]
        if len(starts) < len(chunks):
            raise PrefixMismatchError(
                f"Part of a prompt for text encoder '{self.key}' does not carry the prefix, so the picture would not be"
                " protected: give the prompt as text."
            )
        return starts

    def _read_without(
        self, chunks: Sequence[Chunk], starts: Sequence[int], count: int
    ) -> tuple[TextOutput, Tensor, Tensor]:
        """What the encoder makes of chunks without the prefix, the embeddings that it reads for that, `[n, length, d]`,
        and which positions a meta-network reads, `[n, length]`.

        Differentiable in the vectors of a user's embedding alone.
        """
        pad = self.tokenizer.pad_token_id
        without = [without_rows(chunk, start, count, pad) for chunk, start in zip(chunks, starts, strict=True)]
        others = [entry[0] for chunk in without for entry in chunk if isinstance(entry[0], Tensor)]
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(row.requires_grad for row in others)):
            plain = self._read(without)
        numbers = [[None if isinstance(entry[0], Tensor) else int(entry[0]) for entry in chunk] for chunk in without]
        device = plain.last.device
        same = torch.tensor([same_as_before(row) for row in numbers], device=device)
        words = torch.stack([embeddings_of(chunk, self.rows) for chunk in without]).to(device)
        return plain, words, positions_read(same, torch.tensor(starts, device=device))

    def _read(self, chunks: Sequence[Chunk]) -> TextOutput:
        device = device_of(self.table)
        words = [[STAND_IN if isinstance(entry[0], Tensor) else int(entry[0]) for entry in chunk] for chunk in chunks]
        numbers = torch.tensor(words, device=device)
        places = [
            (row, column, entry[0])
            for row, chunk in enumerate(chunks)
            for column, entry in enumerate(chunk)
            if isinstance(entry[0], Tensor)
        ]
        with put_in(self.table, places):
            if self.is_stream:
                return TextOutput(self.model(inputs_embeds=self.table(numbers)).last_hidden_state, (), None)
            output = self.model(numbers, output_hidden_states=True)
        pooled = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
        return TextOutput(output.last_hidden_state, tuple(output.hidden_states), pooled)


def _let_through(plain: TextOutput, protected: TextOutput, places: Tensor, gates: Tensor) -> TextOutput:
    """What is said with vectors, by the gates; what is said without stands beside it at these places."""

    def blended(one: Tensor, other: Tensor) -> Tensor:
        return blended_by_row(at_places(one, places), other, gates)

    return TextOutput(
        blended(plain.last, protected.last),
        tuple(blended(*pair) for pair in zip(plain.hidden, protected.hidden, strict=True)),
        None
        if plain.pooled is None or protected.pooled is None
        else blended_by_row(plain.pooled, protected.pooled, gates),
    )


def _marks(*tokens: int) -> list[Entry]:
    """Entries that are no words."""
    return [(token, 1.0, 0) for token in tokens]


def host_names(encoders: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of text encoders under the names that they have in ComfyUI, which fingerprints are of.

    Args:
        encoders: of transformers, by their keys in a prefix.
    """
    found = {}
    for key, model in encoders.items():
        row = encoder_layout(key)
        for name, weight in weights_of(model).items():
            if isinstance(row, ClipChunks):
                # Newer versions of transformers leave this word out.
                name = f"text_model.{name.removeprefix('text_model.')}"
            if name != T5_TABLE_AGAIN:
                found[f"{row.attribute}.transformer.{name}"] = weight
    return found
