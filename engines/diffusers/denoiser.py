"""Makes a `Denoiser` of a pipeline of diffusers.

The pipeline's own text encoders, denoiser, scheduler and sampler do the work; see `engines.diffusers` for how prompts
are encoded, `model_calls` and `noise_levels` for what differs between model families.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ...prefix import fingerprint, frame_of, words
from ...prefix.errors import TrainingError
from ...prefix.layers import layers_by_training
from ...runs.digest import digest_of
from ...runs.seeds import noise_of
from ...runs.weights import device_of
from ..comfy.learned_layers import candidates, recorded
from ..denoiser import Layer, PromptStates, TextStates, Tuned, Vectors
from ..gradient_flow import gradient_through, require_gradient
from ..kept_memory import Counting, has_room, weighs_much
from ..micro_batches import says_out_of_memory
from ..options import AS_THE_HOST, AS_USUAL, PRECISIONS, TOKENIZED_KEPT, VOCABULARY_SAMPLE, Computing, Drawing
from ..recomputation import checkpointed, recomputed, weights_learned
from ..text_states import text_states
from . import Encoded, PromptEncoder, is_protected
from .encoder_parts import Part, host_names
from .model_calls import ASK, GUIDANCE, packed, unpacked
from .noise_levels import levels_of
from .tuning import learnable_copy

DENOISER, TEXT_ENCODER, VAE = "pipeline's denoiser", "pipeline's text encoder", "pipeline's VAE"


class DiffusersDenoiser:
    """A `Denoiser` made of a pipeline of diffusers: Stable Diffusion 1, 2, XL, 3 or Flux.

    An entry of its conditioning is an `Encoded`. The pipeline's weights and settings stay as they are.

    Args:
        pipeline: with all of its parts on the device that it is to compute on.
        size: width and height of the pictures to learn from, in pixels.
        drawing: how pictures are drawn; the sampler is the pipeline's own.
        computing: how the denoiser computes.

    Raises:
        PrefixMismatchError: the pipeline's family is unknown, or it lacks a text encoder.
        TrainingError: the size is too small, or the scheduler is of a kind that is not known.
    """

    def __init__(
        self,
        pipeline: Any,
        size: tuple[int, int],
        drawing: Drawing = AS_USUAL,
        computing: Computing = AS_THE_HOST,
    ) -> None:
        if is_protected(pipeline):
            raise TrainingError("This pipeline carries a prefix already: learn on the one that was protected.")
        self._encoder = PromptEncoder(pipeline)
        self._pipeline = copy.copy(pipeline)  # Shares all parts; whether it shows progress is our own affair.
        self._pipeline.set_progress_bar_config(disable=True)
        self._network = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
        self._vae: Any = None
        self._weights: tuple[Tensor, ...] = ()
        self._drawing = drawing
        self._computing = computing
        self._encoders = torch.nn.ModuleList(part.model for part in self._encoder.parts.values())
        self._encodes_twice = weighs_much(self._encoders)
        self._saves_memory = computing.checkpointing == "on"
        self._is_checkpointed = False
        self._kept_by_picture: int | None = None
        self._checkpoints: ExitStack | None = None
        self.streams_weights = False
        self.evaluations_a_picture = drawing.evaluations
        self.unconditional_share = drawing.unconditional_share
        self.guidance, self.drawing_steps = drawing.cfg, drawing.steps
        self.family = self._encoder.family.name
        self.latent_shape = _latent_shape(pipeline, self._network, self.family, size)
        cells = self.latent_shape[1] * self.latent_shape[2] // 4  # Of both families with patches.
        self._levels = levels_of(pipeline.scheduler, cells)
        models = {key: part.model for key, part in self._encoder.parts.items()}
        self._skips = _layers_to_learn(self._encoder)
        self.layers = tuple(self._skips)
        self.fingerprint = fingerprint(host_names(models))
        self.digest = digest_of(
            self._network,
            *models.values(),
            # What begins so is about the configuration, and not in the same order in every process.
            {name: value for name, value in pipeline.scheduler.config.items() if not name.startswith("_")},
            self.layers,
            self.latent_shape,
            drawing,
            computing.precision,
            str(self._network.dtype),
            self.device.type,
        )
        self._tokens = functools.lru_cache(TOKENIZED_KEPT)(self._encoder.tokens)

    @property
    def vae_digest(self) -> str:
        """See `Denoiser`."""
        return digest_of(self._pipeline.vae)

    def record_layers(self, layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
        """See `Denoiser`."""
        read = [self._encoder.layers(self._skips[layer]) for layer in layers]
        return recorded(read, layers_by_training(self._encoder.parts))

    def token_embeddings(self, text: str) -> dict[str, Tensor]:
        """See `Denoiser`."""
        embeddings = {}
        for key, part in self._encoder.parts.items():
            count = part.table.num_embeddings
            sample = range(0, count, max(1, count // VOCABULARY_SAMPLE))
            embeddings[key] = part.rows(_words(part, text) if text.strip() else sample)
        return embeddings

    @contextmanager
    def gradients(self, batch_size: int, pictures: bool = False) -> Iterator[None]:
        """See `Denoiser`."""
        encoders = [part.model for part in self._encoder.parts.values()]
        if pictures and self._vae is None:
            vae = self._pipeline.vae
            with torch.inference_mode(False):
                self._vae = vae if vae.dtype == torch.float32 else copy.deepcopy(vae).float()
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            _frozen([self._network, *encoders, *([self._vae] if pictures else [])]),
            weights_learned(self._weights),
            ExitStack() as self._checkpoints,
        ):
            try:
                if self._encodes_twice:
                    for encoder in encoders:
                        self._checkpoints.enter_context(checkpointed(encoder))
                if self._saves_memory or (self._computing.checkpointing == "auto" and not self._has_room(batch_size)):
                    self.use_less_memory()
                yield
            finally:
                self._checkpoints = None

    def encode(
        self,
        prompts: Sequence[str],
        vectors: Vectors | None = None,
        layers: Sequence[Layer] | None = None,
        embedding: Vectors | None = None,
    ) -> list[Encoded]:
        """See `Denoiser`. Large encoders are differentiated in two stages, prompt by prompt (`recomputation`)."""
        asked = [self.layers[0]] * len(prompts) if layers is None else layers
        encoded: dict[int, Encoded] = {}
        for layer in dict.fromkeys(asked):
            mine = [index for index, other in enumerate(asked) if other == layer]
            read = self._read([prompts[index] for index in mine], vectors, layer, embedding)
            encoded.update(zip(mine, read, strict=True))
        encoded_in_order = [encoded[index] for index in range(len(prompts))]
        learned = (*(vectors or {}).values(), *(embedding or {}).values())
        require_gradient([entry.states for entry in encoded_in_order], learned, TEXT_ENCODER)
        return encoded_in_order

    def _read(
        self, prompts: Sequence[str], vectors: Vectors | None, layer: Layer, embedding: Vectors | None
    ) -> list[Encoded]:
        """What the pipeline's text encoders make of prompts at a layer."""

        def encode_all(prompts: Sequence[str], vectors: Vectors | None, embedding: Vectors | None) -> list[Encoded]:
            if vectors is None and embedding is None:
                tokens = [self._tokens(prompt) for prompt in prompts]
            else:
                tokens = [self._encoder.tokens(prompt, vectors, embedding) for prompt in prompts]
            return self._encoder.encode(tokens, self._skips[layer], vectors)

        with gradient_through(TEXT_ENCODER):
            if not self._encodes_twice:
                return encode_all(prompts, vectors, embedding)
            return [recomputed(self._encoders, encode_all, [prompt], vectors, embedding)[0] for prompt in prompts]

    def states_read(
        self, prompts: Sequence[str], vectors: Vectors, embedding: Vectors | None = None
    ) -> list[dict[str, PromptStates]]:
        """See `Denoiser`."""
        fixed = {key: rows.detach() for key, rows in vectors.items()}
        with torch.set_grad_enabled(embedding is not None):
            return self._encoder.states_read(
                [self._encoder.tokens(prompt, fixed, embedding) for prompt in prompts], fixed
            )

    def text_states(
        self, prompts: Sequence[str], conditioning: Sequence[Encoded], prefix: int = 0
    ) -> list[tuple[TextStates, ...] | None]:
        """See `Denoiser`."""
        parts = self._encoder.parts

        def tokenize(text: str) -> dict[str, Any]:
            return {key: part.chunks(text) for key, part in parts.items()}

        return [
            text_states(tokenize(prompt), frame_of(tokenize, prompt), parts, encoded.states[0], encoded.pooled, prefix)
            for prompt, encoded in zip(prompts, conditioning, strict=True)
        ]

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser`."""
        return self._levels.add_noise(latents, noise, _column(self._levels.sigmas(t)))

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser`."""
        return self._levels.target(latents, noise, _column(self._levels.sigmas(t)))

    def states(self, conditioning: Sequence[Encoded]) -> list[Tensor]:
        """See `Denoiser`."""
        return [entry.states for entry in conditioning]

    def with_states(self, conditioning: Sequence[Encoded], states: Sequence[Tensor]) -> list[Encoded]:
        """See `Denoiser`."""
        return [entry._replace(states=own) for own, entry in zip(states, conditioning, strict=True)]

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """See `Denoiser`; the mean of the VAE's distribution, not a sample."""
        vae = self._vae
        pixels = (pictures.permute(0, 3, 1, 2) * 2 - 1).to(device_of(vae))
        with gradient_through(VAE):
            encoded = vae.encode(pixels)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        require_gradient([latents], [pictures], VAE)
        shift = vae.config.get("shift_factor") or 0.0
        return ((latents - shift) * vae.config.scaling_factor).float().cpu()

    def tuned(self, kind: str, rank: int, text_encoder: bool, seed: int, new_words: str = "") -> Tuned:
        """See `Denoiser`; LoRA is PEFT's, and new words are not learned."""
        if new_words.strip():
            raise TrainingError("A pipeline learns no new words: leave new_words empty, or learn in ComfyUI.")
        other = copy.copy(self)
        other._pipeline = copy.copy(self._pipeline)
        weights: dict[str, torch.nn.Parameter] = {}

        def replace(name: str, number: int) -> None:
            network, learned = learnable_copy(getattr(self._pipeline, name), kind, rank, seed + number)
            setattr(other._pipeline, name, network)
            weights.update({f"{name}.{inner}": parameter for inner, parameter in learned.items()})

        name = "unet" if hasattr(self._pipeline, "unet") else "transformer"
        replace(name, 0)
        other._network = getattr(other._pipeline, name)
        if text_encoder:
            parts = [part for part in self._encoder.family.parts if getattr(self._pipeline, part[2], None) is not None]
            for number, part in enumerate(parts):
                replace(part[2], 1 + number)
            other._encoder = PromptEncoder(other._pipeline)
            other._encoders = torch.nn.ModuleList(part.model for part in other._encoder.parts.values())
            other._tokens = functools.lru_cache(TOKENIZED_KEPT)(other._encoder.tokens)
        other._weights = tuple(weights.values())
        other._kept_by_picture = None
        return Tuned(other, weights, lambda: None)

    def predict(self, noised: Tensor, t: Tensor, conditioning: Sequence[Encoded]) -> Tensor:
        """See `Denoiser`. Items whose conditionings have different lengths run apart."""
        device, dtype = self.device, self._network.dtype
        sigmas = self._levels.sigmas(t)
        seen = self._levels.seen(noised, _column(sigmas)).to(device, dtype)
        timesteps = self._levels.timesteps(sigmas).to(device)
        outputs: dict[int, Tensor] = {}
        for together in _alike(conditioning):
            entry = _stacked([conditioning[index] for index in together], device, dtype)
            with self._number_format(), gradient_through(DENOISER):
                ask = ASK[self.family]
                predicted = ask(self._network, seen[together], timesteps[together], entry, self._cell)
            require_gradient([predicted], [entry.states], DENOISER)
            outputs.update(zip(together, predicted.float(), strict=True))
        return torch.stack([outputs[index] for index in range(len(conditioning))])

    def count_kept(self) -> int:
        """See `Denoiser`."""
        with torch.no_grad():
            (entry,) = self.encode([""])
        watched = entry._replace(states=entry.states.detach().requires_grad_())
        with Counting(self._network) as counting:
            self.predict(torch.zeros(1, *self.latent_shape), torch.tensor([0.5]), [watched])
        return counting.bytes

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int], vectors: Vectors | None = None) -> Tensor:
        """See `Denoiser`."""
        positive = [self._encoder.tokens(prompt, vectors) for prompt in prompts]
        negative = self._encoder.tokens("", vectors)
        by_length: dict[Any, list[int]] = {}
        for index, tokens in enumerate(positive):
            lengths = tuple((len(chunks), len(chunks[0])) for chunks in tokens.values())
            by_length.setdefault(lengths, []).append(index)
        drawn: dict[int, Tensor] = {}
        for together in by_length.values():
            group = self._encoder.leveled([*(positive[index] for index in together), negative], vectors)
            *wanted, unwanted = self._encoder.encode(group, parameters=vectors)
            latents = self._draw(wanted, unwanted, [seeds[index] for index in together])
            drawn.update(zip(together, latents.float().cpu(), strict=True))
        return torch.stack([drawn[index] for index in range(len(prompts))])

    @property
    def picture_size(self) -> tuple[int, int]:
        """See `Denoiser`."""
        return self.latent_shape[2] * self._cell, self.latent_shape[1] * self._cell

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[B, height, width, 3]` in 0 to 1, by the pipeline's VAE, of latents as `sample` returns them."""
        vae = self._pipeline.vae
        shift = vae.config.get("shift_factor") or 0.0
        scaled = latents.to(device_of(vae), vae.dtype) / vae.config.scaling_factor + shift
        pictures = vae.decode(scaled, return_dict=False)[0]
        return (pictures.float().cpu() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def out_of_memory(self, error: Exception) -> bool:
        """See `Denoiser`."""
        return says_out_of_memory(error)

    def use_less_memory(self) -> bool:
        """See `Denoiser`. From then on the denoiser's blocks are computed twice."""
        if self._checkpoints is None or self._computing.checkpointing == "off" or self._is_checkpointed:
            return False
        self._saves_memory = self._is_checkpointed = True
        self._checkpoints.enter_context(checkpointed(self._network))
        self._checkpoints.callback(setattr, self, "_is_checkpointed", False)
        return True

    @property
    def saves_memory(self) -> bool:
        """See `Denoiser`."""
        return self._saves_memory

    def stream_weights(self) -> bool:
        """See `Denoiser`. Where weights are is for the pipeline's owner to say, as with `enable_model_cpu_offload`."""
        return False

    def free_memory(self) -> None:
        """See `Denoiser`."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            torch.mps.empty_cache()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return device_of(self._network)

    @property
    def _cell(self) -> int:
        """Pixels to a latent's cell."""
        return self._pipeline.vae_scale_factor

    def _draw(self, positive: Sequence[Encoded], negative: Encoded, seeds: Sequence[int]) -> Tensor:
        """Latents `[n, …]` of prompts of one length, by the pipeline itself."""
        device, dtype = self.device, self._network.dtype
        wanted = _stacked(positive, device, dtype)
        unwanted = _stacked([negative] * len(positive), device, dtype)
        noise = torch.stack([noise_of(self.latent_shape, seed) for seed in seeds]).to(device, dtype)
        height, width = self.latent_shape[1:]
        flux = self.family == "flux"
        arguments: dict[str, Any] = {
            "prompt_embeds": wanted.states,
            "negative_prompt_embeds": unwanted.states,
            "latents": packed(noise) if flux else noise,
            "height": height * self._cell,
            "width": width * self._cell,
            "num_inference_steps": self._drawing.steps,
            "guidance_scale": GUIDANCE if flux else self._drawing.cfg,
            # Whatever is random in the sampler itself follows from each picture's own seed.
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "output_type": "latent",
        }
        if wanted.pooled is not None:
            arguments |= {"pooled_prompt_embeds": wanted.pooled, "negative_pooled_prompt_embeds": unwanted.pooled}
        if flux:
            arguments["true_cfg_scale"] = self._drawing.cfg
        with self._number_format():
            latents = self._pipeline(**arguments).images
        return unpacked(latents, height, width) if flux else latents

    def _has_room(self, batch_size: int) -> bool:
        """Whether the device has room for what the backward pass of a batch needs kept; CPUs are taken to have."""
        free = _free_memory(self.device)
        if free is None:
            return True
        return has_room(self._kept, batch_size, lambda: free, self.out_of_memory)

    def _kept(self) -> int:
        """`count_kept`, counted once."""
        if self._kept_by_picture is None:
            self._kept_by_picture = self.count_kept()
        return self._kept_by_picture

    def _number_format(self) -> AbstractContextManager[Any]:
        dtype = PRECISIONS[self._computing.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)


def _layers_to_learn(encoder: PromptEncoder) -> dict[Layer, int | None]:
    """The layers of `Denoiser.layers`, each with what a pipeline's `clip_skip` is for it."""
    own: Any = next(iter(encoder.layers().values()))
    found: dict[tuple[Any, ...], tuple[Layer, int | None]] = {}
    for layer in candidates(list(encoder.parts)):
        skip = None if layer is None else own - layer
        if skip is None or 0 <= skip < min(part.model.config.num_hidden_layers for part in encoder.parts.values()):
            found.setdefault(tuple(encoder.layers(skip).values()), (layer, skip))
    return dict(found.values())


def _free_memory(device: torch.device) -> int | None:
    """Bytes of a graphics card that are free for torch; 0 where torch does not say, None on a CPU."""
    if device.type != "cuda":
        return None if device.type == "cpu" else 0
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _words(part: Part, text: str) -> list[int]:
    """The numbers of the words of a text."""
    tokens = {part.key: part.chunks(text)}
    frame = frame_of(lambda words: {part.key: part.chunks(words)}, text)
    return [entry[0] for entry in words(part.key, tokens, frame)]


def _column(sigmas: Tensor) -> Tensor:
    """`[B]` as `[B, 1, 1, 1]`."""
    return sigmas.view(-1, 1, 1, 1)


def _alike(conditioning: Sequence[Encoded]) -> Iterator[list[int]]:
    """The indices of conditionings of one shape, for each shape."""
    by_shape: dict[Any, list[int]] = {}
    for index, entry in enumerate(conditioning):
        by_shape.setdefault(entry.states.shape, []).append(index)
    yield from by_shape.values()


def _stacked(entries: Sequence[Encoded], device: torch.device, dtype: torch.dtype) -> Encoded:
    """One conditioning for a batch."""
    states = torch.cat([entry.states for entry in entries]).to(device, dtype)
    if entries[0].pooled is None:
        return Encoded(states, None)
    return Encoded(states, torch.cat([entry.pooled for entry in entries]).to(device, dtype))


@contextmanager
def _frozen(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Weights that take no gradients, and no dropout; afterwards their flags are as before."""
    flags = [(parameter, parameter.requires_grad) for module in modules for parameter in module.parameters()]
    training = [(module, module.training) for module in modules]
    for module in modules:
        module.requires_grad_(False).eval()
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in training:
            module.train(mode)


def _latent_shape(pipeline: Any, network: Any, family: str, size: tuple[int, int]) -> tuple[int, ...]:
    cell, channels = pipeline.vae_scale_factor, network.config.in_channels
    width, height = size[0] // cell, size[1] // cell
    if family == "flux":
        channels, width, height = channels // 4, width // 2 * 2, height // 2 * 2
    elif family == "sd3":
        patch = network.config.patch_size
        width, height = width // patch * patch, height // patch * patch
    if width < 1 or height < 1:
        raise TrainingError(
            f"Pictures of {size[0]} by {size[1]} pixels are too small for this model: set width and height higher."
        )
    return channels, height, width
