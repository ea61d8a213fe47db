"""Reads prompts as Automatic1111 and Forge do: a small stand-in.

Both hosts cut a prompt into chunks with one method and encode each with another, keep embeddings of the user's own
aside as *fixes*, and put them in where words are looked up. The text models are real ones of transformers, built small.
The real Forge is what `tests/forge` runs against.
"""

from __future__ import annotations

import re
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import torch

from anonymize_faces.prefix import Prefix
from anonymize_faces.tests.support import pipelines
from anonymize_faces.tests.support.prefixes import random_prefix

Fix = namedtuple("Fix", ["offset", "embedding"])

WIDTHS = {"l": pipelines.L, "g": pipelines.G, "h": pipelines.H, "t5xxl": pipelines.T5}
FAMILIES = {"sd1": ("l",), "sd2": ("h",), "sdxl": ("g", "l"), "flux": ("l", "t5xxl")}


class Chunk:
    """What the hosts make of part of a prompt."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.multipliers: list[float] = []
        self.fixes: list[Fix] = []


class Embeddings:
    """Keeps the user's own embeddings by the word that stands for them, and the fixes of what is being encoded."""

    def __init__(self) -> None:
        self.fixes: Any = None
        self.by_word: dict[str, torch.Tensor] = {}


class Table(torch.nn.Module):
    """Looks up words, and puts the fixes in."""

    def __init__(self, wrapped: torch.nn.Embedding, holder: Embeddings) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.holder = holder

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        fixes, self.holder.fixes = self.holder.fixes, None
        rows = list(self.wrapped(tokens))
        for number, fixed in enumerate(fixes or ()):
            for offset, embedding in fixed:
                vectors = embedding.vec["clip_l"] if isinstance(embedding.vec, dict) else embedding.vec
                count = min(len(rows[number]) - offset - 1, len(vectors))
                after = rows[number][offset + 1 + count :]
                rows[number] = torch.cat([rows[number][: offset + 1], vectors[:count], after])
        return torch.stack(rows)


class TextModel(torch.nn.Module):
    """A text model whose parts have the names that older versions of transformers give them."""

    def __init__(self, key: str, holder: Embeddings) -> None:
        super().__init__()
        self.text_model = pipelines.clip(WIDTHS[key], hidden_act="quick_gelu" if key == "l" else "gelu")
        self.config = self.text_model.config
        parts = self.text_model.embeddings
        parts.token_embedding = Table(parts.token_embedding, holder)

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.text_model(input_ids=tokens, output_hidden_states=True)


class Reader(torch.nn.Module):
    """What the classes of both hosts have in common."""

    chunk_length = 75

    def __init__(self, key: str, holder: Embeddings, pooled: bool) -> None:
        super().__init__()
        tokenizer = pipelines.clip_tokenizer() if key == "l" else pipelines.exclaiming_tokenizer()
        self.read_by = TextModel(key, holder)
        self.holder, self.tokenizer, self.return_pooled = holder, tokenizer, pooled
        self.id_start, self.id_end, self.id_pad = 49406, 49407, 49407 if key == "l" else 0
        self.comma_token = tokenizer.get_vocab()[",</w>"]
        self.weighted: list[list[list[float]]] = []

    def empty_chunk(self) -> Chunk:
        chunk = Chunk()
        chunk.tokens = [self.id_start, *[self.id_end] * (self.chunk_length + 1)]
        chunk.multipliers = [1.0] * (self.chunk_length + 2)
        return chunk

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        chunks, chunk, comma, count = [], Chunk(), -1, 0

        def close() -> None:
            nonlocal chunk, comma
            missing = self.chunk_length - len(chunk.tokens)
            chunk.tokens = [self.id_start, *chunk.tokens, *[self.id_end] * missing, self.id_end]
            chunk.multipliers = [1.0, *chunk.multipliers, *[1.0] * missing, 1.0]
            chunks.append(chunk)
            chunk, comma = Chunk(), -1

        for text, weight in weighted_parts(line):
            if text == "BREAK" and weight == -1:
                close()
                continue
            for word in re.findall(r"\S+", text):
                if word in self.holder.by_word:
                    vectors = self.holder.by_word[word]
                    length = len(vectors["clip_l"] if isinstance(vectors, dict) else vectors)
                    if len(chunk.tokens) + length > self.chunk_length:
                        close()
                    embedding = SimpleNamespace(name=word, vec=vectors, vectors=length)
                    chunk.fixes.append(Fix(len(chunk.tokens), embedding))
                    chunk.tokens += [0] * length
                    chunk.multipliers += [weight] * length
                    continue
                for token in self.tokenizer(word, add_special_tokens=False)["input_ids"]:
                    count += 1
                    if token == self.comma_token:
                        comma = len(chunk.tokens)
                    elif len(chunk.tokens) == self.chunk_length and 0 <= len(chunk.tokens) - comma <= 20 and comma >= 0:
                        moved = chunk.tokens[comma + 1 :], chunk.multipliers[comma + 1 :]
                        del chunk.tokens[comma + 1 :], chunk.multipliers[comma + 1 :]
                        close()
                        chunk.tokens, chunk.multipliers = moved
                    if len(chunk.tokens) == self.chunk_length:
                        close()
                    chunk.tokens.append(token)
                    chunk.multipliers.append(weight)
        if chunk.tokens or not chunks:
            close()
        return chunks, count

    def forward(self, texts: list[str]) -> Any:
        lines = [self.tokenize_line(text)[0] for text in texts]
        states = []
        for number in range(max(map(len, lines))):
            chunks = [line[number] if number < len(line) else self.empty_chunk() for line in lines]
            self.holder.fixes = [chunk.fixes for chunk in chunks]
            states.append(
                self.process_tokens([chunk.tokens for chunk in chunks], [chunk.multipliers for chunk in chunks])
            )
        return (torch.hstack(states), states[0].pooled) if self.return_pooled else torch.hstack(states)

    def process_tokens(self, tokens: list[list[int]], multipliers: list[list[float]]) -> torch.Tensor:
        self.weighted.append(multipliers)
        padded = torch.tensor(tokens)
        for row, given in zip(padded, tokens, strict=True):
            row[given.index(self.id_end) + 1 :] = self.id_pad
        output = self.read_by(padded)
        states = self.taken(output)
        weighted = states * torch.tensor(multipliers)[..., None]
        if self.return_pooled:
            weighted.pooled = output.pooler_output
        return weighted


def _normed(reader: Reader, states: torch.Tensor) -> torch.Tensor:
    return reader.read_by.text_model.final_layer_norm(states)


def weighted_parts(line: str) -> list[tuple[str, float]]:
    """`a (b:1.2) BREAK c`, as the hosts take it apart; one level of brackets."""
    found = []
    for match in re.finditer(r"\(([^():]+):([\d.]+)\)|([^()]+)", line):
        if match[1] is not None:
            found.append((match[1], float(match[2])))
            continue
        for number, part in enumerate(re.split(r"\s*\bBREAK\b\s*", match[3])):
            found += [("BREAK", -1)] if number else []
            found.append((part, 1.0))
    return found or [("", 1.0)]


class T5Reader:
    """Forge's reader of T5: the whole prompt at once, padded to 256."""

    min_length, id_end, id_pad = 256, 1, 0

    def __init__(self) -> None:
        self.tokenizer = pipelines.t5_tokenizer()
        self.text_encoder = pipelines.t5(WIDTHS["t5xxl"])

    def tokenize_line(self, line: str) -> tuple[list[Chunk], int]:
        chunks, count = [], 0
        for part in re.split(r"\s*\bBREAK\b\s*", line):
            chunk = Chunk()
            chunk.tokens = [*self.tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"], self.id_end]
            count += len(chunk.tokens)
            chunk.tokens += [self.id_pad] * (self.min_length - len(chunk.tokens))
            chunk.multipliers = [1.0] * len(chunk.tokens)
            chunks.append(chunk)
        return chunks, count

    def __call__(self, texts: list[str]) -> torch.Tensor:
        found = []
        for text in texts:
            chunks, _ = self.tokenize_line(text)
            longest = max(len(chunk.tokens) for chunk in chunks)
            for chunk in chunks:
                missing = longest - len(chunk.tokens)
                row = [*chunk.tokens, *[self.id_pad] * missing]
                found.append(self.process_tokens([row], [[*chunk.multipliers, *[1.0] * missing]])[0])
        return torch.stack(found)

    def process_tokens(self, tokens: list[list[int]], multipliers: list[list[float]]) -> torch.Tensor:
        return self.text_encoder(input_ids=torch.tensor(tokens)).last_hidden_state


FORGE_READS = {"sd1": (1, True), "sd2": (1, True), "flux": (1, True), "sdxl": (2, False)}
"""The least Clip skip of Forge's engines, and whether they use the last norm."""


def forge_classes() -> tuple[type, type]:
    """Forge's two classes, new ones: what a test replaces in them does not outlive it."""

    class ClassicTextProcessingEngine(Reader):
        def __init__(self, key: str, pooled: bool = False, family: str = "sd1") -> None:
            super().__init__(key, Embeddings(), pooled)
            self.embeddings, self.embedding_key = self.holder, f"clip_{key}"
            self.text_encoder = SimpleNamespace(transformer=self.read_by)
            self.clip_skip = 1
            self.minimal_clip_skip, self.final_layer_norm = FORGE_READS[family]

        def taken(self, output: Any) -> torch.Tensor:
            states = output.hidden_states[-max(self.clip_skip, self.minimal_clip_skip)]
            return _normed(self, states) if self.final_layer_norm else states

    class T5TextProcessingEngine(T5Reader):
        pass

    return ClassicTextProcessingEngine, T5TextProcessingEngine


def automatic_classes(opts: Any) -> dict[str, type]:
    """Automatic1111's classes, new ones, by the families' keys; `` is the parent of all."""

    class TextConditionalModel(Reader):
        def __init__(self, key: str, pooled: bool = False, hijack: Embeddings | None = None) -> None:
            super().__init__(key, hijack or Embeddings(), pooled)
            self.hijack, self.input_key = self.holder, "txt"
            text_model = self.read_by.text_model
            if key == "l":
                self.wrapped = SimpleNamespace(transformer=self.read_by)
            else:  # OpenCLIP's own class, which has the table elsewhere
                self.wrapped = SimpleNamespace(
                    model=SimpleNamespace(token_embedding=text_model.embeddings.token_embedding), layer="penultimate"
                )

        def taken(self, output: Any) -> torch.Tensor:
            return output.hidden_states[-2]

    class FrozenCLIPEmbedderWithCustomWords(TextConditionalModel):
        def taken(self, output: Any) -> torch.Tensor:
            if opts.CLIP_stop_at_last_layers > 1:
                return _normed(self, output.hidden_states[-opts.CLIP_stop_at_last_layers])
            return output.last_hidden_state

    class FrozenCLIPEmbedderForSDXLWithCustomWords(FrozenCLIPEmbedderWithCustomWords):
        def taken(self, output: Any) -> torch.Tensor:
            if opts.sdxl_clip_l_skip is True:
                return output.hidden_states[-opts.CLIP_stop_at_last_layers]
            return output.hidden_states[self.read_by.config.num_hidden_layers - 1]

    class FrozenOpenCLIPEmbedder2WithCustomWords(TextConditionalModel):
        pass

    class FrozenOpenCLIPEmbedderWithCustomWords(TextConditionalModel):
        pass

    return {
        "": TextConditionalModel,
        "sd1": FrozenCLIPEmbedderWithCustomWords,
        "l": FrozenCLIPEmbedderForSDXLWithCustomWords,
        "g": FrozenOpenCLIPEmbedder2WithCustomWords,
        "h": FrozenOpenCLIPEmbedderWithCustomWords,
    }


def prefix_for(family: str, m: int = 10, seed: int = 0) -> Prefix:
    """A prefix that fits these encoders."""
    return random_prefix({key: WIDTHS[key] for key in FAMILIES[family]}, m, seed, family=family, fingerprint="")
