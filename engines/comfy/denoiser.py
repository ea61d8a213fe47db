"""Makes a `Denoiser` of ComfyUI's MODEL, CLIP and VAE.

Everything that differs between model families is left to the host: its tokenizers and text encoders make the
conditioning, its `extra_conds` the denoiser's arguments, its `model_sampling` the noise, its sampler the pictures.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from hashlib import sha256
from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd1_clip
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ...prefix import encoder_layout, frame_of, inject_text, looked_at, words
from ...prefix.errors import TrainingError
from ...prefix.meta_network import is_conditional
from ...runs.digest import digest_of, original_weights
from ...runs.seeds import noise_of
from ...runs.tensor_cache import TensorCache
from ..denoiser import Layer, PromptStates, TextStates, Tuned, Vectors
from ..differentiable import differentiable
from ..gradient_flow import gradient_through, require_gradient
from ..kept_memory import Counting, has_room, weighs_much
from ..micro_batches import says_out_of_memory
from ..options import (
    AS_THE_HOST,
    AS_USUAL,
    PRECISIONS,
    READ_AT_ONCE,
    TOKENIZED_KEPT,
    VOCABULARY_SAMPLE,
    Computing,
    Drawing,
)
from ..recomputation import checkpointed, recomputed, weights_learned
from ..text_states import text_states
from .conditional_vectors import encoders_of_words, states_read, vectors_made
from .differentiable_kernels import differentiable_kernels
from .learned_layers import layers_to_learn, read_at, recorded
from .new_words import rows_of_words, with_rows
from .text_encoders import embedding_table, encoder_fingerprint, rows_of, text_encoders, vectors_for
from .tuning import DENOISER, LearnedWeights, joined

OVERWRITES = "arguments don't support automatic differentiation"
"""What torch says of results that are written over what they were made from."""

COMPILED = "torch.compile"
"""The host's key for the wrapper that runs a compiled network."""

MODEL, CLIP, VAE = "MODEL (the denoiser)", "CLIP (the text encoder)", "VAE"

BACKWARD_MEMORY = 4
"""Memory of a forward pass that is kept for the backward one, as a multiple of what the host reckons for inference.

Models are loaded with so much left free; how much it really is, is counted once they are (`kept_memory`)."""

FIRST_READINGS = 2**28
"""Bytes of what text encoders say of prompts before vectors are made for them, kept in memory."""


NOISELESS = frozenset(
    "ddim deis dpm_2 dpmpp_2m euler euler_cfg_pp gradient_estimation heun heunpp2 ipndm ipndm_v lms res_multistep"
    " uni_pc uni_pc_bh2".split()
)
"""The host's samplers by which a picture follows from its own noise alone, whatever else is in its batch.

Others draw noise on the way, for the whole batch from one seed, or choose its steps together: by these, and by those of
other extensions, pictures are drawn one at a time.
"""


class ComfyDenoiser:
    """A `Denoiser` made of the host's MODEL and CLIP, within the host's memory management.

    An entry of its conditioning is one of the host's CONDITIONING, `[tensor [1, length, d], {"pooled_output": …}]`.

    Args:
        model: the host's `ModelPatcher`, with whatever the artist patched into it.
        clip: the host's `CLIP`, not protected by a prefix.
        vae: the host's `VAE`; tells how many pixels a latent's cell is wide, and makes pictures of latents.
        size: width and height of the pictures to learn from, in pixels.
        drawing: how pictures are drawn.
        computing: how the denoiser computes.

    Raises:
        TrainingError: a socket is empty, the CLIP carries a prefix already, or the size is too small.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        size: tuple[int, int],
        drawing: Drawing = AS_USUAL,
        computing: Computing = AS_THE_HOST,
    ) -> None:
        if model is None or clip is None or vae is None:
            raise TrainingError(
                "The checkpoint lacks a model, a text encoder or a VAE: load the missing part with a loader of its own."
            )
        self._model = model
        self._clip = clip
        self._vae = vae
        self._drawing = drawing
        self._computing = computing
        self._picture_vae: Any = None
        self._weights: tuple[Tensor, ...] = ()
        self._attention_overwrites = False
        self._kept_by_picture: int | None = None
        self._counting: Counting | None = None
        self._is_checkpointed = False
        self._saves_memory = computing.checkpointing == "on"
        self._checkpoints: ExitStack | None = None
        self._most_loaded: dict[Any, int] = {}
        self._first_readings = TensorCache(budget=FIRST_READINGS)
        self._encoders = text_encoders(clip.cond_stage_model)
        if _is_prefixed(clip):
            raise TrainingError("This CLIP carries a prefix already: connect the checkpoint's own CLIP.")
        self._encodes_twice = weighs_much(clip.cond_stage_model)
        self.family = type(model.model.model_config).__name__
        self.fingerprint = encoder_fingerprint(clip)
        self.latent_shape = latent_shape(model, vae, size)
        self.evaluations_a_picture = drawing.evaluations
        self.unconditional_share = drawing.unconditional_share
        self.guidance, self.drawing_steps = drawing.cfg, drawing.steps
        self._readings, self._usual = layers_to_learn(clip, self._encoders)
        self.layers = tuple(self._readings)
        self.digest = digest_of(
            *(_what_it_computes(patcher) for patcher in (model, clip.patcher)),
            self.layers,
            self.latent_shape,
            drawing,
            computing.precision,
        )
        remembering = functools.lru_cache(TOKENIZED_KEPT)
        self._tokenize: Callable[[str], Any] = remembering(lambda text: clip.tokenize(text, return_word_ids=True))

    @property
    def vae_digest(self) -> str:
        """See `Denoiser`."""
        patcher = getattr(self._vae, "patcher", None)
        return digest_of(self._vae if patcher is None else _what_it_computes(patcher))

    def record_layers(self, layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
        """See `Denoiser`."""
        return recorded([self._readings[layer] for layer in layers], self._usual)

    def token_embeddings(self, text: str) -> dict[str, Tensor]:
        """See `Denoiser`. Words that are embeddings of the user's own stand for themselves."""
        embeddings = {}
        tokens, frame = self._tokenize(text), frame_of(self._tokenize, text)
        for key in filter(lambda key: encoder_layout(key).required, self._encoders):
            table = embedding_table(self._encoders[key])
            if text.strip():
                own = [entry[0] for entry in words(key, tokens, frame)]
                found = iter(rows_of(table, [int(word) for word in own if not isinstance(word, Tensor)]))
                rows = [word if isinstance(word, Tensor) else next(found) for word in own]
                kept = [row.detach().float().cpu() for row in rows]
                embeddings[key] = torch.stack(kept) if kept else rows_of(table, range(0))
            else:
                count = table.num_embeddings
                embeddings[key] = rows_of(table, range(0, count, max(1, count // VOCABULARY_SAMPLE)))
        return embeddings

    @contextmanager
    def gradients(self, batch_size: int, pictures: bool = False) -> Iterator[None]:
        """See `Denoiser`. Loads the models, as the host would for sampling."""
        memory = self._model.model.memory_required([batch_size, *self.latent_shape])
        patchers = [self._clip.patcher, self._model]
        if pictures:
            self._picture_vae = self._picture_vae or float_vae(self._vae)
            patchers.append(self._picture_vae.patcher)
            width, height = self.picture_size
            encoding = self._picture_vae.memory_used_encode((batch_size, 3, height, width), torch.float32)
            memory = max(memory, encoding)
        comfy.model_management.load_models_gpu(patchers, memory_required=BACKWARD_MEMORY * memory)
        self._model.pre_run()
        try:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                differentiable_kernels(self._model.model, self._clip.cond_stage_model),
                _frozen(self._model),
                _frozen(self._clip.patcher),
                _frozen(self._picture_vae.patcher) if pictures else nullcontext(),
                weights_learned(self._weights),
                checkpointed(self._clip.cond_stage_model) if self._encodes_twice else nullcontext(),
                ExitStack() as self._checkpoints,
            ):
                for patcher, most in self._most_loaded.items():
                    _unload(patcher, most)
                if pictures and self._model.load_device.type != "cpu":
                    self._checkpoints.enter_context(checkpointed(self._picture_vae.first_stage_model))
                if self._saves_memory or (self._computing.checkpointing == "auto" and not self._has_room(batch_size)):
                    self.use_less_memory()
                yield
        finally:
            self._checkpoints = None
            self._model.cleanup()

    def encode(
        self,
        prompts: Sequence[str],
        vectors: Vectors | None = None,
        layers: Sequence[Layer] | None = None,
        embedding: Vectors | None = None,
    ) -> list[list[Any]]:
        """See `Denoiser`. The models must be loaded; prompts of one small CLIP are encoded in one go for each layer.

        Large encoders are differentiated in two stages, prompt by prompt (`recomputation`): nothing of them is kept
        while the denoiser computes, and then one layer at a time.
        """
        vectors, embedding = self._as_read(vectors), self._as_read(embedding)
        asked = [self.layers[0]] * len(prompts) if layers is None else layers
        encoded: dict[int, list[Any]] = {}
        for layer in dict.fromkeys(asked):
            mine = [index for index, other in enumerate(asked) if other == layer]
            read = self._read([prompts[index] for index in mine], vectors, layer, embedding)
            encoded.update(zip(mine, read, strict=True))
        encoded_in_order = [encoded[index] for index in range(len(prompts))]
        learned = (*(vectors or {}).values(), *(embedding or {}).values())
        require_gradient([entry[0] for entry in encoded_in_order], learned, CLIP)
        return encoded_in_order

    def _as_read(self, vectors: Vectors | None) -> Vectors | None:
        """Vectors on the encoders' device, as their networks want them."""
        if vectors is None:
            return None
        device = self._clip.patcher.load_device
        return vectors_for(self._encoders, {key: rows.to(device) for key, rows in vectors.items()})

    def _read(
        self, prompts: Sequence[str], vectors: Vectors | None, layer: Layer, embedding: Vectors | None = None
    ) -> list[list[Any]]:
        """What the host's text encoders make of prompts at a layer."""
        stage = self._clip.cond_stage_model

        def encode_one(prompt: str, vectors: Vectors | None, embedding: Vectors | None) -> list[Any]:
            tokens = self._tokens(prompt, vectors, embedding)
            more: dict[str, Any] = {"of_words": encoders_of_words(tokens, vectors or {})}
            if embedding is None:  # With one, hardly any prompt comes twice.
                more["first_reading"] = functools.partial(self._first, layer)
            with read_at(stage, self._encoders, layer):
                with vectors_made(self._encoders, vectors or {}, **more) as made:
                    told = stage.encode_token_weights(tokens)
                if is_conditional(vectors or {}) and not made.let_through:
                    told = stage.encode_token_weights(self._tokens(prompt, None, embedding))
                return _conditioning(told)

        with gradient_through(CLIP):
            if self._encodes_twice:
                return [recomputed(stage, encode_one, prompt, vectors, embedding) for prompt in prompts]
            with differentiable(stage):
                if not _encodes_chunks_apart(stage) or self._model.model.adm_channels:
                    return [encode_one(prompt, vectors, embedding) for prompt in prompts]
                asked = [self._tokens(prompt, vectors, embedding) for prompt in prompts]
                words = [encoders_of_words(tokens, vectors or {}) for tokens in asked]
                making = vectors_made(self._encoders, vectors or {}, of_words=frozenset.intersection(*words))
                with read_at(stage, self._encoders, layer), making:
                    return _encode_together(stage, asked)

    def _first(self, layer: Layer, key: str, embeds: Tensor, read: Callable[[], Any]) -> Any:
        """What an encoder says of a prompt without vectors, which is read once."""
        said = sha256(embeds.contiguous().cpu().view(torch.uint8).numpy()).digest()

        def read_it(_: object) -> list[Any]:
            return [tree_map_only(Tensor, Tensor.cpu, read())]

        (states,) = self._first_readings.values([(layer, key, embeds.dtype, said)], read_it)
        return tree_map_only(Tensor, lambda state: state.to(embeds.device), states)

    def _tokens(self, prompt: str, vectors: Vectors | None, embedding: Vectors | None = None) -> dict[str, Any]:
        """The host's tokens of a prompt, with the prefix and behind it an embedding, if there are any."""
        if vectors is None and embedding is None:
            return self._tokenize(prompt)
        return dict(inject_text(self._tokenize, prompt, vectors, self._encoders, embedding))

    def states_read(
        self, prompts: Sequence[str], vectors: Vectors, embedding: Vectors | None = None
    ) -> list[dict[str, PromptStates]]:
        """See `Denoiser`."""
        fitted = vectors_for(self._encoders, {key: rows.detach() for key, rows in vectors.items()})
        embedding = self._as_read(embedding)
        with torch.set_grad_enabled(embedding is not None), differentiable(self._clip.cond_stage_model):
            read = self._clip.cond_stage_model.encode_token_weights
            asked = [self._tokens(prompt, fitted, embedding) for prompt in prompts]
            at_once = READ_AT_ONCE if _encodes_chunks_apart(self._clip.cond_stage_model) else 1
            parts = [asked[start : start + at_once] for start in range(0, len(asked), at_once)]
            return [said for part in parts for said in states_read(self._encoders, fitted, part, read)]

    def text_states(
        self, prompts: Sequence[str], conditioning: Sequence[Any], prefix: int = 0
    ) -> list[tuple[TextStates, ...] | None]:
        """See `Denoiser`."""
        return [
            text_states(
                self._tokenize(prompt),
                frame_of(self._tokenize, prompt),
                self._encoders,
                states[0],
                extras["pooled_output"],
                prefix,
            )
            for prompt, (states, extras) in zip(prompts, conditioning, strict=True)
        ]

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser`."""
        return self._sampling.noise_scaling(self._sigmas(t), noise, latents)

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser`."""
        return _own_parameterization(self._sampling, self.add_noise(latents, noise, t), self._sigmas(t), latents)

    def states(self, conditioning: Sequence[Any]) -> list[Tensor]:
        """See `Denoiser`."""
        return [entry[0] for entry in conditioning]

    def with_states(self, conditioning: Sequence[Any], states: Sequence[Tensor]) -> list[Any]:
        """See `Denoiser`."""
        return [[own, entry[1]] for own, entry in zip(states, conditioning, strict=True)]

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """See `Denoiser`; the host's VAE gives the mean of its distribution, not a sample."""
        with gradient_through(VAE):
            latents = self._picture_vae.encode(pictures)
        if torch.is_grad_enabled() and pictures.requires_grad and not latents.requires_grad:
            # Where memory runs out, the host goes over to tiles, without gradient and without a word.
            raise MemoryError("not enough memory for the backward pass of the VAE")
        if latents[0].numel() != functools.reduce(int.__mul__, self.latent_shape):
            raise TrainingError(
                "This VAE is not that of the model: its latents have another shape. Connect the checkpoint's own VAE."
            )
        latents = latents.reshape(-1, *self.latent_shape)
        return self._model.model.process_latent_in(latents).float().cpu()

    def tuned(self, kind: str, rank: int, text_encoder: bool, seed: int, new_words: str = "") -> Tuned:
        """See `Denoiser`; LoRA is the host's own."""
        parts = {"model": LearnedWeights(self._model, kind, rank, seed, DENOISER)}
        other = copy.copy(self)
        other._model = parts["model"].patcher
        if text_encoder:
            parts["clip"] = LearnedWeights(self._clip.patcher, kind, rank, seed + 1)
            other._clip = self._clip.clone()
            other._clip.patcher = parts["clip"].patcher
        weights = joined(parts)
        if new_words.strip():
            rows = rows_of_words(new_words, self._tokenize, self._encoders)
            other._tokenize = lambda text: with_rows(self._tokenize(text), rows)
            weights |= rows
        other._weights = tuple(weights.values())
        other._kept_by_picture = None
        other._most_loaded = {}
        other._first_readings = TensorCache(budget=FIRST_READINGS)

        def close() -> None:
            for part in parts.values():
                part.close()

        @contextmanager
        def paused() -> Iterator[None]:
            for part in parts.values():
                part.pause(True)
            try:
                yield
            finally:
                for part in parts.values():
                    part.pause(False)

        return Tuned(other, weights, close, paused)

    def predict(self, noised: Tensor, t: Tensor, conditioning: Sequence[Any]) -> Tensor:
        """See `Denoiser`. Inside `gradients` only. Items whose arguments have different shapes run apart."""
        return self._predict(noised, t, conditioning)

    def _predict(self, noised: Tensor, t: Tensor, conditioning: Sequence[Any]) -> Tensor:
        device = self._model.load_device
        noised, sigmas = noised.to(device), self._sigmas(t).to(device)
        waiting = dict(enumerate(self._arguments(entry, noised[:1]) for entry in conditioning))
        outputs: dict[int, Tensor] = {}
        while waiting:
            first = next(iter(waiting.values()))
            together = [index for index, item in waiting.items() if comfy.samplers.cond_equal_size(first, item)]
            arguments = comfy.samplers.cond_cat([waiting.pop(index) for index in together])
            with gradient_through(MODEL):
                predicted = self._apply(noised[together], sigmas[together], arguments)
            require_gradient([predicted], [conditioning[index][0] for index in together], MODEL)
            outputs.update(zip(together, predicted, strict=True))
        return torch.stack([outputs[index] for index in range(len(conditioning))])

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int], vectors: Vectors | None = None) -> Tensor:
        """See `Denoiser`. Outside `gradients` only."""
        self._clip.load_model()
        positive, (negative,) = self.encode(prompts, vectors), self.encode([""], vectors)
        noise = torch.stack([noise_of(self.latent_shape, seed) for seed in seeds])
        by_shape: dict[Any, list[int]] = {}
        for index, entry in enumerate(positive):
            by_shape.setdefault(_shapes(entry), []).append(index)
        groups = list(by_shape.values())
        if self._drawing.sampler not in NOISELESS:
            groups = [[index] for group in groups for index in group]
        drawn: dict[int, Tensor] = {}
        for together in groups:
            samples = comfy.sample.sample(
                self._model,
                noise[together],
                self._drawing.steps,
                self._drawing.cfg,
                self._drawing.sampler,
                self._drawing.scheduler,
                [_stack([positive[index] for index in together])],
                [negative],
                torch.zeros_like(noise[together]),
                disable_pbar=True,
                seed=seeds[together[0]],
            )
            drawn.update(zip(together, self._model.model.process_latent_in(samples).float().cpu(), strict=True))
        return torch.stack([drawn[index] for index in range(len(prompts))])

    @property
    def picture_size(self) -> tuple[int, int]:
        """See `Denoiser`."""
        cell = self._vae.spacial_compression_encode()
        return self.latent_shape[-1] * cell, self.latent_shape[-2] * cell

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[B, height, width, 3]` in 0 to 1, by the host's VAE, of latents as `sample` returns them."""
        pictures = self._vae.decode(self._model.model.process_latent_out(latents))
        return pictures.reshape(-1, *pictures.shape[-3:])

    def out_of_memory(self, error: Exception) -> bool:
        """See `Denoiser`."""
        if hasattr(comfy.model_management, "is_oom"):  # Newer hosts know more of its guises.
            return comfy.model_management.is_oom(error) or says_out_of_memory(error)
        known = comfy.model_management.OOM_EXCEPTION
        return (known is not Exception and isinstance(error, known)) or says_out_of_memory(error)

    def free_memory(self) -> None:
        """See `Denoiser`."""
        comfy.model_management.soft_empty_cache()

    def use_less_memory(self) -> bool:
        """See `Denoiser`. From then on the denoiser's blocks are computed twice."""
        if self._checkpoints is None or self._computing.checkpointing == "off" or self._is_checkpointed:
            return False
        self._checkpoints.enter_context(checkpointed(self._model.model.diffusion_model))
        self._saves_memory = self._is_checkpointed = True
        self._checkpoints.callback(setattr, self, "_is_checkpointed", False)
        return True

    @property
    def saves_memory(self) -> bool:
        """See `Denoiser`."""
        return self._saves_memory

    def stream_weights(self) -> bool:
        """See `Denoiser`. By the host's own low-VRAM mode: first the text encoders, then half of what is left of the
        denoiser each time. Only where blocks are computed twice: else the backward pass keeps what was moved."""
        if self._weights:  # The host would leave what is learned off layers that it takes off the device.
            return False
        if not self._is_checkpointed:
            return False
        for patcher, part in ((self._clip.patcher, 1.0), (self._model, 0.5)):
            most = int((1 - part) * patcher.loaded_size())
            if _unload(patcher, most):
                self._most_loaded[patcher] = most
                return True
        return False

    @property
    def streams_weights(self) -> bool:
        """See `Denoiser`."""
        return bool(self._most_loaded)

    def _has_room(self, batch_size: int) -> bool:
        """Whether the device has room for what the backward pass of a batch needs kept.

        A model that is not on its device as a whole counts as one without room: the backward pass would hold on to
        the copies of its weights that the host makes as it goes along.
        """
        if self._is_paged():
            return False
        device = self._model.load_device
        return has_room(
            self._kept, batch_size, lambda: comfy.model_management.get_free_memory(device), self.out_of_memory
        )

    def _kept(self) -> int:
        """`count_kept`, counted once."""
        if self._kept_by_picture is None:
            self._kept_by_picture = self.count_kept()
        return self._kept_by_picture

    def count_kept(self) -> int:
        """See `Denoiser`."""
        with torch.no_grad():
            conditioning = self._read([""], None, self.layers[0])
        for entry in conditioning:
            entry[0] = entry[0].detach().requires_grad_()
        network = self._model.model.diffusion_model
        self._counting = Counting(network, copies=_is_mutating(network, self._is_paged()))
        try:
            self._predict(torch.zeros(1, *self.latent_shape), torch.tensor([0.5]), conditioning)
            return self._counting.bytes
        finally:
            self._counting = None

    def _is_paged(self) -> bool:
        """Whether weights come to the device as they are needed, by the host's lowvram mode or its pager."""
        dynamic = getattr(self._model, "is_dynamic", lambda: False)()
        return dynamic or getattr(self._model.model, "model_lowvram", False)

    @property
    def _sampling(self) -> Any:
        return self._model.get_model_object("model_sampling")

    def _sigmas(self, t: Tensor) -> Tensor:
        return torch.tensor([float(self._sampling.percent_to_sigma(1.0 - time)) for time in t.tolist()])

    def _arguments(self, entry: list[Any], noise: Tensor) -> dict[str, Any]:
        """The host's conds for one item: what its denoiser wants beside picture and time."""
        conds = comfy.samplers.encode_model_conds(
            self._model.model.extra_conds,
            comfy.sampler_helpers.convert_cond([entry]),
            noise,
            self._model.load_device,
            "positive",
            latent_image=torch.zeros_like(noise),
        )
        return {key: cond.process_cond(batch_size=1, area=None) for key, cond in conds[0]["model_conds"].items()}

    def _apply(self, noised: Tensor, sigmas: Tensor, arguments: dict[str, Any]) -> Tensor:
        model = self._model.model
        options = comfy.model_patcher.create_model_options_clone(self._model.model_options)["transformer_options"]
        comfy.patcher_extension.merge_nested_dicts(
            options.setdefault("wrappers", {}), _uncompiled(self._model.wrappers), copy_dict1=False
        )
        options["cond_or_uncond"] = [0] * len(noised)
        options["sigmas"] = sigmas
        if self._attention_overwrites:
            options.setdefault("optimized_attention_override", _differentiable_attention)
        try:
            mutations = self._counting or _mutations_allowed(model.diffusion_model, self._is_paged())
            with self._number_format(), mutations:
                clean = model.apply_model(noised, sigmas, transformer_options=options, **arguments)
        except RuntimeError as error:
            # Where memory is short, the attention that the host has for devices without torch's own does this.
            if OVERWRITES not in str(error) or self._attention_overwrites:
                raise
            self._attention_overwrites = True
            return self._apply(noised, sigmas, arguments)
        return _own_parameterization(model.model_sampling, noised, sigmas, clean)

    def _number_format(self) -> AbstractContextManager[Any]:
        dtype = PRECISIONS[self._computing.precision]
        if dtype is None:
            return nullcontext()
        return torch.autocast(self._model.load_device.type, dtype=dtype)


@looked_at("tokenizer")
def _is_prefixed(clip: Any) -> bool:
    """Whether the host's CLIP puts embeddings into prompts that hold none."""
    blank = clip.tokenize("", return_word_ids=True)
    return any(isinstance(entry[0], Tensor) for chunks in blank.values() for entry in chunks[0])


def _what_it_computes(patcher: Any) -> list[Any]:
    """Everything about one of the host's patchers that its answers follow from."""
    return [
        original_weights(patcher),
        patcher.patches,
        patcher.object_patches,
        patcher.model_options,
        getattr(patcher, "wrappers", None),
        getattr(patcher, "callbacks", None),
        getattr(patcher, "injections", None),
        str(patcher.model_dtype()) if hasattr(patcher.model, "get_dtype") else None,
        patcher.load_device.type,
    ]


def _differentiable_attention(of_the_host: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Torch's own attention where gradients are wanted, else the host's."""
    return (attention_pytorch if torch.is_grad_enabled() else of_the_host)(*args, **kwargs)


def _mutations_allowed(network: torch.nn.Module, is_paged: bool) -> AbstractContextManager[Any]:
    """Some denoisers add residuals in place, as text encoders do; the UNets of SD1, SD2 and SDXL do not.

    Newer hosts stream the weights of all layers through one buffer, so that what a layer saved is written over.
    """
    return differentiable(network, once=not is_paged) if _is_mutating(network, is_paged) else nullcontext()


def _is_mutating(network: torch.nn.Module, is_paged: bool) -> bool:
    return is_paged or not isinstance(network, UNetModel)


def _uncompiled(wrappers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A model's wrappers without the one that the host's Torch Compile Model adds: pictures are drawn by the compiled
    network, and learned on with the network itself, whose blocks can be computed twice."""
    return {kind: {key: found for key, found in by_key.items() if key != COMPILED} for kind, by_key in wrappers.items()}


def _own_parameterization(sampling: Any, noised: Tensor, sigmas: Tensor, clean: Tensor) -> Tensor:
    """The network's output, from the clean latents that the host made of it.

    For every family the host's `calculate_denoised` is affine in the output: `clean = a(σ) x_t + b(σ) output`. So b is
    its value for x_t = 0 and output = 1, and a x_t its value for output = 0.
    """
    zeros = torch.zeros_like(clean)
    slope = sampling.calculate_denoised(sigmas, zeros + 1, zeros)
    return (clean - sampling.calculate_denoised(sigmas, zeros, noised)) / slope


@contextmanager
def _frozen(patcher: Any) -> Iterator[None]:
    """Weights that backward passes may run through, but take no gradients; afterwards their flags are as before.

    The host loads weights in inference mode, and autograd refuses such tensors. Each is replaced, one at a time, by a
    copy that is equal to the last bit and stays in its place.
    """
    flags = {name: parameter.requires_grad for name, parameter in patcher.model.named_parameters()}
    _freeze(patcher)
    try:
        yield
    finally:
        for name, parameter in patcher.model.named_parameters():
            parameter.requires_grad_(flags[name])


def _freeze(patcher: Any) -> None:
    for prefix, module in patcher.model.named_modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and tensor.is_inference():
                    _unpin(patcher, f"{prefix}.{name}")
                    table[name] = _normal_copy(tensor)
    patcher.model.requires_grad_(False)


def _unload(patcher: Any, most: int) -> bool:
    """Moves weights off the device until no more than so many bytes are left there; False if none moved.

    A pager moves them by itself. What the host puts back in place of patched weights is frozen like all others.
    """
    if patcher.offload_device == patcher.load_device or getattr(patcher, "is_dynamic", lambda: False)():
        return False
    too_much = patcher.loaded_size() - most
    if too_much <= 0 or patcher.partially_unload(patcher.offload_device, too_much) <= 0:
        return False
    _freeze(patcher)
    return True


def float_vae(vae: Any) -> Any:
    """The host's VAE if it computes in float32, else a copy that does; the VAE itself stays as it is."""
    if vae.vae_dtype == torch.float32:
        return vae
    with torch.inference_mode(False):
        own = copy.copy(vae)
        own.first_stage_model = copy.deepcopy(vae.first_stage_model).float().requires_grad_(False)
        own.vae_dtype = torch.float32
        own.patcher = comfy.model_patcher.ModelPatcher(
            own.first_stage_model, load_device=vae.patcher.load_device, offload_device=vae.patcher.offload_device
        )
    return own


def _normal_copy(tensor: Tensor) -> Tensor:
    kind = type(tensor)
    if kind not in (Tensor, torch.nn.Parameter):  # Classes of other extensions may return the tensor itself as a copy.
        copied = torch.Tensor.as_subclass(tensor, Tensor).clone().as_subclass(kind)
        vars(copied).update(vars(tensor))
        return copied
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(tensor.detach().clone(), requires_grad=False)
    return tensor.clone()


def _unpin(patcher: Any, key: str) -> None:
    """The host pins the memory of weights that it streams to the device; it must not lose sight of such memory."""
    if key in getattr(patcher, "pinned", ()):
        patcher.unpin_weight(key)


def _encodes_chunks_apart(stage: Any) -> bool:
    """Whether this is one CLIP alone, for which the chunks of many prompts may stand in one batch."""
    if not isinstance(stage, comfy.sd1_clip.SD1ClipModel):
        return False
    transformer = getattr(getattr(stage, stage.clip), "transformer", None)
    return isinstance(transformer, comfy.clip_model.CLIPTextModel)


def _encode_together(stage: Any, tokens: Sequence[dict[str, list[Any]]]) -> list[list[Any]]:
    """Encodes prompts as though their chunks were one long prompt's. Leaves out the pooled output, the first's only."""
    (key,) = tokens[0]
    chunks = [chunk for prompt in tokens for chunk in prompt[key]]
    encoded = stage.encode_token_weights({key: chunks})[0]
    lengths = [sum(len(chunk) for chunk in prompt[key]) for prompt in tokens]
    return [[part, {"pooled_output": None}] for part in encoded.split(lengths, dim=1)]


def _conditioning(encoded: tuple[Any, ...]) -> list[Any]:
    """One of the host's CONDITIONING entries from what its encoders return."""
    extras = encoded[2] if len(encoded) > 2 else {}
    return [encoded[0], {"pooled_output": encoded[1], **extras}]


def _shapes(entry: list[Any]) -> Any:
    extras = ((key, value.shape) for key, value in entry[1].items() if isinstance(value, Tensor))
    return (entry[0].shape, *sorted(extras))


def _stack(entries: Sequence[list[Any]]) -> list[Any]:
    """One CONDITIONING entry for a batch of pictures, each with a prompt of its own."""
    extras = dict(entries[0][1])
    for key, value in extras.items():
        if isinstance(value, Tensor):
            extras[key] = torch.cat([entry[1][key] for entry in entries])
    return [torch.cat([entry[0] for entry in entries]), extras]


def latent_shape(model: Any, vae: Any, size: tuple[int, int]) -> tuple[int, ...]:
    """Shape of one picture's latents, of a width and a height in pixels.

    Raises:
        TrainingError: the size is too small.
    """
    cell = vae.spacial_compression_encode()
    width, height = size[0] // cell, size[1] // cell
    if width < 1 or height < 1:
        raise TrainingError(
            f"Pictures of {size[0]} by {size[1]} pixels are too small for this model: set width and height higher."
        )
    blank = comfy.sample.fix_empty_latent_channels(model, torch.zeros(1, 4, height, width))
    return tuple(blank.shape[1:])
