"""Has the text encoders of a host's CLIP make the vectors of a conditional prefix while they read a prompt.

The prompt comes with the vectors that are always the same, so that everything that asks whether it carries the
prefix asks as ever. Where the network inside an encoder is about to read them, it reads the prompt once without them,
the meta-network makes others of what it said, and those go in their place, and a neutral vector in that of each word of
a name that is found. What it then says is let through as far as the prompt's gate is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError
from ...prefix.injection.encoder_layouts import ClipChunks, encoder_layout
from ...prefix.injection.tokens import Tokens, words_alone
from ...prefix.meta_network import (
    Parameters,
    alignment,
    blended_by_row,
    made_vectors,
    network_of,
    positions_read,
)
from ...prefix.name_words import finds_names, names_found, neutral_embedding
from ..denoiser import PromptStates
from .plain_reading import Call, PlainReading, mapped, plain_reading, repeats
from .text_encoders import embedding_table, rows_of, scale_of_words

Look = Callable[[str, PromptStates], None]
"""Gets an encoder's key and what a meta-network reads, or would read, of one chunk of a prompt."""

FirstReading = Callable[[str, Tensor, Callable[[], Any]], Any]
"""Gets an encoder's key, embeddings `[1, length, d]` of a prompt without vectors, and what reads them. What depends on
nothing that is learned need not be read twice."""


def _read_anew(_: str, __: Tensor, read: Callable[[], Any]) -> Any:
    return read()


class PromptsRead(Counter):
    """How many prompts, or chunks of one, each encoder was given vectors for.

    Attributes:
        opened: how far the widest gate of those was open, 0 to 1, by encoder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[str, float] = {}

    @property
    def let_through(self) -> bool:
        """Whether any of their gates was open."""
        return any(self.opened.values())

    @property
    def acts(self) -> tuple[float, float]:
        """How far the prefix acts on what was read, 0 to 1, in the encoder in which it acts least, and most."""
        opened = [*self.opened.values()] or [1.0]
        return min(opened), max(opened)


@contextmanager
def vectors_made(
    encoders: Mapping[str, Any],
    parameters: Parameters,
    look: Look | None = None,
    first_reading: FirstReading = _read_anew,
    of_words: Collection[str] = (),
) -> Iterator[PromptsRead]:
    """Inside, prompts that come with the prefix's own vectors are read with those that are made for them.

    Differentiable in the parts of the meta-networks. Gives what was read so far. Afterwards the encoders are as before.

    Args:
        encoders: see `text_encoders`.
        parameters: as the encoders' networks want them, see `vectors_for`.
        look: called with what was read; then encoders without a meta-network are looked at as well.
        first_reading: reads a prompt that comes alone, or knows what was read of it.
        of_words: keys of encoders that are known to read words and nothing else, see `encoders_of_words`.

    Raises:
        PrefixMismatchError: an encoder's network cannot be watched, or says nothing that could be read.
    """
    made = PromptsRead()
    with ExitStack() as hooks:
        for key, encoder in encoders.items():
            network = network_of(parameters, key)
            if key not in parameters or (network is None and look is None):
                continue
            if not hasattr(encoder.transformer, "register_forward_pre_hook"):
                raise _unread(key)
            masks_padding = bool(getattr(encoder, "zero_out_masked", False))
            reads_words = key in of_words
            end = _end_of_prompts(key, encoder) if network is not None and finds_names(network) else None
            reading = _Reading(
                key, parameters[key], network, made, look, first_reading, masks_padding, reads_words, end
            )
            before = encoder.transformer.register_forward_pre_hook(reading.before, with_kwargs=True)
            hooks.callback(before.remove)
            hooks.callback(encoder.transformer.register_forward_hook(reading.after).remove)
        yield made


@contextmanager
def gates_watched(
    encoders: Mapping[str, Any], parameters: Parameters, of_words: Collection[str] = ()
) -> Iterator[PromptsRead]:
    """Inside, CLIPs that read prompts without vectors are asked how far a conditional prefix would act on these.

    Nothing that they say is changed. What cannot be told counts as acted on. Arguments as for `vectors_made`.
    """
    asked = PromptsRead()
    with ExitStack() as hooks:
        for key, encoder in encoders.items():
            network = network_of(parameters, key)
            if network is not None and isinstance(encoder_layout(key), ClipChunks):
                look = partial(_ask_gate, asked, key, parameters[key], network, key in of_words)
                hooks.callback(encoder.transformer.register_forward_hook(look, with_kwargs=True).remove)
        yield asked


@torch.no_grad()
def _ask_gate(
    asked: PromptsRead,
    key: str,
    always: Tensor,
    network: Mapping[str, Tensor],
    reads_words: bool,
    _: Any,
    __: tuple[Any, ...],
    kwargs: dict[str, Any],
    said: Any,
) -> None:
    embeds, states = kwargs.get("embeds"), said[0] if isinstance(said, tuple | list) else said
    opened = 1.0
    if isinstance(embeds, Tensor) and isinstance(states, Tensor) and states.shape[:2] == embeds.shape[:2]:
        after = torch.ones(len(embeds), dtype=torch.long, device=states.device)
        positions = positions_read(repeats(embeds).to(states.device), after)
        of_words = [reads_words] * len(embeds)
        gates = made_vectors(always.to(states.device), network, states, positions, of_words).gates
        opened = float(gates.nan_to_num(nan=1.0).max())
    asked.opened[key] = max(asked.opened.get(key, 0.0), opened)


def encoders_of_words(tokens: Tokens, vectors: Mapping[str, Tensor]) -> frozenset[str]:
    """Keys of the encoders for which a prompt's tokens are words and nothing else, but for the prefix's vectors."""
    return frozenset(
        key for key in tokens if key in vectors and all(words_alone(chunk, vectors[key]) for chunk in tokens[key])
    )


class _AllIsReadError(Exception):
    """Ends a reading of which nothing else is wanted."""


def states_read(
    encoders: Mapping[str, Any],
    parameters: Parameters,
    prompts: Sequence[Mapping[str, Any]],
    encode: Callable[[Any], Any],
) -> list[dict[str, PromptStates]]:
    """What meta-networks read of each prompt, by encoder, on the processor; embeddings as the table has them.

    Prompts are read together, as though their chunks were one long prompt's. The encoding ends where the last of them
    is read: what the prefix would make of the prompts is not waited for. An encoder that does not say enough of them
    is left out.

    Args:
        encoders, parameters: see `vectors_made`.
        prompts: tokens of each with the prefix, for the host's encoders; several where these read chunks apart.
        encode: the host's encoding of tokens.
    """
    tokens = {key: [chunk for prompt in prompts for chunk in prompt[key]] for key in prompts[0]}
    said: dict[str, list[PromptStates]] = {}

    def look(key: str, chunk: PromptStates) -> None:
        words = chunk.words / scale_of_words(encoders[key])
        said.setdefault(key, []).append(chunk._replace(words=words).cpu())
        if all(len(said.get(other, ())) >= len(chunks) for other, chunks in tokens.items() if other in parameters):
            raise _AllIsReadError

    with suppress(_AllIsReadError), vectors_made(encoders, parameters, look):
        encode(tokens)
    of_prompts: list[dict[str, PromptStates]] = [{} for _ in prompts]
    for key, chunks in said.items():
        if len(chunks) == len(tokens[key]):
            of_chunks = iter(chunks)
            for prompt, of_prompt in zip(prompts, of_prompts, strict=True):
                of_prompt[key] = PromptStates.joined([next(of_chunks) for _ in prompt[key]])
    return of_prompts


def require_made(made: Counter, tokens: Mapping[str, Any], parameters: Parameters) -> None:
    """Raises `PrefixMismatchError` unless every chunk of a prompt was read with vectors made for it.

    Args:
        made: what `vectors_made` gave.
        tokens: of the prompt, for the host's encoders.
    """
    for key, chunks in tokens.items():
        if network_of(parameters, key) is not None and made[key] < len(chunks):
            raise _unread(key)


class _Reading:
    """Reads rows of embeddings that hold the vectors that are always the same as a conditional prefix has them read."""

    def __init__(
        self,
        key: str,
        always: Tensor,
        network: Mapping[str, Tensor] | None,
        made: PromptsRead,
        look: Look | None,
        first_reading: FirstReading,
        masks_padding: bool,
        reads_words: bool,
        end: Tensor | None,
    ) -> None:
        self._key = key
        self._always = always
        self._network = network
        self._made = made
        self._look = look
        self._first_reading = first_reading
        self._is_first = False
        self._masks_padding = masks_padding
        self._reads_words = reads_words
        self._end = end
        self._let_through: tuple[Any, Tensor] | None = None

    def before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Puts the vectors that are made for each row in the place of those that came."""
        if self._is_first:
            return None
        self._let_through = None
        embeds = kwargs.get("embeds")
        if not isinstance(embeds, Tensor) or embeds.ndim != 3:
            return None
        rows, starts = places_of_vectors(embeds, self._always)
        if not len(rows):
            return None
        plain = plain_reading(
            Call(module, args, kwargs, rows, starts, len(self._always)),
            fixed_length=isinstance(encoder_layout(self._key), ClipChunks),
            masks_padding=self._masks_padding,
        )

        def read() -> Any:
            self._is_first = True
            try:
                return plain.read()
            finally:
                self._is_first = False

        is_known = len(embeds) == 1 and not plain.call.is_differentiated
        said = self._first_reading(self._key, plain.embeds.detach(), read) if is_known else read()
        states = said[0] if isinstance(said, tuple | list) else said
        if not isinstance(states, Tensor) or states.ndim != 3 or states.shape[:2] != plain.embeds.shape[:2]:
            raise _unread(self._key)
        positions = positions_read(plain.same_as_before[rows], starts) & ~plain.is_inner_padding[rows]
        self._made[self._key] += len(rows)
        if self._look is not None:
            for row, word, where in zip(states[rows], plain.embeds[rows], positions, strict=True):
                self._look(self._key, PromptStates(row[where].float(), word[where].float()))
        if self._network is None:
            return None
        of_words = [self._reads_words] * len(rows)
        vectors, gates = made_vectors(self._always.to(states.device), self._network, states[rows], positions, of_words)
        # What cannot be read is no reason to draw it unprotected.
        widest = float(gates.detach().nan_to_num(nan=1.0).max())
        self._made.opened[self._key] = max(self._made.opened.get(self._key, 0.0), widest)
        self._let_through = (
            plain.beside_the_call(said),
            torch.ones_like(states[:, 0, 0]).index_put((rows,), gates.to(states)),
        )
        unnamed = self._without_names(plain, states, positions)
        columns = starts[:, None] + torch.arange(len(self._always), device=embeds.device)
        replaced = unnamed.index_put((rows[:, None].expand_as(columns), columns), vectors.to(embeds))
        return args, {**kwargs, "embeds": replaced}

    def _without_names(self, plain: PlainReading, states: Tensor, positions: Tensor) -> Tensor:
        """What the encoder is called with, but for words of names, in whose place the neutral one stands."""
        call, network = plain.call, self._network
        if network is None or not finds_names(network):
            return call.embeds
        found = names_found(network, states[call.rows], plain.embeds[call.rows].detach(), positions, self._end)
        length, device = call.embeds.shape[1], call.embeds.device
        places = alignment(length, call.starts, call.count, plain.last).to(found.device)
        behind = torch.arange(length, device=device) - call.starts[:, None]
        among_vectors = (behind >= 0) & (behind < call.count)
        row, column = (found.gather(1, places).to(device) & ~among_vectors).nonzero(as_tuple=True)
        neutral = neutral_embedding({name: part.to(device) for name, part in network.items()}).to(call.embeds)
        return call.embeds.index_put((call.rows[row], column), neutral.expand(len(row), -1))

    def after(self, _: Any, __: Any, output: Any) -> Any:
        """Lets as much through as the gate says."""
        if self._is_first or self._let_through is None:
            return None
        (said, gates), self._let_through = self._let_through, None
        return mapped(lambda protected, plain: blended_by_row(plain, protected, gates), output, said)


def _end_of_prompts(key: str, encoder: Any) -> Tensor | None:
    """What stands behind the words of each chunk of a CLIP, `[d]`; others have nothing that must stay in its place."""
    layout = encoder_layout(key)
    return rows_of(embedding_table(encoder), [layout.end])[0] if isinstance(layout, ClipChunks) else None


def places_of_vectors(embeds: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a batch of embeddings `[n, length, d]` that hold all vectors `[m, d]`, and where they begin."""
    if embeds.shape[1] < len(vectors) or embeds.shape[2] != vectors.shape[1]:
        nothing = torch.zeros(0, dtype=torch.long, device=embeds.device)
        return nothing, nothing
    vectors = vectors.detach().to(embeds)
    holding = (embeds[:, : embeds.shape[1] - len(vectors) + 1] == vectors[0]).all(2)
    rows, starts = holding.nonzero(as_tuple=True)
    found = embeds.detach()[rows[:, None], starts[:, None] + torch.arange(len(vectors), device=embeds.device)]
    holding[rows, starts] = (found == vectors).all(2).all(1)
    rows = holding.any(1).nonzero().flatten()
    return rows, holding[rows].long().argmax(1)


def _unread(key: str) -> PrefixMismatchError:
    return PrefixMismatchError(
        f"Text encoder '{key}' does not say what this prefix needs to know of a prompt, so the picture would not be"
        " protected: connect the CLIP of a checkpoint straight to Anonymize Faces, or use a prefix that was learned"
        " with 'conditional' off."
    )
