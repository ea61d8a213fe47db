"""Encodes the prompts of a pipeline, of any length, with a prefix.

What the states of several text encoders become together is what the pipelines of diffusers make of them; a prompt of
more than one chunk becomes as many conditionings side by side, as in ComfyUI.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...prefix.errors import PrefixMismatchError
from ...prefix.injection.inject import require_fit
from ...prefix.injection.tokens import Chunk
from ...prefix.layers import Layer, layer_of, layers_by_training, listed, require_layers
from ...prefix.meta_network import Parameters
from ...prefix.value import Prefix, PrefixRecord
from ..denoiser import PromptStates
from .encoder_parts import NONE, Part, TextOutput
from .pipeline_families import FLUX, SD1, SD2, SD3, STREAM, pipeline_family

PromptTokens = dict[str, Sequence[Chunk]]
"""A prompt's chunks for each encoder."""


class Encoded(NamedTuple):
    """A prompt as the denoiser takes it: states `[1, length, d]`, and the pooled output `[1, d]` if it wants one."""

    states: Tensor
    pooled: Tensor | None


class PromptEncoder:
    """A pipeline's own tokenizers and text encoders.

    Args:
        pipeline: of diffusers.
        length: tokens to which prompts of a stream are padded; the pipeline's usual number if it is None.

    Raises:
        PrefixMismatchError: the pipeline's family is unknown, or it lacks a text encoder.
    """

    def __init__(self, pipeline: Any, length: int | None = None) -> None:
        self.family = pipeline_family(pipeline)
        self._pipeline = pipeline
        self.parts: dict[str, Part] = {}
        for key, tokenizer, model, argument in self.family.parts:
            found = getattr(pipeline, model, None)
            if found is not None:
                stretch = self.family.length if length is None else length
                self.parts[key] = Part(key, getattr(pipeline, tokenizer), found, argument, stretch)
            elif not self._can_do_without(key):
                raise PrefixMismatchError(
                    f"This pipeline has no '{model}', so that prompts cannot be encoded: load it with all of its parts."
                )

    def require_fit(self, vectors: Mapping[str, Tensor]) -> None:
        """Raises `PrefixMismatchError` unless the prefix serves every text encoder."""
        require_fit(vectors, {key: part.table.embedding_dim for key, part in self.parts.items()})

    def tokens(
        self,
        prompts: str | Mapping[str, str],
        vectors: Mapping[str, Tensor] | None = None,
        embedding: Mapping[str, Tensor] | None = None,
    ) -> PromptTokens:
        """A prompt's chunks, with the prefix in each.

        Args:
            prompts: one text for all encoders, or one for each by key.
            vectors: of the prefix.
            embedding: see `Denoiser.encode`.

        Raises:
            PrefixMismatchError: the prefix lacks vectors for an encoder, or leaves no room for a prompt.
        """
        found: PromptTokens = {}
        for key, part in self.parts.items():
            text = prompts if isinstance(prompts, str) else prompts[key]
            convert = getattr(self._pipeline, "maybe_convert_prompt", None)
            words = text if convert is None else convert(text, part.tokenizer)
            found[key] = part.protected(words, vectors, embedding)
        return self.leveled([found], vectors)[0]

    def blank(self, length: int, vectors: Mapping[str, Tensor] | None) -> PromptTokens:
        """The tokens of a prompt without words whose states are so long.

        Raises:
            PrefixMismatchError: there is no such length.
        """
        empty = self.tokens("", vectors)
        stream = 0 if STREAM not in empty else length if self.family is FLUX else len(empty[STREAM][0])
        if self.family is SD3 and STREAM not in empty:
            stream = self.family.length  # Zeros stand where its states would.
        clip = next(chunks[0] for key, chunks in empty.items() if key != STREAM)
        count, rest = (1, 0) if self.family is FLUX else divmod(length - stream, len(clip))
        if count < 1 or rest or (STREAM in empty and stream < len(empty[STREAM][0])):
            raise PrefixMismatchError(
                f"No prompt of this pipeline is {length} tokens long, as these embeddings are: give the prompt as text."
            )
        like: dict[str, Sequence[Chunk]] = {key: [[()] * stream] if key == STREAM else [clip] * count for key in empty}
        return {key: self.parts[key].lengthened(chunks, like[key], vectors) for key, chunks in empty.items()}

    def leveled(
        self,
        prompts: Sequence[PromptTokens],
        vectors: Mapping[str, Tensor] | None,
        without: Collection[int] = (),
    ) -> list[PromptTokens]:
        """Prompts of one length, so that they can be drawn in one batch; what is added says nothing.

        All CLIPs of all prompts get equally many chunks, and all streams are equally long.

        Args:
            vectors: of the prefix that they carry.
            without: places of those that carry none.
        """
        clips = max((chunks for p in prompts for key, chunks in p.items() if key != STREAM), key=len, default=[])
        streams = max((p[STREAM] for p in prompts if STREAM in p), key=lambda chunks: len(chunks[0]), default=[])
        return [
            {
                key: self.parts[key].lengthened(
                    chunks, streams if key == STREAM else clips, None if place in without else vectors
                )
                for key, chunks in prompt.items()
            }
            for place, prompt in enumerate(prompts)
        ]

    def lets_by(self, prompt: str | Mapping[str, str], prefix: Prefix) -> bool:
        """Whether a prefix does nothing to a prompt that it would have read in other chunks; False where it would not.

        Of streams, which are read as they are, it is not asked: a pipeline with one reads all prompts with the prefix.

        Args:
            prompt: one text for all encoders, or one for each by key.
        """
        if not prefix.is_conditional or STREAM in self.parts:
            return False
        plain, carrying = self.tokens(prompt), self.tokens(prompt, prefix.vectors)
        is_cut_otherwise = any(
            part.count_words(chunk) > part.room - prefix.length
            for key, part in self.parts.items()
            for chunk in plain[key]
        )
        return is_cut_otherwise and all(
            part.lets_by(plain[key], carrying[key], prefix.parameters) for key, part in self.parts.items()
        )

    def encode(
        self,
        prompts: Sequence[PromptTokens],
        skip: int | None = None,
        parameters: Parameters | None = None,
        without: Collection[int] = (),
    ) -> list[Encoded]:
        """Encodes prompts; differentiable in vectors among their tokens, and in the parts of meta-networks.

        Args:
            prompts: see `tokens`.
            skip: layers of the CLIPs to leave out, as the pipelines' `clip_skip` counts them.
            parameters: of the prefix that is in the tokens; None if there is none.
            without: places of prompts that do not carry it.
        """
        carrying = [place for place in range(len(prompts)) if place not in without]
        read: dict[str, dict[int, TextOutput]] = {key: {} for key in self.parts}
        for key, part in self.parts.items():
            for places, by in ((carrying, parameters or NONE), (sorted(without), NONE)):
                outputs = self._read(part, [prompts[place][key] for place in places], by)
                read[key].update(zip(places, outputs, strict=True))
        return [self._joined({key: outputs[i] for key, outputs in read.items()}, skip) for i in range(len(prompts))]

    def states_read(self, prompts: Sequence[PromptTokens], parameters: Parameters) -> list[dict[str, PromptStates]]:
        """What meta-networks read of each prompt, by encoder; they must carry the prefix."""
        of_prompts: list[dict[str, PromptStates]] = [{} for _ in prompts]
        for key, part in self.parts.items():
            of_chunks = iter(part.states_read([chunk for prompt in prompts for chunk in prompt[key]], parameters))
            for prompt, said in zip(prompts, of_prompts, strict=True):
                said[key] = PromptStates.joined([next(of_chunks).cpu() for _ in prompt[key]])
        return of_prompts

    def layers(self, skip: int | None = None) -> dict[str, Layer]:
        """The layer that each text encoder is read at, as `prefix.layers` counts them.

        An encoder that gives the denoiser nothing but its pooled output is read at its usual one whatever is skipped.

        Args:
            skip: as for `encode`.
        """
        usual = layers_by_training(self.parts)
        index = -1 - (skip or 0) if self.family in (SD1, SD2) else -2 - (skip or 0)
        return {
            key: usual[key]
            if key == STREAM or self.family is FLUX
            else layer_of(index, part.model.config.num_hidden_layers, key)
            for key, part in self.parts.items()
        }

    def require_layers(self, record: PrefixRecord, skip: Any) -> None:
        """Raises `PrefixMismatchError` unless the prefix was learned at the layers that are left when skipping."""
        if skip is not None and (not isinstance(skip, int) or isinstance(skip, bool)):
            raise PrefixMismatchError(f"'clip_skip' is {skip!r}: give a whole number, or None.")
        offset = 1 if self.family in (SD1, SD2) else 2
        offset += 1 if self.family is SD2 and self.layers()["h"] != -1 else 0

        def remedy(layers: Sequence[int]) -> str:
            skips = [-layer - offset for layer in layers if -layer >= offset]
            if not skips:
                return "leave 'clip_skip' out"
            return "give 'clip_skip' as " + listed([str(n) if n else "None" for n in skips], "or")

        require_layers(record, self.layers(skip), layers_by_training(self.parts), remedy)

    def _can_do_without(self, key: str) -> bool:
        return (self.family is SD3 and key == STREAM) or (self.family.name == "sdxl" and key == "l")

    def _read(self, part: Part, prompts: Sequence[Sequence[Chunk]], parameters: Parameters) -> list[TextOutput]:
        """The outputs for each prompt's chunks; those of one length are read in one go."""
        flat = [chunk for chunks in prompts for chunk in chunks]
        by_length: dict[int, list[int]] = {}
        for index, chunk in enumerate(flat):
            by_length.setdefault(len(chunk), []).append(index)
        rows: dict[int, TextOutput] = {}
        for indices in by_length.values():
            output = part.read([flat[index] for index in indices], parameters)
            for row, index in enumerate(indices):
                rows[index] = TextOutput(
                    output.last[row : row + 1],
                    tuple(states[row : row + 1] for states in output.hidden),
                    None if output.pooled is None else output.pooled[row : row + 1],
                )
        found, start = [], 0
        for chunks in prompts:
            mine = [rows[index] for index in range(start, start + len(chunks))]
            start += len(chunks)
            found.append(
                TextOutput(
                    torch.cat([row.last for row in mine], dim=1),
                    tuple(torch.cat(states, dim=1) for states in zip(*(row.hidden for row in mine), strict=True)),
                    mine[0].pooled,
                )
            )
        return found

    def _joined(self, outputs: Mapping[str, TextOutput], skip: int | None) -> Encoded:
        clips = [output for key, output in outputs.items() if key != STREAM]
        if self.family in (SD1, SD2):
            return Encoded(self._last(clips[0], skip), None)
        if self.family is FLUX:
            return Encoded(outputs[STREAM].last, clips[0].pooled)
        states = torch.cat([output.hidden[-2 - (skip or 0)] for output in clips], dim=-1)
        if self.family is not SD3:
            return Encoded(states, clips[-1].pooled)
        width = self._pipeline.transformer.config.joint_attention_dim
        states = torch.nn.functional.pad(states, (0, width - states.shape[-1]))
        stream = outputs[STREAM].last if STREAM in outputs else states.new_zeros(1, self.family.length, width)
        pooled = torch.cat([output.pooled for output in clips], dim=-1)
        return Encoded(torch.cat([states, stream.to(states)], dim=1), pooled)

    def _last(self, output: TextOutput, skip: int | None) -> Tensor:
        if skip is None:
            return output.last
        model = next(iter(self.parts.values())).model
        return getattr(model, "text_model", model).final_layer_norm(output.hidden[-1 - skip])
