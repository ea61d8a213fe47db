"""Defines `Denoiser`, the protocol through which any model is spoken to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Vectors = Mapping[str, Tensor]
"""A prefix's vectors, `{encoder key: [m, d]}`, with what makes others of them if there is any (`prefix.meta_network`);
while it is learned, the parameters themselves."""

Conditioning = Sequence[Any]
"""What `encode` returns: one entry for each prompt, of use to the same denoiser only. Entries may be kept and mixed."""


Layer = int | None
"""A layer as hosts set it for all text encoders at once ("clip skip"): -1 is the last; None: each encoder's usual."""


class TextStates(NamedTuple):
    """What a text encoder, or several CLIPs side by side, make of a prompt: of CLIPs, one that takes one chunk.

    Attributes:
        states: `[length, d]`: what stands before, prefix, words, what follows. Of CLIPs start, end and padding; of
            streams the rest of a chat template, where the host leaves it, an end token, padding. Or a pooled output.
        words: the prompt's tokens; none of a pooled output.
        stop: position after the last word; of CLIPs that of the end token.
        is_stream: whether an encoder of T5, BERT or LLM type made them.
    """

    states: Tensor
    words: tuple[int, ...]
    stop: int
    is_stream: bool = False

    @property
    def start(self) -> int:
        """Position of the first word."""
        return self.stop - len(self.words)


class PromptStates(NamedTuple):
    """What a meta-network reads of a prompt, at the positions that count.

    Attributes:
        states: what a text encoder says there, `[n, w]` float32.
        words: the embeddings that it reads there, `[n, d]` float32.
    """

    states: Tensor
    words: Tensor

    def cpu(self) -> PromptStates:
        """The same on the processor."""
        return PromptStates(self.states.cpu(), self.words.cpu())

    @staticmethod
    def joined(chunks: Sequence[PromptStates]) -> PromptStates:
        """Chunks of one prompt, one after another."""
        return PromptStates(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


FULL, LORA = "full", "LoRA"
"""What of a network is fine-tuned: every weight, or matrices of low rank that are added to it (arXiv 2106.09685)."""

WORDS = "words."
"""What the names of learned embeddings of words begin with."""


@dataclass(frozen=True)
class Tuned:
    """A denoiser with weights that can be learned, which shares everything else with the one that it was made of.

    Attributes:
        denoiser: `gradients` of it has the weights take gradients; its pictures are those of the weights as they are.
        weights: those that are learned, float32, by name; embeddings of words have names that begin with `WORDS`.
        close: lets go of them; the host's model is then as it was. The denoiser must not be used any more.
        paused: inside, the denoiser that it was made of predicts as it did before.
    """

    denoiser: Denoiser
    weights: Mapping[str, torch.nn.Parameter]
    close: Callable[[], None]
    paused: Callable[[], AbstractContextManager[None]] = nullcontext


class Denoiser(Protocol):
    """The diffusion model, with its text encoders, as the trainer sees it.

    Latents are `[B, *latent_shape]` in the scale the model works in, on the CPU, float32. Times t are `[B]`, strictly
    between 0 (clean) and 1 (noise), measured along the model's own noise schedule.
    """

    family: str
    """The base model family, for the prefix's record."""
    fingerprint: str
    """`prefix.fingerprint` of the text encoders."""
    digest: str
    """Of everything that its answers follow from: weights, patches, text encoders, how pictures are drawn."""
    latent_shape: tuple[int, ...]
    """Shape of one latent."""
    layers: tuple[Layer, ...]
    """The layers that a prefix is to be learned at; pictures are drawn at the first."""
    unconditional_share: float
    """See `Drawing.unconditional_share`, at the guidance that pictures are drawn with."""
    guidance: float
    """That pictures are drawn with; 1: none."""
    drawing_steps: int
    """That pictures are drawn in."""
    evaluations_a_picture: int
    """How often `sample` asks the denoiser for one picture."""

    def record_layers(self, layers: Sequence[Layer]) -> Mapping[str, Sequence[int]]:
        """Some of `layers` for the prefix's record, by encoder; empty where each is read at its usual layer alone."""

    def token_embeddings(self, text: str) -> dict[str, Tensor]:
        """The embeddings of the words of `text` for each encoder, `{encoder key: [n, d]}` float32 on the CPU.

        For the empty text, a sample of the whole vocabulary; n is 0 where an encoder reads no token in a text.
        """

    def gradients(self, batch_size: int, pictures: bool = False) -> AbstractContextManager[None]:
        """Inside, `encode` and `predict` may be differentiated with respect to the vectors, and `sample` not called.

        Weights take no gradients but those of `tuned`; afterwards the model is as it was before.

        Args:
            pictures: `encode_pictures` may be called, and differentiated with respect to the pictures.
        """

    def encode(
        self,
        prompts: Sequence[str],
        vectors: Vectors | None = None,
        layers: Sequence[Layer] | None = None,
        embedding: Vectors | None = None,
    ) -> Conditioning:
        """Encodes prompts, with the prefix in every chunk if vectors are given; differentiable in the vectors.

        Args:
            layers: the layer that each prompt is read at, one of `Denoiser.layers`; the first for all if it is None.
            embedding: vectors `{encoder key: [k, d]}` that stand behind the prefix in every chunk, like an embedding of
                the user's own; differentiable in them too.
        """

    def states_read(
        self, prompts: Sequence[str], vectors: Vectors, embedding: Vectors | None = None
    ) -> list[dict[str, PromptStates]]:
        """What meta-networks read of each prompt (`prefix.meta_network`), by text encoder; of states the last ones.

        Inside `gradients`.

        Args:
            vectors: for which room is made in the prompts, `{encoder key: [m, d]}`.
            embedding: as for `encode`; differentiable in it.
        """

    def text_states(
        self, prompts: Sequence[str], conditioning: Conditioning, prefix: int = 0
    ) -> Sequence[Sequence[TextStates] | None]:
        """What each text encoder says in what `encode` made of prompts, with a prefix of so many vectors.

        None for prompts that take several chunks of a CLIP, and where encoders cannot be told apart.
        """

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The noised latents x_t, `[B, *latent_shape]`."""

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What `predict` ought to answer for `add_noise(latents, noise, t)`, `[B, *latent_shape]`.

        Differentiable in the latents.
        """

    def states(self, conditioning: Conditioning) -> list[Tensor]:
        """What a conditioning says of each prompt's tokens, `[1, length, d]` each."""

    def with_states(self, conditioning: Conditioning, states: Sequence[Tensor]) -> Conditioning:
        """The same conditioning with other states of the same shapes; `predict` is differentiable in them."""

    @property
    def vae_digest(self) -> str:
        """A digest of what makes latents of pictures and pictures of latents, which `digest` does not tell of."""

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Latents `[B, *latent_shape]` of pictures `[B, height, width, 3]` in 0 to 1 of the size that is drawn.

        Computed in float32, as the sign of a gradient in half precision is chance. Inside `gradients(…, pictures=True)`
        only; differentiable in the pictures.

        Raises:
            TrainingError: the VAE makes latents of another shape, or works without gradients.
            MemoryError: memory lacks for the backward pass.
        """

    def tuned(self, kind: str, rank: int, text_encoder: bool, seed: int, new_words: str = "") -> Tuned:
        """A denoiser with weights that can be learned, which starts with the pictures of this one.

        Args:
            kind: `FULL` or `LORA`.
            rank: of the latter.
            text_encoder: whether the text encoders are fine-tuned as well.
            seed: of whatever the weights start from.
            new_words: words, with commas between, whose embeddings are learned as well.

        Raises:
            TrainingError: this model cannot be fine-tuned in that way.
        """

    def predict(self, noised: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """What the model predicts in its own parameterization (noise, velocity or flow), `[B, *latent_shape]` float32.

        Differentiable in the conditioning.
        """

    def count_kept(self) -> int:
        """Bytes that the backward pass of one picture needs kept as things stand; inside `gradients`. Keeps nothing."""

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], vectors: Vectors | None = None) -> Tensor:
        """Draws one latent for each prompt and seed with the model's usual sampler, `[B, *latent_shape]`.

        A picture depends on its own prompt and seed alone, up to rounding.
        """

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the pictures that are drawn, in pixels."""

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[B, height, width, 3]` in 0 to 1, of latents as `sample` returns them."""

    def out_of_memory(self, error: Exception) -> bool:
        """Whether the error says that the device has no memory left."""

    def use_less_memory(self) -> bool:
        """Computes in a way that needs less memory from now on; False if there is none. Inside `gradients`."""

    @property
    def saves_memory(self) -> bool:
        """Whether it computes so, or is to inside `gradients`."""

    @property
    def streams_weights(self) -> bool:
        """Whether `stream_weights` has moved any."""

    def stream_weights(self) -> bool:
        """Moves weights off the device, to come there as they are needed, slowly; False if none can be. Inside
        `gradients`, after `use_less_memory`."""

    def free_memory(self) -> None:
        """Gives back what memory the device's allocator keeps for later."""
